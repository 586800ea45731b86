"""Prints the function of a whole plastic layer: the loop over time, with the product, the neurons and the learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from snncompile.ir.plasticity import FACTORS
from snncompile.targets.c.kernel import PREAMBLE, Argument, Course, KernelSource, Writer, listed
from snncompile.targets.c.plastic_parts import print_inputs, print_learning, print_synapses
from snncompile.targets.c.plastic_product import NAMES as PRODUCT_NAMES
from snncompile.targets.c.plastic_product import PRODUCT
from snncompile.targets.c.plastic_source import NAMES as LEARNING_NAMES
from snncompile.targets.c.plastic_source import TAKING_PART
from snncompile.targets.c.printer import Function, call_lines, print_called, print_function, safe
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan
from snncompile.targets.variant import Layout

_SIZES = ["int64_t B", "int64_t N", "int64_t M", "int64_t W", "int64_t blocks", "int threads"]
_LOCALS = f"M W {PRODUCT_NAMES} {LEARNING_NAMES} wild now i wide still x_now own_weight own_columns own_lanes"
_LOCALS += " own_p own_d own_values own_marks columns_of place active factors held by_columns most usual"
_SIDES = {"before": "the input's side", "after": "the output's side", "synapse": "a synapse of one sequence"}


class PlasticVariant(NamedTuple):
    """A forward function of a plastic layer.

    Attributes:
        port: the input that is the product.
        source: the result that the rule watches.
        layout: of inputs (the port's entry is ignored) and coefficients.
        bias: whether the product has a bias.
        store: results whose course is stored.
        store_traces: traces whose course is stored.
        store_product: whether the product's course is.
    """

    port: str
    source: str
    layout: Layout
    bias: bool
    store: tuple[str, ...]
    store_traces: tuple[str, ...]
    store_product: bool


class PlasticSource(NamedTuple):
    """What is printed, and what it reads.

    Attributes:
        kernel: the file.
        rule_coefs: program and coefficient, in the order of the arguments.
        signals: signals that it reads.
    """

    kernel: KernelSource
    rule_coefs: tuple[tuple[str, str], ...]
    signals: tuple[str, ...]


def print_plastic(scan: Scan, rule: PlasticRule, variant: PlasticVariant) -> PlasticSource:
    """The file with the function of a plastic layer."""
    return _Printer(scan, rule, variant).print()


class _Printer:
    def __init__(self, scan: Scan, rule: PlasticRule, variant: PlasticVariant) -> None:
        self.scan, self.rule, self.variant = scan, rule, variant
        self.w = w = Writer(_LOCALS)
        self.name, self.row = w.name(f"{scan.name}_{rule.name}"), w.name(f"{scan.name}_row")
        self.inputs, self.learn = w.name(f"{rule.name}_inputs"), w.name(f"{rule.name}_learn")
        for part in ("some", "rest", "many", "sum"):
            w.name(f"{self.learn}_{part}")
        results = {*scan.states, *variant.store, variant.source}
        self.step = print_function(w.name(f"{scan.name}_step"), scan.forward.select(results), "One step of a neuron.")
        self.parts: dict[str, Function] = {
            part: print_function(w.name(f"{rule.name}_{part}"), rule.programs[part], f"One step of {what}.")
            for part, what in _SIDES.items()
            if part in rule.programs
        }
        self.update = print_function(
            w.name(f"{rule.name}_update"), rule.programs["update"], "A new weight.", bare=True,
            bounds=rule.coefs["update"],
        )  # fmt: skip
        self.sides = {s: [t.local for t in rule.node.of_side(s)] for s in ("pre", "post", "synapse")}
        heard = self.parts["synapse"].args if "synapse" in self.parts else ()
        self.signals = tuple(s for s in rule.node.signals if s in heard)
        #: (program, coefficient) -> the argument that is its address, for those that blocks are not handed
        self.coefs: dict[tuple[str, str], str] = {}

    def print(self) -> PlasticSource:
        scan, variant, w = self.scan, self.variant, self.w
        scalar = dict(zip(scan.coefs, variant.layout.coefs, strict=True))
        unit = dict(zip(scan.inputs, variant.layout.inputs, strict=True))
        inputs = [x for x in scan.inputs if x in self.step.args and x != variant.port]
        coefs = [c for c in scan.coefs if c in self.step.args]

        weight = w.whole("weight", "weight, (N, M), read and written", "float")
        bias = w.whole("bias_of_product", "bias of the product, (N,)") if variant.bias else ""
        x = w.whole("input", "what the connection takes, (T, B, M)")
        x_t, x_b = (w.whole(f"{x}_{axis}", f"stride of {x}", number=True) for axis in "tb")
        courses = {n: w.course(n, unit[n], "input of the neurons") for n in inputs}
        values = {c: w.coefficient(c, scalar[c], "coefficient") for c in coefs}
        states = {s: w.cells(f"{s}_running", "state, (B, N), read and written", True) for s in scan.states}
        stores = {r: w.cells(r, "result, (T, B, N)", True) for r in variant.store}
        rows = "(T, B, N)" if variant.store_product else "of one step, (B, N)"
        product = w.whole("product", f"the product, {rows}", "float")
        pre = {t: w.whole(f"{t}_trace", "(blocks, B, M), read and written", "float") for t in self.sides["pre"]}
        post = {t: w.cells(f"{t}_trace", "(B, N), read and written", True) for t in self.sides["post"]}
        held = {t: w.whole(f"{t}_trace", "(B, N, M), read and written", "float") for t in self.sides["synapse"]}
        kept = {s: [t for t in self.sides[s] if t in variant.store_traces] for s in ("pre", "post")}
        pre_courses = {t: w.whole(f"{t}_course", "trace, (T, B, M)", "float") for t in kept["pre"]}
        post_courses = {t: w.cells(f"{t}_course", "trace, (T, B, N)", True) for t in kept["post"]}
        signals = {s: self._signal(s) for s in self.signals}
        for part in ("before", "synapse", "update"):
            for c in self.rule.coefs.get(part, ()):
                self.coefs[part, c] = w.whole(f"{part}_{c}", f"coefficient of {part}, one number")
        after = {c: w.coefficient(f"after_{c}", True, "coefficient of after") for c in self.rule.coefs["after"]}
        post_factors = {f: self._padded(f"after_{f}", "factors of outputs, (B, W), 0 where padded") for f in FACTORS}
        pre_factors = {f: w.whole(f"before_{f}", "scratch: of inputs, (blocks, B, M)", "float") for f in FACTORS}
        columns = w.whole("columns", "scratch: weights of some inputs, (M, W)", "float")
        lanes = w.whole("lanes", "scratch: partial sums, (SUMS, W)", "float")
        numbers = w.whole("numbers", "scratch, (blocks, M + 2 max(M, W) + W + 1)", "float")
        marks = w.whole("marks", "scratch, (blocks, 6 M + 2 W + 3)", "int32_t")
        steps = w.whole("T", "time steps", number=True)

        self._print_row(courses, values, states, stores, (post, post_courses, after, post_factors))
        current = f"{product} + {'t * cells + at' if variant.store_product else 'at'}"
        loop = [
            "#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)",
            "    for (int64_t block = 0; block < blocks; block++) {",
            "        const int64_t first = block * (W / PAD) / blocks * PAD, own = block * B * M;",
            "        const int wide = (int)((block + 1) * (W / PAD) / blocks * PAD - first); /* outputs, padded */",
            "        const int m = N - first < wide ? (int)(N - first) : wide;",
            "        const int64_t most = M > W ? M : W;",
            f"        float *own_weight = {weight} + first * M, *own_columns = {columns} + first * M;",
            f"        float *own_p = {pre_factors['potentiation']} + own, *own_d = {pre_factors['depression']} + own;",
            f"        float *own_lanes = {lanes} + SUMS * first;",
            f"        float *own_values = {numbers} + block * (M + 2 * most + W + 1);",
            "        float *now = own_values + 2 * most, *found = now + W;",
            f"        int32_t *own_marks = {marks} + block * (6 * M + 2 * W + 3);",
            "        int32_t *listed = own_marks + 3 * M + 2 * W + 1, *place = listed + M + 1, *active = place + M;",
            "        int64_t i, usual = 0;",
            "        int still = 0, wild = snn_wild(own_weight, m * M); /* see the update, and above snn_wild */",
            *(f"        wild |= snn_wild({name}, 1);" for (part, _), name in self.coefs.items() if part == "update"),
            "        (void)own_marks, (void)still, (void)usual;",
            f"        for (int64_t t = 0; t < {steps}; t++) {{",
            f"            const int64_t count = snn_busy({x} + t * {x_t}, {x_b}, B, M, listed, place);",
            "            /* either way gives the same sums: rows have every input, columns must be brought together */",
            "            const int by_columns = !wild && 2 * count < B * (M / 8 + 40);",
            "            if (by_columns)",
            "                snn_columns(own_weight, M, listed, count, m, wide, own_columns);",
            "            for (int64_t b = 0; b < B; b++) {",
            "                const int64_t at = b * N + first;",
            f"                const float *restrict x_now = {x} + t * {x_t} + b * {x_b};",
            f"                float *current = {current};",
            "                if (by_columns) {",
            "                    const int64_t given = snn_listed(x_now, listed, count, active, found);",
            "                    snn_ordered(found, active, given, own_columns, place, wide, own_lanes, now);",
            "                } else if (B > 1 && !snn_listed(x_now, listed, count, active, found)) {",
            "                    for (int j = 0; j < m; j++)",
            "                        now[j] = 0.0f; /* whatever the weights: as the reference has it */",
            "                } else {",
            "                    snn_all_ordered(x_now, own_weight, M, m, now);",
            "                }",
            "                for (int j = 0; j < m; j++)",
            f"                    current[j] = now[j]{f' + {bias}[first + j]' if bias else ''};",
            *call_lines(self.row, [*(a.part for a in w.arguments if a.part), "current", "cells", "t", "m"], 4, ";"),
            *self._call_inputs(pre),
            *(
                line
                for t, course in pre_courses.items()
                for line in (
                    "                for (i = 0; block == 0 && i < M; i++)",
                    f"                    {course}[(t * B + b) * M + i] = {pre[t]}[own + b * M + i];",
                )
            ),
            "            }",
            *self._call_learning(held, signals, post_factors),
            "        }",
            "    }",
        ]
        kernel = KernelSource(
            self.name,
            self._file(loop),
            "".join(a.type for a in w.arguments) + "qqqqqi",
            inputs=tuple(scan.inputs.index(n) for n in inputs),
            coefs=tuple(scan.coefs.index(c) for c in coefs),
            states=tuple(range(len(scan.states))),
            by_chunk=False,
        )
        return PlasticSource(kernel, (*self.coefs, *(("after", c) for c in after)), self.signals)

    def _signal(self, signal: str) -> tuple[str, str, str]:
        """Add a signal: its pointer, and its strides over time and batch."""
        pointer = self.w.whole(f"{signal}_signal", "(T, B)")
        time, row = (self.w.whole(f"{pointer}_{axis}", f"stride of {pointer}", number=True) for axis in "tb")
        return pointer, time, row

    def _padded(self, wanted: str, about: str) -> str:
        """Add factors of the outputs, whose rows are padded."""
        name = self.w.name(wanted)
        pointer = f"float *restrict {name}"
        self.w.arguments.append(Argument(f"float *{name}", f"{name} + b * W + first", pointer, "p", about))
        return name

    def _print_row(
        self,
        courses: Mapping[str, Course],
        values: Mapping[str, str],
        states: Mapping[str, str],
        stores: Mapping[str, str],
        rule: tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str], Mapping[str, str]],
    ) -> None:
        """The body of the function of one step of m neurons: their step, and the output's side of the rule.

        Args:
            courses: inputs.
            values: coefficients, as a lane reads them.
            states: pointers of the states.
            stores: pointers of the results that are stored.
            rule: pointers of the rule's traces, of their courses, coefficients as a lane reads them, and pointers of
                the factors.
        """
        w = self.w
        post, post_courses, after, factors = rule
        now = {n: w.name(f"{n}_now") for n in courses}
        for n, course in courses.items():
            w.line(1, f"const float *restrict {now[n]} = {course.pointer} + t * {course.step};")
        targets = {**stores, **{f"trace {t}": p for t, p in post_courses.items()}}
        ends = {key: w.name(f"{pointer}_row") for key, pointer in targets.items()}
        for key, pointer in targets.items():
            w.line(1, f"float *restrict {ends[key]} = {pointer} + t * cells;")
        w.lanes(1)
        read = {**values, **{s: f"{p}[j]" for s, p in states.items()}, self.variant.port: "current[j]"}
        read.update({n: f"{now[n]}[{course.at('j')}]" for n, course in courses.items()})
        made = {r: w.name(f"{r}_new") for r in self.step.results}
        w.call(2, self.step, read, made)
        for s, pointer in states.items():
            w.line(2, f"{pointer}[j] = {made[s]};")
        for r in stores:
            w.line(2, f"{ends[r]}[j] = {made[r]};")
        part = self.parts["after"]
        taught = {r: w.name(f"{r}_after") for r in part.results}
        w.call(2, part, {"z": made[self.variant.source], **{t: f"{p}[j]" for t, p in post.items()}, **after}, taught)
        for r, pointer in (*post.items(), *factors.items()):
            w.line(2, f"{pointer}[j] = {taught[r]};")
        for t in post_courses:
            w.line(2, f"{ends[f'trace {t}']}[j] = {taught[t]};")
        w.line(1, "}")

    def _taken(self, part: str, function: Function) -> list[str]:
        """The coefficients of a program that its function takes."""
        return [c for c in self.rule.coefs.get(part, ()) if c in function.args]

    def _passed(self, part: str, function: Function) -> list[str]:
        return [f"*{self.coefs[part, c]}" for c in self._taken(part, function)]

    def _call_inputs(self, pre: Mapping[str, str]) -> list[str]:
        traces = [f"{p} + own + b * M" for p in pre.values()]
        items = ["x_now", *traces, "own_p + b * M", "own_d + b * M", "M", *self._passed("before", self.parts["before"])]
        return call_lines(self.inputs, items, 4, ";")

    def _call_learning(
        self,
        held: Mapping[str, str],
        signals: Mapping[str, tuple[str, str, str]],
        factors: Mapping[str, str],
    ) -> list[str]:
        factors_now = ["own_p", "own_d", *(f"{factors[f]} + first" for f in FACTORS)]
        update = self._passed("update", self.update)
        if "synapse" not in self.parts:
            items = ["own_weight", "M", "W", "B", "m", "wide", *factors_now, "own_columns", "listed"]
            items += ["by_columns ? count : -1", "own_values", "own_marks", "still", "&usual", "&wild", *update]
            return call_lines(f"still = {self.learn}", items, 3, ";")
        told = [f"{pointer} + t * {time}" for pointer, time, _ in signals.values()]
        items = ["own_weight", "M", "N", "W", "B", "m", *factors_now, "own_values", "&wild"]
        items += [*(f"{p} + first * M" for p in held.values()), *told]
        items += [*(row for _, _, row in signals.values()), *self._passed("synapse", self.parts["synapse"]), *update]
        return call_lines(self.learn, items, 3, ";")

    def _learning(self) -> str:
        update = self._taken("update", self.update)
        if "synapse" not in self.parts:
            return print_learning(self.learn, self.update, update, bounded(self.rule))
        synapse = self.parts["synapse"]
        coefs = self._taken("synapse", synapse), update
        return print_synapses(self.learn, synapse, self.update, self.sides["synapse"], self.signals, coefs)

    def _file(self, loop: list[str]) -> str:
        w, scan = self.w, self.scan
        header = f"""/* {safe(scan.name)} and {safe(self.rule.name)}: a layer that learns. Generated by snncompile.
 *
 * Nodes: {safe(", ".join((*scan.members, *self.rule.node.members)))}.
 * A thread takes a block of outputs through all steps: at each, the product with the weights as they are (in the order
 * that every target keeps), the neurons, and then what the rule learns from both sides. Courses are float32; those
 * written are contiguous. M inputs, N outputs; W is N padded to whole vectors.
 *
{listed(w)}
 */
"""
        inner = [a.part_declaration for a in w.arguments if a.part]
        row = [*inner, "const float *restrict current", "int64_t cells", "int64_t t", "int m"]
        lines = [
            "/* One step of one sequence: m neurons, and the output's side of the rule. */",
            *call_lines(f"static void {self.row}", row),
            "{",
            *w.lines,
            "}",
            "",
            *call_lines(f"void {self.name}", [*(a.declaration for a in w.arguments), *_SIZES]),
            "{",
            "    const int64_t cells = B * N;",
            "    (void)threads;",
            *loop,
            "}",
        ]
        before = self.parts["before"]
        parts = [
            header, PREAMBLE, PRODUCT, "" if "synapse" in self.parts else TAKING_PART,
            print_called([self.step, *self.parts.values(), self.update]), self.step.text,
            *(f.text for f in self.parts.values()), self.update.text,
            print_inputs(self.inputs, before, self.sides["pre"], self._taken("before", before)), self._learning(),
            "\n".join(lines) + "\n",
        ]  # fmt: skip
        return "\n".join(p for p in parts if p)


def bounded(rule: PlasticRule) -> bool:
    """Whether the last thing that the update does to a weight is to hold it between two bounds."""
    program = rule.programs["update"]
    made = {op.name: op for op in program.ops}
    value, kinds = program.output("w"), set()
    while isinstance(value, str) and value in made and made[value].op in ("min", "max"):
        op = made[value]
        value, bound = op.args
        if isinstance(bound, str) and bound not in rule.coefs["update"]:
            break
        kinds.add(op.op)
    return len(kinds) == 2
