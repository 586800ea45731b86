"""Where in the user's source something happened."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

from snncompile.ir import errors

_OWN = (str(Path(__file__).resolve().parents[1]), str(Path(errors.__file__).resolve().parent))


def caller() -> errors.Location | None:
    """The innermost line outside this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((*_OWN, "<")):
            return errors.Location(file, frame.f_lineno)
        frame = frame.f_back
    return None
