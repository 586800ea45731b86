"""What reads a late signal a panel at a time (``targets/late_panels.py``): connections, each with its own gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.density import event_driven
from snncompile.targets.event_conv import conv_gradients, window_of
from snncompile.targets.event_linear import EventTarget
from snncompile.targets.late_panels import PanelGradient, PanelReader
from snncompile.targets.pooling import PoolTarget, Size, divisor_of, tiles
from snncompile.targets.sparse import SparseTarget, pattern_of, runner_of
from snncompile.targets.torch.products import apply_connection, folded

Tensors = Sequence[Tensor | None]


def turns_weights(op: Connection) -> bool:
    """Whether ``op`` costs something for every panel: it is given larger ones. The others work in the cache."""
    return (event_driven(op) and op.kind != "Sparse") or (
        torch.is_grad_enabled() and op.kind in ("Linear", "DelayedLinear", "Sparse")
    )


def reader_of(
    op: Connection,
    params: Mapping[str, Tensor],
    device: torch.device,
    events: EventTarget | None,
    pools: PoolTarget | None,
    sparse: SparseTarget | None,
) -> PanelReader:
    """What runs ``op`` on panels.

    Args:
        op: a connection whose output at a step is a function of its input at that step.
        params: role -> value.
        device: where it runs.
        events: computes products from the inputs that are not zero; None where that is not worth it.
        pools: pools by windows that tile an image, on a target that does.
        sparse: computes sparse products, on a target that does.
    """
    if op.kind == "Sparse":
        return SparseReader(op, params, device, sparse)
    linear = op.kind in ("Linear", "DelayedLinear")
    if events is not None and event_driven(op) and (linear or op.kind in ("Conv1d", "Conv2d")):
        return EventLinearReader(op, params, events) if linear else EventConvReader(op, params, events)
    if torch.is_autocast_enabled(device.type):
        return AnyReader(op, params, device)
    if linear:
        return LinearReader(op, params)
    if op.kind in ("Conv1d", "Conv2d"):
        return ConvReader(op, params)
    if pools is not None and tiles(op):
        return PoolReader(op, pools)
    if op.kind == "MaxPool2d":
        return LargestReader(op)
    return AnyReader(op, params, device)


class _Weighted:
    """A product: its weight and its bias."""

    def __init__(self, op: Connection, params: Mapping[str, Tensor]) -> None:
        weight, bias = folded(op, params)
        self.op = op
        self.tensors: tuple[Tensor | None, ...] = (weight.float(), None if bias is None else bias.float())

    def looks_back(self, needs: Sequence[bool]) -> bool:
        """Only the weight's gradient reads the input."""
        return needs[1]


def _trains(weight: Tensor | None) -> bool:
    return torch.is_grad_enabled() and weight is not None and weight.requires_grad


def _dense_back(rows: Tensor, weight: Tensor | None, room: Tensor | None) -> Tensor | None:
    """The gradient of what a dense weight reads, in ``room`` where it is wanted."""
    if room is not None and weight is not None:
        torch.mm(rows, weight, out=room.view(-1, weight.shape[1]))
    return room


class LinearReader(_Weighted):
    """A dense connection, in torch."""

    def forward(self, panel: Tensor, tensors: Tensors, room: Tensor | None, which: int = 0) -> Tensor:
        """See :class:`~snncompile.targets.late_panels.PanelReader`."""
        weight, bias = tensors
        assert weight is not None
        if room is None or (room.shape[1] > 1 and not room.is_contiguous()):
            return F.linear(panel, weight, bias)
        rows, to = panel.flatten(0, 1), room.flatten(0, 1)  # of one sequence: another view
        if bias is None:
            torch.mm(rows, weight.t(), out=to)
        else:
            torch.addmm(bias, rows, weight.t(), out=to)
        return room

    def backward(self, p: PanelGradient) -> Tensor | None:
        """Likewise."""
        rows, at = p.grad.flatten(0, 1), p.panel.flatten(0, 1)
        if p.needs[1] and p.totals[0] is not None:
            p.totals[0].addmm_(rows.t(), at)
        elif p.needs[1]:
            p.totals[0] = rows.t() @ at
        p.add(1, rows.sum(0) if p.needs[2] else None)
        return _dense_back(rows, p.tensors[0], p.room)


class EventLinearReader(_Weighted):
    """A dense connection of a mostly zero signal."""

    def __init__(self, op: Connection, params: Mapping[str, Tensor], events: EventTarget) -> None:
        super().__init__(op, params)
        self._events, self._trains = events, _trains(self.tensors[0])

    def forward(self, panel: Tensor, tensors: Tensors, room: Tensor | None, which: int = 0) -> Tensor:
        """See :class:`~snncompile.targets.late_panels.PanelReader`."""
        weight, bias = tensors
        assert weight is not None
        if self._trains:
            self._events.expect_gradients()
        return self._events.forward(panel, weight, bias)

    def backward(self, p: PanelGradient) -> Tensor | None:
        """Likewise."""
        rows = p.grad.flatten(0, 1)
        d_weight, d_bias = self._events.gradients(p.grad, p.panel, p.needs[2]) if p.needs[1] else (None, None)
        p.add(0, d_weight)
        p.add(1, rows.sum(0) if p.needs[2] and d_bias is None else d_bias)
        return _dense_back(rows, p.tensors[0], p.room)


class ConvReader(_Weighted):
    """A convolution, in torch."""

    def forward(self, panel: Tensor, tensors: Tensors, room: Tensor | None, which: int = 0) -> Tensor:
        """See :class:`~snncompile.targets.late_panels.PanelReader`."""
        a, (weight, bias) = self.op.attrs, tensors
        conv = F.conv1d if self.op.kind == "Conv1d" else F.conv2d
        made: Any = conv(panel.flatten(0, 1), weight, bias, a["stride"], a["padding"], a["dilation"], a["groups"])
        return made.unflatten(0, panel.shape[:2])

    def backward(self, p: PanelGradient) -> Tensor | None:
        """Likewise."""
        a, weight = self.op.attrs, p.tensors[0]
        axes = p.panel.dim() - 3
        ways = [[n] * axes if isinstance(n, int) else list(n) for n in (a["stride"], a["padding"], a["dilation"])]
        d_x, *more = torch.ops.aten.convolution_backward(
            p.grad.flatten(0, 1), p.panel.flatten(0, 1), weight, p.grad.shape[2:3], *ways, False, [0] * axes,
            a["groups"], list(p.needs),
        )  # fmt: skip
        for i, (found, need) in enumerate(zip(more, p.needs[1:], strict=True)):
            p.add(i, found if need else None)
        return d_x.view(p.panel.shape) if p.needs[0] else None


class EventConvReader(_Weighted):
    """A convolution of mostly zero images."""

    def __init__(self, op: Connection, params: Mapping[str, Tensor], events: EventTarget) -> None:
        super().__init__(op, params)
        self._events, self._window, self._trains = events, window_of(op), _trains(self.tensors[0])

    def forward(self, panel: Tensor, tensors: Tensors, room: Tensor | None, which: int = 0) -> Tensor:
        """See :class:`~snncompile.targets.late_panels.PanelReader`."""
        weight, bias = self._images(tensors[0]), tensors[1]
        if self._trains:
            self._events.expect_conv_gradients(weight, self._window)
        made = self._events.conv(self._images(panel.flatten(0, 1)), weight, bias, self._window)
        return (made.squeeze(2) if self.op.kind == "Conv1d" else made).unflatten(0, panel.shape[:2])

    def backward(self, p: PanelGradient) -> Tensor | None:
        """Likewise."""
        given = p.tensors[0]
        assert given is not None
        images, weight = self._images(p.panel.flatten(0, 1)), self._images(given)
        flat = self._images(p.grad.flatten(0, 1)).contiguous()
        d_x, d_weight, d_bias = conv_gradients(self._events, flat, images, weight, self._window, p.needs)
        p.add(0, None if d_weight is None else d_weight.view(given.shape))
        p.add(1, d_bias)
        return None if d_x is None else d_x.view(p.panel.shape)

    def _images(self, x: Tensor | None) -> Tensor:
        """Rows as images of one row."""
        assert x is not None
        return x.unsqueeze(2) if self.op.kind == "Conv1d" else x


class SparseReader:
    """A connection whose weights are listed by synapse."""

    def __init__(
        self, op: Connection, params: Mapping[str, Tensor], device: torch.device, target: SparseTarget | None
    ) -> None:
        bias = params.get("bias")
        self.tensors: tuple[Tensor | None, ...] = (params["weight"].float(), None if bias is None else bias.float())
        self._pattern, self._runner = pattern_of(op, params), runner_of(op, torch.empty(0, device=device), target)

    def looks_back(self, needs: Sequence[bool]) -> bool:
        """Only the weight's gradient reads the input."""
        return needs[1]

    def forward(self, panel: Tensor, tensors: Tensors, room: Tensor | None, which: int = 0) -> Tensor:
        """See :class:`~snncompile.targets.late_panels.PanelReader`."""
        weight, bias = tensors
        assert weight is not None
        y = self._runner.forward(self._pattern, weight, panel.flatten(0, 1))
        return (y if bias is None else y + bias).unflatten(0, panel.shape[:2])

    def backward(self, p: PanelGradient) -> Tensor | None:
        """Likewise."""
        rows, weight = p.grad.flatten(0, 1).contiguous(), p.tensors[0]
        assert weight is not None
        if p.needs[1]:
            p.add(0, self._runner.weight_gradient(self._pattern, rows, p.panel.flatten(0, 1)))
        p.add(1, rows.sum(0) if p.needs[2] else None)
        return self._runner.input_gradient(self._pattern, weight, rows).view(p.panel.shape) if p.needs[0] else None


class PoolReader:
    """Pooling by windows that tile the image."""

    tensors: tuple[Tensor | None, ...] = ()

    def __init__(self, op: Connection, pools: PoolTarget) -> None:
        height, width = op.attrs["kernel_size"]
        self._pools, self._divisor = pools, divisor_of(op)
        self._window: Size = (height, width)

    def looks_back(self, needs: Sequence[bool]) -> bool:
        """No gradient does."""
        return False

    def forward(self, panel: Tensor, tensors: Tensors, room: Tensor | None, which: int = 0) -> Tensor:
        """See :class:`~snncompile.targets.late_panels.PanelReader`."""
        return self._pools.forward(panel.flatten(0, 2), self._window, self._divisor).unflatten(0, panel.shape[:3])

    def backward(self, p: PanelGradient) -> Tensor | None:
        """Likewise."""
        size: Size = (p.panel.shape[3], p.panel.shape[4])
        planes = p.grad.flatten(0, 2).contiguous()
        return self._pools.backward(planes, size, self._window, self._divisor).view(p.panel.shape)


class LargestReader:
    """The largest values of windows: where they were is kept, so that nobody looks for them again."""

    tensors: tuple[Tensor | None, ...] = ()

    def __init__(self, op: Connection) -> None:
        a = op.attrs
        self._ways = list(a["kernel_size"]), list(a["stride"]), list(a["padding"]), [1, 1], False
        self._found: dict[int, Tensor] | None = {} if torch.is_grad_enabled() else None

    def looks_back(self, needs: Sequence[bool]) -> bool:
        """No gradient does, but for that."""
        return False

    def forward(self, panel: Tensor, tensors: Tensors, room: Tensor | None, which: int = 0) -> Tensor:
        """See :class:`~snncompile.targets.late_panels.PanelReader`."""
        y, found = torch.ops.aten.max_pool2d_with_indices(panel.flatten(0, 1), *self._ways)
        if self._found is not None:
            self._found[which] = found
        made: Tensor = y.unflatten(0, panel.shape[:2])
        return made

    def backward(self, p: PanelGradient) -> Tensor | None:
        """Likewise."""
        assert self._found is not None
        images, rows = p.panel.flatten(0, 1), p.grad.flatten(0, 1).contiguous()
        back = torch.ops.aten.max_pool2d_with_indices_backward
        found: Tensor = back(rows, images, *self._ways, self._found[p.which])
        return found.view(p.panel.shape)


class AnyReader:
    """Whatever is a function of each step: backward it is computed again, under autograd."""

    def __init__(self, op: Connection, params: Mapping[str, Tensor], device: torch.device) -> None:
        self._op, self._roles, self._kind = op, tuple(params), device.type
        self.tensors: tuple[Tensor | None, ...] = tuple(params.values())
        # the backward pass runs outside of the caller's autocast
        self._autocast: dict[str, Any] = {
            "enabled": torch.is_autocast_enabled(self._kind), "dtype": torch.get_autocast_dtype(self._kind)
        }  # fmt: skip

    def looks_back(self, needs: Sequence[bool]) -> bool:
        """It does."""
        return any(needs)

    def forward(self, panel: Tensor, tensors: Tensors, room: Tensor | None, which: int = 0) -> Tensor:
        """See :class:`~snncompile.targets.late_panels.PanelReader`."""
        params = {role: t for role, t in zip(self._roles, tensors, strict=True) if t is not None}
        return apply_connection(self._op, params, panel, False)

    def backward(self, p: PanelGradient) -> Tensor | None:
        """Likewise."""
        given = [None if t is None else t.detach().requires_grad_(need)
                 for t, need in zip((p.panel, *p.tensors), p.needs, strict=True)]  # fmt: skip
        with torch.enable_grad(), torch.autocast(self._kind, **self._autocast):
            assert given[0] is not None
            made = self.forward(given[0], given[1:], None)
        leaves = [t for t in given if t is not None and t.requires_grad]
        found = iter(torch.autograd.grad(made, leaves, p.grad, allow_unused=True))
        d_x, *more = [next(found) if t is not None and t.requires_grad else None for t in given]
        for i, one in enumerate(more):
            p.add(i, one)
        return d_x
