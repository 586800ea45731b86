"""What a cycle is to a target that runs it as one function: lines of values over time, and what makes them.

A *line* holds a signal's value at every step, and ``depth`` values before the first one, with which it starts: what a
late edge held, or a delay. Everything that reads the past reads a line some steps back, so how late a signal comes is
nothing but a number. A target keeps of a line as many steps as are read, or all of them where somebody wants them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from snncompile.ir.graph import Edge, Ref
from snncompile.targets.printing import used_inputs
from snncompile.targets.scan import Scan
from snncompile.targets.sliding import Sliding


class Read(NamedTuple):
    """A line, so many steps before the present one."""

    line: int
    lag: int = 0


@dataclass(frozen=True)
class Line:
    """A signal over time.

    Attributes:
        key: a name for it, unique in the plan.
        size: values of a step of one sequence.
        depth: values before the first step.
        start: the state that holds these, or "".
        is_state: whether it is a state of neurons, read by their own next step.
    """

    key: str
    size: int
    depth: int = 0
    start: str = ""
    is_state: bool = False


class Neurons(NamedTuple):
    """An elementwise node: what feeds its inputs (an outside signal by its position), and the lines of its results."""

    name: str
    inputs: tuple[Read | int, ...]
    states: tuple[int, ...]
    results: tuple[int, ...]


class Product(NamedTuple):
    """A linear map of a line's values to a new line's.

    Attributes:
        name: the connection.
        part: whether it is the connection's ``"weight"``, what its delays show (``"seen"``), or both, ``"synapses"``.
        sparse: whether its weights are listed by synapse.
        read: what it reads; where weights have lags of their own, these count from there.
        line: what it makes.
        events: whether most of what it reads is zero.
    """

    name: str
    part: str
    sparse: bool
    read: Read
    line: int
    events: bool


class Copy(NamedTuple):
    """A line that holds what another holds, with a start of its own."""

    read: Read
    line: int


class Conv(NamedTuple):
    """A convolution of a line's images to a new line's; the other attributes are those of a :class:`Product`."""

    name: str
    read: Read
    line: int
    events: bool
    sliding: Sliding
    part: str = "weight"
    sparse: bool = False


class Pool(NamedTuple):
    """Sums over windows of a line's images, divided by a number, or, if ``most``, the largest values in them."""

    name: str
    read: Read
    line: int
    most: bool
    sliding: Sliding


class Mask(NamedTuple):
    """A line times one value for each sequence and feature: a Dropout in training."""

    name: str
    read: Read
    line: int


Step = Neurons | Product | Copy | Conv | Pool | Mask


class LateSource(NamedTuple):
    """A signal from outside that a delay makes late, where the signal that it delays is read in its place.

    Attributes:
        delay: the delay.
        kinds: how late each value is that it reads, as a plan's ``offsets`` say.
        plain: whether it shows the one value that it reads; else it computes what it shows.
    """

    delay: str
    kinds: tuple[str, ...]
    plain: bool


@dataclass(frozen=True, eq=False)
class CyclePlan:
    """A recurrent region, ready to be printed.

    Attributes:
        name: an identifier.
        nodes: the nodes of the region.
        lines: the lines.
        steps: what is done at each step, in order.
        ports: port -> where its values are.
        outside: the edges that bring signals from outside, each once for every input that it feeds.
        sizes: values of a step of one sequence of each of these.
        scans: elementwise node -> its scan.
        sequence_only: nodes that in training do something else than this plan says.
        late: by how many steps the cycle is late, at the least.
        dense: weights of dense products of what is no spikes.
        sparse: synapses of sparse products.
        weights: weights that the products of a step read, of all kinds.
        offsets: per outside edge how late its signal is read: ``""`` not at all, ``"one"`` number of steps for all
            neurons, ``"each"`` its own, or ``"shared"``, several of one signal. Empty where none is. What is no neuron
            reads only what is not late or equally late.
        taps: per outside edge which of the values it is that the delay before it reads.
    """

    name: str
    nodes: tuple[str, ...]
    lines: tuple[Line, ...]
    steps: tuple[Step, ...]
    ports: Mapping[Ref, Read]
    outside: tuple[Edge, ...]
    sizes: tuple[int, ...]
    scans: Mapping[str, Scan]
    sequence_only: tuple[str, ...]
    late: int
    dense: int
    sparse: int
    weights: int
    offsets: tuple[str, ...] = ()
    taps: tuple[int, ...] = ()

    def offset(self, index: int) -> str:
        """How late an outside signal is read, as ``offsets`` say."""
        return self.offsets[index] if self.offsets else ""

    @cached_property
    def neurons(self) -> tuple[Neurons, ...]:
        """Its elementwise nodes, in order."""
        return tuple(s for s in self.steps if isinstance(s, Neurons))

    @cached_property
    def products(self) -> tuple[Product | Conv, ...]:
        """What has weights, in order."""
        return tuple(s for s in self.steps if isinstance(s, Product | Conv))

    @cached_property
    def masks(self) -> tuple[Mask, ...]:
        """What drops, in order."""
        return tuple(s for s in self.steps if isinstance(s, Mask))

    def size_of(self, node: Neurons) -> int:
        """Neurons of an elementwise node."""
        return self.lines[(*node.states, *node.results)[0]].size

    @cached_property
    def reads(self) -> frozenset[Read]:
        """Everything that a step reads, but for neurons their own states."""
        inputs = {x for n in self.neurons for x in n.inputs if isinstance(x, Read)}
        return frozenset(inputs | {s.read for s in self.steps if not isinstance(s, Neurons)})

    def live(self, leaving: Iterable[Read], keep: Collection[int] = ()) -> tuple[int, ...]:
        """The lines that somebody needs.

        Args:
            leaving: what is read outside.
            keep: lines that are kept besides.
        """
        wanted = {read.line for read in (*leaving, *self.reads)} | set(keep)
        return tuple(i for i, line in enumerate(self.lines) if i in wanted or line.depth)

    @cached_property
    def read_back(self) -> frozenset[int]:
        """The lines that the gradient of its neurons, and of the largest values of windows, reads."""
        found = {s.read.line for s in self.steps if isinstance(s, Pool) and s.most}
        for node in self.neurons:
            scan = self.scans[node.name]
            used = set(used_inputs(scan.reverse))
            inputs = zip(scan.inputs, node.inputs, strict=True)
            found |= {x.line for port, x in inputs if port in used and isinstance(x, Read)}
            found |= {line for s, line in zip(scan.states, node.states, strict=True) if s in used}
        return frozenset(found)
