"""The browser example, in a real headless Chromium: the step form in onnxruntime-web, on scans and on drawn digits.

Skipped where the browser or the npm packages are not there; `make test-browser` fetches the packages and runs it.
"""

from __future__ import annotations

import functools
import http.server
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .chromium import Page, browser, executable

pytest.importorskip("sklearn")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODULES = Path(os.environ.get("SNNCOMPILE_NODE_MODULES", EXAMPLES / "browser" / "node_modules"))


def missing() -> str | None:
    """Why it cannot run here, or None."""
    if executable() is None:
        return "needs chromium (Debian: apt install chromium; or set CHROMIUM)"
    if not (MODULES / "onnxruntime-web").is_dir():
        return "needs onnxruntime-web: make test-browser"
    return None


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A network trained for some epochs, and the folder of a demonstration with it."""
    reason = missing()
    if reason:
        assert not os.environ.get("SNNCOMPILE_NEEDS_BROWSER"), reason
        pytest.skip(reason)
    sys.path.insert(0, str(EXAMPLES / "digits"))
    try:
        import data
        import torch
        import train

        net, accuracy = train.train(seed=0, epochs=12, show=False)
        assert accuracy > 0.93
        demo = tmp_path_factory.mktemp("demo")
        net.save(demo / "digits.snn")
        net.to_onnx(demo / "digits-step.onnx", "step", check=False)
        with torch.no_grad():
            np.savez(demo / "outputs.npz", out=net(torch.from_numpy(data.load()[1].spikes)).numpy())
    finally:
        sys.path.remove(str(EXAMPLES / "digits"))
        for name in ("data", "model", "train"):
            sys.modules.pop(name, None)
    run = [sys.executable, str(EXAMPLES / "browser" / "prepare.py"), str(demo), "--modules", str(MODULES)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return demo


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """No log."""


@pytest.fixture(scope="module")
def page(net: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page, open, with its network loaded."""
    handler = functools.partial(Quiet, directory=net / "browser")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser(tmp_path_factory.mktemp("profile")) as page:
            page.open(f"http://127.0.0.1:{server.server_port}/index.html")
            page.until("document.getElementById('status').textContent === 'Ready.'")
            yield page
        server.shutdown()


def test_the_scores_are_the_references(page):
    """Encoded in the page and run there step by step, held-out scans get the scores that the torch reference gives."""
    got = page.evaluate("""(async () => {
        const { read, network } = await window.digits;
        const rows = [];
        for (const scan of network.settings.scans) rows.push([await read(scan.pixels), scan.scores]);
        return rows;
    })()""")
    scores = np.array(got)
    assert scores.shape == (30, 2, 10)
    np.testing.assert_array_equal(scores[:, 0].argmax(1), scores[:, 1].argmax(1))
    # products round differently, and a spike may move: nearly all scores are equal to rounding, none is far off
    apart = np.abs(scores[:, 0] - scores[:, 1])
    assert np.mean(apart < 1e-5) > 0.9 and apart.max() < 0.1


def test_spikes_are_encoded_as_in_training(page, net):
    sys.path.insert(0, str(EXAMPLES / "digits"))
    try:
        import data
    finally:
        sys.path.remove(str(EXAMPLES / "digits"))
    got = page.evaluate("""(async () => {
        const { network, encode } = await window.digits;
        return network.settings.scans.map((s) => encode(s.pixels, network.settings).map((row) => Array.from(row)));
    })()""")
    np.testing.assert_array_equal(np.array(got), data.load()[1].spikes[:30])
    sys.modules.pop("data", None)


def ellipse(x, y, a, b, start=0.0, end=2 * math.pi):
    return [(x + a * math.sin(p), y - b * math.cos(p)) for p in np.linspace(start, end, 25)]


DRAWN = {
    0: [ellipse(140, 140, 70, 110)],
    1: [[(150, 30), (150, 140), (150, 250)]],
    2: [[*ellipse(140, 95, 60, 65, -1.2, 2.2), (90, 240), (215, 240)]],
    3: [[*ellipse(140, 90, 50, 55, -1.2, 3.1), *ellipse(140, 195, 55, 60, 0.2, 4.2)]],
    4: [[(150, 30), (70, 170), (210, 170)], [(170, 110), (165, 250)]],
    5: [[(200, 40), (100, 40), (95, 130), *ellipse(140, 185, 60, 65, -0.6, 4)]],
    6: [[(170, 30), (110, 110), *ellipse(140, 190, 50, 60, -1.57, 4.71)]],
    7: [[(60, 40), (150, 40), (220, 40), (170, 140), (130, 250)], [(100, 140), (150, 140), (210, 140)]],
    8: [ellipse(140, 90, 45, 50), ellipse(140, 195, 55, 55)],
    9: [[*ellipse(140, 90, 50, 55, 1.57, 7.85), (185, 150), (150, 250)]],
}


def test_digits_drawn_with_the_mouse(page):
    """The network has seen scans only, and little training here: two of the ten may be read wrongly."""
    box = page.evaluate("(({x, y}) => [x, y])(document.getElementById('draw').getBoundingClientRect())")
    read = {}
    for digit, strokes in DRAWN.items():
        page.evaluate("document.getElementById('clear').click()")
        for stroke in strokes:
            page.stroke([(box[0] + x, box[1] + y) for x, y in stroke])
        page.until("/^32 steps in/.test(document.getElementById('status').textContent)")
        read[digit] = page.evaluate("document.getElementById('answer').textContent")
        assert page.evaluate("document.querySelectorAll('#bars .best').length") == 1
    assert sum(str(digit) == found for digit, found in read.items()) >= 8, read


def test_a_scan_and_clear(page):
    page.evaluate("document.getElementById('scan').click()")
    page.until("/^32 steps in/.test(document.getElementById('status').textContent)")
    said = page.evaluate("document.getElementById('answer').textContent")
    assert said == str(page.evaluate("window.digits.then((d) => d.network.settings.scans[0].label)"))
    page.evaluate("document.getElementById('clear').click()")
    assert page.evaluate("document.getElementById('answer').textContent") == ""


def test_nothing_went_wrong_meanwhile(page):
    assert page.complaints() == []


def test_what_is_missing_is_said(tmp_path):
    run = [sys.executable, str(EXAMPLES / "browser" / "prepare.py"), str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "make demo" in done.stderr and "Traceback" not in done.stderr
