"""Tracing: from a torch step function to an elementwise program.

The function runs on five-element tensors, under a dispatch mode that writes down every aten operation, and once more on
others, which shows whether it looked at a shape or a value behind torch's back. The reverse program is the same run
followed by ``torch.autograd.grad``, whose operations pass through the same mode: so a surrogate gradient comes along
whichever way the user wrote it. Values are known by the address of their storage: aliases are the same value, and an
in-place operation gives the address a new one, which is SSA.
"""

from __future__ import annotations

import contextlib
import linecache
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.utils._python_dispatch import TorchDispatchMode

from snncompile.ir.errors import Location, ModelError
from snncompile.ir.fold import fold_constants
from snncompile.ir.locations import caller
from snncompile.ir.lower_aten import Lowering, NotElementwise
from snncompile.ir.ops import OPS
from snncompile.ir.program import Arg, Op, Program, simplify
from snncompile.ir.random import UNIFORM, Draw
from snncompile.ir.recording import active
from snncompile.ir.verify_program import verify_program

_EXAMPLES = ((5, 0.31, 0.87), (7, 0.22, 0.93))  # two tensors that have nothing in common
_TORCH_DIR = os.path.dirname(os.path.abspath(torch.__file__))
_OWN_DIR = os.path.dirname(os.path.abspath(__file__))
_TRACING_FILES = {os.path.join(_OWN_DIR, name) for name in ("trace.py", "lower_aten.py")}
_ASSIGNED = re.compile(r"\s*([A-Za-z]\w*)\s*[-+*/]?=(?!=)")

_RETURN = "return "  # marks a name that comes from the function whose result a line returns
_PLAIN_FUNCTIONS = {"step", "run", "forward", "backward", "gradient"}  # names that say nothing about a value

def trace(
    step: Callable[..., Mapping[str, Any]], inputs: Sequence[str], *, what: str, stream: int | None = None
) -> Program:
    """The program of ``step``, a function of one tensor per name in ``inputs`` that returns named results.

    Args:
        step: a pure function of elementwise torch operations.
        inputs: names of its positional arguments.
        what: how to call the function in an error.
        stream: the stream of random numbers that it may draw from; None where it may not draw.

    Raises:
        ModelError: for what is not elementwise, depends on data, captures a tensor, or is no known operation, with
            the file and line of the source.
    """
    first, second = (_forward(step, inputs, _Recorder(what, example, stream)) for example in _EXAMPLES)
    if repr(first) != repr(second):  # repr tells 0.0 from -0.0, and takes nan for nan
        pairs = zip(first.ops, second.ops, strict=False)
        place = next((a.where for a, b in pairs if repr(a) != repr(b) and a.where), "")
        raise ModelError(
            f"{what}: it computes something else for tensors of another shape or other values"
            + (f" (first at {place})" if place else "")
            + ". Use torch operations only, and no x.shape, len(x) or x.numpy()"
        )
    return first


def _forward(step: Callable[..., Mapping[str, Any]], inputs: Sequence[str], recorder: _Recorder) -> Program:
    leaves = [recorder.input(name) for name in inputs]
    with recorder.running(), torch.no_grad():
        results = step(*[leaf.clone() for leaf in leaves])
    return recorder.finish(inputs, results)


def trace_reverse(
    step: Callable[..., Mapping[str, Any]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    what: str,
    stream: int | None = None,
) -> Program:
    """The program of the gradient of ``step``: inputs and ``grad_<output>`` to ``grad_<input>``.

    The forward operations it needs are in it (recomputed). An input without a gradient has the constant 0.

    Raises:
        ModelError: as :func:`trace` does.
    """
    recorder = _Recorder(what, stream=stream)
    leaves = [recorder.input(name).requires_grad_() for name in inputs]
    grads_in = {name: recorder.input(f"grad_{name}") for name in outputs}
    with recorder.running(), torch.enable_grad():
        results = step(*[leaf.clone() for leaf in leaves])
        diffable = [n for n in outputs if isinstance(results[n], Tensor) and results[n].requires_grad]
        grads = _autograd(results, diffable, leaves, grads_in)
    named = {f"grad_{name}": 0.0 if g is None else g for name, g in zip(inputs, grads, strict=True)}
    return recorder.finish([*inputs, *grads_in_names(outputs)], named)


def grads_in_names(outputs: Sequence[str]) -> list[str]:
    """Names of the incoming gradients of a reverse program."""
    return [f"grad_{name}" for name in outputs]


def _autograd(results: Mapping, diffable: list[str], leaves: list[Tensor], grads_in: Mapping) -> Sequence[Any]:
    if not diffable:
        return [None] * len(leaves)
    # what torch.autograd.grad does, without its check of symbolic shapes: that imports sympy, half a second
    outputs, grads = tuple(results[n] for n in diffable), tuple(grads_in[n] for n in diffable)
    inputs = tuple(leaves)
    return _engine_run_backward(outputs, grads, False, False, inputs, allow_unreachable=True, accumulate_grad=False)


class _Recorder(TorchDispatchMode):
    """Writes down what runs under it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the default wraps this class by importing torch._dynamo, which takes seconds

    def __init__(
        self, what: str, example: tuple[int, float, float] = _EXAMPLES[0], stream: int | None = None
    ) -> None:
        super().__init__()
        self.what = what
        self.stream = stream
        self.drawn = 0
        self.example = example
        self.values: dict[int, Arg] = {}
        self.bools: set[str] = set()
        self.ops: list[Op] = []
        self.lines: list[str | None] = []
        self.keep: list[Tensor] = []  # an address may be reused once its tensor is gone

    def input(self, name: str) -> Tensor:
        count, low, high = self.example
        tensor = torch.linspace(low, high, count)
        self.bind(tensor, name)
        return tensor

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        active.append(self)
        try:
            with self:
                yield
        except (NotElementwise, ModelError):
            raise
        except Exception as err:  # whatever the user's function raised, said with its place
            place = _last_user_line(err)
            said = f"{type(err).__name__}: {err}"
            if "Boolean value of Tensor" in said:
                said = "Python cannot decide by a value (if, and, or, min, max): write torch.where(condition, a, b)"
            elif said.startswith(tuple(f"TypeError: {name}()" for name in ("clamp", "maximum", "minimum"))):
                said = (
                    "torch.clamp is for bounds that are numbers, torch.minimum and torch.maximum for those that are"
                    " parameters: write torch.minimum(torch.clamp(x, min=0.0), w_max)"
                )
            raise ModelError(f"{self.what}: {said}", where=place) from err
        finally:
            active.pop()

    # -- values ------------------------------------------------------------------------------------------------------

    def bind(self, tensor: Tensor, value: Arg) -> None:
        self.values[tensor.data_ptr()] = value
        self.keep.append(tensor)

    def value(self, arg: Any) -> Arg:
        if isinstance(arg, Tensor):
            known = self.values.get(arg.data_ptr())
            if known is None:
                raise NotElementwise("it uses a tensor from outside the step. Make it a parameter or a Python number")
            return known
        if isinstance(arg, bool):
            return arg
        return _float32(arg)

    def emit(self, op: str, *args: Arg) -> str:
        name = f"%{len(self.ops)}"  # no identifier: an input cannot have this name; finish() gives a better one
        frame = _user_frame()
        self.ops.append(Op(name, op, args, _place(frame)))
        self.lines.append(_assigned_name(frame))
        if OPS[op].result == "bool":
            self.bools.add(name)
        return name

    def is_bool(self, arg: Arg) -> bool:
        return isinstance(arg, bool) or (isinstance(arg, str) and arg in self.bools)

    def as_float(self, arg: Arg) -> Arg:
        if isinstance(arg, bool):
            return float(arg)
        return self.emit("float", arg) if self.is_bool(arg) else arg

    def custom(self, op: str, x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.utils._python_dispatch._disable_current_modes(), torch.no_grad():
            result = compute(x).clone()
        self.bind(result, self.emit(op, self.value(x)))
        return result

    def uniform(self) -> Tensor:
        if self.stream is None:
            raise ModelError(
                f"{self.what}: it draws random numbers, which only the step of a synapse, neuron or source may",
                where=caller(),
            )
        with torch.utils._python_dispatch._disable_current_modes(), torch.no_grad():
            count, low, high = self.example
            result = torch.linspace(low, high, count)
        self.bind(result, self.emit(UNIFORM, *Draw(self.stream, self.drawn).args))
        self.drawn += 1
        return result

    # -- dispatch ----------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        try:
            return Lowering(self).run(func, args, kwargs)
        except NotElementwise as err:
            raise ModelError(f"{self.what}: {err}", where=_where(_user_frame())) from None

    # -- result ------------------------------------------------------------------------------------------------------

    def finish(self, inputs: Sequence[str], results: Mapping[str, Any]) -> Program:
        try:
            outputs = tuple((name, self.as_float(self._result(name, value))) for name, value in results.items())
        except NotElementwise as err:
            raise ModelError(f"{self.what}: {err}") from None
        program = Program(tuple(inputs), tuple(self.ops), outputs)
        assigned = dict(zip((op.name for op in self.ops), self.lines, strict=True))
        program = simplify(fold_constants(_named_after_source(program, assigned)))
        verify_program(program)
        return program

    def _result(self, name: str, value: Any) -> Arg:
        if isinstance(value, Tensor) and value.shape not in ((self.example[0],), ()):
            raise NotElementwise(f"the result {name!r} is not elementwise: it has another shape than the inputs")
        if not isinstance(value, (Tensor, float, int)):
            raise NotElementwise(f"the result {name!r} is a {type(value).__name__}, not a tensor")
        return self.value(value)


def _named_after_source(program: Program, assigned: Mapping[str, str | None]) -> Program:
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
        name, k = base, 0
        while name in taken:
            k += 1
            name = f"{base}_{k}"
        taken.add(name)
        table[op.name] = name
    return program.renamed(lambda n: table.get(n, n))


def _float32(number: Any) -> float:
    if not isinstance(number, (int, float)):
        raise NotElementwise(f"operand {number!r} is not a number")
    return torch.tensor(float(number), dtype=torch.float32).item()


def _user_frame() -> FrameType | None:
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


def _where(frame: FrameType | None) -> Location | None:
    return None if frame is None else Location(frame.f_code.co_filename, frame.f_lineno)


def _last_user_line(err: BaseException) -> Location | None:
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


def _place(frame: FrameType | None) -> str:
    """File and line in a form that is the same on every machine."""
    if frame is None:
        return ""
    file = frame.f_code.co_filename
    if file.startswith(_OWN_DIR):
        file = "snncompile/ir/" + os.path.relpath(file, _OWN_DIR).replace(os.sep, "/")
    else:
        file = os.path.basename(file)
    return f"{file}:{frame.f_lineno}"


def _assigned_name(frame: FrameType | None) -> str | None:
    if frame is None:
        return None
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    match = _ASSIGNED.match(line)
    if match:
        return match.group(1)
    function = frame.f_code.co_name
    named = line.lstrip().startswith("return") and function.isidentifier() and function not in _PLAIN_FUNCTIONS
    return _RETURN + function if named else None
