"""The benchmark of recurrent layers on GPUs: its contenders compute the same, here in Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

CHECK = """
import torch
import gpu_recurrent as b

weight = (torch.randint(-8, 9, (24, 24), generator=torch.Generator().manual_seed(0)) / 64).requires_grad_()
x = torch.randint(0, 32, (12, 3, 24), generator=torch.Generator().manual_seed(1)) / 64
want = b.by_autograd(lambda x: b.loop(x, weight), weight)(x)
assert 0.05 < float(want[0].mean()) < 0.9
for form in (None, "resident", "streamed", "steps", "together"):
    assert b.differences(b.ours("ours", weight, form, "auto"), x, want) == "", form
assert b.differences(b.plain("loop", b.loop, weight), x, want) == ""
wrong = b.plain("wrong", lambda x, w: b.loop(x, 0 * w), weight)
assert "of the spikes differ" in b.differences(wrong, x, want)
"""


def run(*args: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT / "benchmarks")}
    command = [sys.executable, *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


def test_contenders_are_equal():
    done = run("-c", CHECK)
    assert done.returncode == 0, done.stderr


def test_nothing_is_measured_without_a_gpu():
    import torch

    done = run("benchmarks/gpu_recurrent.py")
    if not torch.cuda.is_available():
        assert done.returncode == 1
        assert "nothing was measured" in done.stderr
