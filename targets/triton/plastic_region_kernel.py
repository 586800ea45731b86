"""Prints the kernel that runs a region that learns: a loop over time around everything that a step does.

It is the kernel of a cycle (``targets/triton/cycle_forward.py``) in one program, which takes the whole batch: a weight
that changes is shared by all sequences. Dense products sum in the order of ``ir/ordered.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from snncompile.ir.ordered import LANES
from snncompile.ir.plasticity import FACTORS
from snncompile.targets.cycle_plan import Copy, Mask, Neurons, Product, Read
from snncompile.targets.plastic_plan import Learn, PlasticPlan, PlasticProduct
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.triton.cycle_forward import print_copy, print_sum
from snncompile.targets.triton.cycle_images import print_image_step
from snncompile.targets.triton.cycle_neurons import print_neurons
from snncompile.targets.triton.cycle_products import GATHER, print_product
from snncompile.targets.triton.cycle_writer import CYCLE_CONSTANTS, CycleKernel, CycleWriter
from snncompile.targets.triton.plastic_parts import TREE, full
from snncompile.targets.triton.printer import Function, print_function

_ABOUT = f"""The only program takes the whole batch through all steps: neurons in tiles of ROWS sequences and COLUMNS
neurons, weights in tiles of OUTS outputs and {LANES} inputs. A dense product sums by lanes, then as a tree; the weights
that change do so at the end of a step. Values go from one part of a step to the next through memory."""

_CONSTANTS = (*CYCLE_CONSTANTS, "OUTS")
_TILE = f"(OUTS, {LANES})"
_LOCALS = "each out lane lanes rows k inside w w_made change snn_ordered snn_add snn_tree OUTS"

ORDERED = f'''@triton.jit
def snn_ordered(x, size, weight, mask, out, width, MASKED: tl.constexpr, OUTS: tl.constexpr):
    """What the outputs `out` get of x (size): input k adds to lane k % {LANES}; then neighbouring lanes are added."""
    lane = tl.arange(0, {LANES})
    lanes = tl.full({_TILE}, 0.0, tl.float32)
    rows = out.to(tl.int64)[:, None] * size + lane[None, :]
    for k in range(0, size, {LANES}):
        there = k + lane < size
        inside = (out < width)[:, None] & there[None, :]
        w = tl.load(weight + rows + k, mask=inside, other=0.0)
        if MASKED:
            w = w * tl.load(mask + rows + k, mask=inside, other=0.0)
        lanes = lanes + w * tl.load(x + k + lane, mask=there, other=0.0)[None, :]
    return snn_tree(lanes, OUTS)
'''


class RegionForward(NamedTuple):
    """A kernel of a region that learns.

    Attributes:
        scalar: per elementwise node and coefficient, whether that is one number for all neurons.
        bias: per product of the plan, then per product with a weight that changes, whether it has a bias.
        live: the lines that anybody reads.
        sums: what is summed over time.
    """

    scalar: tuple[tuple[bool, ...], ...]
    bias: tuple[bool, ...]
    live: tuple[int, ...]
    sums: tuple[Read, ...] = ()


def print_region(plan: PlasticPlan, variant: RegionForward) -> CycleKernel:
    """The module with the kernel of a region."""
    w = CycleWriter(plan, f"{plan.name}_forward")
    for local in _LOCALS.split():
        w.names.new(local)
    scalar = dict(zip((n.name for n in plan.neurons), variant.scalar, strict=True))
    bias = dict(zip((*plan.products, *plan.plastic_products), variant.bias, strict=True))
    teachers = [_Teacher(w, plan.rules[learn.name], learn, i) for i, learn in enumerate(plan.learns)]
    of_learn = {teacher.learn: teacher for teacher in teachers}
    for step in plan.order:
        if isinstance(step, Neurons):
            print_neurons(w, step, scalar[step.name], variant.live)
        elif isinstance(step, Copy):
            print_copy(w, step)
        elif isinstance(step, Mask):
            print_image_step(w, step, False)
        elif isinstance(step, Learn):
            of_learn[step].print_sides()
        elif isinstance(step, PlasticProduct):
            _plastic_product(w, step, teachers[step.rule], bias[step])
        elif isinstance(step, Product) and step.sparse:
            print_product(w, step, bias[step])
        elif isinstance(step, Product):
            _dense(w, step, bias[step])
    if teachers:
        w.barrier("all products have read the weights, and factors are in memory")
    for teacher in teachers:
        teacher.print_update()
    for i, read in enumerate(variant.sums):
        print_sum(w, i, read)
    helpers = [TREE, ORDERED, GATHER]
    what = "a region that learns, over a whole sequence, in one launch"
    return w.kernel(what, _ABOUT, helpers, reverse=False, constants=_CONSTANTS)


# -- products ------------------------------------------------------------------------------------------------------


def _outputs(w: CycleWriter, width: int) -> None:
    """Open the loops over sequences and blocks of outputs."""
    w.line(2, "for each in range(0, B):")
    w.line(3, f"for first in range(0, {width}, OUTS):")
    w.line(4, "out = first + tl.arange(0, OUTS)")


def _sum_up(w: CycleWriter, x: str, size: int, weight: str, width: int, mask: str = "") -> str:
    """The expression of an ordered product of the sequence ``x``."""
    return f"snn_ordered({x}, {size}, {weight}, {mask or weight}, out, {width}, {bool(mask)}, OUTS)"


def _finish(w: CycleWriter, made: str, width: int, bias: str) -> None:
    if bias:
        w.line(4, f"total = total + tl.load({bias} + out, mask=out < {width}, other=0.0)")
    w.line(4, f"tl.store({made} + each * {width} + out, total, mask=out < {width})")


def _plastic_product(w: CycleWriter, step: PlasticProduct, teacher: _Teacher, bias: bool) -> None:
    """A product with a weight that changes."""
    outs, ins = teacher.shape
    reads = [("line", step.read.line)] if isinstance(step.read, Read) else []
    w.begin_step(f"{step.name}: the product, with the weights before they change", reads, [("line", step.line)])
    x = _sequence(w, step.read, ins)
    made = w.row("line", Read(step.line))
    about = f"bias of {step.name}, ({outs},)"
    pointer = w.address(("plastic bias", step.name), f"{step.name}_bias", about) if bias else ""
    _outputs(w, outs)
    w.line(4, f"total = {_sum_up(w, x, ins, teacher.weight, outs, teacher.fixed.get('mask', ''))}")
    _finish(w, made, outs, pointer)


def _dense(w: CycleWriter, product: Product, bias: bool) -> None:
    """A product with a weight that stays: of each lag, added up in their order."""
    key, name = (product.name, product.part), product.name
    size, width = w.plan.lines[product.read.line].size, w.plan.lines[product.line].size
    w.begin_step(f"{name}: the product", [("line", product.read.line)], [("line", product.line)])
    about = f"weight of {name}, (lags, {width}, {size})"
    weight = w.address(("ordered weight", *key), f"{name}_weight", about)
    pointer = w.address(("bias", *key), f"{name}_bias", f"bias of {name}, ({width},)") if bias else ""
    made = w.row("line", Read(product.line))
    if product.part == "weight":
        x = w.row("line", product.read)
        _outputs(w, width)
        w.line(4, f"total = {_sum_up(w, f'{x} + each * {size}', size, weight, width)}")
    else:
        line, ring = w.line_of("line", product.read.line)
        about = f"what to add to a step for each lag of {name}, (lags,)"
        lags = w.address(("lag offsets", *key), f"{name}_lags", about, "*i32")
        count = w.integer(("lags", *key), f"{name}_lag_count", f"lags of {name}")
        _outputs(w, width)
        w.line(4, "total = tl.full((OUTS,), 0.0, tl.float32)")
        w.line(4, f"part = {weight}")
        w.line(4, f"for l in range(0, {count}):")
        w.line(5, f"x = snn_row({line}, t + tl.load({lags} + l), {ring}, B, {size})")
        w.line(5, f"total = total + {_sum_up(w, f'x + each * {size}', size, 'part', width)}")
        w.line(5, f"part += {width * size}")
    _finish(w, made, width, pointer)


def _sequence(w: CycleWriter, source: Read | int, size: int) -> str:
    """Where the values of sequence ``each`` of a signal stand at this step."""
    if isinstance(source, Read):
        return f"{w.row('line', source)} + each * {size}"
    now, stride = w.outside(source)
    return f"{now} + each * {stride}.to(tl.int64)"


# -- learning ------------------------------------------------------------------------------------------------------


class _Teacher:
    """A rule, in a kernel being printed."""

    def __init__(self, w: CycleWriter, rule: PlasticRule, learn: Learn, place: int) -> None:
        self.w, self.rule, self.learn, self.place = w, rule, learn, place
        self.node = rule.node
        self.shape = outs, ins = self.node.weight.shape[0], self.node.weight.shape[1]
        about = f"weight of {learn.name}, ({outs}, {ins}), read and written"
        self.weight = self._own("weight", f"{learn.name}_weight", about)
        self.fixed = {
            role: self._own(role, f"{learn.name}_{role}", f"{role} of {learn.name}, ({outs}, {ins})")
            for role in ("mask", "sign")
            if role in self.node.params
        }
        self.functions = {
            part: print_function(w.names.new(f"{learn.name}_{part}"), program, _ABOUTS[part], self._scalars(part))
            for part, program in rule.programs.items()
        }
        w.functions += self.functions.values()
        reader = self.functions.get("synapse", self.functions["update"])
        self.factors = [f for f in FACTORS if f in reader.args]

    def _scalars(self, part: str) -> Sequence[str]:
        return (*self.rule.coefs[part], *self.node.signals)

    def _own(self, what: str, wanted: str, about: str) -> str:
        return self.w.address(("taught", what, self.learn.name), wanted, about)

    def _factor(self, side: str, factor: str) -> str:
        size = self.shape[side == "pre"]
        about = f"{self.learn.name}: factor of the {side} side, (B, {size})"
        return self._own(f"{side} {factor}", f"{self.learn.name}_{side}_{factor}", about)

    def _coefficients(self, part: str, depth: int) -> dict[str, str]:
        """Load the coefficients that a program reads; their names."""
        values = {}
        for c in self.rule.coefs[part]:
            if c in self.functions[part].args:
                values[c] = self.w.names.new(f"{part}_{c}")
                about = f"coefficient of {self.learn.name}'s {part}, one number"
                pointer = self.w.address(("taught", part, self.learn.name, c), f"{self.learn.name}_{part}_{c}", about)
                self.w.line(depth, f"{values[c]} = tl.load({pointer})")
        return values

    def print_sides(self) -> None:
        """Traces and factors of either side."""
        learn = self.learn
        for side, part, source, traces in (
            ("pre", "before", learn.pre, learn.pre_traces),
            ("post", "after", learn.post, learn.post_traces),
        ):
            lines = dict(zip((t.local for t in self.node.of_side(side)), traces, strict=True))
            self._print_side(side, part, source, lines)

    def _print_side(self, side: str, part: str, source: Read | int, lines: Mapping[str, int]) -> None:
        w, size = self.w, self.shape[side == "pre"]
        reads = [("line", source.line)] if isinstance(source, Read) else []
        writes = [("line", line) for line in lines.values()]
        writes += [(f"{side} {f}", self.place) for f in self.factors]
        w.begin_step(f"{self.learn.name}: the rule's {side} side", reads, writes)
        if isinstance(source, Read):
            z, offset = w.row("line", source), "at"
        else:
            z, stride = w.outside(source)
            offset = f"(b * {stride}.to(tl.int64) + n)"
        before = {t: w.row("line", Read(line, 1)) for t, line in lines.items()}
        after = {t: w.row("line", Read(line)) for t, line in lines.items()}
        factors = {f: self._factor(side, f) for f in self.factors}
        w.tiles(size)
        function = self.functions[part]
        values = {name: w.names.new(name) for name in ("z", *lines) if name in function.args}
        for name, local in values.items():
            w.load(3, local, z if name == "z" else before[name], offset if name == "z" else "at")
        values |= self._coefficients(part, 3)
        made = w.call_step(3, function, values, size)
        for name, pointer in {**after, **factors}.items():
            w.store(3, pointer, made[name])

    def print_update(self) -> None:
        """What the rule makes of the weights, at the end of a step."""
        w, (outs, ins) = self.w, self.shape
        reads = [(f"{side} {f}", self.place) for side in ("pre", "post") for f in self.factors]
        w.begin_step(f"{self.learn.name}: the weights change", reads, [("weight", self.place)])
        signals = self._signals()
        coefs: dict[str, dict[str, str]] = {}
        for part in ("synapse", "update"):
            if part in self.functions:
                coefs[part] = self._coefficients(part, 2)
        w.line(2, f"lane = tl.arange(0, {LANES})")
        w.line(2, f"for first in range(0, {outs}, OUTS):")
        w.line(3, "out = first + tl.arange(0, OUTS)")
        w.line(3, f"for k in range(0, {ins}, {LANES}):")
        w.line(4, f"inside = (out < {outs})[:, None] & (k + lane < {ins})[None, :]")
        w.line(4, f"rows = out.to(tl.int64)[:, None] * {ins} + k + lane[None, :]")
        w.line(4, f"w = tl.load({self.weight} + rows, mask=inside, other=0.0)")
        fixed = {}
        for role, pointer in self.fixed.items():
            fixed[role] = w.names.new(role)
            w.line(4, f"{fixed[role]} = tl.load({pointer} + rows, mask=inside, other=0.0)")
        totals = {name: w.names.new(f"{name}_sum") for name in (["change"] if "synapse" in coefs else self.factors)}
        for total in totals.values():
            w.line(4, f"{total} = {full(0.0, _TILE)}")
        if totals:
            w.line(4, "for each in range(0, B):")
            self._print_sequence(totals, signals, coefs)
        values = {"w": "w", **fixed, **totals, **coefs["update"]}
        self._call(4, self.functions["update"], values, {"w": "w_made"})
        w.line(4, f"tl.store({self.weight} + rows, w_made, mask=inside)")

    def _signals(self) -> dict[str, str]:
        """Where the signals that synapses hear stand for sequence ``each``."""
        if "synapse" not in self.functions:
            return {}
        given = dict(zip(self.node.signals, self.learn.signals, strict=True))
        heard = self.functions["synapse"].args
        return {s: _sequence(self.w, source, 1) for s, source in given.items() if s in heard}

    def _print_sequence(
        self, totals: Mapping[str, str], signals: Mapping[str, str], coefs: Mapping[str, Mapping[str, str]]
    ) -> None:
        """What one sequence changes in a tile of weights."""
        w, (outs, ins) = self.w, self.shape
        products = {}
        for f in self.factors:
            post, pre, products[f] = (w.names.new(f"{side}_{f}") for side in ("post", "pre", "both"))
            at = f"{self._factor('post', f)} + each * {outs} + out"
            w.line(5, f"{post} = tl.load({at}, mask=out < {outs}, other=0.0)")
            at = f"{self._factor('pre', f)} + each * {ins} + k + lane"
            w.line(5, f"{pre} = tl.load({at}, mask=k + lane < {ins}, other=0.0)")
            w.line(5, f"{products[f]} = {post}[:, None] * {pre}[None, :]")
        if "synapse" not in self.functions:
            for f, product in products.items():
                w.line(5, f"{totals[f]} = {totals[f]} + {product}")
            return
        values = {"w": "w", **products, **coefs["synapse"]}
        for s, pointer in signals.items():
            values[s] = w.names.new(s)
            w.line(5, f"{values[s]} = tl.load({pointer})")
        held = [t.local for t in self.node.of_side("synapse")]
        pointers = {}
        for t in held:
            about = f"trace of {self.learn.name}, (B, {outs}, {ins}), read and written"
            pointers[t] = self.w.address(("taught trace", self.learn.name, t), f"{self.learn.name}_{t}_trace", about)
            values[t] = w.names.new(t)
            at = f"{pointers[t]} + each * {outs * ins} + rows"
            pointers[t] = at
            w.line(5, f"{values[t]} = tl.load({at}, mask=inside, other=0.0)")
        made = {n: w.names.new(f"{n}_made") for n in (*held, "change")}
        self._call(5, self.functions["synapse"], values, made)
        for t in held:
            w.line(5, f"tl.store({pointers[t]}, {made[t]}, mask=inside)")
        w.line(5, f"{totals['change']} = {totals['change']} + {made['change']}")

    def _call(self, depth: int, function: Function, values: Mapping[str, str], targets: Mapping[str, str]) -> None:
        """Print ``targets = function(values)``, each a tile of weights."""
        if any(r in targets for r in function.results):
            left = [targets.get(r, "_") for r in function.results]
            head = f"{', '.join(left)}{',' if len(left) == 1 else ''} = {function.name}"
            self.w.call(depth, head, [values[a] for a in function.args])
        for result, target in targets.items():
            if result in function.constants:
                self.w.line(depth, f"{target} = {full(function.constants[result], _TILE)}")
            elif result in function.flat:
                self.w.line(depth, f"{target} = tl.broadcast_to({target}, {_TILE})")


_ABOUTS = {
    "before": "The rule's traces and factors of the inputs.",
    "after": "The rule's traces and factors of the outputs.",
    "synapse": "What one sequence changes.",
    "update": "The new weights.",
}
