"""Prints the function of a whole plastic layer: the loop over time, with the product, the neurons and the learning."""

from __future__ import annotations

from snncompile.ir.plasticity import FACTORS
from snncompile.targets.c.plastic_conv_kernel import ConvPrinter
from snncompile.targets.c.plastic_parts import print_learning, print_synapses
from snncompile.targets.c.plastic_printing import PlasticPrinter, PlasticSource, PlasticVariant
from snncompile.targets.c.plastic_product import NAMES as PRODUCT_NAMES
from snncompile.targets.c.plastic_product import PRODUCT
from snncompile.targets.c.plastic_source import NAMES as LEARNING_NAMES
from snncompile.targets.c.plastic_source import TAKING_PART
from snncompile.targets.c.printer import call_lines
from snncompile.targets.plastic_fields import fields_of
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan

_SIZES = ["int64_t B", "int64_t N", "int64_t M", "int64_t W", "int64_t blocks", "int threads"]
_LOCALS = f"M W {PRODUCT_NAMES} {LEARNING_NAMES} wild now i wide still x_now own_weight own_columns own_lanes"
_LOCALS += " own_p own_d own_values own_marks columns_of place active factors held by_columns most usual"
_ABOUT = """\
 * A thread takes a block of outputs through all steps: at each, the product with the weights as they are (in the order
 * that every target keeps), the neurons, and then what the rule learns from both sides. Courses are float32; those
 * written are contiguous. M inputs, N outputs; W is N padded to whole vectors.
"""


def print_plastic(scan: Scan, rule: PlasticRule, variant: PlasticVariant) -> PlasticSource:
    """The file with the function of a plastic layer."""
    fields = fields_of(rule.node)
    if fields is not None:
        return ConvPrinter(scan, rule, variant, fields).print()
    return _DensePrinter(scan, rule, variant, _LOCALS).print()


class _DensePrinter(PlasticPrinter):
    """The function of a dense layer."""

    def print(self) -> PlasticSource:
        """The file."""
        w = self.w
        self.take("(N, M)", "(N,)")
        about = "factors of outputs, (B, W), 0 where padded"
        post = {f: self.factor(f"after_{f}", "b * W + first", about) for f in FACTORS}
        pre = {f: w.whole(f"before_{f}", "scratch: of inputs, (blocks, B, M)", "float") for f in FACTORS}
        columns = w.whole("columns", "scratch: weights of some inputs, (M, W)", "float")
        lanes = w.whole("lanes", "scratch: partial sums, (SUMS, W)", "float")
        numbers = w.whole("numbers", "scratch, (blocks, M + 2 max(M, W) + W + 1)", "float")
        marks = w.whole("marks", "scratch, (blocks, 6 M + 2 W + 3)", "int32_t")
        steps = w.whole("T", "time steps", number=True)
        x, x_t, x_b = self.x, self.x_t, self.x_b

        self.print_row(post)
        loop = [
            "#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)",
            "    for (int64_t block = 0; block < blocks; block++) {",
            "        const int64_t first = block * (W / PAD) / blocks * PAD, own = block * B * M;",
            "        const int wide = (int)((block + 1) * (W / PAD) / blocks * PAD - first); /* outputs, padded */",
            "        const int m = N - first < wide ? (int)(N - first) : wide;",
            "        const int64_t most = M > W ? M : W;",
            f"        float *own_weight = {self.weight} + first * M, *own_columns = {columns} + first * M;",
            f"        float *own_p = {pre['potentiation']} + own, *own_d = {pre['depression']} + own;",
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
            f"                float *current = {self.current};",
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
            f"                    current[j] = now[j]{f' + {self.bias}[first + j]' if self.bias else ''};",
            *self.call_row(4),
            *self.call_inputs(4),
            "            }",
            *self._call_learning(post),
            "        }",
            "    }",
        ]
        helpers = [PRODUCT, "" if "synapse" in self.parts else TAKING_PART, self._learning()]
        return self.source(loop, _SIZES, _ABOUT, helpers)

    def _call_learning(self, factors: dict[str, str]) -> list[str]:
        factors_now = ["own_p", "own_d", *(f"{factors[f]} + first" for f in FACTORS)]
        update = self.passed("update", self.update)
        if "synapse" not in self.parts:
            items = ["own_weight", "M", "M", "M", "W", "B", "m", "wide", *factors_now, "own_columns", "listed"]
            items += ["by_columns ? count : -1", "own_values", "own_marks", "still", "&usual", "&wild", *update]
            return call_lines(f"still = {self.learn}", items, 3, ";")
        items = ["own_weight", "M", "M", "M", "N", "W", "B", "m", *factors_now, "own_values", "&wild"]
        items += [f"{p} + first * M" for p in self.held.values()]
        items += [*self.told, *self.passed("synapse", self.parts["synapse"]), *update]
        return call_lines(self.learn, items, 3, ";")

    def _learning(self) -> str:
        update = self.taken("update", self.update)
        if "synapse" not in self.parts:
            return print_learning(self.learn, self.update, update, bounded(self.rule))
        synapse = self.parts["synapse"]
        coefs = self.taken("synapse", synapse), update
        return print_synapses(self.learn, synapse, self.update, self.sides["synapse"], self.signals, coefs)


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
