"""What the source of a step says about its operations: the line they stand on, and what the line calls its value."""

from __future__ import annotations

import linecache
import os
import re
import sys
from collections.abc import Mapping
from types import FrameType

import torch

from snncompile.ir.errors import Location
from snncompile.ir.program import Program, unused

_TORCH_DIR = os.path.dirname(os.path.abspath(torch.__file__))
_OWN_DIR = os.path.dirname(os.path.abspath(__file__))
_TRACING_FILES = {os.path.join(_OWN_DIR, name) for name in ("trace.py", "lower_aten.py", "source_lines.py")}
_ASSIGNED = re.compile(r"\s*([A-Za-z]\w*)\s*[-+*/]?=(?!=)")

_RETURN = "return "  # marks a name that comes from the function whose result a line returns
_PLAIN_FUNCTIONS = {"step", "run", "forward", "backward", "gradient"}  # names that say nothing about a value


def user_frame() -> FrameType | None:
    """The innermost frame of the user's code, or of a node's step; None in autograd's own operations."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        inside_torch = file.startswith(_TORCH_DIR) or file.startswith("<")
        if not inside_torch and file not in _TRACING_FILES and "contextlib" not in file:
            return frame
        if file in _TRACING_FILES and frame.f_code.co_name in ("trace", "trace_reverse"):
            return None  # autograd's own operations: no line of the source is theirs
        frame = frame.f_back
    return None


def location_of(frame: FrameType | None) -> Location | None:
    """The line that ``frame`` is at."""
    return None if frame is None else Location(frame.f_code.co_filename, frame.f_lineno)


def last_user_line(err: BaseException) -> Location | None:
    """The innermost line of a step; where it called something of this package, the line that called."""
    place, inside, tb = None, None, err.__traceback__
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        if file not in _TRACING_FILES and not file.startswith((_TORCH_DIR, "<")) and "contextlib" not in file:
            if file.startswith(_OWN_DIR):
                inside = Location(file, tb.tb_lineno)
            else:
                place = Location(file, tb.tb_lineno)
        tb = tb.tb_next
    return place or inside


def place_of(frame: FrameType | None) -> str:
    """File and line in a form that is the same on every machine."""
    if frame is None:
        return ""
    file = frame.f_code.co_filename
    if file.startswith(_OWN_DIR):
        file = "snncompile/ir/" + os.path.relpath(file, _OWN_DIR).replace(os.sep, "/")
    else:
        file = os.path.basename(file)
    return f"{file}:{frame.f_lineno}"


def assigned_name(frame: FrameType | None) -> str | None:
    """What the line that ``frame`` is at calls its value, or None."""
    if frame is None:
        return None
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    match = _ASSIGNED.match(line)
    if match:
        return match.group(1)
    function = frame.f_code.co_name
    named = line.lstrip().startswith("return") and function.isidentifier() and function not in _PLAIN_FUNCTIONS
    return _RETURN + function if named else None


def named_after_source(program: Program, assigned: Mapping[str, str | None]) -> Program:
    """The last operation of a line ``v = ...`` is called ``v`` (``v_1``, ... when taken); else a result is called after
    its output, and the last operation of a line ``return ...`` after its function."""
    last: dict[tuple[str, str], str] = {}
    returned: dict[str, str] = {}
    following = [*(op.where for op in program.ops[1:]), None]
    for op, after in zip(program.ops, following, strict=False):
        target = assigned.get(op.name)
        if target and not target.startswith(_RETURN):
            last[op.where, target] = op.name
        elif target and op.where != after:  # the function may be called again: each call has a result
            returned[op.name] = target.removeprefix(_RETURN)
    outputs = {arg: output for output, arg in program.outputs if isinstance(arg, str)}
    wanted = {**returned, **outputs, **{name: target for (_, target), name in last.items()}}
    taken = set(program.inputs)
    table: dict[str, str] = {}
    count = 0
    for op in program.ops:
        base = wanted.get(op.name)
        if base is None:
            base, count = f"t{count}", count + 1
        table[op.name] = unused(base, taken)
    return program.renamed(lambda n: table.get(n, n))
