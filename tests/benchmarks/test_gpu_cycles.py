"""The benchmark of cycles on GPUs: all ways compute the same, here in Triton's interpreter."""

from .test_gpu_recurrent import run

CHECK = """
import cycles
import gpu_cycles as b

ran = []
for model in (cycles.heterogeneous(5, 3), cycles.late_layer(4, 2, spikes=False)):
    runs, wrong = b.ways(model, 2, 5, "cpu")
    assert wrong == "", wrong
    assert set(runs) == {"one program", "several programs", "node by node"}
    ran.append(runs["several programs"]["forward"]())
assert float(ran[1].detach().norm()) > 0
"""


def test_all_ways_are_equal():
    done = run("-c", CHECK)
    assert done.returncode == 0, done.stderr


def test_nothing_is_measured_without_a_gpu():
    import torch

    done = run("benchmarks/gpu_cycles.py")
    if not torch.cuda.is_available():
        assert done.returncode == 1 and "nothing was measured" in done.stderr
