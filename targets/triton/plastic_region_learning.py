"""Prints what a rule does inside a region that learns: traces and factors of either side, then the weight's change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from snncompile.ir.ordered import LANES, POSITION_LANES
from snncompile.ir.plasticity import FACTORS
from snncompile.targets.cycle_plan import Read
from snncompile.targets.plastic_plan import Learn
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.sliding import Sliding
from snncompile.targets.triton.plastic_parts import PART_ABOUT, full, print_call
from snncompile.targets.triton.plastic_region_conv import meeting
from snncompile.targets.triton.plastic_region_writer import RegionWriter
from snncompile.targets.triton.printer import print_function

#: Names that mean something in what is printed here.
LOCALS = "each out rows k u some inside here mine theirs w w_made change place snn_lanes OUTS TAPS SEQUENCES"
LOCALS += "".join(f" {side}_{f}" for side in ("posts", "pres") for f in FACTORS)

#: Positions of each lane whose factors are loaded at a time.
_PLACES = 4


def _lanes() -> str:
    lines = [
        "@triton.jit",
        "def snn_lanes(lanes, TAPS: tl.constexpr):",
        f'    """Sums over {POSITION_LANES} lanes in the order of every target: neighbours, then neighbouring sums."""',
    ]
    left = POSITION_LANES // 2
    while left > 1:
        lines.append(f"    lanes = tl.reduce(tl.reshape(lanes, (TAPS, {left}, 2)), 2, snn_add)")
        left //= 2
    return "\n".join([*lines, "    return tl.reduce(lanes, 1, snn_add)"]) + "\n"


#: Adds up what the positions of a convolution give.
PLACES = _lanes()


class Teacher:
    """A rule, in a kernel being printed.

    Attributes:
        sliding: the geometry of the convolution that it teaches, if it is one.
        ins: values of the input.
        outs: values of the output.
        shape: output channels, and weights of each; of a dense connection ``(outs, ins)``.
        weight: where the weight is.
        fixed: ``"mask"`` and ``"sign"``, those that there are -> where.
    """

    def __init__(self, w: RegionWriter, rule: PlasticRule, learn: Learn, place: int) -> None:
        self.w, self.rule, self.learn, self.place = w, rule, learn, place
        self.node = rule.node
        self.sliding = next(p.sliding for p in w.plan.plastic_products if p.rule == place)
        self.outs, self.ins = prod(self.node.post), prod(self.node.pre)
        first, *rest = self.node.weight.shape
        self.shape = shape = (first, prod(rest))
        self.weight = self._own("weight", f"{learn.name}_weight", f"weight of {learn.name}, {shape}, read and written")
        self.fixed = {
            role: self._own(role, f"{learn.name}_{role}", f"{role} of {learn.name}, {shape}")
            for role in ("mask", "sign")
            if role in self.node.params
        }
        self.functions = {
            part: print_function(w.names.new(f"{learn.name}_{part}"), program, PART_ABOUT[part], self._scalars(part))
            for part, program in rule.programs.items()
        }
        w.functions += self.functions.values()
        reader = self.functions.get("synapse", self.functions["update"])
        self.factors = [f for f in FACTORS if f in reader.args]
        #: the shape of a tile of weights
        self.tile = f"(OUTS, {LANES})" if self.sliding is None else "(TAPS,)"

    def _scalars(self, part: str) -> Sequence[str]:
        return (*self.rule.coefs[part], *self.node.signals)

    def _own(self, what: str, wanted: str, about: str) -> str:
        return self.w.address(("taught", what, self.learn.name), wanted, about)

    def _factor(self, side: str, factor: str) -> str:
        about = f"{self.learn.name}: factor of the {side} side, (B, {self._size(side)})"
        return self._own(f"{side} {factor}", f"{self.learn.name}_{side}_{factor}", about)

    def _size(self, side: str) -> int:
        return self.ins if side == "pre" else self.outs

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

    # -- either side ---------------------------------------------------------------------------------------------------

    def print_side(self, side: str) -> None:
        """Traces and factors of one side."""
        learn = self.learn
        pre = side == "pre"
        traces = learn.pre_traces if pre else learn.post_traces
        lines = dict(zip((t.local for t in self.node.of_side(side)), traces, strict=True))
        self._print_side(side, "before" if pre else "after", learn.pre if pre else learn.post, lines)

    def _print_side(self, side: str, part: str, source: Read | int, lines: Mapping[str, int]) -> None:
        w, size = self.w, self._size(side)
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

    # -- the weight ----------------------------------------------------------------------------------------------------

    def print_update(self) -> None:
        """What the rule makes of the weights, at the end of a step."""
        w = self.w
        reads = [(f"{side} {f}", self.place) for side in ("pre", "post") for f in self.factors]
        w.begin_step(f"{self.learn.name}: the weights change", reads, [("weight", self.place)])
        signals = self._signals()
        coefs: dict[str, dict[str, str]] = {}
        for part in ("synapse", "update"):
            if part in self.functions:
                coefs[part] = self._coefficients(part, 2)
        self._open_tiles()
        w.line(3, f"w = tl.load({self.weight} + rows, mask=inside, other=0.0)")
        fixed = {}
        for role, pointer in self.fixed.items():
            fixed[role] = w.names.new(role)
            w.line(3, f"{fixed[role]} = tl.load({pointer} + rows, mask=inside, other=0.0)")
        totals = {name: w.names.new(f"{name}_sum") for name in (["change"] if "synapse" in coefs else self.factors)}
        for total in totals.values():
            w.line(3, f"{total} = {full(0.0, self.tile)}")
        if "synapse" in coefs:
            w.line(3, "for each in range(0, B):")
            self._print_sequence(totals["change"], signals, coefs["synapse"])
        elif self.sliding is not None and totals:
            w.line(3, "for each in range(0, B):")
            for f, product in self._over_places(self.sliding).items():
                w.line(4, f"{totals[f]} = {totals[f]} + {product}")
        elif totals:
            self._print_sequences(totals)
        values = {"w": "w", **fixed, **totals, **coefs["update"]}
        print_call(self.w, 3, self.functions["update"], values, {"w": "w_made"}, self.tile)
        w.line(3, f"tl.store({self.weight} + rows, w_made, mask=inside)")

    def _open_tiles(self) -> None:
        """Open the loop over tiles of weights: where these stand, ``rows``, and which of them there are, ``inside``."""
        w, (outs, each) = self.w, self.shape
        if self.sliding is None:
            blocks = f"({each} + {LANES - 1}) // {LANES}"
            w.turns(f"(({outs} + OUTS - 1) // OUTS) * ({blocks})", weight=self.place)
            w.line(3, f"out = turn // ({blocks}) * OUTS + tl.arange(0, OUTS)")
            w.line(3, f"k = turn % ({blocks}) * {LANES} + tl.arange(0, {LANES})")
            w.line(3, f"mine = out < {outs}")
            w.line(3, f"theirs = k < {each}")
            w.line(3, "inside = mine[:, None] & theirs[None, :]")
            w.line(3, f"rows = out.to(tl.int64)[:, None] * {each} + k[None, :]")
        else:
            w.turns(f"({outs * each} + TAPS - 1) // TAPS", weight=self.place)
            w.line(3, "rows = turn * TAPS + tl.arange(0, TAPS)")
            w.line(3, f"inside = rows < {outs * each}")

    def _signals(self) -> dict[str, str]:
        """Where the signals that synapses hear stand for sequence ``each``."""
        if "synapse" not in self.functions:
            return {}
        given = dict(zip(self.node.signals, self.learn.signals, strict=True))
        heard = self.functions["synapse"].args
        return {s: self.w.values_of(source, 1, "each") for s, source in given.items() if s in heard}

    def _print_sequences(self, totals: Mapping[str, str]) -> None:
        """Add what the sequences change in a tile of a dense connection's weights; SEQUENCES are loaded at a time."""
        w = self.w
        w.line(3, "for some in range(0, B, SEQUENCES):")
        for f in totals:
            w.line(4, f"posts_{f} = ()")
            w.line(4, f"pres_{f} = ()")
        w.line(4, "for u in tl.static_range(SEQUENCES):")
        for f in totals:
            post, pre = self._pair(f, "(some + u)")
            w.line(5, f"posts_{f} = posts_{f} + (tl.load({post}, mask=mine & (some + u < B), other=0.0),)")
            w.line(5, f"pres_{f} = pres_{f} + (tl.load({pre}, mask=theirs & (some + u < B), other=0.0),)")
        w.line(4, "for u in tl.static_range(SEQUENCES):")
        for f, total in totals.items():
            w.line(5, f"{total} = {total} + posts_{f}[u][:, None] * pres_{f}[u][None, :]")

    def _pair(self, factor: str, each: str) -> tuple[str, str]:
        """Where a factor of either side of the sequence ``each`` stands for a tile of a dense connection's weights."""
        outs, ins = self.shape
        return (
            f"{self._factor('post', factor)} + {each} * {outs} + out",
            f"{self._factor('pre', factor)} + {each} * {ins} + k",
        )

    def _print_sequence(self, total: str, signals: Mapping[str, str], coefs: Mapping[str, str]) -> None:
        """What one sequence changes in a tile of weights, whose synapses have a program of their own."""
        w, (outs, ins) = self.w, self.shape
        products = self._outer() if self.sliding is None else self._over_places(self.sliding)
        values = {"w": "w", **products, **coefs}
        for s, pointer in signals.items():
            values[s] = w.names.new(s)
            w.line(4, f"{values[s]} = tl.load({pointer})")
        held = [t.local for t in self.node.of_side("synapse")]
        pointers = {}
        for t in held:
            about = f"trace of {self.learn.name}, (B, {outs}, {ins}), read and written"
            pointers[t] = self.w.address(("taught trace", self.learn.name, t), f"{self.learn.name}_{t}_trace", about)
            values[t] = w.names.new(t)
            pointers[t] = f"{pointers[t]} + (each + nil).to(tl.int64) * {outs * ins} + rows"
            w.line(4, f"{values[t]} = tl.load({pointers[t]}, mask=inside, other=0.0)")
        made = {n: w.names.new(f"{n}_made") for n in (*held, "change")}
        print_call(self.w, 4, self.functions["synapse"], values, made, self.tile)
        for t in held:
            w.line(4, f"tl.store({pointers[t]}, {made[t]}, mask=inside)")
        w.line(4, f"{total} = {total} + {made['change']}")

    def _outer(self) -> dict[str, str]:
        """Print the products of the factors of a dense connection; their names."""
        w = self.w
        products = {}
        for f in self.factors:
            post, pre, products[f] = (w.names.new(f"{side}_{f}") for side in ("post", "pre", "both"))
            for name, at, there in zip((post, pre), self._pair(f, "each"), ("mine", "theirs"), strict=True):
                w.line(4, f"{name} = tl.load({at}, mask={there}, other=0.0)")
            w.line(4, f"{products[f]} = {post}[:, None] * {pre}[None, :]")
        return products

    def _over_places(self, s: Sliding) -> dict[str, str]:
        """Print the sums of such products over all places of a convolution, by lanes; their names."""
        w, (_, taps), places = self.w, self.shape, s.outputs[1] * s.outputs[2]
        lanes = {f: w.names.new(f"{f}_lanes") for f in self.factors}
        for name in lanes.values():
            w.line(4, f"{name} = {full(0.0, f'(TAPS, {POSITION_LANES})')}")
        w.line(4, f"for k in range(0, {places}, {POSITION_LANES * _PLACES}):")
        for f in lanes:
            w.line(5, f"posts_{f} = ()")
            w.line(5, f"pres_{f} = ()")
        w.line(5, f"for u in tl.static_range({_PLACES}):")
        w.line(6, f"place = k + u * {POSITION_LANES} + tl.arange(0, {POSITION_LANES})[None, :]")
        w.line(6, f"here = inside[:, None] & (place < {places})")
        for f in lanes:
            post = f"{self._factor('post', f)} + each * {self.outs} + (rows // {taps} * {places})[:, None] + place"
            w.line(6, f"posts_{f} = posts_{f} + (tl.load({post}, mask=here, other=0.0),)")
            pre = f"{self._factor('pre', f)} + each * {self.ins}"
            w.line(6, f"pres_{f} = pres_{f} + ({meeting(w, s)}({pre}, (rows % {taps})[:, None], place, here),)")
        w.line(5, f"for u in tl.static_range({_PLACES}):")
        for f, name in lanes.items():
            w.line(6, f"{name} = {name} + posts_{f}[u] * pres_{f}[u]")
        products = {f: w.names.new(f"both_{f}") for f in lanes}
        for f, product in products.items():
            w.line(4, f"{product} = snn_lanes({lanes[f]}, TAPS)")
        return products
