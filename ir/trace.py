"""Tracing: from a torch step function to an elementwise program.

The function runs on five-element tensors, under a dispatch mode that writes down every aten operation, and once more on
others, which shows whether it looked at a shape or a value behind torch's back. The reverse program is the same run
followed by ``torch.autograd.grad``, whose operations pass through the same mode: so a surrogate gradient comes along
whichever way the user wrote it. Values are known by the address of their storage: aliases are the same value, and an
in-place operation gives the address a new one, which is SSA.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.utils._python_dispatch import TorchDispatchMode

from snncompile.ir.errors import ModelError
from snncompile.ir.fold import fold_constants
from snncompile.ir.locations import caller
from snncompile.ir.lower_aten import Lowering, NotElementwise
from snncompile.ir.ops import OPS
from snncompile.ir.program import Arg, Op, Program, simplify
from snncompile.ir.random import UNIFORM, Draw
from snncompile.ir.recording import active
from snncompile.ir.source_lines import (
    assigned_name,
    last_user_line,
    location_of,
    named_after_source,
    place_of,
    user_frame,
)
from snncompile.ir.verify_program import verify_program

_EXAMPLES = ((5, 0.31, 0.87), (7, 0.22, 0.93))  # two tensors that have nothing in common


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
        tensor = torch.linspace(low, high, count, dtype=torch.float32, device="cpu")
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
            place = last_user_line(err)
            said = f"{type(err).__name__}: {err}"
            if "Boolean value of Tensor" in said:
                said = "Python cannot decide by a value (if, and, or, min, max): write torch.where(condition, a, b)"
            elif "converted to Python scalars" in said:
                said = "a function of plain numbers got a tensor: write torch.exp in place of math.exp, and so on"
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
        frame = user_frame()
        self.ops.append(Op(name, op, args, place_of(frame)))
        self.lines.append(assigned_name(frame))
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
            result = torch.linspace(low, high, count, dtype=torch.float32, device="cpu")
        self.bind(result, self.emit(UNIFORM, *Draw(self.stream, self.drawn).args))
        self.drawn += 1
        return result

    # -- dispatch ----------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        try:
            return Lowering(self).run(func, args, kwargs)
        except NotElementwise as err:
            raise ModelError(f"{self.what}: {err}", where=location_of(user_frame())) from None

    # -- result ------------------------------------------------------------------------------------------------------

    def finish(self, inputs: Sequence[str], results: Mapping[str, Any]) -> Program:
        try:
            outputs = tuple((name, self.as_float(self._result(name, value))) for name, value in results.items())
        except NotElementwise as err:
            raise ModelError(f"{self.what}: {err}") from None
        program = Program(tuple(inputs), tuple(self.ops), outputs)
        assigned = dict(zip((op.name for op in self.ops), self.lines, strict=True))
        program = simplify(fold_constants(named_after_source(program, assigned)))
        verify_program(program)
        return program

    def _result(self, name: str, value: Any) -> Arg:
        if isinstance(value, Tensor) and value.shape not in ((self.example[0],), ()):
            raise NotElementwise(f"the result {name!r} is not elementwise: it has another shape than the inputs")
        if not isinstance(value, (Tensor, float, int)):
            raise NotElementwise(f"the result {name!r} is a {type(value).__name__}, not a tensor")
        return self.value(value)


def _float32(number: Any) -> float:
    if not isinstance(number, (int, float)):
        raise NotElementwise(f"operand {number!r} is not a number")
    return torch.tensor(float(number), dtype=torch.float32).item()
