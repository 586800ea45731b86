"""The kernels against the plain loop: forward bit for bit, gradients as the interpreted reverse program gives them."""

import pytest

from snncompile.targets.triton.config import Config
from snncompile.targets.triton.target import TritonTarget

from ..scan_calls import check, check_constant_states, check_inputs_kept, check_nothing_saved, poisoned, scan_of
from ..scans import ALL

TARGET = TritonTarget(Config(block=32, warps=1, ahead=4), empty=poisoned)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("checkpoint", [1, 3, 50])
def test_matches_loop(kind, checkpoint):
    shape = (7, 2, 17) if kind == "awkward" else (13, 3, 17)  # which has every operation
    check(TARGET, scan_of(kind), shape, checkpoint=checkpoint, full=checkpoint == 3, seed=checkpoint)


@pytest.mark.parametrize("checkpoint", [1, 3])
@pytest.mark.parametrize("shape", [(0, 2, 5), (1, 1, 1), (7, 1, 33), (4, 5, 32), (9, 2, 1), (5, 0, 4), (1, 0, 0)])
def test_shapes(shape, checkpoint):
    check(TARGET, scan_of("lif"), shape, checkpoint=checkpoint, full=True)


@pytest.mark.parametrize("checkpoint", [1, 3])
@pytest.mark.parametrize("layout", ["batch_first", "still", "one", "gaps"])
def test_layouts(layout, checkpoint):
    check(TARGET, scan_of("chain"), (6, 3, 5), layout=layout, checkpoint=checkpoint, full=True)


@pytest.mark.parametrize("checkpoint", [1, 4])
@pytest.mark.parametrize("given", [(), ("spikes",), ("v",), ("a", "spikes"), ("wait",)])
def test_absent_gradients(given, checkpoint):
    check(TARGET, scan_of("chain"), (6, 2, 5), given=given, finals=False, checkpoint=checkpoint)


def test_unwanted_gradients():
    check(TARGET, scan_of("lif"), (6, 2, 5), need=False)
    check(TARGET, scan_of("lif"), (6, 2, 5), need=False, checkpoint=4)


def test_constant_states():
    check_constant_states(TARGET)


def test_nothing_saved():
    check_nothing_saved(TARGET)


def test_inputs_are_not_written_to():
    check_inputs_kept(TARGET)
