"""Prints the function of a whole plastic layer: the loop over time, with the product, the neurons and the learning."""

from __future__ import annotations

from collections.abc import Mapping

from snncompile.ir.plasticity import FACTORS
from snncompile.ir.program import Arg, Op
from snncompile.targets.c.plastic_conv_kernel import ConvPrinter
from snncompile.targets.c.plastic_parts import print_learning, print_synapses
from snncompile.targets.c.plastic_printing import PlasticPrinter, PlasticSource, PlasticVariant
from snncompile.targets.c.plastic_product import MASKED, PRODUCT
from snncompile.targets.c.plastic_product import NAMES as PRODUCT_NAMES
from snncompile.targets.c.plastic_source import NAMES as LEARNING_NAMES
from snncompile.targets.c.plastic_source import TAKING_PART
from snncompile.targets.c.printer import call_lines
from snncompile.targets.plastic_fields import fields_of
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan

_SIZES = ["int64_t B", "int64_t N", "int64_t M", "int64_t W", "int64_t blocks", "int threads"]
_LOCALS = f"M W {PRODUCT_NAMES} {LEARNING_NAMES} wild now i wide still x_now own_weight own_columns own_lanes"
_LOCALS += " own_p own_d own_values own_marks columns_of place active factors held by_columns most usual"
_LOCALS += " own_seen own_mask own_sign own_mask_turned own_sign_turned"
_MASKED_COLUMNS = [
    "            if (by_columns)",
    "                snn_masked_columns(own_columns, own_mask_turned, listed, count, wide, own_seen);",
]
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
        own_fixed = self._take_turned()
        steps = w.whole("T", "time steps", number=True)
        x, x_b = self.x, self.x_b
        masked = "mask" in self.fixed
        seen, every = "own_columns", "snn_all_ordered(x_now, own_weight, M, m, now);"
        if masked:
            seen, every = "own_seen", "snn_all_masked(x_now, own_weight, own_mask, M, m, own_values, now);"

        self.print_row(post)
        loop = [
            *self.late_whole(),
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
            *own_fixed,
            *self.late_block(),
            f"        for (int64_t t = 0; t < {steps}; t++) {{",
            *self.late_step(),
            f"            const int64_t count = snn_busy({x}, {x_b}, B, M, listed, place);",
            "            /* either way gives the same sums: rows have every input, columns must be brought together */",
            "            const int by_columns = !wild && 2 * count < B * (M / 8 + 40);",
            "            if (by_columns)",
            "                snn_columns(own_weight, M, listed, count, m, wide, own_columns);",
            *_MASKED_COLUMNS * masked,
            "            for (int64_t b = 0; b < B; b++) {",
            "                const int64_t at = b * N + first;",
            f"                const float *restrict x_now = {x} + b * {x_b};",
            f"                float *current = {self.current};",
            "                if (by_columns) {",
            "                    const int64_t given = snn_listed(x_now, listed, count, active, found);",
            f"                    snn_ordered(found, active, given, {seen}, place, wide, own_lanes, now);",
            "                } else if (B > 1 && !snn_listed(x_now, listed, count, active, found)) {",
            "                    for (int j = 0; j < m; j++)",
            "                        now[j] = 0.0f; /* whatever the weights: as the reference has it */",
            "                } else {",
            f"                    {every}",
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
        helpers = [PRODUCT, MASKED if masked else "", "" if "synapse" in self.parts else TAKING_PART, self._learning()]
        return self.source(loop, _SIZES, _ABOUT, helpers)

    def _take_turned(self) -> list[str]:
        """Take room for what products and updates read of mask and sign besides their rows; how it is filled."""
        w, begin = self.w, []
        for role, rows in self.fixed.items():
            begin.append(f"        const float *own_{role} = {rows} + first * M;")
            begin.append(f"        (void)own_{role};")
            if role == "mask":
                begin.append("        wild |= snn_beyond(own_mask, m * M);")
        turned = [r for r in self.fixed if r == "mask" or "synapse" not in self.parts]
        if turned:
            begin += ["        for (i = 0; i < M; i++)", "            listed[i] = (int32_t)i;"]
        for role in turned:
            room = w.whole(f"{role}_turned", f"scratch: the {role}, (M, W)", "float")
            begin.append(f"        float *own_{role}_turned = {room} + first * M;")
            begin.append(f"        snn_columns(own_{role}, M, listed, M, m, wide, own_{role}_turned);")
        if "mask" in self.fixed:
            room = w.whole("seen", "scratch: what products read of some inputs' weights, (M, W)", "float")
            begin.append(f"        float *own_seen = {room} + first * M;")
        self.copies = len(turned) + ("mask" in self.fixed)
        return begin

    @property
    def _read(self) -> list[str]:
        """Mask and sign, those that the update reads."""
        return [role for role in self.fixed if role in self.update.args]

    def _call_learning(self, factors: dict[str, str]) -> list[str]:
        factors_now = ["own_p", "own_d", *(f"{factors[f]} + first" for f in FACTORS)]
        update = self.passed("update", self.update)
        if "synapse" not in self.parts:
            items = ["own_weight", "M", "M", "M", "W", "B", "m", "wide", *factors_now, "own_columns", "listed"]
            items += ["by_columns ? count : -1", "own_values", "own_marks", "still", "&usual", "&wild"]
            items += [*(f"own_{r}" for r in self._read), *(f"own_{r}_turned" for r in self._read), *update]
            return call_lines(f"still = {self.learn}", items, 3, ";")
        items = ["own_weight", "M", "M", "M", "N", "W", "B", "m", *factors_now, "own_values", "&wild"]
        items += [f"{p} + first * M" for p in self.held.values()]
        items += [*self.told, *(f"own_{r}" for r in self._read)]
        items += [*self.passed("synapse", self.parts["synapse"]), *update]
        return call_lines(self.learn, items, 3, ";")

    def _learning(self) -> str:
        update = self.taken("update", self.update)
        if "synapse" not in self.parts:
            return print_learning(self.learn, self.update, update, bounded(self.rule), self._read)
        synapse = self.parts["synapse"]
        coefs = self.taken("synapse", synapse), update
        held = self.sides["synapse"], self.signals
        return print_synapses(self.learn, synapse, self.update, *held, coefs, self._read)


def bounded(rule: PlasticRule) -> bool:
    """Whether the last thing that the update does to a weight is to hold it between two bounds.

    Or, by mask and sign, to make it 0, or to leave it as it was.
    """
    program = rule.programs["update"]
    made = {op.name: op for op in program.ops}
    front, held = [program.output("w")], False
    while front:
        value = front.pop()
        op = made.get(value) if isinstance(value, str) else None
        if op is not None and op.op == "where":
            front += op.args[1:]
        elif value not in ("w", 0.0):
            if not _clamped(rule, made, value):
                return False
            held = True
    return held


def _clamped(rule: PlasticRule, made: Mapping[str, Op], value: Arg) -> bool:
    """Whether ``value`` is held between two bounds."""
    kinds = set()
    while isinstance(value, str) and value in made and made[value].op in ("min", "max"):
        op = made[value]
        value, bound = op.args
        if isinstance(bound, str) and bound not in rule.coefs["update"]:
            break
        kinds.add(op.op)
    return len(kinds) == 2
