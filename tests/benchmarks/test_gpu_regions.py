"""The benchmark of regions that learn on GPUs: all ways compute the same, here in Triton's interpreter."""

from .test_gpu_recurrent import run

CHECK = """
import gpu_regions as b
import plastic_regions as regions

runs, wrong = b.ways(regions.assembly(8), 1, 2, "cpu")
assert wrong == "", wrong
assert set(runs) == {"one", "several", "steps"}
"""


def test_all_ways_are_equal():
    done = run("-c", CHECK)
    assert done.returncode == 0, done.stderr


def test_nothing_is_measured_without_a_gpu():
    import torch

    done = run("benchmarks/gpu_regions.py")
    if not torch.cuda.is_available():
        assert done.returncode == 1 and "nothing was measured" in done.stderr
