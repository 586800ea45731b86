"""Products with a delay for each synapse in C: what is late is an offset in what is read."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from snncompile.targets.c import late_events_source as events
from snncompile.targets.c import late_source as dense
from snncompile.targets.c.availability import check_runnable
from snncompile.targets.c.calling import Caller, scratch
from snncompile.targets.c.compiler import ahead, function
from snncompile.targets.c.late_source import WHOLE
from snncompile.targets.late_product import Lags, LateTarget

#: Lanes of a plane's row where there are so many: what makes up for what a loop over them takes besides.
LEAST_LANES = 256
#: Values of a plane beyond which rows stay shorter than that.
LARGE = 2**20
#: A late product takes as long as so many products without delays, forward and back; measured in ``docs/delays.md``.
WORTH = 2


class LateProducts(Caller):
    """Products of inputs that may be anything."""

    worth = WORTH

    @cached_property
    def sparse(self) -> LateTarget:
        """Computes those of inputs that are mostly zero."""
        return LateEvents(self._threads, self._empty)

    @staticmethod
    def fits(lags: Lags, steps: int, batch: int) -> bool:
        """Whether what a thread turns can be numbered in 32 bits."""
        rows = 2 * lags.depth + steps + LEAST_LANES + WHOLE
        return max(lags.inputs, lags.outputs, events.TILE) * rows < 2**31

    def forward(self, lags: Lags, x: Tensor, past: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`~snncompile.targets.late_product.LateTarget`."""
        out = self._like(x, lags.outputs)
        self._product((past, x), lags.index, values, bias, -1, (past[:0], out), (lags.depth, 0))
        return out

    def input_gradient(self, lags: Lags, values: Tensor, grad: Tensor, early: bool) -> tuple[Tensor, Tensor | None]:
        """See :class:`~snncompile.targets.late_product.LateTarget`."""
        made = self._like(grad, lags.inputs)
        past = self._make((lags.depth if early else 0, grad.shape[1], lags.inputs))
        turned = values.transpose(0, 1).contiguous()
        self._product((None, grad), lags.by_input, turned, None, 1, (past, made), (len(past), lags.depth))
        return made, past if early else None

    def expect_gradients(self) -> None:
        """Gradients of the values are to follow."""
        ahead(dense.WEIGHT_NAME, dense.WEIGHT)

    def value_gradient(self, lags: Lags, grad: Tensor, x: Tensor, past: Tensor) -> Tensor:
        """See :class:`~snncompile.targets.late_product.LateTarget`."""
        out = self._make((lags.outputs, lags.inputs, lags.taps))
        steps, batch, inputs = x.shape
        if not steps * batch:
            return out.zero_()
        check_runnable(x)
        (x, *xs), (past, *pasts), (grad, *grads) = _strided(x), _strided(past), _strided(grad)
        group = _group(steps, batch, inputs * (lags.depth + steps))
        rows = _whole((lags.depth + steps) * group + WHOLE), _whole(steps * group)
        team = self._team(steps * batch * lags.outputs, lags.outputs)
        room = scratch(inputs * rows[0] + lags.outputs * rows[1])
        index = lags.index
        run = function(dense.WEIGHT_NAME, dense.WEIGHT, dense.WEIGHT_TYPES)
        run(
            past.data_ptr(), *pasts, x.data_ptr(), *xs, grad.data_ptr(), *grads, index.data_ptr(), room.data_ptr(),
            out.data_ptr(), lags.depth, steps, batch, inputs, lags.outputs, lags.taps, group, team, team,
        )  # fmt: skip
        return out

    def _product(
        self,
        read: tuple[Tensor | None, Tensor],
        index: Tensor,
        values: Tensor,
        bias: Tensor | None,
        sign: int,
        made: tuple[Tensor, Tensor],
        around: tuple[int, int],
    ) -> None:
        """Run the function.

        Args:
            read: what comes before the first step, None for zeros, and the steps, ``(T, B, features)``.
            index: how late each term is, ``(made, read, taps)``.
            values: what each term is multiplied by, likewise.
            bias: what sums begin with.
            sign: -1 to read what was, 1 to read what will be.
            made: the steps before the first that are wanted, and the others.
            around: how many steps are before the first of what is read, and behind the last.
        """
        check_runnable(read[1])
        steps, batch, inputs = read[1].shape
        if not batch or not steps + len(made[0]):
            return
        outputs = made[1].shape[2]
        x, *xs = _strided(read[1])
        past, *pasts = (None, 0, 0) if read[0] is None else _strided(read[0])
        early, *earlies = _strided(made[0])
        out, *outs = _strided(made[1])
        held = values.contiguous(), bias
        group = _group(steps, batch, inputs * (sum(around) + steps))
        groups = -(-batch // group)
        team = self._team(steps * batch * outputs, groups * outputs)
        parts = 1 if groups >= 2 * team else min(-(-2 * team // groups), outputs)
        stride, lanes = _whole((sum(around) + steps) * group), _whole((len(made[0]) + steps) * group)
        room = _whole(inputs * stride + WHOLE + -(-outputs // parts) * lanes)
        space = scratch(team * room)
        run = function(dense.PRODUCT_NAME, dense.PRODUCT, dense.PRODUCT_TYPES)
        run(
            0 if past is None else past.data_ptr(), *pasts, x.data_ptr(), *xs, index.data_ptr(), held[0].data_ptr(),
            0 if bias is None else bias.data_ptr(), sign, early.data_ptr(), *earlies, out.data_ptr(), *outs,
            space.data_ptr(), around[0], steps, around[1], len(made[0]), batch, inputs, outputs, index.shape[2], group,
            room, parts, team,
        )  # fmt: skip

    def _like(self, x: Tensor, features: int) -> Tensor:
        """Room for ``features`` in place of those of ``x (T, B, in)``, in its memory order."""
        steps, batch, _ = x.shape
        if not x.is_contiguous() and x.transpose(0, 1).is_contiguous():
            return self._make((batch, steps, features)).transpose(0, 1)
        return self._make((steps, batch, features))


class LateEvents(LateProducts):
    """Products of inputs that are mostly zero."""

    def forward(self, lags: Lags, x: Tensor, past: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`~snncompile.targets.late_product.LateTarget`."""
        out = self._like(x, lags.outputs)
        steps, batch, inputs = x.shape
        if not steps * batch:
            return out
        check_runnable(x)
        (x, *xs), (past, *pasts) = _strided(x), _strided(past)
        made, *outs = _strided(out)
        weight = values.permute(1, 2, 0).contiguous()
        team = self._team(steps * batch * lags.outputs, batch * lags.outputs)
        parts = 1 if batch >= 2 * team else min(-(-2 * team // batch), lags.outputs)
        places = lags.places(events.TILE)
        room, space = self._room(lags, steps, team)
        run = function(events.PRODUCT_NAME, events.PRODUCT, events.PRODUCT_TYPES)
        run(
            past.data_ptr(), *pasts, x.data_ptr(), *xs, places.data_ptr(), weight.data_ptr(),
            0 if bias is None else bias.data_ptr(), made.data_ptr(), *outs, space.data_ptr(), lags.depth, steps, batch,
            inputs, lags.outputs, lags.taps, room, parts, team,
        )  # fmt: skip
        return out

    def expect_gradients(self) -> None:
        """Gradients of the values are to follow."""
        ahead(events.WEIGHT_NAME, events.WEIGHT)

    def value_gradient(self, lags: Lags, grad: Tensor, x: Tensor, past: Tensor) -> Tensor:
        """See :class:`~snncompile.targets.late_product.LateTarget`."""
        out = self._make((lags.inputs, lags.taps, lags.outputs))
        steps, batch, inputs = x.shape
        if not steps * batch:
            return out.zero_().permute(2, 0, 1).contiguous()
        check_runnable(x)
        (x, *xs), (past, *pasts), (grad, *grads) = _strided(x), _strided(past), _strided(grad)
        team = self._team(steps * batch * lags.outputs, lags.outputs)
        places = lags.places(events.TILE)
        room, space = self._room(lags, steps, team)
        run = function(events.WEIGHT_NAME, events.WEIGHT, events.WEIGHT_TYPES)
        run(
            past.data_ptr(), *pasts, x.data_ptr(), *xs, grad.data_ptr(), *grads, places.data_ptr(),
            out.data_ptr(), space.data_ptr(), lags.depth, steps, batch, inputs, lags.outputs, lags.taps, room, team,
            team,
        )  # fmt: skip
        return out.permute(2, 0, 1).contiguous()

    @staticmethod
    def _room(lags: Lags, steps: int, team: int) -> tuple[int, Tensor]:
        """Room for the events of a sequence and some outputs, on each thread."""
        rows = lags.depth + steps
        listed, tile = rows * lags.inputs + 1, (rows + lags.depth) * events.TILE + lags.outputs
        room = _whole(2 * (rows + 1) + 2 * listed + tile)
        return room, scratch(team * room)


def _strided(x: Tensor) -> tuple[Tensor, int, int]:
    """``x (T, B, features)`` with features side by side, and its strides over time and batch."""
    if x.stride(2) != 1 and x.shape[2] > 1:
        x = x.contiguous()
    return x, x.stride(0), x.stride(1)


def _group(steps: int, batch: int, values: int) -> int:
    """Sequences, each of so many values, that are turned together: few where there are many steps, and a power of two,
    by which what is late lies better in memory."""
    steps = max(steps, 1)
    many = max(-(-WHOLE // steps), min(-(-LEAST_LANES // steps), LARGE // max(values, 1)))
    return max(1, min(batch, 1 << max(many - 1, 0).bit_length()))


def _whole(lanes: int) -> int:
    return -(-lanes // WHOLE) * WHOLE
