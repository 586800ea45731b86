"""Prints the kernel that runs a plastic layer over a whole sequence with the weights in memory."""

from __future__ import annotations

from snncompile.ir.ordered import LANES
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan
from snncompile.targets.triton.kernel import module_text
from snncompile.targets.triton.plastic_parts import (
    OF_LANES,
    OF_POSTS,
    OF_WEIGHTS,
    TREE,
    Parts,
    PlasticSource,
    PlasticVariant,
    full,
    key,
)

_LAYOUT = f"""One program owns POSTS outputs; their weights, states and traces lie in memory, and so do traces of all
inputs, which each program computes for itself. A step goes twice over the sequences, for the neurons and then for the
weights, {LANES} inputs at a time; as soon as a weight is new, it enters the next product of the first sequence."""

_CHUNKS = "for k in range(chunks):"


def print_streamed(scan: Scan, rule: PlasticRule, variant: PlasticVariant) -> PlasticSource:
    """The module of the kernel."""
    return _Streamed(scan, rule, variant).print()


class _Streamed:
    """The kernel being printed."""

    def __init__(self, scan: Scan, rule: PlasticRule, variant: PlasticVariant) -> None:
        self.parts = Parts(scan, rule, variant, "plastic_streamed")
        self.w = self.parts.w
        self.variant, self.scan, self.rule = variant, scan, rule

    def print(self) -> PlasticSource:
        """The module."""
        self._arguments()
        line = self.w.line
        line(1, "first = " + full(0.0, OF_WEIGHTS) + "  # lanes of the next product of the first sequence")
        line(1, _CHUNKS)
        line(2, f"there = k * {LANES} + lane < M")
        line(2, "here = mine[:, None] & there[None, :]")
        line(2, f"w = tl.load({self.weight} + rows + k * {LANES}, mask=here, other=0.0)")
        line(2, f"x = tl.load({self._x('0', '0')}, mask=there & (T > 0) & (B > 0), other=0.0)")
        line(2, "first = first + w * x[None, :]")
        line(1, "for t in range(T):")
        line(2, "for b in range(B):")
        self._neurons()
        line(2, "tl.debug_barrier()  # factors and traces are in memory")
        line(2, "first = " + full(0.0, OF_WEIGHTS))
        line(2, _CHUNKS)
        self._learning()
        line(2, "tl.debug_barrier()  # and so are the weights")
        what = f"the whole sequence of a layer that learns by {self.rule.node.kind}, weights streamed from memory"
        functions = self.parts.functions
        text = module_text(self.scan, what, self.w, self.parts.name, functions, [TREE], _LAYOUT, ("POSTS",))
        return self.parts.source(text)

    def _arguments(self) -> None:
        p, line = self.parts, self.w.line
        line(1, "program = tl.program_id(0)")
        line(1, "post = program * POSTS + tl.arange(0, POSTS)  # the outputs of this program")
        line(1, "mine = post < N")
        line(1, f"lane = tl.arange(0, {LANES})")
        line(1, f"chunks = (M + {LANES - 1}) // {LANES}")
        line(1, "rows = post.to(tl.int64)[:, None] * M + lane[None, :]  # where the weights of the first inputs lie")
        line(1, "weights = N.to(tl.int64) * M")
        line(1, "cells = N.to(tl.int64) * B  # time offsets exceed 32 bits")
        line(1, "pre_cells = M.to(tl.int64) * B")
        self.weight = p.pointer("weight_end", "weight", "weights, (N, M), read and written")
        self.x = p.taken()
        if self.variant.bias:
            bias = p.pointer("bias", "bias_of_product", "bias of the product, (N,)")
            self.bias = self.w.names.new("bias_of_product")
            line(1, f"{self.bias} = tl.load({bias} + post, mask=mine, other=0.0)")
        self.courses = {i: p.strided(f"input.{i}", i, "input of the neurons, (T, B, N)", "tbn") for i in p.inputs}
        self.heard = {s: p.strided(f"signal.{s}", s, "signal that the rule hears, (T, B)", "tb") for s in p.signals}
        self.of_step, self.of_rule = p.coefficients()
        about = "state, (B, N), read and written"
        self.running = {s: p.pointer(f"final.{s}", f"{s}_running", about) for s in self.scan.states}
        shapes = {"pre": "of each program, (programs, B, M)", "post": "(B, N)", "synapse": "(B, N, M)"}
        for side, traces in p.side.items():
            for t in traces:
                slot = f"trace_each.{t}" if side == "pre" else f"trace_end.{t}"
                self.running[key(t)] = p.pointer(slot, f"{t}_running", f"trace, {shapes[side]}, read and written")
        about = "the output's factor, (B, N)"
        self.factors = {f: p.pointer(f"factor.{f}", f"post_{f}", about) for f in p.factors}
        self.stores = {r: p.pointer(f"store.{r}", r, "result, (T, B, N)") for r in self.variant.store}
        for t in self.variant.store_traces:
            shape = "(T, B, M)" if t in p.side["pre"] else "(T, B, N)"
            self.stores[key(t)] = p.pointer(f"store_trace.{t}", t, f"trace, {shape}")
        if self.variant.store_product:
            self.product = p.pointer("product", "product", "the product, (T, B, N)")
        for name, about in (("T", "time steps"), ("B", "sequences"), ("N", "outputs"), ("M", "inputs")):
            p.number(name, name, about)

    def _x(self, t: str, b: str) -> str:
        return self.x.format(t, b)

    def _neurons(self) -> None:
        p, line, names = self.parts, self.w.line, self.w.names
        line(3, "lanes = first")
        line(3, "if b > 0:")
        line(4, f"lanes = {full(0.0, OF_WEIGHTS)}")
        line(4, _CHUNKS)
        line(5, f"there = k * {LANES} + lane < M")
        line(5, "here = mine[:, None] & there[None, :]")
        line(5, f"w = tl.load({self.weight} + rows + k * {LANES}, mask=here, other=0.0)")
        line(5, f"x = tl.load({self._x('t', 'b')}, mask=there, other=0.0)")
        line(5, "lanes = lanes + w * x[None, :]")
        line(3, f"product = snn_tree(lanes, POSTS){f' + {self.bias}' if self.variant.bias else ''}")
        line(3, "at = t * cells + b * N + post")
        if self.variant.store_product:
            line(3, f"tl.store({self.product} + at, product, mask=mine)")
        values = {**self.of_step, self.variant.port: "product"}
        for i, course in self.courses.items():
            values[i] = names.new(f"{i}_now")
            line(3, f"{values[i]} = tl.load({course.format('t', 'b', 'post')}, mask=mine, other=0.0)")
        for n, wanted in [*((s, s) for s in self.scan.states), *((key(t), t) for t in p.side["post"])]:
            values[n] = names.new(wanted)
            line(3, f"{values[n]} = tl.load({self.running[n]} + b * N + post, mask=mine, other=0.0)")
        made = {r: names.new(f"{r}_made") for r in p.step_results}
        p.call(3, p.step, values, made, OF_POSTS)
        for s in self.scan.states:
            line(3, f"tl.store({self.running[s]} + b * N + post, {made[s]}, mask=mine)")
        for r in self.variant.store:
            line(3, f"tl.store({self.stores[r]} + at, {made[r]}, mask=mine)")
        after = {**self.of_rule["after"], "z": made[self.variant.source], **{t: values[key(t)] for t in p.side["post"]}}
        made = {n: names.new(f"{n}_made") for n in (*p.side["post"], *p.factors)}
        p.call(3, p.learn["after"], after, made, OF_POSTS)
        for t in p.side["post"]:
            line(3, f"tl.store({self.running[key(t)]} + b * N + post, {made[t]}, mask=mine)")
            if t in self.variant.store_traces:
                line(3, f"tl.store({self.stores[key(t)]} + at, {made[t]}, mask=mine)")
        for f, pointer in self.factors.items():
            line(3, f"tl.store({pointer} + b * N + post, {made[f]}, mask=mine)")

    def _learning(self) -> None:
        p, line, names = self.parts, self.w.line, self.w.names
        line(3, f"there = k * {LANES} + lane < M")
        line(3, "here = mine[:, None] & there[None, :]")
        line(3, f"w = tl.load({self.weight} + rows + k * {LANES}, mask=here, other=0.0)")
        # the first sequence's next input is loaded before anything is stored
        line(3, f"coming = tl.load({self._x('(t + 1)', '0')}, mask=there & (t + 1 < T) & (B > 0), other=0.0)")
        totals = ["change"] if "synapse" in p.learn else p.factors
        for total in totals:
            line(3, f"{total} = {full(0.0, OF_WEIGHTS)}")
        line(3, "for b in range(B):")
        line(4, f"x = tl.load({self._x('t', 'b')}, mask=there, other=0.0)")
        before = {**self.of_rule["before"], "z": "x"}
        line(4, f"base = (program * B + b).to(tl.int64) * M + k * {LANES} + lane")
        for t in p.side["pre"]:
            before[t] = names.new(t)
            line(4, f"{before[t]} = tl.load({self.running[key(t)]} + base, mask=there, other=0.0)")
        post = {f: names.new(f"post_{f}_now") for f in p.factors}
        for f, name in post.items():
            line(4, f"{name} = tl.load({self.factors[f]} + b * N + post, mask=mine, other=0.0)")
        made = {n: names.new(f"{n}_made") for n in p.side["pre"]}
        factors = {f: names.new(f"pre_{f}") for f in p.factors}
        p.call(4, p.learn["before"], before, {**made, **factors}, OF_LANES)
        for t in p.side["pre"]:
            line(4, f"tl.store({self.running[key(t)]} + base, {made[t]}, mask=there)")
            if t in self.variant.store_traces:
                at = f"{self.stores[key(t)]} + t * pre_cells + b * M + k * {LANES} + lane"
                line(4, f"tl.store({at}, {made[t]}, mask=there & (program == 0))")
        products = {f: f"{post[f]}[:, None] * {factors[f]}[None, :]" for f in p.factors}
        if "synapse" in p.learn:
            self._synapses(products)
        else:
            for f, product in products.items():
                line(4, f"{f} = {f} + {product}")
        update = {**self.of_rule["update"], "w": "w", **{total: total for total in totals}}
        p.call(3, p.learn["update"], update, {"w": "w_made"}, OF_WEIGHTS)
        line(3, f"tl.store({self.weight} + rows + k * {LANES}, w_made, mask=here)")
        line(3, "first = first + tl.where(there[None, :], w_made, 0.0) * coming[None, :]")

    def _synapses(self, products: dict[str, str]) -> None:
        p, line, names = self.parts, self.w.line, self.w.names
        values = {**self.of_rule["synapse"], "w": "w"}
        for f, product in products.items():
            values[f] = names.new(f"{f}_here")
            line(4, f"{values[f]} = {product}")
        for s, course in self.heard.items():
            values[s] = names.new(f"{s}_now")
            line(4, f"{values[s]} = tl.load({course.format('t', 'b')})")
        for t in p.side["synapse"]:
            values[t] = names.new(t)
            at = f"{self.running[key(t)]} + b * weights + rows + k * {LANES}"
            line(4, f"{values[t]} = tl.load({at}, mask=here, other=0.0)")
        made = {n: names.new(f"{n}_made") for n in (*p.side["synapse"], "change")}
        p.call(4, p.learn["synapse"], values, made, OF_WEIGHTS)
        for t in p.side["synapse"]:
            line(4, f"tl.store({self.running[key(t)]} + b * weights + rows + k * {LANES}, {made[t]}, mask=here)")
        line(4, f"change = change + {made['change']}")


