"""Where in the user's source something happened."""

from __future__ import annotations

import sys
from types import FrameType

from snncompile.ir.errors import Location


def caller() -> Location | None:
    """The innermost line outside this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package != "snncompile" and not frame.f_code.co_filename.startswith("<"):
            return Location(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None
