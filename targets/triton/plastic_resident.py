"""Prints the kernel that runs a plastic layer over a whole sequence with the weights in registers."""

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

_LAYOUT = f"""One program owns POSTS outputs and their weights: a tuple of CHUNKS tiles (POSTS, {LANES}), in registers
for the whole sequence. Programs need nothing of each other: each computes the traces of all inputs anew. In tuples of
the input side, sequence b's part of chunk k is number k * BATCH + b. Products are summed by lanes, then as a tree."""

_CONSTANTS = ("POSTS", "CHUNKS", "BATCH")
_CHUNKS, _BATCH = "for k in tl.static_range(CHUNKS):", "for b in tl.static_range(BATCH):"

# only the last chunk may have less than all lanes, and only there shall anything be masked
_THERE = f"there = lane < (M - k * {LANES} if k == CHUNKS - 1 else {LANES})"


def print_resident(scan: Scan, rule: PlasticRule, variant: PlasticVariant) -> PlasticSource:
    """The module of the kernel."""
    return _Resident(scan, rule, variant).print()


class _Resident:
    """The kernel being printed."""

    def __init__(self, scan: Scan, rule: PlasticRule, variant: PlasticVariant) -> None:
        self.parts = Parts(scan, rule, variant, "plastic")
        self.w = self.parts.w
        self.variant, self.scan, self.rule = variant, scan, rule

    def print(self) -> PlasticSource:
        """The module."""
        self._arguments()
        self._load_weights()
        self._load_states()
        self._steps()
        self._store_rest()
        what = f"the whole sequence of a layer that learns by {self.rule.node.kind}, weights in registers"
        functions = self.parts.functions
        text = module_text(self.scan, what, self.w, self.parts.name, functions, [TREE], _LAYOUT, _CONSTANTS)
        return self.parts.source(text)

    def _arguments(self) -> None:
        p, line = self.parts, self.w.line
        line(1, "program = tl.program_id(0)")
        line(1, "post = program * POSTS + tl.arange(0, POSTS)  # the outputs of this program")
        line(1, "mine = post < N")
        line(1, f"lane = tl.arange(0, {LANES})")
        line(1, "rows = post.to(tl.int64)[:, None] * M + lane[None, :]  # where the weights of chunk 0 lie")
        line(1, "weights = N.to(tl.int64) * M")
        line(1, "cells = N.to(tl.int64) * BATCH  # time offsets exceed 32 bits")
        if any(t in self.variant.store_traces for t in p.side["pre"]):
            line(1, "pre_cells = M.to(tl.int64) * BATCH")
        self.weight = p.pointer("weight", "weight", "weights before the first step, (N, M)")
        self.weight_end = p.pointer("weight_end", "weight_end", "weights after the last step, (N, M)")
        self.x = p.taken()
        if self.variant.bias:
            bias = p.pointer("bias", "bias_of_product", "bias of the product, (N,)")
            self.bias = self.w.names.new("bias_of_product")
            line(1, f"{self.bias} = tl.load({bias} + post, mask=mine, other=0.0)")
        self.courses = {i: p.strided(f"input.{i}", i, "input of the neurons, (T, B, N)", "tbn") for i in p.inputs}
        self.heard = {s: p.strided(f"signal.{s}", s, "signal that the rule hears, (T, B)", "tb") for s in p.signals}
        self.said = {s: self.w.names.new(f"{s}_now") for s in p.signals}
        self.of_step, self.of_rule = p.coefficients()
        self.starts = {s: p.pointer(f"state.{s}", f"{s}_start", "first state, (B, N)") for s in self.scan.states}
        self.ends = {s: p.pointer(f"final.{s}", f"{s}_end", "last state, (B, N)") for s in self.scan.states}
        shapes = {"pre": "(B, M)", "post": "(B, N)", "synapse": "(B, N, M)"}
        for side, traces in p.side.items():
            for t in traces:
                self.starts[key(t)] = p.pointer(f"trace.{t}", f"{t}_start", f"first trace, {shapes[side]}")
                self.ends[key(t)] = p.pointer(f"trace_end.{t}", f"{t}_end", f"last trace, {shapes[side]}")
        self.stores = {r: p.pointer(f"store.{r}", r, "result, (T, B, N)") for r in self.variant.store}
        for t in self.variant.store_traces:
            shape = "(T, B, M)" if t in p.side["pre"] else "(T, B, N)"
            self.stores[key(t)] = p.pointer(f"store_trace.{t}", t, f"trace, {shape}")
        if self.variant.store_product:
            self.product = p.pointer("product", "product", "the product, (T, B, N)")
        p.number("T", "T", "time steps")
        p.number("N", "N", "outputs")
        p.number("M", "M", "inputs")
        names = {s: s for s in self.scan.states} | {key(t): t for traces in p.side.values() for t in traces}
        self.now = {n: self.w.names.new(wanted) for n, wanted in names.items()}
        self.next = {n: self.w.names.new(f"{wanted}_next") for n, wanted in names.items()}
        self.post = {f: self.w.names.new(f"post_{f}") for f in p.factors}

    def _load_weights(self) -> None:
        line = self.w.line
        line(1, "w = ()")
        line(1, _CHUNKS)
        line(2, _THERE)
        line(2, "here = mine[:, None] & there[None, :]")
        line(2, f"w = w + (tl.load({self.weight} + rows + k * {LANES}, mask=here, other=0.0),)")

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
        line(1, _CHUNKS)
        line(2, _THERE)
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
        at = self.x.format(t, "b")
        self.w.line(depth, f"z = tl.load({at}, mask=there & ({t} < T), other=0.0)")
        self.w.line(depth, f"{name} = {name} + (z,)")

    def _steps(self) -> None:
        p, line = self.parts, self.w.line
        line(1, "for t in range(T):")
        for name in self.said.values():
            line(2, f"{name} = ()")
        if self.said:
            line(2, _BATCH)
        for s, name in self.said.items():
            line(3, f"{name} = {name} + (tl.load({self.heard[s].format('t', 'b')}),)")
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
        line(2, _CHUNKS)
        self._learning()
        line(2, "w = w_new")
        line(2, "x = coming")
        for t in (*p.side["pre"], *p.side["synapse"]):
            line(2, f"{self.now[key(t)]} = {self.next[key(t)]}")

    def _neurons(self) -> None:
        p, line, names = self.parts, self.w.line, self.w.names
        values = dict(self.of_step)
        for i, course in self.courses.items():
            values[i] = names.new(f"{i}_now")
            line(3, f"{values[i]} = tl.load({course.format('t', 'b', 'post')}, mask=mine, other=0.0)")
        line(3, f"lanes = {full(0.0, OF_WEIGHTS)}")
        line(3, _CHUNKS)
        line(4, "lanes = lanes + w[k] * x[k * BATCH + b][None, :]")
        line(3, f"product = snn_tree(lanes, POSTS){f' + {self.bias}' if self.variant.bias else ''}")
        line(3, "at = t * cells + b * N + post")
        if self.variant.store_product:
            line(3, f"tl.store({self.product} + at, product, mask=mine)")
        values[self.variant.port] = "product"
        values |= {s: f"{self.now[s]}[b]" for s in self.scan.states}
        made = {r: names.new(f"{r}_made") for r in self.parts.step_results}
        p.call(3, p.step, values, made, OF_POSTS)
        for s in self.scan.states:
            line(3, f"{self.next[s]} = {self.next[s]} + ({made[s]},)")
        for r in self.variant.store:
            line(3, f"tl.store({self.stores[r]} + at, {made[r]}, mask=mine)")
        after = {**self.of_rule["after"], "z": made[self.variant.source]}
        after |= {t: f"{self.now[key(t)]}[b]" for t in p.side["post"]}
        made = {n: names.new(f"{n}_made") for n in (*p.side["post"], *p.factors)}
        p.call(3, p.learn["after"], after, made, OF_POSTS)
        for t in p.side["post"]:
            line(3, f"{self.next[key(t)]} = {self.next[key(t)]} + ({made[t]},)")
            if t in self.variant.store_traces:
                line(3, f"tl.store({self.stores[key(t)]} + at, {made[t]}, mask=mine)")
        for f, name in self.post.items():
            line(3, f"{name} = {name} + ({made[f]},)")

    def _learning(self) -> None:
        p, line, names = self.parts, self.w.line, self.w.names
        line(3, _THERE)
        totals = ["change"] if "synapse" in p.learn else p.factors
        for total in totals:
            line(3, f"{total} = {full(0.0, OF_WEIGHTS)}")
        line(3, _BATCH)
        self._load_x(4, "coming", "(t + 1)")
        before = {**self.of_rule["before"], "z": "x[k * BATCH + b]"}
        before |= {t: f"{self.now[key(t)]}[k * BATCH + b]" for t in p.side["pre"]}
        made = {n: names.new(f"{n}_made") for n in p.side["pre"]}
        factors = {f: names.new(f"pre_{f}") for f in p.factors}
        p.call(4, p.learn["before"], before, {**made, **factors}, OF_LANES)
        for t in p.side["pre"]:
            line(4, f"{self.next[key(t)]} = {self.next[key(t)]} + ({made[t]},)")
            if t in self.variant.store_traces:
                at = f"{self.stores[key(t)]} + t * pre_cells + b * M + k * {LANES} + lane"
                line(4, f"tl.store({at}, {made[t]}, mask=there & (program == 0))")
        products = {f: f"{self.post[f]}[b][:, None] * {factors[f]}[None, :]" for f in p.factors}
        if "synapse" in p.learn:
            self._synapses(products)
        else:
            for f, product in products.items():
                line(4, f"{f} = {f} + {product}")
        update = {**self.of_rule["update"], "w": "w[k]", **{total: total for total in totals}}
        p.call(3, p.learn["update"], update, {"w": "w_made"}, OF_WEIGHTS)
        line(3, "if k == CHUNKS - 1:")
        line(4, "w_made = tl.where(there[None, :], w_made, 0.0)  # beyond the last input there is nothing")
        line(3, "w_new = w_new + (w_made,)")

    def _synapses(self, products: dict[str, str]) -> None:
        p, line, names = self.parts, self.w.line, self.w.names
        values = {**self.of_rule["synapse"], "w": "w[k]"}
        for f, product in products.items():
            values[f] = names.new(f"{f}_here")
            line(4, f"{values[f]} = {product}")
        values |= {s: f"{now}[b]" for s, now in self.said.items()}
        values |= {t: f"{self.now[key(t)]}[k * BATCH + b]" for t in p.side["synapse"]}
        made = {n: names.new(f"{n}_made") for n in (*p.side["synapse"], "change")}
        p.call(4, p.learn["synapse"], values, made, OF_WEIGHTS)
        for t in p.side["synapse"]:
            line(4, f"{self.next[key(t)]} = {self.next[key(t)]} + ({made[t]},)")
        line(4, f"change = change + {made['change']}")

    def _store_rest(self) -> None:
        p, line = self.parts, self.w.line
        each = [*self.scan.states, *map(key, p.side["post"])]
        if each:
            line(1, _BATCH)
            for n in each:
                line(2, f"tl.store({self.ends[n]} + b * N + post, {self.now[n]}[b], mask=mine)")
        # else the places found before the loop would stay in registers until here
        line(1, "post = post + tl.where(T < 0, 1, 0)  # T is not below 0, but the compiler does not know")
        line(1, "mine = post < N")
        line(1, "rows = post.to(tl.int64)[:, None] * M + lane[None, :]")
        line(1, _CHUNKS)
        line(2, _THERE)
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
