"""Golden files: the text that something must give. ``UPDATE_GOLDEN=1`` writes them anew, for a diff to be read."""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent / "golden"


def assert_golden(name: str, text: str) -> None:
    """``text`` is what ``tests/golden/<name>`` holds."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    held = path.read_text(encoding="utf-8") if path.exists() else ""
    assert text == held, f"{path.name} differs: if that is meant, run the test with UPDATE_GOLDEN=1 and read the diff"
