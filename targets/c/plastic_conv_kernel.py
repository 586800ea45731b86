"""Prints the function of a whole plastic layer whose connection is a convolution."""

from __future__ import annotations

from snncompile.ir.plasticity import FACTORS
from snncompile.targets.c.plastic_conv_parts import print_conv_learning, print_conv_synapses
from snncompile.targets.c.plastic_conv_source import CHANGE, MASKED, NAMES, PRODUCT, constants
from snncompile.targets.c.plastic_printing import PlasticPrinter, PlasticSource, PlasticVariant
from snncompile.targets.c.printer import call_lines
from snncompile.targets.plastic_fields import Fields
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan

_SIZES = ["int64_t B", "int64_t N", "int64_t M", "int64_t room", "int64_t most", "int64_t blocks", "int threads"]
_LOCALS = f"M {NAMES} wild i wide still x_now own_weight own_sums own_taps own_room own_p own_d most room channel"
_LOCALS += " own_learnt own_outs groups k own_mask own_sign"
_ABOUT = """\
 * A thread takes some output channels through all steps: at each, the product with the weights as they are (each
 * output's taps in their order), the neurons, and then what the rule learns from both sides. Courses are float32; those
 * written are contiguous. M inputs, N outputs; memory has a channel's positions side by side, a product's sums and the
 * copies `own_taps` and `turned` have channels side by side, `wide` of them, padded.
"""


class ConvPrinter(PlasticPrinter):
    """The function of a convolution's layer.

    Args:
        scan: the neurons.
        rule: the rule.
        variant: the function wanted.
        fields: which input meets which output.
    """

    def __init__(self, scan: Scan, rule: PlasticRule, variant: PlasticVariant, fields: Fields) -> None:
        super().__init__(scan, rule, variant, _LOCALS)
        self.fields = fields

    def print(self) -> PlasticSource:
        """The file."""
        w, outs = self.w, self.fields.outs
        self.take(f"({outs}, TAPS)", f"({outs},)")
        post = {f: self.factor(f"after_{f}", "at", "scratch: factors of outputs, (B, N)") for f in FACTORS}
        pre = {f: w.whole(f"before_{f}", "scratch: of inputs, (blocks, B, M)", "float") for f in FACTORS}
        rooms = w.whole("rooms", "scratch, (blocks, room)", "float")
        steps = w.whole("T", "time steps", number=True)
        x, bias = f"{self.x} + b * {self.x_b}", f" + {self.bias}[channel + j]" if self.bias else ""

        self.print_row(post)
        loop = [
            *self.late_whole(),
            f"    const int64_t groups = {outs} / PAD + ({outs} % PAD != 0);",
            "#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)",
            "    for (int64_t block = 0; block < blocks; block++) {",
            "        const int64_t channel = block * groups / blocks * PAD, first = channel * PLACES;",
            "        const int wide = (int)((block + 1) * groups / blocks * PAD - channel); /* channels, padded */",
            f"        const int own_outs = {outs} - channel < wide ? (int)({outs} - channel) : wide;",
            "        const int64_t own = block * B * M;",
            "        const int m = own_outs * PLACES;",
            f"        float *own_weight = {self.weight} + channel * TAPS;",
            f"        float *own_p = {pre['potentiation']} + own, *own_d = {pre['depression']} + own;",
            f"        float *own_sums = {rooms} + block * room, *own_taps = own_sums + PLACES * most;",
            "        float *own_learnt = own_taps + TAPS * most, *own_room = own_learnt + 3 * TAPS * most;",
            *(f"        const float *own_{role} = {p} + channel * TAPS;" for role, p in self.fixed.items()),
            "        int64_t i;",
            "        int still = 0, wild = 0; /* 0 times a weight that is infinite, or none at all, is not 0 */",
            "        (void)still, (void)i;",
            *self.late_block(),
            f"        for (int64_t t = 0; t < {steps}; t++) {{",
            *self.late_step(),
            "            if (!still || !t) {",
            "                wild = 0;",
            *self._taps(),
            "            }",
            "            for (int64_t b = 0; b < B; b++) {",
            "                const int64_t at = b * N + first;",
            f"                const float *restrict x_now = {x};",
            f"                float *restrict current = {self.current};",
            "                snn_convolved(x_now, own_taps, wide, wild, own_sums);",
            "                for (int j = 0; j < own_outs; j++)",
            "                    for (int k = 0; k < PLACES; k++)",
            f"                        current[j * PLACES + k] = own_sums[k * wide + j]{bias};",
            *self.call_row(4),
            *self.call_inputs(4),
            "            }",
            *self._call_learning(post),
            "        }",
            "    }",
        ]
        masked = MASKED if "mask" in self.fixed else ""
        helpers = [constants(self.fields), PRODUCT, masked, CHANGE, self._learning()]
        return self.source(loop, _SIZES, _ABOUT, helpers)

    def _taps(self) -> list[str]:
        """What the product reads of the weights, channels side by side, and whether all of it is finite."""
        if "mask" in self.fixed:
            return [
                "                snn_masked(own_weight, own_mask, own_outs, wide, own_taps);",
                "                snn_seen(own_taps, TAPS * wide, &wild);",
            ]
        return [
            "                snn_seen(own_weight, own_outs * TAPS, &wild);",
            "                snn_turned(own_weight, own_outs, TAPS, wide, own_taps);",
        ]

    def _call_learning(self, factors: dict[str, str]) -> list[str]:
        items = ["own_weight", "N", "B", "own_outs", "wide", "own_p", "own_d"]
        items += [*(f"{factors[f]} + first" for f in FACTORS), "own_sums", "own_room", "own_learnt"]
        update = [*(f"own_{role}" for role in self._read), *self.passed("update", self.update)]
        if "synapse" not in self.parts:
            return call_lines(f"still = {self.learn}", [*items, "still", *update], 3, ";")
        items += [f"{p} + channel * TAPS" for p in self.held.values()]
        items += [*self.told, *self.passed("synapse", self.parts["synapse"]), *update]
        return call_lines(self.learn, items, 3, ";")

    def _learning(self) -> str:
        update = self.taken("update", self.update)
        if "synapse" not in self.parts:
            return print_conv_learning(self.learn, self.update, update, self._read)
        synapse = self.parts["synapse"]
        coefs = self.taken("synapse", synapse), update
        held = self.sides["synapse"], self.signals
        return print_conv_synapses(self.learn, synapse, self.update, *held, coefs, self.fields.outs, self._read)

    @property
    def _read(self) -> list[str]:
        """Mask and sign, those that the update reads."""
        return [role for role in self.fixed if role in self.update.args]
