"""Inputs that C kernels read late."""

from __future__ import annotations

from snncompile.targets.c.target import CTarget

from ..late_calls import LateScans
from ..scan_calls import poisoned


class TestLate(LateScans):
    threads = 2

    def make(self, threads=None):
        return CTarget(threads=threads, empty=poisoned)
