"""Kernels of plastic layers that keep states, traces and weights in memory between two steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from snncompile.targets.triton.plastic_parts import key
from snncompile.targets.triton.plastic_printing import PlasticKernel


class InMemory(PlasticKernel):
    """A kernel being printed.

    Attributes:
        places: ``"pre"``, ``"post"`` and ``"synapse"`` -> where a tile of it stands, and the mask of it.
        running: state or trace -> its pointer.
        factors: an output's factor -> the pointer where it waits for the weights' turn.
        fixed: mask and sign of the weights -> their pointers.
    """

    places: Mapping[str, tuple[str, str]]
    running: dict[str, str]
    factors: dict[str, str]
    fixed: dict[str, str]

    def take_running(self, synapses: str) -> None:
        """Arguments of states, traces (of synapses in the shape ``synapses``), and factors of outputs."""
        p, about = self.parts, "state, (B, N), read and written"
        self.running = {s: p.pointer(f"final.{s}", f"{s}_running", about) for s in self.scan.states}
        shapes = {"pre": "of each program, (programs, B, M)", "post": "(B, N)", "synapse": synapses}
        for side, traces in p.side.items():
            for t in traces:
                slot = f"trace_each.{t}" if side == "pre" else f"trace_end.{t}"
                self.running[key(t)] = p.pointer(slot, f"{t}_running", f"trace, {shapes[side]}, read and written")
        about = "the output's factor, (B, N)"
        self.factors = {f: p.pointer(f"factor.{f}", f"post_{f}", about) for f in p.factors}

    def outputs_now(self, depth: int) -> dict[str, str]:
        """Load what the neurons need at this step: inputs, states, and traces of their side."""
        values = self.inputs_now()
        place, there = self.places["post"]
        wanted = [(s, s) for s in self.scan.states] + [(key(t), t) for t in self.parts.side["post"]]
        for n, name in wanted:
            values[n] = self.w.names.new(name)
            self.w.line(depth, f"{values[n]} = tl.load({self.running[n]} + {place}, mask={there}, other=0.0)")
        return values

    def keep(self, depth: int, side: str, name: str, value: str) -> None:
        """Stored where it came from."""
        place, there = self.places[side]
        self.w.line(depth, f"tl.store({self.running[name]} + {place}, {value}, mask={there})")

    def keep_factor(self, factor: str, value: str) -> None:
        """Stored until the weights' turn."""
        place, there = self.places["post"]
        self.w.line(self.depth, f"tl.store({self.factors[factor]} + {place}, {value}, mask={there})")

    def load_fixed(self, depth: int, roles: Sequence[str], place: str, there: str) -> dict[str, str]:
        """Load mask and sign of weights, those of ``roles`` that there are; their names."""
        found = {}
        for r in roles:
            if r in self.fixed:
                found[r] = self.w.names.new(f"{r}_now")
                self.w.line(depth, f"{found[r]} = tl.load({self.fixed[r]} + {place}, mask={there}, other=0.0)")
        return found

    def hears(self, depth: int, signal: str) -> str:
        """Loaded where it is wanted."""
        name = self.w.names.new(f"{signal}_now")
        self.w.line(depth, f"{name} = {self.hear(depth, signal)}")
        return name

    def eligible(self, depth: int, trace: str) -> str:
        """Loaded where it is wanted."""
        name = self.w.names.new(trace)
        place, there = self.places["synapse"]
        self.w.line(depth, f"{name} = tl.load({self.running[key(trace)]} + {place}, mask={there}, other=0.0)")
        return name
