"""Sparse connections: few of the pairs of two populations are synapses, and only those are held."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from snncompile.ir.connection import Connection
from snncompile.ir.errors import ModelError
from snncompile.ir.nodes.weights import ConnectionNode, whole
from snncompile.ir.params import Init, Parameter
from snncompile.ir.random import stream_of
from snncompile.ir.types import SignalType

#: Neurons are numbered in float32 arrays, beside the weights: whole numbers are exact up to here.
MAX_FEATURES = 2**24

_DRAWN = 2**22  # pairs drawn at a time


@dataclass(frozen=True)
class Synapses:
    """Which pairs are synapses, by source and then by target.

    Attributes:
        targets: the target of each, ``(synapses,)``.
        counts: how many each source has, ``(in,)``.
        values: the weight of each, where given.
    """

    targets: np.ndarray
    counts: np.ndarray
    values: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Sparse(ConnectionNode):
    """Sparse connection, the same at every step: ``y[o] = sum of w * x[i] over the synapses from i to o``.

    The sum of an output begins at 0 and goes through the sources in order, each product rounded before it is added; a
    source that is 0 adds nothing. So it is the same bit for bit on every target.

    Which pairs are synapses is decided when the model is built, by one of ``p``, ``indegree`` and ``weight``, for good.
    Only synapses are held: the parameter ``weight`` has one value each, ``(synapses,)``, ordered by source and then by
    target; ``targets`` ``(synapses,)`` and ``counts`` ``(in,)``, the number of synapses of each source, say which they
    are. Drawn pairs depend on ``seed`` and the node's name alone.

    Shapes: input ``(batch, time, in)``, output ``(batch, time, out)``.

    Attributes:
        out: number of output features; with ``weight`` it may be left out.
        p: probability that a pair is a synapse, above 0, at most 1; pairs are independent.
        indegree: synapses of each target, from as many different sources.
        weight: a sparse torch tensor ``(out, in)`` of any layout: its entries are the synapses.
        seed: of the pairs, a whole number of at least 0. Default 0.
        bias: whether a bias ``(out,)`` is added. Default False.
        init: first weights: one number, an array ``(synapses,)``, a function from that shape to one, or None: uniform
            within ``1/sqrt(synapses per target)``.
        trainable: whether weights and bias are trained. Default True.
        sign: +1 or -1, or an array ``(in,)`` of them, one per source. First weights of ``init`` get this sign, by their
            absolute value; those of ``weight`` must have it. ``net.clamp_()`` restores it.
    """

    out: int | None = None
    _: KW_ONLY
    p: float | None = None
    indegree: int | None = None
    weight: Any = None
    seed: int | None = None
    bias: bool = False
    init: Any = None
    trainable: bool = True
    sign: Any = None

    def connection(self, owner: str, x: SignalType, name: str) -> Connection:
        """The connection with its parameters named after ``owner``."""
        if len(x.shape) != 1:
            raise ModelError(f"it takes flat features, not {x.shape}. Put `>> Flatten()` before it")
        inputs = x.shape[0]
        found, out = self._synapses(inputs, owner)
        count = len(found.targets)
        if not count and self.weight is not None:
            raise ModelError("it has no synapse: weight holds no entry")
        if not count:
            raise ModelError(f"it has no synapse: none of {inputs * out:,} pairs was drawn. Raise p=, or change seed=")
        sign = None if self.sign is None else _signs(self.sign, found.counts)
        fan_in = float(max(1, round(count / out)))
        init = self._init(found, sign, fan_in)
        held = {
            "weight": Parameter(f"{owner}.weight", (count,), "weights", init, self.trainable),
            "targets": _numbers(f"{owner}.targets", found.targets),
            "counts": _numbers(f"{owner}.counts", found.counts),
        }
        if self.bias:
            drawn = Init("fan_in_uniform", (fan_in,))
            held["bias"] = Parameter(f"{owner}.bias", (out,), "biases", drawn, self.trainable)
        if sign is not None:
            held["sign"] = Parameter(f"{owner}.sign", (count,), "signs", Init("given", (), sign), False)
        return Connection("Sparse", {"out": out}, held, x, SignalType("current", (out,)), (name,))

    def _synapses(self, inputs: int, owner: str) -> tuple[Synapses, int]:
        given = [option for option in ("p", "indegree", "weight") if getattr(self, option) is not None]
        if len(given) != 1:
            said = "none is given" if not given else f"not {' and '.join(f'{g}=' for g in given)}"
            raise ModelError(f"its synapses come from one of p=, indegree= and weight=: {said}")
        if self.weight is not None:
            for option in ("seed", "init"):
                if getattr(self, option) is not None:
                    raise ModelError(f"{option}= has no use beside weight=, which says everything: leave it out")
            return given_synapses(self.weight, inputs, self.out)
        if self.out is None:
            raise ModelError("out= is missing: the number of output features")
        out = whole("out", self.out)
        for size in (out, inputs):
            if size > MAX_FEATURES:
                raise ModelError(f"it has {size} features on one side; at most {MAX_FEATURES} can be numbered")
        generator = np.random.default_rng([_seed(self.seed), stream_of(owner)])
        if self.p is not None:
            return drawn_pairs(self.p, inputs, out, generator), out
        return drawn_sources(self.indegree, inputs, out, generator), out

    def _init(self, found: Synapses, sign: np.ndarray | None, fan_in: float) -> Init:
        if found.values is not None:
            if sign is not None and np.any(found.values * sign < 0):
                at = int(np.argmax(found.values * sign < 0))
                pair = (int(found.targets[at]), int(np.searchsorted(np.cumsum(found.counts), at, side="right")))
                raise ModelError(
                    f"the weight of {pair} is {found.values[at]:g}, but its sign is {sign[at]:+g}: weights given must"
                    " have their sign"
                )
            return Init("given", (), found.values)
        shape = found.targets.shape
        if self.init is None:
            return Init("kaiming_uniform", (fan_in,), sign=sign)
        try:
            made = np.asarray(_plain(self.init(shape) if callable(self.init) else self.init), dtype=np.float32)
        except (TypeError, ValueError):
            raise ModelError(f"init is {self.init!r}, not a number or an array") from None
        if made.shape not in ((), shape):
            raise ModelError(
                f"init has shape {made.shape}, but there are {shape[0]} synapses: give {shape}, or a number"
            )
        if not np.all(np.isfinite(made)):
            raise ModelError("init holds a value that is not finite")
        if sign is None and not made.shape:
            return Init("constant", (float(made),))
        value = np.broadcast_to(made, shape)
        return Init("given", (), np.ascontiguousarray(value if sign is None else np.abs(value) * sign))


def _seed(seed: Any) -> int:
    if seed is None:
        return 0
    if isinstance(seed, bool) or not isinstance(seed, Integral) or int(seed) < 0:
        raise ModelError(f"seed is a whole number of at least 0, not {seed!r}")
    return int(seed)


def drawn_pairs(p: Any, inputs: int, out: int, generator: np.random.Generator) -> Synapses:
    """Each pair with probability ``p``."""
    if isinstance(p, bool) or not isinstance(p, Real) or not 0 < float(p) <= 1:
        raise ModelError(f"p is a probability above 0, up to 1, not {p!r}")
    rows = max(1, _DRAWN // out)
    targets, counts = [], []
    for first in range(0, inputs, rows):
        chosen = generator.random((min(rows, inputs - first), out)) < float(p)
        counts.append(chosen.sum(1))
        targets.append(chosen.nonzero()[1])
    return Synapses(np.concatenate(targets), np.concatenate(counts))


def drawn_sources(indegree: Any, inputs: int, out: int, generator: np.random.Generator) -> Synapses:
    """``indegree`` different sources for each target."""
    degree = whole("indegree", indegree)
    if degree > inputs:
        raise ModelError(f"indegree is {degree}, but there are only {inputs} sources")
    sources = np.concatenate([generator.choice(inputs, degree, replace=False, shuffle=False) for _ in range(out)])
    return _ordered(np.repeat(np.arange(out), degree), sources, None, inputs)


def given_synapses(weight: Any, inputs: int, out: Any) -> tuple[Synapses, int]:
    """The entries of a sparse torch tensor ``(out, in)``."""
    import torch

    if not isinstance(weight, torch.Tensor) or weight.layout is torch.strided:
        kind = "a dense tensor" if isinstance(weight, torch.Tensor) else f"a {type(weight).__name__}"
        raise ModelError(f"weight is {kind}; give a sparse one, e.g. tensor.to_sparse(), or use snn.Linear")
    if weight.dim() != 2 or weight.shape[1] != inputs or (out is not None and weight.shape[0] != out):
        wanted = f"({'out' if out is None else out}, {inputs})"
        raise ModelError(f"weight has shape {tuple(weight.shape)}; here it is {wanted}, outputs first")
    if max(weight.shape) > MAX_FEATURES:
        raise ModelError(f"it has {max(weight.shape)} features on one side; at most {MAX_FEATURES} can be numbered")
    if weight.is_complex():
        raise ModelError("weight holds complex numbers; give real ones")
    held = weight.detach().cpu()
    held = held if held.layout is torch.sparse_coo else held.to_sparse_coo()
    if held.dense_dim():
        raise ModelError("weight holds dense rows in a sparse tensor; give tensor.to_dense().to_sparse()")
    (targets, sources), values = held._indices().numpy(), held._values().float().numpy()
    pairs, times = np.unique(targets * inputs + sources, return_counts=True)
    if np.any(times > 1):
        pair = divmod(int(pairs[np.argmax(times > 1)]), inputs)
        raise ModelError(f"weight holds {pair} more than once: weight.coalesce() adds up what belongs together")
    if not np.all(np.isfinite(values)):
        raise ModelError("weight holds a value that is not finite")
    return _ordered(targets, sources, values, inputs), int(weight.shape[0])


def _ordered(targets: np.ndarray, sources: np.ndarray, values: np.ndarray | None, inputs: int) -> Synapses:
    order = np.lexsort((targets, sources))
    return Synapses(
        targets[order],
        np.bincount(sources, minlength=inputs),
        None if values is None else np.ascontiguousarray(values[order]),
    )


def _signs(sign: Any, counts: np.ndarray) -> np.ndarray:
    """The sign of each synapse, from one for all or one for each source."""
    try:
        array = np.asarray(_plain(sign), dtype=np.float32)
    except (TypeError, ValueError):
        raise ModelError(f"sign is {sign!r}, not an array of numbers") from None
    if array.shape not in ((), counts.shape):
        raise ModelError(f"sign has shape {array.shape}; give one for all, or one for each source {counts.shape}")
    if not np.all(np.isin(array, (-1.0, 1.0))):
        stranger = float(array[~np.isin(array, (-1.0, 1.0))].reshape(-1)[0])
        raise ModelError(f"sign holds only -1 and 1, but one value is {stranger:g}")
    return np.repeat(np.broadcast_to(array, counts.shape), counts)


def _plain(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _numbers(name: str, value: np.ndarray) -> Parameter:
    """Whole numbers as a parameter that is not trained."""
    return Parameter(name, value.shape, "synapses", Init("given", (), value.astype(np.float32)), False)
