"""The plainest way to run a scan, which the differential tests hold every target against."""

from __future__ import annotations

from snncompile.targets.torch.plain import PlainTarget

__all__ = ["PlainTarget"]
