"""Delays as ONNX operators: what is read from a record of the past, over all steps or at one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.delay import Reading, read
from snncompile.targets.onnx.coefficients import as_array
from snncompile.targets.onnx.products import Place, lower
from snncompile.targets.torch.delays import synapse_kernel

_END = 2**31 - 1


@dataclass(frozen=True)
class Past:
    """A delay at one place of a file. A record is ``(depth + steps, batch, *features)``.

    Attributes:
        op: the connection.
        at: where it stands; ``at.timed`` says whether it reads all steps, or one.
        steps: name of the number of steps, a vector of one number; "" where it reads one.
    """

    op: Connection
    at: Place
    steps: str = ""

    def record(self, history: str, x: str) -> str:
        """The past, ``(batch, depth, *features)``, and the signal, as one record."""
        at, rank = self.at, len(self.op.input.shape)
        if not at.timed:
            x = at.gb.node("Unsqueeze", [x, at.gb.ints([0])], f"{at.node}.x.row")
        if not self.op.depth:
            return x
        return at.gb.node("Concat", [self._turned(history, rank, "history"), x], f"{at.node}.record", axis=0)

    def known(self, history: str) -> str:
        """The past alone, for a delay that shows nothing of the present step."""
        return self._turned(history, len(self.op.input.shape), "history")

    def later(self, record: str) -> str:
        """The history after the last step of a record."""
        gb, name = self.at.gb, self.at.node
        bounds = [gb.ints([-self.op.depth]), gb.ints([_END]), gb.ints([0])]
        last = gb.node("Slice", [record, *bounds], f"{name}.last_steps")
        return self._turned(last, len(self.op.input.shape), "history.after")

    def output(self, record: str) -> str:
        """The connection's output, ``(steps, batch, *features)``, or of one step without its first axis."""
        op, at = self.op, self.at
        if op.kind == "DelayedLinear" and op.attrs["steps"] == "given":
            y = self._by_synapse(record)
        else:
            y = self._seen(record)
        if not at.timed:
            y = at.gb.node("Squeeze", [y, at.gb.ints([0])], at.label if op.kind == "Delay" else f"{at.node}.seen.now")
        if op.kind == "DelayedLinear" and op.attrs["steps"] != "given":
            return lower(Connection("Linear", {}, op.params, op.input, op.output), y, at)
        return y

    def _turned(self, x: str, rank: int, wanted: str) -> str:
        """The first two axes swapped."""
        return self.at.gb.node("Transpose", [x], f"{self.at.node}.{wanted}", perm=[1, 0, *range(2, rank + 2)])

    def _shifted(self, record: str, k: int) -> str:
        """The signal ``k`` steps ago."""
        gb, start = self.at.gb, self.op.depth - k
        end = start + 1 if not self.at.timed else (-k if k else _END)
        bounds = [gb.ints([start]), gb.ints([end]), gb.ints([0])]
        return gb.node("Slice", [record, *bounds], f"{self.at.node}.shifted")

    def _seen(self, record: str) -> str:
        k = self.op.same_for_all
        if k is not None:
            return self._shifted(record, k)
        gb, name = self.at.gb, self.at.node
        r = self._reading()
        y = self._taken(record, r.index)
        if r.gain is not None:
            y = gb.node("Mul", [y, self._constant("gain", r.gain)], f"{name}.weighed")
        if r.other is not None and r.other_gain is not None:
            other = gb.node(
                "Mul", [self._taken(record, r.other), self._constant("other_gain", r.other_gain)], f"{name}.other"
            )
            y = gb.node("Add", [y, other], f"{name}.mixed")
        if r.valid is None:
            return y
        valid = gb.stored(f"{name}.valid", np.ascontiguousarray(r.valid.numpy()))
        over = gb.stored(f"{name}.overbound", np.asarray(self.op.rule.overbound, dtype=np.float32))
        return gb.node("Where", [valid, y, over], f"{name}.bounded")

    def _reading(self) -> Reading:
        given = self.op.attrs["steps"]
        steps = self.at.values["steps"].detach().cpu() if given == "given" else torch.tensor(given, dtype=torch.float64)
        with torch.no_grad():
            return read(steps, self.op.rule)

    def _constant(self, wanted: str, value: Tensor) -> str:
        return self.at.gb.stored(f"{self.at.node}.{wanted}", as_array(value))

    def _taken(self, record: str, index: Tensor) -> str:
        """The record so many steps ago, element by element; one more axis for several delays of one element."""
        gb, name, shape = self.at.gb, self.at.node, self.op.input.shape
        if index.dim() == 0:
            return self._shifted(record, int(index))
        if index.dim() > len(shape):
            last = gb.ints([-1])
            each = [gb.node("Unsqueeze", [self._taken(record, i), last], f"{name}.one") for i in index.unbind(-1)]
            return gb.node("Concat", each, f"{name}.several", axis=-1)
        back = self.op.depth - index.expand(shape).numpy().astype(np.int64)
        rows = gb.stored(f"{name}.rows", np.ascontiguousarray(back[None, None]))
        if self.at.timed:
            scalars = [gb.stored(f"number_{n}", np.asarray(n, dtype=np.int64)) for n in (0, 1)]
            count = gb.node("Squeeze", [self.steps, gb.ints([0])], f"{name}.step_count")
            ramp = gb.node("Range", [scalars[0], count, scalars[1]], f"{name}.steps")
            column = gb.node("Reshape", [ramp, gb.ints([-1, *(1,) * (len(shape) + 1)])], f"{name}.column")
            rows = gb.node("Add", [column, rows], f"{name}.rows_of_steps")
        full = gb.node("Concat", [gb.ints([1]), self.at.batch(), gb.ints([1] * len(shape))], f"{name}.spread", axis=0)
        rows = gb.node("Expand", [rows, full], f"{name}.every_row")
        return gb.node("GatherElements", [record, rows], f"{name}.taken", axis=0)

    def _by_synapse(self, record: str) -> str:
        """Weights by how many steps ago, as a convolution over time."""
        op, at, gb = self.op, self.at, self.at.gb
        with torch.no_grad():
            kernel, bias = synapse_kernel(op, self.at.values, torch.device("cpu"))
        used = kernel[op.late :].flip(0).permute(1, 2, 0)
        inputs = [gb.stored(f"{at.node}.weight.by_delay", as_array(used))]
        if bias is not None:
            inputs.append(gb.stored(f"{at.node}.bias.folded", as_array(bias)))
        end = (-op.late or _END) if at.timed else op.depth + 1 - op.late
        rows = gb.node("Slice", [record, gb.ints([0]), gb.ints([end]), gb.ints([0])], f"{at.node}.rows_used")
        lines = gb.node("Transpose", [rows], f"{at.node}.lines", perm=[1, 2, 0])
        y = gb.node("Conv", [lines, *inputs], f"{at.node}.lines.out", f"{at.node}/Conv", kernel_shape=[used.shape[2]])
        return gb.node("Transpose", [y], at.label if at.timed else f"{at.node}.row.out", perm=[2, 0, 1])


def state_of(name: str) -> str:
    """The state that holds a delay's past."""
    return f"{name}.history"
