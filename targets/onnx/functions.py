"""Programs as ONNX local functions: one for each step function, in the domain ``snncompile``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from onnx import FunctionProto, NodeProto, TensorProto, helper, numpy_helper

from snncompile.ir.definitions import definition
from snncompile.ir.exact import COMPOSITE
from snncompile.ir.program import Arg, Op, Program
from snncompile.targets.printing import Names, comment, fold

DOMAIN = "snncompile"

#: Operations that are one ONNX operator of the same meaning, bit for bit. ``Max`` and ``Min`` propagate NaN.
_DIRECT = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "min": "Min", "max": "Max", "neg": "Neg", "abs": "Abs",
    "floor": "Floor", "ceil": "Ceil", "sqrt": "Sqrt", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
    "ge": "GreaterOrEqual", "eq": "Equal", "and": "And", "or": "Or", "not": "Not", "where": "Where",
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A local function and how to call it.

    Attributes:
        name: its name in the domain.
        needs_like: whether its last input is a tensor of the shape that the outputs take: where it has no state and
            no input of that shape.
    """

    name: str
    needs_like: bool


class Functions:
    """The local functions of a file. Programs that differ in names only share one."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.protos: list[FunctionProto] = []
        self._names = Names(())
        self._known: dict[tuple, Step] = {}

    def step(
        self,
        wanted: str,
        program: Program,
        timed: Sequence[str],
        fixed: Sequence[str],
        states: Sequence[str],
        results: Sequence[str],
        doc: str = "",
    ) -> Step:
        """The function of a step.

        Args:
            wanted: what to call it.
            program: the step.
            timed: its states, then its inputs: tensors of the full shape.
            fixed: its coefficients, which broadcast.
            states: those results that are new states.
            results: names of the program's outputs, in the order wanted.
            doc: a sentence for the reader.
        """
        program = fold(program)
        key = (_canonical(program, (*timed, *fixed), results), len(timed))
        if key not in self._known:
            name = self._names.new(wanted)
            body = _Body(self, program, (*timed, *fixed), doc)
            needs_like = body.finish(timed, states, results)
            self.protos.append(body.function(name))
            self._known[key] = Step(name, needs_like)
        return self._known[key]

    def composite(self, op: str) -> str:
        """The function of a composite operation, such as ``exp``."""
        key = ("composite", op)
        if key not in self._known:
            name = self._names.new(op)
            program = fold(definition(op))
            body = _Body(self, program, ("x",), f"{op} as snncompile defines it inside a step, equal on every target")
            body.finish(("x",), (), ("y",))
            self.protos.append(body.function(name))
            self._known[key] = Step(name, False)
        return self._known[key].name


class _Body:
    """The nodes of one function."""

    def __init__(self, functions: Functions, program: Program, inputs: Sequence[str], doc: str) -> None:
        self.functions = functions
        self.program = program
        self.inputs = list(inputs)
        self.doc = doc
        self.names = Names([*inputs, *(op.name for op in program.ops)])
        self.nodes: list[NodeProto] = []
        self.constants: dict[tuple[str, bool], str] = {}
        self.outputs: list[str] = []
        self.wide: set[str] = set()

    def finish(self, timed: Sequence[str], states: Sequence[str], results: Sequence[str]) -> bool:
        """Emit everything; whether an extra input ``like`` was needed."""
        values = dict(self.program.outputs)
        self.wide = wide = set(timed)
        for op in self.program.ops:
            if any(a in wide for a in op.args if isinstance(a, str)):
                wide.add(op.name)
        renamed: dict[str, str] = {}
        plan: list[tuple[str, Arg]] = []
        for result in results:
            arg = values[result]
            out = self.names.new(f"{result}_next" if result in states else result)
            self.outputs.append(out)
            defined = isinstance(arg, str) and arg not in self.inputs
            if defined and arg in wide and arg not in renamed:
                renamed[str(arg)] = out
            else:
                plan.append((out, arg))
        for op in self.program.ops:
            self._emit(op, renamed)
        needs_like = False
        for out, arg in plan:
            value = self._operand(arg, renamed)
            if isinstance(arg, str) and arg in wide:
                self._node("Identity", [value], out)
                continue
            if timed:
                like = timed[0]
            else:
                like, needs_like = self._like(), True
            shape = self.names.new("shape")
            self._node("Shape", [like], shape)
            self._node("Expand", [value, shape], out)
        return needs_like

    def _like(self) -> str:
        if "like" not in self.inputs:
            self.inputs.append("like")
        return "like"

    def function(self, name: str) -> FunctionProto:
        imports = [helper.make_opsetid("", self.functions.opset), helper.make_opsetid(DOMAIN, 1)]
        proto = helper.make_function(DOMAIN, name, self.inputs, self.outputs, self.nodes, imports)
        proto.doc_string = self.doc
        return proto

    def _emit(self, op: Op, renamed: dict[str, str]) -> None:
        out = renamed.get(op.name, op.name)
        args = [self._operand(a, renamed) for a in op.args]
        doc = _place(op.where)
        if op.op in COMPOSITE:
            self._node(self.functions.composite(op.op), args, out, doc, DOMAIN)
        elif op.op == "exp2i":  # 2**n for whole n: exact, since the result is representable
            self._node("Pow", [self._operand(2.0, renamed), *args], out, doc)
        elif op.op == "div" and op.args[0] not in self.wide:
            self._quotient(op.args[0], args, out, doc)
        elif op.op == "ne":
            equal = self.names.new(f"{op.name}_equal")
            self._node("Equal", args, equal, doc)
            self._node("Not", [equal], out, doc)
        elif op.op == "float":
            self._node("Cast", args, out, doc, to=TensorProto.FLOAT)
        else:
            self._node(_DIRECT[op.op], args, out, doc)

    def _quotient(self, numerator: Arg, args: list[str], out: str, doc: str) -> None:
        """``c / x`` as ``-(-c / x)``, the same bits.

        ONNX Runtime makes ``(1 / x) * y`` one division ``y / x``, which rounds once instead of twice.
        """
        minus, quotient = self.names.new(f"{out}_minus"), self.names.new(f"{out}_negative")
        if isinstance(numerator, str):
            self._node("Neg", [args[0]], minus, doc)
        else:
            minus = self._operand(-float(numerator), {})
        self._node("Div", [minus, args[1]], quotient, doc)
        self._node("Neg", [quotient], out, doc)

    def _node(self, op: str, args: list[str], out: str, doc: str = "", domain: str = "", **attributes: int) -> None:
        self.nodes.append(helper.make_node(op, args, [out], out, domain=domain, doc_string=doc, **attributes))

    def _operand(self, arg: Arg, renamed: dict[str, str]) -> str:
        if isinstance(arg, str):
            return renamed.get(arg, arg)
        key = (repr(arg), isinstance(arg, bool))
        if key not in self.constants:
            name = self.names.new(f"constant_{len(self.constants)}")
            value: np.ndarray = np.asarray(arg, dtype=np.bool_ if isinstance(arg, bool) else np.float32)
            node = helper.make_node("Constant", [], [name], name, value=numpy_helper.from_array(value))
            self.nodes.append(node)
            self.constants[key] = name
        return self.constants[key]


def _canonical(program: Program, inputs: Sequence[str], results: Sequence[str]) -> tuple:
    """``program`` with its values numbered: equal for programs that differ in names only."""
    number: dict[str, int] = {name: i for i, name in enumerate(inputs)}

    def of(arg: Arg) -> object:
        return ("value", number[arg]) if isinstance(arg, str) else (type(arg).__name__, repr(arg))

    ops = []
    for op in program.ops:
        ops.append((op.op, tuple(of(a) for a in op.args)))
        number[op.name] = len(number)
    values = dict(program.outputs)
    return tuple(ops), tuple(of(values[r]) for r in results)


def _place(where: str) -> str:
    """``file:line`` without directories: a file must not depend on where it was made."""
    return comment(PurePath(where).name) if where else ""
