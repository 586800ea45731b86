"""Inputs that Triton kernels read late."""

from __future__ import annotations

from snncompile.targets.triton.target import TritonTarget

from ..late_calls import LateScans
from ..scan_calls import poisoned


class TestLate(LateScans):
    def make(self, threads=None):
        return TritonTarget(empty=poisoned)
