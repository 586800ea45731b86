"""Prints the function that runs a plastic region: a loop over time around products, neurons and learning.

Threads share a step in phases, with a barrier between them: products with weights that change, and the change itself,
by outputs; everything else by sequences.
"""

from __future__ import annotations

from typing import NamedTuple

from snncompile.targets.c.cycle_forward import lag_names, print_neurons, print_sparse
from snncompile.targets.c.cycle_images import mask_forward, pool_forward, pool_room
from snncompile.targets.c.cycle_images_source import IMAGES, MASKS, POOLS
from snncompile.targets.c.cycle_source import LINES, SPARSE
from snncompile.targets.c.cycle_writer import CycleSource, CycleWriter
from snncompile.targets.c.kernel import PREAMBLE
from snncompile.targets.c.plastic_product import NAMES as PRODUCT_NAMES
from snncompile.targets.c.plastic_product import PRODUCT
from snncompile.targets.c.plastic_region_conv import ConvLearning, fixed_conv, fixed_room
from snncompile.targets.c.plastic_region_conv_source import CHANNELS, SHARED_NAMES
from snncompile.targets.c.plastic_region_conv_source import NAMES as CONV_NAMES
from snncompile.targets.c.plastic_region_learning import DenseLearning, Learning, padded
from snncompile.targets.c.plastic_region_source import FIXED, MASKED, REGION
from snncompile.targets.c.plastic_region_source import NAMES as REGION_NAMES
from snncompile.targets.c.plastic_source import NAMES as LEARNING_NAMES
from snncompile.targets.c.plastic_source import TAKING_PART
from snncompile.targets.c.printer import call_lines, print_called
from snncompile.targets.c.products import EVENTS
from snncompile.targets.cycle_plan import Conv, Copy, Mask, Neurons, Pool, Product, Read
from snncompile.targets.plastic_plan import Learn, PlasticPlan, PlasticProduct

#: Argument types of every function: the table, T, B, threads.
TYPES = "pqqi"


class RegionForward(NamedTuple):
    """A function of a plastic region.

    Attributes:
        scalar: per elementwise node and coefficient, whether that is one number for all neurons.
        live: the lines that anybody reads.
        sums: what is summed over time.
    """

    scalar: tuple[tuple[bool, ...], ...]
    live: tuple[int, ...]
    sums: tuple[Read, ...] = ()


def print_plastic_region(plan: PlasticPlan, variant: RegionForward) -> CycleSource:
    """The file with the function of a plastic region."""
    return _Printer(plan, variant).print()


class _Printer:
    def __init__(self, plan: PlasticPlan, variant: RegionForward) -> None:
        self.plan, self.variant = plan, variant
        names = f"{PRODUCT_NAMES} {LEARNING_NAMES} {REGION_NAMES} {CONV_NAMES} {SHARED_NAMES}"
        self.w = CycleWriter(plan, f"{plan.name}_forward", writes_lines=True, locals=names)
        self.scalar = dict(zip((n.name for n in plan.neurons), variant.scalar, strict=True))
        self.learning: list[Learning] = []
        for i, learn in enumerate(plan.learns):
            dense = plan.rules[learn.name].node.connection == "Linear"
            self.learning.append((DenseLearning if dense else ConvLearning)(self.w, plan, i))
        self.fixed = [s for s in plan.steps if isinstance(s, Product) and not s.sparse]
        self.by_blocks: bool | None = None  # how the last phase was shared
        self.made: set[int] = set()  # lines that a part of is made in this phase

    def print(self) -> CycleSource:
        w, plan = self.w, self.plan
        for step in plan.order:
            if isinstance(step, PlasticProduct):
                if step.line in self.variant.live:
                    self._phase(True)
                    self._product(step)
                continue
            self._phase(False)
            if isinstance(step, Learn):
                self.learning[plan.learns.index(step)].sides()
            elif isinstance(step, Neurons):
                print_neurons(w, step, self.scalar[step.name], self.variant.live)
            elif isinstance(step, Copy):
                size = plan.lines[step.line].size
                w.each_sequence(3, "snn_copy", [w.row("line", step.line), w.row("line", *step.read), str(size)])
            elif isinstance(step, Mask):
                mask_forward(w, step)
            elif isinstance(step, Conv):
                fixed_conv(w, step)
            elif isinstance(step, Pool):
                pool_forward(w, step)
            elif step.sparse:
                print_sparse(w, step)
            else:
                self._fixed(step)
        for i, read in enumerate(self.variant.sums):
            self._phase(False)
            size = plan.lines[read.line].size
            total = w.pointer(("sum", i), f"{w.stems[read.line]}_sum", "sum over time, (B, N)", "float")
            w.each_sequence(3, "snn_add", [f"{total} + b * {size}", w.row("line", *read), str(size)])
        self._phase(True)
        for learning in self.learning:
            learning.update()
        w.line(0, "#pragma omp barrier")
        w.random(w.functions)
        return CycleSource(w.name, self._file(), tuple(w.given), TYPES)

    def _phase(self, by_blocks: bool) -> None:
        """Wait for the others where the work is shared in another way from here on."""
        if self.by_blocks not in (None, by_blocks):
            self.w.line(0, "#pragma omp barrier")
            self.made.clear()
        self.by_blocks = by_blocks

    def _product(self, step: PlasticProduct) -> None:
        if isinstance(step.read, Read) and step.read.line in self.made:
            self.w.line(0, "#pragma omp barrier")
        self.made.add(step.line)
        self.learning[step.rule].product(step)

    def _fixed(self, step: Product) -> None:
        w, plan = self.w, self.plan
        ins, outs = plan.lines[step.read.line].size, plan.lines[step.line].size
        wide, key = padded(outs), (step.name, step.part)
        lags, count = lag_names(w, step)
        weight = w.pointer(("weight", *key), f"{step.name}_weight", f"weight of {step.name}, (lags, in, {wide})")
        about = f"whether a weight of {step.name} is infinite or none"
        wild = w.number(("wild", *key), f"{step.name}_wild", about)
        bias = w.pointer(("bias", *key), f"{step.name}_bias", f"bias of {step.name}, or nothing")
        out = w.row("line", step.line)
        w.each_sequence(3, "snn_fill", [out, "0.0f", str(outs)])
        w.line(3, f"for (int64_t l = 0; l < {count}; l++)")
        x = w.row("line", step.read.line, f"{lags}[l]")
        items = [x, f"{weight} + l * {ins * wide}", str(ins), str(outs), str(wide), f"(int){wild}", "B == 1", "l > 0"]
        w.each_sequence(4, "snn_fixed_row", [*items, "&room", out])
        w.line(3, f"if ({bias})")
        w.each_sequence(4, "snn_add", [out, bias, str(outs)])

    def _room(self) -> list[str]:
        """A thread's room for products."""
        w, (outs, ins) = self.w, most(self.plan)
        numbers = w.pointer(("product numbers",), "product_numbers", "scratch of products", "float")
        marks = w.pointer(("product marks",), "product_marks", "scratch of products", "int32_t")
        identity = w.pointer(("identity",), "identity", "0, 1, 2, ...", "const int32_t")
        lanes = f"{numbers} + rank * (SUMS * CHUNK + {outs + ins})"
        return [
            f"        float *lanes = {lanes}, *found = lanes + SUMS * CHUNK, *now = found + {ins};",
            f"        const struct snn_room room = {{lanes, found, now, {marks} + rank * {ins}, {identity}}};",
        ]

    def _file(self) -> str:
        w = self.w
        room = self._room()
        blocks = [line for learning in self.learning for line in learning.begin()]
        header = w.header(
            "over a whole sequence",
            """Threads share each step: products with weights that change, and the change itself, by outputs, all else
 * by sequences. Products sum in the order that every target keeps, and leave out what is zero.""",
        )
        body = [
            *call_lines(f"void {w.name}", ["const int64_t *given", "int64_t T", "int64_t B", "int threads"]),
            "{",
            *w.taken(),
            "    (void)threads;",
            "#pragma omp parallel num_threads(threads) if (threads > 1)",
            "    {",
            "#ifdef _OPENMP",
            "        const int64_t rank = omp_get_thread_num(), team = omp_get_num_threads();",
            "#else",
            "        const int64_t rank = 0, team = 1;",
            "#endif",
            "        const int64_t begin = rank * B / team, end = (rank + 1) * B / team;",
            *room,
            *(["        float *work = work_of_all + rank * work_size;"] if ("work",) in w.given else []),
            *w.late.taken(2, "rank"),
            *blocks,
            *(f"        int64_t {name}_at = {depth} % {name}_rows;" for name, (depth, _) in w.used.items()),
            "        (void)begin, (void)end, (void)room;",
            "        for (int64_t t = 0; t < T; t++) {",
            *w.late.at_step,
            *w.lines,
            *(f"            SNN_AFTER({name});" for name in w.used),
            "        }",
            *(line for learning in self.learning for line in learning.end()),
            "    }",
            "}",
        ]
        dense = [g for g in self.learning if isinstance(g, DenseLearning)]
        functions = [*w.functions, *(f for learning in self.learning for f in learning.functions)]
        parts = [
            header, PREAMBLE, LINES, EVENTS, PRODUCT, TAKING_PART if any(g.plain for g in dense) else "", SPARSE,
            REGION, MASKED if any("mask" in g.fixed for g in dense) else "", FIXED if self.fixed else "",
            CHANNELS if len(dense) < len(self.learning) else "", *self._image_helpers(), w.late.helpers,
            print_called(functions), *(f.text for f in functions), *w.rows,
            *(text for learning in self.learning for text in learning.texts), "\n".join(body) + "\n",
        ]  # fmt: skip
        return "\n".join(p for p in parts if p)

    def _image_helpers(self) -> list[str]:
        """What poolings and Dropouts call."""
        pools = any(isinstance(s, Pool) for s in self.plan.steps)
        return [*([IMAGES, POOLS] if pools else []), *([MASKS] if self.plan.masks else [])]


def most(plan: PlasticPlan) -> tuple[int, int]:
    """The most outputs, padded, and inputs, and one, of a dense product."""
    fixed = [s for s in plan.steps if isinstance(s, Product) and not s.sparse]
    taught = [r.node.weight.shape for r in plan.rules.values() if r.node.connection == "Linear"]
    outs = [plan.lines[s.line].size for s in fixed] + [n for n, _ in taught]
    ins = [plan.lines[s.read.line].size for s in fixed] + [m for _, m in taught]
    return padded(max(outs, default=0)), max(ins, default=0) + 1


def work_size(plan: PlasticPlan) -> int:
    """Numbers that a thread needs for convolutions that do not learn, and for poolings."""
    convs = [fixed_room(s) for s in plan.steps if isinstance(s, Conv)]
    return max([0, *convs, *(pool_room(s) for s in plan.steps if isinstance(s, Pool))])
