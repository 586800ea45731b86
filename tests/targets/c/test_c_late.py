"""Inputs that C kernels read late."""

from __future__ import annotations

import pytest

from snncompile.targets.c.target import CTarget
from snncompile.targets.torch.plain import PlainTarget

from ..late_calls import SHAPES, check_late
from ..scan_calls import poisoned


@pytest.mark.parametrize("kind", ["one", "each"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(kind, shape):
    check_late(CTarget(empty=poisoned), PlainTarget(), "lif", shape, kind)


@pytest.mark.parametrize("kind", ["one", "each"])
@pytest.mark.parametrize("name", ["chain", "stateless"])
@pytest.mark.parametrize("layout", ["flat", "batch_first"])
@pytest.mark.parametrize("checkpoint", [1, 3])
def test_scans(kind, name, layout, checkpoint):
    check_late(CTarget(empty=poisoned), PlainTarget(), name, (8, 2, 5), kind, layout, checkpoint)


@pytest.mark.parametrize("kind", ["one", "each"])
def test_threads_and_gradients_that_nobody_wants(kind):
    check_late(CTarget(threads=2, empty=poisoned), PlainTarget(), "lif", (8, 3, 300), kind, need=False)
