"""Prints the kernel that runs a plastic layer over a whole sequence with the weights in registers."""

from __future__ import annotations

from snncompile.ir.ordered import LANES
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan
from snncompile.targets.triton.plastic_parts import OF_WEIGHTS, PlasticSource, PlasticVariant, full, key
from snncompile.targets.triton.plastic_printing import CHUNK, CHUNK_THERE, EACH_CHUNK, PlasticKernel

_LAYOUT = f"""One program owns POSTS outputs and their weights: a tuple of CHUNKS tiles (POSTS, {LANES}), in registers
for the whole sequence. Programs need nothing of each other: each computes the traces of all inputs anew. In tuples of
the input side, sequence b's part of chunk k is number k * BATCH + b. Products are summed by lanes, then as a tree."""

_CONSTANTS = ("POSTS", "CHUNKS", "BATCH")
_BATCH = "for b in tl.static_range(BATCH):"


def print_resident(scan: Scan, rule: PlasticRule, variant: PlasticVariant) -> PlasticSource:
    """The module of the kernel."""
    return _Resident(scan, rule, variant, "plastic").print()


class _Resident(PlasticKernel):
    """The kernel being printed."""

    size = "BATCH"

    def print(self) -> PlasticSource:
        """The module."""
        self._arguments()
        self._load_weights()
        self._load_states()
        self._steps()
        self._store_rest()
        return self.module("in registers", _LAYOUT, _CONSTANTS)

    def _arguments(self) -> None:
        p, line = self.parts, self.w.line
        self.take_outputs()
        line(1, "rows = post.to(tl.int64)[:, None] * M + lane[None, :]  # where the weights of chunk 0 lie")
        line(1, "weights = N.to(tl.int64) * M")
        line(1, "cells = N.to(tl.int64) * BATCH  # time offsets exceed 32 bits")
        if any(t in self.variant.store_traces for t in p.side["pre"]):
            line(1, "pre_cells = M.to(tl.int64) * BATCH")
        self.weight = p.pointer("weight", "weight", "weights before the first step, (N, M)")
        self.weight_end = p.pointer("weight_end", "weight_end", "weights after the last step, (N, M)")
        self.fixed_start = p.of_weights("(N, M)")
        self.fixed = {r: self.w.names.new(f"{r}_now") for r in self.fixed_start}
        self.take_courses()
        self.said = {s: self.w.names.new(f"{s}_now") for s in p.signals}
        self.of_step, self.of_rule = p.coefficients()
        self.starts = {s: p.pointer(f"state.{s}", f"{s}_start", "first state, (B, N)") for s in self.scan.states}
        self.ends = {s: p.pointer(f"final.{s}", f"{s}_end", "last state, (B, N)") for s in self.scan.states}
        shapes = {"pre": "(B, M)", "post": "(B, N)", "synapse": "(B, N, M)"}
        for side, traces in p.side.items():
            for t in traces:
                self.starts[key(t)] = p.pointer(f"trace.{t}", f"{t}_start", f"first trace, {shapes[side]}")
                self.ends[key(t)] = p.pointer(f"trace_end.{t}", f"{t}_end", f"last trace, {shapes[side]}")
        self.take_results()
        p.number("T", "T", "time steps")
        p.number("N", "N", "outputs")
        p.number("M", "M", "inputs")
        names = {s: s for s in self.scan.states} | {key(t): t for traces in p.side.values() for t in traces}
        self.now = {n: self.w.names.new(wanted) for n, wanted in names.items()}
        self.next = {n: self.w.names.new(f"{wanted}_next") for n, wanted in names.items()}
        self.post = {f: self.w.names.new(f"post_{f}") for f in p.factors}

    def _load_weights(self) -> None:
        line = self.w.line
        for name in ("w", *self.fixed.values()):
            line(1, f"{name} = ()")
        line(1, EACH_CHUNK)
        line(2, CHUNK_THERE)
        line(2, "here = mine[:, None] & there[None, :]")
        for name, start in (("w", self.weight), *((self.fixed[r], start) for r, start in self.fixed_start.items())):
            line(2, f"{name} = {name} + (tl.load({start} + rows + k * {LANES}, mask=here, other=0.0),)")

    def _load_states(self) -> None:
        p, line = self.parts, self.w.line
        each = [*self.scan.states, *map(key, p.side["post"])]
        for n in each:
            line(1, f"{self.now[n]} = ()")
        if each:
            line(1, _BATCH)
            for n in each:
                load = f"tl.load({self.starts[n]} + b * N + post, mask=mine, other=0.0)"
                line(2, f"{self.now[n]} = {self.now[n]} + ({load},)")
        for n in ("x", *(self.now[key(t)] for t in (*p.side["pre"], *p.side["synapse"]))):
            line(1, f"{n} = ()")
        line(1, EACH_CHUNK)
        line(2, CHUNK_THERE)
        line(2, _BATCH)
        self._load_x(3, "x", "0")
        for t in p.side["pre"]:
            load = f"tl.load({self.starts[key(t)]} + b * M + k * {LANES} + lane, mask=there, other=0.0)"
            line(3, f"{self.now[key(t)]} = {self.now[key(t)]} + ({load},)")
        for t in p.side["synapse"]:
            line(3, "here = mine[:, None] & there[None, :]")
            load = f"tl.load({self.starts[key(t)]} + b * weights + rows + k * {LANES}, mask=here, other=0.0)"
            line(3, f"{self.now[key(t)]} = {self.now[key(t)]} + ({load},)")

    def _load_x(self, depth: int, name: str, t: str) -> None:
        self.x.load(depth, "z", t, "b", CHUNK, f"there & ({t} < T)")
        self.w.line(depth, f"{name} = {name} + (z,)")

    def _steps(self) -> None:
        p, line = self.parts, self.w.line
        line(1, "for t in range(T):")
        for name in self.said.values():
            line(2, f"{name} = ()")
        if self.said:
            line(2, _BATCH)
        for s, name in self.said.items():
            line(3, f"{name} = {name} + ({self.hear(3, s)},)")
        line(2, "# the product with the weights as they are, the neurons, and the output's side of the rule")
        each = [*self.scan.states, *map(key, p.side["post"])]
        for name in (*(self.next[n] for n in each), *self.post.values()):
            line(2, f"{name} = ()")
        line(2, _BATCH)
        self._neurons()
        for n in each:
            line(2, f"{self.now[n]} = {self.next[n]}")
        line(2, "# the input's side of the rule, and the weights; what comes next takes the place of what is used")
        later = [self.next[key(t)] for t in (*p.side["pre"], *p.side["synapse"])]
        for name in ("w_new", "coming", *later):
            line(2, f"{name} = ()")
        line(2, EACH_CHUNK)
        self._learning()
        line(2, "w = w_new")
        line(2, "x = coming")
        for t in (*p.side["pre"], *p.side["synapse"]):
            line(2, f"{self.now[key(t)]} = {self.next[key(t)]}")

    def _neurons(self) -> None:
        p, line = self.parts, self.w.line
        values = self.inputs_now()
        line(3, f"lanes = {full(0.0, OF_WEIGHTS)}")
        line(3, EACH_CHUNK)
        seen = f"(w[k] * {self.fixed['mask']}[k])" if "mask" in self.fixed else "w[k]"
        line(4, f"lanes = lanes + {seen} * x[k * BATCH + b][None, :]")
        self.print_product()
        self.print_neurons(values | {n: f"{self.now[n]}[b]" for n in (*self.scan.states, *map(key, p.side["post"]))})

    def keep(self, depth: int, side: str, name: str, value: str) -> None:
        """One more of the tuple that is the state or trace after this step."""
        self.w.line(depth, f"{self.next[name]} = {self.next[name]} + ({value},)")

    def keep_factor(self, factor: str, value: str) -> None:
        """One more of the tuple of this factor."""
        self.w.line(3, f"{self.post[factor]} = {self.post[factor]} + ({value},)")

    def hears(self, depth: int, signal: str) -> str:
        """Signals are loaded once a step."""
        return f"{self.said[signal]}[b]"

    def eligible(self, depth: int, trace: str) -> str:
        """Traces are at hand."""
        return f"{self.now[key(trace)]}[k * BATCH + b]"

    def _learning(self) -> None:
        p, line = self.parts, self.w.line
        line(3, CHUNK_THERE)
        self.start_sums()
        line(3, _BATCH)
        self._load_x(4, "coming", "(t + 1)")
        traces = {t: f"{self.now[key(t)]}[k * BATCH + b]" for t in p.side["pre"]}
        z = self.watch(4, "x[k * BATCH + b]")
        self.print_sequence(z, traces, {f: f"{name}[b]" for f, name in self.post.items()}, "w[k]")
        self.print_update("w[k]", {r: f"{name}[k]" for r, name in self.fixed.items()})
        line(3, "if k == CHUNKS - 1:")
        line(4, "w_made = tl.where(there[None, :], w_made, 0.0)  # beyond the last input there is nothing")
        line(3, "w_new = w_new + (w_made,)")

    def _store_rest(self) -> None:
        p, line = self.parts, self.w.line
        each = [*self.scan.states, *map(key, p.side["post"])]
        if each:
            line(1, _BATCH)
            for n in each:
                line(2, f"tl.store({self.ends[n]} + b * N + post, {self.now[n]}[b], mask=mine)")
        self.find_places_again()
        line(1, EACH_CHUNK)
        line(2, CHUNK_THERE)
        line(2, "here = mine[:, None] & there[None, :]")
        line(2, f"tl.store({self.weight_end} + rows + k * {LANES}, w[k], mask=here)")
        if p.side["pre"] or p.side["synapse"]:
            line(2, _BATCH)
            for t in p.side["pre"]:
                at = f"{self.ends[key(t)]} + b * M + k * {LANES} + lane"
                line(3, f"tl.store({at}, {self.now[key(t)]}[k * BATCH + b], mask=there & (program == 0))")
            for t in p.side["synapse"]:
                at = f"{self.ends[key(t)]} + b * weights + rows + k * {LANES}"
                line(3, f"tl.store({at}, {self.now[key(t)]}[k * BATCH + b], mask=here)")
