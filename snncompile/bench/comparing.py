"""A network on every target: that each computes the same, then how long it takes and how much memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from snncompile.bench.memory import peak_memory
from snncompile.bench.roofline import Floor, Rates, floor, largest_signal, measure_rates
from snncompile.bench.timing import Timing, interleaved, timed
from snncompile.checks.running import Sample
from snncompile.checks.whole import check_whole
from snncompile.ir.density import declared
from snncompile.ir.types import SignalType
from snncompile.network import Network
from snncompile.passes.pipeline import Request, compile_graph

DENSITY = 0.05


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        steps: time steps.
        batch: sequences.
        density: share of an input's elements that spike; None takes what the model says, else 0.05.
        backward: also forward with backward.
        seconds: about how long to measure each.
        seed: of the input.
    """

    steps: int = 100
    batch: int = 16
    density: float | None = None
    backward: bool = True
    seconds: float = 2.0
    seed: int = 0


@dataclass(frozen=True)
class TargetFigures:
    """One target.

    Attributes:
        target: its name.
        status: ``"ok"``, ``"failed"`` (it does not compute the same, and was not timed) or ``"skipped"``.
        detail: what the comparison found, or why it was not made.
        first_seconds: what the first forward and backward run took beyond a later one: compiling.
        forward: milliseconds of inference.
        both: milliseconds of forward and backward; None without.
        forward_bytes: peak memory of inference, with its output.
        both_bytes: likewise, of forward and backward.
    """

    target: str
    status: str
    detail: str
    first_seconds: float | None = None
    forward: Timing | None = None
    both: Timing | None = None
    forward_bytes: int | None = None
    both_bytes: int | None = None


@dataclass(frozen=True)
class Comparison:
    """All targets, and the machine.

    Attributes:
        rates: what the machine does.
        floor: the least time on it.
        targets: one of each that was asked for.
        notes: what a reader should know.
    """

    rates: Rates
    floor: Floor
    targets: tuple[TargetFigures, ...]
    notes: tuple[str, ...] = ()


def sample(
    types: Mapping[str, SignalType], options: Options, declared: Mapping[str, float] | None = None
) -> Sample:
    """Random input: single spikes of the density asked for, else ``declared`` for that input; normal currents."""
    generator = torch.Generator().manual_seed(options.seed)
    inputs = {}
    for name, t in types.items():
        shape = (options.steps, options.batch, *t.shape)
        if t.kind == "spikes":
            density = (declared or {}).get(name, DENSITY) if options.density is None else options.density
            inputs[name] = (torch.rand(shape, generator=generator, dtype=torch.float32) < density).float()
        else:
            inputs[name] = torch.randn(shape, generator=generator, dtype=torch.float32)
    return Sample(inputs, options.steps, options.batch)


def compare(
    net: Network,
    targets: Mapping[str, str | None],
    options: Options,
    device: torch.device,
    say: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Measure ``net`` on each of ``targets``.

    Args:
        net: the network; its parameters are used, its target is not.
        targets: name -> None, or why it cannot run here.
        options: how.
        device: where.
        say: told what is going on.
    """
    given = sample(net.layout.inputs, options, declared(net.graph))
    found: dict[str, TargetFigures] = {}
    ways: dict[str, _Way] = {}
    for target, missing in targets.items():
        if missing is not None:
            found[target] = TargetFigures(target, "skipped", missing)
            continue
        say(f"{target}: compiling, and comparing with the reference")
        way = _Way(net, target, given, device)
        first = timed(way.forward) + (timed(way.both) if options.backward and way.trains else 0.0)
        later = timed(way.forward) + (timed(way.both) if options.backward and way.trains else 0.0)
        check = check_whole(net, target, given, device)
        found[target] = TargetFigures(target, check.status, check.detail, max(0.0, first - later))
        if check.status == "ok":
            ways[target] = way
    backward = options.backward and all(w.trains for w in ways.values())
    say("forward")
    forward = interleaved({n: w.forward for n, w in ways.items()}, options.seconds)
    both: dict[str, Timing] = {}
    if backward:
        say("forward and backward")
        both = interleaved({n: w.both for n, w in ways.items()}, options.seconds)
    for name, way in ways.items():
        say(f"{name}: memory")
        peaks = (peak_memory(way.forward), peak_memory(way.both) if backward else None)
        figures = {"forward": forward[name], "both": both.get(name), "forward_bytes": peaks[0], "both_bytes": peaks[1]}
        found[name] = replace(found[name], **figures)  # type: ignore[arg-type]
    graph = compile_graph(net.graph, Request(training=False))
    say("the machine")
    rates = measure_rates(device, largest_signal(graph, options.steps, options.batch))
    why = "it learns while it runs" if net.layout.learned else "nothing here is trained"
    notes = [f"{why}: no backward pass"] if options.backward and ways and not backward else []
    return Comparison(rates, floor(graph, rates, options.steps, options.batch), tuple(found.values()), tuple(notes))


class _Way:
    """A network on one target, ready to run."""

    def __init__(self, net: Network, target: str, given: Sample, device: torch.device) -> None:
        values = {n: v.detach().clone() for n, v in net.state_dict().items()}
        twin = Network(net.graph, target, checkpoint=net.checkpoint, values=values, precision=net.precision)
        self.net = twin.to(device)
        self.inputs = {n: x.transpose(0, 1).contiguous().to(device) for n, x in given.inputs.items()}
        self.sizes: dict[str, int] = {} if self.inputs else {"steps": given.steps, "batch": given.batch}
        self.parameters = [p for p in self.net.parameters() if p.requires_grad]
        learns = bool(self.net.layout.learned)  # without a gradient
        self.trains = not learns and bool(self.parameters) and any(y.requires_grad for y in self._outputs())
        self.grads: list[Tensor] | None = None

    def _outputs(self) -> Sequence[Tensor]:
        out: Any = self.net.evolve(**self.inputs, **self.sizes)[0]
        return list(out.values()) if isinstance(out, dict) else list(out) if isinstance(out, tuple) else [out]

    def forward(self) -> Sequence[Tensor]:
        """Inference."""
        self.net.eval()
        with torch.no_grad():
            return self._outputs()

    def both(self) -> Sequence[Tensor]:
        """Forward in training, and backward from a random gradient of every output."""
        self.net.train()
        for p in self.parameters:
            p.grad = None
        outputs = [y for y in self._outputs() if y.requires_grad]
        if self.grads is None:
            self.grads = [torch.rand_like(y) for y in outputs]
        torch.autograd.backward(outputs, self.grads)
        return outputs
