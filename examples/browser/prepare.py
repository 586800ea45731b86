"""Put together the folder that a browser is served: the page, ONNX Runtime, the exported network, and its settings.

    make demo                                            # trains, builds and exports the network
    npm ci --prefix examples/browser --ignore-scripts    # fetches ONNX Runtime for browsers
    python examples/browser/prepare.py demo-out --out demo-out/browser
    python -m http.server --directory demo-out/browser --bind 127.0.0.1 8000

`make browser` does all of this.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = ("index.html", "page.js", "network.js")
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
MODEL = "digits-step.onnx"
SCANS = 30


def settings(demo: Path) -> dict[str, object]:
    """What the page must know: how pixels become spikes, where states start, and some held-out scans."""
    sys.path.append(str(HERE.parent / "digits"))
    import data  # here, not above: what is missing is said at once
    import numpy as np

    import snncompile as snn

    net = snn.load(demo / "digits.snn", target="torch")
    state = net.initial_state(1)
    _, heldout = data.load()
    scores = np.load(demo / "outputs.npz")["out"].mean(1)
    return {
        "model": MODEL,
        "input": "x",
        "output": "out",
        "classes": scores.shape[1],
        "steps": data.STEPS,
        "top_rate": data.TOP_RATE,
        "phases": data.phases().tolist(),
        "states": {n: {"shape": list(s.shape), "value": float(s.reshape(-1)[0])} for n, s in state.items()},
        "scans": [
            {"pixels": heldout.pixels[i].astype(int).tolist(), "label": int(heldout.labels[i]), "scores": s.tolist()}
            for i, s in enumerate(scores[:SCANS])
        ],
    }


def main() -> int:
    """Check what is needed, copy it, and return 1 where something is missing."""
    parser = argparse.ArgumentParser(description="Prepare the browser example.")
    parser.add_argument("demo", type=Path, nargs="?", default=Path("demo-out"), help="what `make demo` wrote")
    parser.add_argument("--out", type=Path, default=None, help="the folder to serve (default: DEMO/browser)")
    parser.add_argument("--modules", type=Path, default=HERE / "node_modules", help="where npm put its packages")
    args = parser.parse_args()
    runtime = args.modules / "onnxruntime-web" / "dist"
    for needed, command in (
        (args.demo / MODEL, "make demo"),
        (args.demo / "outputs.npz", "make demo"),
        (runtime / RUNTIME[0], "npm ci --prefix examples/browser --ignore-scripts"),
    ):
        if not needed.exists():
            print(f"{needed} is not there: {command}", file=sys.stderr)
            return 1
    out = args.out or args.demo / "browser"
    out.mkdir(parents=True, exist_ok=True)
    for source in (*(HERE / n for n in PAGE), *(runtime / n for n in RUNTIME), args.demo / MODEL):
        shutil.copyfile(source, out / source.name)
    (out / "network.json").write_text(json.dumps(settings(args.demo)))
    print(f"{out} holds the page; serve it: python -m http.server --directory {out} --bind 127.0.0.1 8000")
    return 0


if __name__ == "__main__":
    sys.exit(main())
