"""Delays in torch: what is read from a record of the past, over many steps at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.delay import Reading, combined, read
from snncompile.ir.interpolated import roles
from snncompile.targets.torch.products import apply_connection, effective_weight


class Past:
    """A delay made ready for one run: what its parameters mean is worked out once.

    Args:
        op: a connection of kind ``"Delay"`` or ``"DelayedLinear"``.
        params: role -> value.
        device: where the run is.
    """

    def __init__(self, op: Connection, params: Mapping[str, Tensor], device: torch.device) -> None:
        self.op = op
        self.depth = op.depth
        self._over = op.rule.overbound
        self._params = params
        self._by_synapse = op.kind == "DelayedLinear" and op.attrs["steps"] == "given"
        if self._by_synapse:
            self._kernel, self._bias = synapse_kernel(op, params, device)
            self._lags = [] if op.rule.trained else lags_of(op, params, device)
        elif op.same_for_all is None:
            seen = read(steps_of(op, params, device), op.rule)
            # a cycle counts on it that nothing newer is read, whatever values are loaded
            self._reading = replace(seen, index=seen.index.clamp(min=op.late))

    def __call__(self, record: Tensor, steps: int) -> Tensor:
        """The output of ``steps`` steps.

        Args:
            record: ``(depth + n, B, *features)``: the history, then the inputs of those of the steps that are known;
                none of an op that is late by as many steps needs to be.
            steps: how many.
        """
        if self._by_synapse and 0 < 2 * len(self._lags) <= self.depth + 1:
            return self._few(record, steps)
        if self._by_synapse:
            return _product(record, self._kernel, self._bias, self.op.late, steps)
        y = self.seen(record, steps)
        return apply_connection(self.op, self._params, y, False) if self.op.kind == "DelayedLinear" else y

    def _few(self, record: Tensor, steps: int) -> Tensor:
        """The products of the delays that there are, where most steps between 0 and the longest are nobody's."""
        y: Tensor | None = None
        for k in self._lags:
            one = F.linear(record[self.depth - k : self.depth - k + steps], self._kernel[k])
            y = one if y is None else y + one
        assert y is not None
        return y if self._bias is None else y + self._bias

    def offsets(self) -> list[tuple[int | Tensor, int]]:
        """For each value that a Delay reads: how many whole steps ago, one number or ``(N,)`` int32, and the most."""
        k = self.op.same_for_all
        if k is not None:
            return [(k, k)]
        found: list[tuple[int | Tensor, int]] = []
        for index in (self._reading.index, self._reading.other):
            if index is not None and index.dim() == 0:
                found.append((int(index), int(index)))
            elif index is not None:
                each = index.expand(self.op.input.shape).reshape(-1).int().contiguous()
                found.append((each, int(each.max())))
        return found

    def factors(self) -> dict[str, Tensor]:
        """What a Delay combines these values with, float32, by role: those that :func:`roles` names."""
        if self.op.same_for_all is not None:
            return {}
        r = self._reading
        valid = torch.ones_like(r.index, dtype=torch.float32) if r.valid is None else r.valid.float()
        given = {"gain": r.gain, "far_gain": r.other_gain, "valid": valid}
        return {role: value for role in roles(self.op) if (value := given[role]) is not None}

    def seen(self, record: Tensor, steps: int) -> Tensor:
        """The delayed signal; ``record`` is as for a call."""
        k = self.op.same_for_all
        if k is not None:
            return record[self.depth - k : self.depth - k + steps]
        r = self._reading
        near = _taken(self.op, record, r.index, steps, self.depth)
        far = None if r.other is None else _taken(self.op, record, r.other, steps, self.depth)
        return combined(near, r.gain, far, r.other_gain, r.valid, self._over)


def lags_of(op: Connection, params: Mapping[str, Tensor], device: torch.device) -> list[int]:
    """How many steps ago synapses read, each number once."""
    seen = read(steps_of(op, params, device), op.rule)
    read_at = [index for index in (seen.index, seen.other) if index is not None]
    return [k for k in torch.cat([index.flatten() for index in read_at]).unique().tolist() if k >= op.late]


def steps_of(op: Connection, params: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """The delays of ``op`` in steps, broadcast over features or synapses: the parameter, if trained, else float64."""
    given = op.attrs["steps"]
    return params["steps"] if given == "given" else torch.tensor(given, dtype=torch.float64, device=device)


def _taken(op: Connection, record: Tensor, index: Tensor, steps: int, depth: int) -> Tensor:
    """``record[depth + t - index[n], b, n]`` for every step, sequence and feature; one more axis for several delays."""
    if index.dim() == 0:
        k = int(index)
        return record[depth - k : depth - k + steps]
    if index.dim() > len(op.input.shape):
        return torch.stack([_taken(op, record, one, steps, depth) for one in index.unbind(-1)], -1)
    index = index.expand(op.input.shape)
    now = torch.arange(depth, depth + steps, device=record.device)
    rows = now.view(-1, *(1,) * index.dim()) - index
    rows = rows.unsqueeze(1).expand(steps, *record.shape[1:])
    return torch.gather(record, 0, rows)


def synapse_terms(
    op: Connection, params: Mapping[str, Tensor], r: Reading
) -> tuple[list[tuple[Tensor, Tensor]], Tensor | None]:
    """What a connection with a delay for each synapse sums up: how many steps ago each synapse reads, ``(out, in)``
    or what broadcasts to it, and the weight of that, once or twice; and the bias. Differentiable in weights and delays.

    Args:
        op: the connection.
        params: role -> value.
        r: what its delays read.
    """
    weight, bias = effective_weight(params), params.get("bias")
    if r.valid is not None:
        beyond = (weight * ~r.valid).sum(1) * op.rule.overbound
        bias = beyond if bias is None else bias + beyond
        weight = weight * r.valid
    terms = []
    for index, gain in ((r.index, r.gain), (r.other, r.other_gain)):
        if index is not None:
            each = weight if gain is None else weight * gain
            terms.append((index, each if not op.late else each * (index >= op.late)))
    return terms, bias


def synapse_kernel(op: Connection, params: Mapping[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Weights by how many steps ago, ``(depth + 1, out, in)``, and the bias; differentiable in weights and delays."""
    terms, bias = synapse_terms(op, params, read(steps_of(op, params, device), op.rule))
    shape = params["weight"].shape
    kernel = params["weight"].new_zeros(op.depth + 1, *shape)
    for index, each in terms:
        kernel = kernel.scatter_add(0, index.expand(shape).unsqueeze(0), each.unsqueeze(0))
    return kernel, bias


def _product(record: Tensor, kernel: Tensor, bias: Tensor | None, late: int, steps: int) -> Tensor:
    """Sum over the past of products: ``y[t] = sum_k record[depth + t - k] @ kernel[k].T + bias``."""
    depth, batch = len(kernel) - 1, record.shape[1]
    used = kernel[late:]
    if steps * batch == 0:
        return record.new_zeros(steps, batch, kernel.shape[1])
    if steps == 1:
        rows = record[: depth + 1 - late].flip(0)
        flat = rows.transpose(0, 1).reshape(batch, -1)
        return F.linear(flat, used.transpose(0, 1).reshape(kernel.shape[1], -1), bias).unsqueeze(0)
    rows = record[: depth - late + steps].permute(1, 2, 0)
    return F.conv1d(rows, used.flip(0).permute(1, 2, 0), bias).permute(2, 0, 1)
