"""What both kernels of a plastic layer print alike; where each keeps states, traces and weights is its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from snncompile.ir.ordered import LANES
from snncompile.targets.plastic_call import heard
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan
from snncompile.targets.triton.kernel import module_text
from snncompile.targets.triton.plastic_late import Course, Extent, LateCourse
from snncompile.targets.triton.plastic_parts import (
    OF_LANES,
    OF_POSTS,
    OF_WEIGHTS,
    TREE,
    Parts,
    PlasticSource,
    PlasticVariant,
    full,
    key,
)
from snncompile.targets.triton.plastic_seen import SeenVariant

#: The chunks of inputs of a program that holds their weights. Only the last may have less than all lanes, and only
#: there shall anything be masked.
EACH_CHUNK = "for k in tl.static_range(CHUNKS):"
CHUNK_THERE = f"there = lane < (M - k * {LANES} if k == CHUNKS - 1 else {LANES})"

#: Where the inputs of a chunk lie in a step of a sequence.
CHUNK = f"k * {LANES} + lane"


class PlasticKernel(ABC):
    """A kernel being printed.

    Attributes:
        parts: device functions and arguments.
        w: takes the lines.
        of_step: coefficient of the neurons -> its value; set by the kernel's own arguments.
        of_rule: likewise by part of the rule.
        of_posts: shape of a block of neurons.
        of_inputs: likewise of inputs.
        of_weights: likewise of weights.
        depth: how deep the neurons of one sequence are printed.
        size: source of how many sequences there are.
        posts_stay: whether a program computes the same neurons at all times.
    """

    of_posts, of_inputs, of_weights, depth, size = OF_POSTS, OF_LANES, OF_WEIGHTS, 3, "B"
    posts_stay = True

    of_step: Mapping[str, str]
    of_rule: Mapping[str, Mapping[str, str]]

    def __init__(self, scan: Scan, rule: PlasticRule, variant: PlasticVariant, name: str) -> None:
        self.parts = Parts(scan, rule, variant, name)
        self.w = self.parts.w
        self.variant, self.scan, self.rule = variant, scan, rule

    # -- what a kernel says for itself ---------------------------------------------------------------------------------

    @abstractmethod
    def keep(self, depth: int, side: str, name: str, value: str) -> None:
        """Print how ``value`` becomes the state or trace ``name`` after this step."""

    @abstractmethod
    def keep_factor(self, factor: str, value: str) -> None:
        """Print how an output's factor of one sequence waits for the weights' turn."""

    @abstractmethod
    def eligible(self, depth: int, trace: str) -> str:
        """The value of a synapse's trace before this step, with what must be printed to have it."""

    @abstractmethod
    def hears(self, depth: int, signal: str) -> str:
        """The value of a signal in this step, with what must be printed to have it."""

    # -- arguments -----------------------------------------------------------------------------------------------------

    def take_outputs(self) -> None:
        """The outputs of this program."""
        line = self.w.line
        line(1, "program = tl.program_id(0)")
        line(1, "post = program * POSTS + tl.arange(0, POSTS)  # the outputs of this program")
        line(1, "mine = post < N")
        line(1, f"lane = tl.arange(0, {LANES})")

    def find_places_again(self) -> None:
        """Where the weights lie, after the last step: the places found before it would stay in registers until here."""
        line = self.w.line
        line(1, "post = post + tl.where(T < 0, 1, 0)  # T is not below 0, but the compiler does not know")
        line(1, "mine = post < N")
        line(1, "rows = post.to(tl.int64)[:, None] * M + lane[None, :]")

    def take_courses(self) -> None:
        """What the connection takes, its bias, and all that neurons and rule read at every step."""
        p = self.parts
        self.take_input()
        if self.variant.bias:
            bias = p.pointer("bias", "bias_of_product", "bias of the product, (N,)")
            self.bias = self.w.names.new("bias_of_product")
            self.w.line(1, f"{self.bias} = tl.load({bias} + post, mask=mine, other=0.0)")
        self.take_signals()

    def take_input(self) -> None:
        """What the connection takes, and what the rule watches in its place."""
        self.x = self._course("x", "what the connection takes", self.variant.x)
        self.watched = None
        if self.variant.pre:
            self.watched = self._course("watched", "what the rule watches", self.variant.watched)

    def _course(self, slot: str, about: str, seen: SeenVariant | None) -> Course | LateCourse:
        about = f"{about}, (T, B, M), inputs one after the other"
        if seen is None:
            return Course(self.parts, slot, about)
        return LateCourse(self.parts, slot, slot, about, seen, Extent(self.size, "M"))

    def watch(self, depth: int, x: str) -> str:
        """What the rule watches of a chunk of sequence ``b``; ``x`` is what the connection took of it."""
        if self.watched is None:
            return x
        self.watched.load(depth, "z", "t", "b", CHUNK, "there")
        return "z"

    def take_signals(self) -> None:
        """What the neurons take besides the product, and what the rule hears."""
        p = self.parts
        self.courses = {i: self._of_neurons(i) for i in p.inputs}
        self.heard = {s: self._signal(s) for s in p.signals}

    def _signal(self, signal: str) -> str | LateCourse:
        """Take a signal, likewise."""
        slot, about = heard(signal), "signal that the rule hears, (T, B)"
        seen = dict(self.variant.heard).get(signal)
        if seen is None:
            return self.parts.strided(slot, signal, about, "tb")
        return LateCourse(self.parts, slot, signal, about, seen, Extent(self.size, "1"))

    def hear(self, depth: int, signal: str) -> str:
        """Source of a signal in this step of sequence ``b``, with what must be printed to have it."""
        course = self.heard[signal]
        if isinstance(course, str):
            return f"tl.load({course.format('t', 'b')})"
        if course.by_row:
            return f"tl.load({course.row('t', 'b')})"
        name = self.w.names.new(f"{signal}_here")
        course.load(depth, name, "t", "b", "0", "True")
        return name

    def _of_neurons(self, i: str) -> str | LateCourse:
        """Take an input of the neurons: the address of its values, or how to read it late."""
        slot, about = f"input.{i}", "input of the neurons, (T, B, N)"
        late = dict(zip(self.scan.inputs, self.variant.late, strict=False)).get(i)
        if not late:
            return self.parts.strided(slot, i, about, "tbn")
        extent = Extent(self.size, "N", ("post", "mine") if self.posts_stay else None)
        return LateCourse(self.parts, slot, i, about, SeenVariant((late,)), extent)

    def take_results(self) -> None:
        """Where courses are stored."""
        p = self.parts
        self.stores = {r: p.pointer(f"store.{r}", r, "result, (T, B, N)") for r in self.variant.store}
        for t in self.variant.store_traces:
            shape = "(T, B, M)" if t in p.side["pre"] else "(T, B, N)"
            self.stores[key(t)] = p.pointer(f"store_trace.{t}", t, f"trace, {shape}")
        if self.variant.store_product:
            self.product = p.pointer("product", "product", "the product, (T, B, N)")

    # -- a step --------------------------------------------------------------------------------------------------------

    def inputs_now(self) -> dict[str, str]:
        """Load the neurons' other inputs of sequence ``b``; their names."""
        values = {}
        for i, course in self.courses.items():
            values[i] = name = self.w.names.new(f"{i}_now")
            if isinstance(course, str):
                self.w.line(self.depth, f"{name} = tl.load({course.format('t', 'b', 'post')}, mask=mine, other=0.0)")
            else:
                course.load(self.depth, name, "t", "b", "post", "mine")
        return values

    def print_product(self) -> None:
        """The product of sequence ``b`` from its lanes."""
        line = self.w.line
        line(3, f"product = snn_tree(lanes, POSTS){f' + {self.bias}' if self.variant.bias else ''}")
        line(3, "at = t * cells + b * N + post")
        if self.variant.store_product:
            line(3, f"tl.store({self.product} + at, product, mask=mine)")

    def print_neurons(self, values: Mapping[str, str]) -> None:
        """The neurons of sequence ``b``, then the output's side of the rule.

        Args:
            values: inputs, states and, by :func:`key`, traces of the outputs, before the step.
        """
        p, line, names, depth = self.parts, self.w.line, self.w.names, self.depth
        made = {r: names.new(f"{r}_made") for r in p.step_results}
        p.call(depth, p.step, {**self.of_step, self.variant.port: "product", **values}, made, self.of_posts)
        for s in self.scan.states:
            self.keep(depth, "post", s, made[s])
        for r in self.variant.store:
            line(depth, f"tl.store({self.stores[r]} + at, {made[r]}, mask=mine)")
        after = {**self.of_rule["after"], "z": made[self.variant.source], **{t: values[key(t)] for t in p.side["post"]}}
        made = {n: names.new(f"{n}_made") for n in (*p.side["post"], *p.factors)}
        p.call(depth, p.learn["after"], after, made, self.of_posts)
        for t in p.side["post"]:
            self.keep(depth, "post", key(t), made[t])
            if t in self.variant.store_traces:
                line(depth, f"tl.store({self.stores[key(t)]} + at, {made[t]}, mask=mine)")
        for f in p.factors:
            self.keep_factor(f, made[f])

    def start_sums(self) -> None:
        """Zero what is summed over sequences."""
        for total in self._totals:
            self.w.line(3, f"{total} = {full(0.0, self.of_weights)}")

    def print_sequence(self, z: str, traces: Mapping[str, str], post: Mapping[str, str], w: str) -> None:
        """What sequence ``b`` does to one chunk of weights.

        Args:
            z: what the connection took.
            traces: traces of the inputs, before the step.
            post: the outputs' factors.
            w: the weights.
        """
        p, line, names = self.parts, self.w.line, self.w.names
        made = {n: names.new(f"{n}_made") for n in p.side["pre"]}
        factors = {f: names.new(f"pre_{f}") for f in p.factors}
        p.call(4, p.learn["before"], {**self.of_rule["before"], "z": z, **traces}, {**made, **factors}, self.of_inputs)
        for t in p.side["pre"]:
            self.keep(4, "pre", key(t), made[t])
            if t in self.variant.store_traces:
                at = f"{self.stores[key(t)]} + t * pre_cells + b * M + k * {LANES} + lane"
                line(4, f"tl.store({at}, {made[t]}, mask=there & (program == 0))")
        products = {f: f"{post[f]}[:, None] * {factors[f]}[None, :]" for f in p.factors}
        if "synapse" in p.learn:
            self.print_synapses(products, w)
        else:
            for f, product in products.items():
                line(4, f"{f} = {f} + {product}")

    def print_synapses(self, products: Mapping[str, str], w: str) -> None:
        """What sequence ``b`` changes in one chunk of weights, where synapses remember; ``products`` by factor."""
        p, line, names = self.parts, self.w.line, self.w.names
        values = {**self.of_rule["synapse"], "w": w}
        for f, product in products.items():
            values[f] = names.new(f"{f}_here")
            line(4, f"{values[f]} = {product}")
        values |= {s: self.hears(4, s) for s in self.heard}
        values |= {t: self.eligible(4, t) for t in p.side["synapse"]}
        made = {n: names.new(f"{n}_made") for n in (*p.side["synapse"], "change")}
        p.call(4, p.learn["synapse"], values, made, self.of_weights)
        for t in p.side["synapse"]:
            self.keep(4, "synapse", key(t), made[t])
        line(4, f"change = change + {made['change']}")

    def print_update(self, w: str, fixed: Mapping[str, str]) -> None:
        """``w_made``, the chunk's weights ``w`` after the step; ``fixed`` are their masks and signs."""
        p = self.parts
        update = {**self.of_rule["update"], "w": w, **fixed, **{total: total for total in self._totals}}
        p.call(3, p.learn["update"], update, {"w": "w_made"}, self.of_weights)

    @property
    def _totals(self) -> list[str]:
        return ["change"] if "synapse" in self.parts.learn else self.parts.factors

    # -- the whole -----------------------------------------------------------------------------------------------------

    def module(
        self, weights: str, layout: str, constants: tuple[str, ...], helpers: Sequence[str] = (TREE,)
    ) -> PlasticSource:
        """The finished module; ``weights`` says where they are, ``helpers`` are further functions."""
        what = f"the whole sequence of a layer that learns by {self.rule.node.kind}, weights {weights}"
        p, all_helpers = self.parts, [*helpers, *self.parts.helpers]
        text = module_text(self.scan, what, self.w, p.name, p.functions, all_helpers, layout, constants)
        return p.source(text)
