"""What the kernels of a plastic layer have in common: arguments, device functions, and the order of a product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from snncompile.ir.ordered import LANES
from snncompile.ir.plasticity import FACTORS
from snncompile.ir.program import Program
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan
from snncompile.targets.triton.kernel import KernelSource, Writer
from snncompile.targets.triton.plastic_seen import SeenVariant
from snncompile.targets.triton.printer import Function, literal, print_function

_LOCALS = (
    "T B N M POSTS CHUNKS BATCH program post mine lane rows cells pre_cells weights at here there chunks w w_new "
    "w_made x z coming k b t lanes first product potentiation depression change snn_add snn_tree base "
    "PLACES TAPS PIXELS channel real place pixel own tap inner taken after row factor snn_meet snn_after "
    "snn_late_row snn_late_each"
)


def _tree() -> str:
    lines = [
        "@triton.jit",
        "def snn_add(a, b):",
        '    """What a reduction does with two values."""',
        "    return a + b",
        "",
        "",
        "@triton.jit",
        "def snn_tree(lanes, POSTS: tl.constexpr):",
        f'    """Sums over {LANES} lanes in the order of every target: neighbours, then neighbouring sums."""',
    ]
    left = LANES // 2
    while left > 1:
        lines.append(f"    lanes = tl.reduce(tl.reshape(lanes, (POSTS, {left}, 2)), 2, snn_add)")
        left //= 2
    lines += [
        "    sums = tl.reduce(lanes, 1, snn_add)",
        "    # each to its place: else the layout that is left, the same in all threads, would become the weights'",
        "    return tl.gather(sums, tl.arange(0, POSTS), 0)",
    ]
    return "\n".join(lines) + "\n"


#: The helper that every such kernel needs.
TREE = _tree()

#: Shapes of what programs run over.
OF_POSTS, OF_LANES, OF_WEIGHTS = "(POSTS,)", f"({LANES},)", f"(POSTS, {LANES})"


class PlasticVariant(NamedTuple):
    """A kernel of a plastic layer.

    Attributes:
        port: the scan's input that is the product.
        source: the scan's result that the rule watches.
        coefs: per coefficient of the scan, whether it is one number.
        bias: whether the product has a bias.
        store: results whose course is stored.
        store_traces: traces whose course is stored.
        store_product: whether the product's course is.
        resident: whether weights, traces and inputs stay in registers.
        pre: whether the rule watches another input than the connection takes.
        held: whether only the weights do; else they are streamed.
        late: per input of the scan how late it is, as in :class:`SeenVariant`; empty where none is.
        x: how the kernel sees what the connection takes; None where it reads that as it is.
        watched: likewise of what the rule watches instead.
        heard: likewise of signals that the rule hears, by their names.
    """

    port: str
    source: str
    coefs: tuple[bool, ...]
    bias: bool
    store: tuple[str, ...]
    store_traces: tuple[str, ...] = ()
    store_product: bool = False
    resident: bool = True
    pre: bool = False
    held: bool = False
    late: tuple[str, ...] = ()
    x: SeenVariant | None = None
    watched: SeenVariant | None = None
    heard: tuple[tuple[str, SeenVariant], ...] = ()

    @property
    def reads_late(self) -> bool:
        """Whether anything is read late."""
        return bool(self.late or self.x or self.watched or self.heard)


def key(trace: str) -> str:
    """A trace of the rule among states and results of the neurons, which may be called the same."""
    return f"trace {trace}"


@dataclass(frozen=True)
class PlasticSource(KernelSource):
    """A printed module of a plastic layer.

    Attributes:
        slots: what each argument is given, as :class:`Parts` names it.
    """

    slots: tuple[str, ...] = ()


class Parts:
    """A kernel being printed: its device functions, and the arguments that it takes on the way.

    Args:
        scan: the neurons.
        rule: the rule.
        variant: the kernel wanted.
        name: how its name ends.
    """

    def __init__(self, scan: Scan, rule: PlasticRule, variant: PlasticVariant, name: str) -> None:
        self.scan, self.rule, self.variant = scan, rule, variant
        self.w = Writer()
        for local in _LOCALS.split():
            self.w.names.new(local)
        self.slots: list[str] = []
        self.name = self.w.names.new(f"{scan.name}_{name}")
        scalar = dict(zip(scan.coefs, variant.coefs, strict=True))
        results = {*scan.states, *variant.store, variant.source}
        self.step = self.function(
            f"{scan.name}_step",
            scan.forward.select(results),
            "One step of the neurons.",
            [c for c in scalar if scalar[c]],
        )
        self.learn = {
            part: self.function(
                f"{rule.name}_{part}", program, PART_ABOUT[part], (*rule.coefs[part], *rule.node.signals)
            )
            for part, program in rule.programs.items()
        }
        self.side = {side: [t.local for t in rule.node.of_side(side)] for side in ("pre", "post", "synapse")}
        reader = self.learn.get("synapse", self.learn["update"])
        self.factors = [f for f in FACTORS if f in reader.args]
        self.signals = [s for s in rule.node.signals if s in reader.args] if "synapse" in self.learn else []
        self.inputs = [i for i in scan.inputs if i in self.step.args and i != variant.port]
        #: mask and sign of the weights, those that anything reads
        self.fixed = [r for r in rule.node.fixed if r == "mask" or r in self.learn["update"].args]
        self._scalar = scalar
        self.later: list[str] = []
        #: all device functions that are called, and sources of further ones
        self.functions = [self.step, *self.learn.values()]
        self.helpers: dict[str, None] = {}

    def function(self, wanted: str, program: Program, about: str, scalars: Sequence[str]) -> Function:
        """Print ``program`` as a device function, which may get another name than ``wanted``."""
        return print_function(self.w.names.new(wanted), program, about, scalars)

    def pointer(self, slot: str, wanted: str, about: str, type: str = "*fp32") -> str:
        """Take a pointer; its name."""
        self.slots.append(slot)
        return self.w.pointer(wanted, about, type)

    def number(self, slot: str, name: str, about: str) -> str:
        """Take an integer; its name."""
        self.slots.append(slot)
        return self.w.number(name, about)

    def strided(self, slot: str, wanted: str, about: str, axes: str) -> str:
        """Take a course with any strides, one for each of ``axes``; the expression of an element's address.

        Braces in it stand for the positions along the axes.
        """
        pointer, strides = self.strides(slot, wanted, about, axes)
        return f"{pointer} + {' + '.join(f'{{{i}}} * {stride}' for i, stride in enumerate(strides))}"

    def strides(self, slot: str, wanted: str, about: str, axes: str) -> tuple[str, list[str]]:
        """Take a course with any strides, one for each of ``axes``: the names of its pointer and of them."""
        pointer = self.pointer(slot, wanted, about)
        strides = []
        for i, axis in enumerate(axes):
            stride = self.number(f"{slot}.{i}", self.w.names.new(f"{wanted}_{axis}"), f"its stride over {_AXES[axis]}")
            self.w.line(1, f"{stride} = {stride}.to(tl.int64)")
            strides.append(stride)
        return pointer, strides

    def of_weights(self, shape: str) -> dict[str, str]:
        """Take mask and sign of the weights, ``shape``: their pointers."""
        return {r: self.pointer(f"fixed.{r}", f"{r}_of_weights", f"{r} of the weights, {shape}") for r in self.fixed}

    def coefficients(self, later: bool = False) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """Take and load coefficients: names of their values, of the neurons and by part of the rule.

        Args:
            later: do not load here what each neuron has for itself: the statements that do are added to ``self.later``.
        """
        of_step = {}
        for c in self.scan.coefs:
            if c in self.step.args:
                of_step[c] = self.w.names.new(c)
                where = "" if self._scalar[c] else " + post, mask=mine, other=1.0"
                pointer = self.pointer(f"coef.{c}", c, "coefficient of the neurons")
                statement = f"{of_step[c]} = tl.load({pointer}{where})"
                if later and where:
                    self.later.append(statement)
                else:
                    self.w.line(1, statement)
        of_rule: dict[str, dict[str, str]] = {}
        for part, function in self.learn.items():
            of_rule[part] = {}
            for c in self.rule.coefs[part]:
                if c in function.args:
                    of_rule[part][c] = local = self.w.names.new(f"{part}_{c}")
                    pointer = self.pointer(f"rule.{part}.{c}", f"{part}_{c}", f"coefficient of the rule's {part}")
                    self.w.line(1, f"{local} = tl.load({pointer})")
        return of_step, of_rule

    def call(
        self, depth: int, function: Function, values: Mapping[str, str], targets: Mapping[str, str], shape: str
    ) -> None:
        """As :func:`print_call`."""
        print_call(self.w, depth, function, values, targets, shape)

    def source(self, text: str) -> PlasticSource:
        """The finished module, whose text is ``text``."""
        return PlasticSource(
            self.name,
            text,
            tuple(self.w.params),
            inputs=(),
            coefs=(),
            states=(),
            by_chunk=False,
            by_neuron=True,
            streams=0,
            work=sum(f.size for f in self.functions),
            slots=tuple(self.slots),
        )

    @property
    def step_results(self) -> list[str]:
        """What the neurons' step gives."""
        return [*self.step.results, *self.step.constants]


#: What the parts of a rule do, in words.
PART_ABOUT = {
    "before": "The rule's traces and factors of the inputs.",
    "after": "The rule's traces and factors of the outputs.",
    "synapse": "What one sequence changes.",
    "update": "The new weights.",
}
_AXES = {"t": "time", "b": "the batch", "n": "outputs"}


def print_call(
    w: Writer, depth: int, function: Function, values: Mapping[str, str], targets: Mapping[str, str], shape: str
) -> None:
    """Print ``targets = function(values)``, each of ``shape``; an output that is not in ``targets`` is dropped."""
    if any(r in targets for r in function.results):
        left = [targets.get(r, "_") for r in function.results]
        head = f"{', '.join(left)}{',' if len(left) == 1 else ''} = {function.name}"
        w.call(depth, head, [values[a] for a in function.args])
    for result, target in targets.items():
        if result in function.constants:
            w.line(depth, f"{target} = {full(function.constants[result], shape)}")
        elif result in function.flat:
            w.line(depth, f"{target} = tl.broadcast_to({target}, {shape})")


def full(value: float, shape: str) -> str:
    """Source of a block that holds ``value`` everywhere."""
    text = literal(value)
    return f"tl.broadcast_to({text}, {shape})" if text.startswith("tl.") else f"tl.full({shape}, {text}, tl.float32)"
