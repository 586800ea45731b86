"""Composite operations as programs of elementary ones, for printers."""

from __future__ import annotations

from functools import cache

from snncompile.ir.exact import COMPOSITE
from snncompile.ir.program import Program
from snncompile.ir.trace import trace


@cache
def definition(op: str) -> Program:
    """The program of a composite operation, with input ``x`` and output ``y``, made of elementary ones only."""
    fn = COMPOSITE[op]
    return trace(lambda x: {"y": fn(x)}, ("x",), what=f"the definition of {op}")
