"""The smallest pieces of the text form: blocks of lines, names, numbers, types."""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from snncompile.ir.errors import VerificationError

ID = r"[A-Za-z_][A-Za-z0-9_]*"
REF = rf"{ID}(?:\.{ID})?"
WORD = r'[A-Za-z_][A-Za-z0-9_-]*|"(?:[^"\\]|\\.)*"'
TYPE = r"[a-z]+\[[0-9x]*\](?:<=[0-9]{1,15})?"
NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|#-?[a-z]+"


def pattern(text: str) -> re.Pattern[str]:
    """``text`` as an expression that matches whole lines."""
    return re.compile(rf"(?:{text})\Z", re.ASCII)


_TYPE = pattern(TYPE)
_VALUE = pattern(rf"({ID})|{NUMBER}")


class Lines:
    """A text, and on which line each of its values stands."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.at = 1
        self.places: dict[tuple[Any, ...], int] = {(): 1}

    def line_of(self, path: tuple[Any, ...]) -> int:
        """The line of the value at ``path``, or of the nearest one around it."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]

    def fail(self, reason: str, line: int | None = None) -> NoReturn:
        """Refuse the line being read."""
        raise VerificationError(f"line {line or self.at}: {reason}")

    def blocks(self) -> Iterator[tuple[str, list[tuple[int, str]]]]:
        """A line that is not indented, and the indented ones after it, with their numbers."""
        head, start, body = "", 0, []
        for number, line in enumerate(self.lines, 1):
            if not line.strip():
                continue
            if line.startswith("  "):
                if not start:
                    self.fail("this line is indented, but belongs to nothing", number)
                body.append((number, line.strip()))
                continue
            if start:
                self.at = start
                yield head, body
            head, start, body = line.rstrip(), number, []
        if start:
            self.at = start
            yield head, body

    def value(self, text: str) -> Any:
        """An operand: a name or a constant."""
        found = _VALUE.match(text)
        if not found:
            self.fail(f"{text[:80]!r} is neither a name nor a number")
        return found[1] or self.single(text)

    def single(self, text: str) -> Any:
        """A constant, rounded to float32."""
        value = self.constant(text)
        return ctypes.c_float(value).value if isinstance(value, float) else value

    def constant(self, text: str) -> Any:
        """A number, ``#nan``, ``#inf``, ``#-inf``, ``#true`` or ``#false``."""
        if text in ("#true", "#false"):
            return text == "#true"
        if text in ("#nan", "#inf", "#-inf"):
            return {"float": text[1:]}
        try:
            value = float(text)
        except ValueError:
            self.fail(f"{text[:80]!r} is no number")
        return value

    def type(self, text: str) -> dict[str, Any]:
        """``spikes[2x34x34]<=1``."""
        kind, _, rest = text.partition("[")
        shape, _, most = rest.partition("]")
        if not _TYPE.match(text):
            self.fail(f"a type is written <kind>[<features>], not {text[:80]!r}")
        most = most.removeprefix("<=")
        return {"kind": kind, "shape": self.shape(f"[{shape}]"), "max": int(most) if most else None}

    def shape(self, text: str) -> list[int]:
        """``[2x34x34]``."""
        axes = text[1:-1].split("x") if text != "[]" else []
        if not all(axis.isdigit() and len(axis) < 16 for axis in axes):
            self.fail(f"a shape is written [2x34x34], not {text[:80]!r}")
        return [int(axis) for axis in axes]

    def word(self, text: str) -> str:
        """A name, in quotes where it is no plain one."""
        return self.json(text) if text.startswith('"') else text

    def free(self, text: str) -> str:
        """The rest of a line, in quotes where it could be mistaken."""
        return self.json(text) if text.startswith('"') else text

    def json(self, text: str) -> Any:
        """A JSON value."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            self.fail(f"{text[:80]!r} cannot be read")
