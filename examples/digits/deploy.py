"""The exported network in ONNX Runtime, on all held-out digits: the same predictions as the artifact's.

    snncompile export demo-out/digits.snn --to onnx --out demo-out/digits.onnx
    snncompile export demo-out/digits.snn --to onnx --form step --out demo-out/digits-step.onnx
    python examples/digits/deploy.py demo-out            # exit status 1 where a prediction differs

The scan form takes whole sequences. The step form takes one step, and this program carries its state from call to call,
as a device would that reads spikes as they come. Neither needs torch or snncompile.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def open_file(path: Path) -> ort.InferenceSession:
    """A session, without the warning that optional states cannot be folded."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_scan(path: Path, x: np.ndarray) -> np.ndarray:
    """The readout over time, ``(scans, steps, 10)``."""
    return open_file(path).run(["out"], {"x": x})[0]


def run_step(path: Path, x: np.ndarray) -> np.ndarray:
    """The same, one step after the other."""
    session = open_file(path)
    outputs = [o.name for o in session.get_outputs()]
    state = {
        i.name: np.zeros((len(x), *i.shape[1:]), np.float32) for i in session.get_inputs() if i.name != "x"
    }  # every state of this network starts at 0
    rows = []
    for t in range(x.shape[1]):
        got = dict(zip(outputs, session.run(outputs, {"x": x[:, t], **state}), strict=True))
        state = {name: got[f"{name}.next"] for name in state}
        rows.append(got["out"])
    return np.stack(rows, 1)


def main() -> int:
    """Run both forms on the held-out scans; return 1 where a prediction differs."""
    parser = argparse.ArgumentParser(description="Run the exported digits in ONNX Runtime.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("demo-out"))
    folder = parser.parse_args().folder
    x = np.load(folder / "heldout.npz")["x"].astype(np.float32)
    labels = np.load(folder / "heldout-labels.npy")
    wanted = np.load(folder / "outputs.npz")["out"].mean(1).argmax(1)
    status = 0
    for form, file, run in (("scan", "digits.onnx", run_scan), ("step", "digits-step.onnx", run_step)):
        found = run(folder / file, x).mean(1).argmax(1)
        same = int((found == wanted).sum())
        print(
            f"ONNX Runtime, {form} form: accuracy {np.mean(found == labels):.1%}, the artifact's prediction on {same}"
            f" of {len(labels)} held-out digits"
        )
        if same != len(labels):
            print(f"the {form} form reads {len(labels) - same} digits differently", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
