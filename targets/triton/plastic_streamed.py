"""Prints the kernel that runs a plastic layer over a whole sequence with the weights in memory."""

from __future__ import annotations

from snncompile.ir.ordered import LANES
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan
from snncompile.targets.triton.plastic_memory import InMemory
from snncompile.targets.triton.plastic_parts import OF_WEIGHTS, PlasticSource, PlasticVariant, full, key
from snncompile.targets.triton.plastic_printing import CHUNK

_LAYOUT = f"""One program owns POSTS outputs; their weights, states and traces lie in memory, and so do traces of all
inputs, which each program computes for itself. A step goes twice over the sequences, for the neurons and then for the
weights, {LANES} inputs at a time; as soon as a weight is new, it enters the next product of the first sequence."""

_CHUNKS = "for k in range(chunks):"

# by side of the rule: where a value of one sequence lies behind its pointer, and what of it is there
_PLACES = {
    "pre": ("base", "there"),
    "post": ("b * N + post", "mine"),
    "synapse": (f"b * weights + rows + k * {LANES}", "here"),
}


def print_streamed(scan: Scan, rule: PlasticRule, variant: PlasticVariant) -> PlasticSource:
    """The module of the kernel."""
    return Streamed(scan, rule, variant, "plastic_streamed").print()


class Streamed(InMemory):
    """The kernel being printed."""

    places = _PLACES

    def print(self) -> PlasticSource:
        """The module."""
        self.arguments()
        line = self.w.line
        line(1, f"chunks = (M + {LANES - 1}) // {LANES}")
        line(1, "first = " + full(0.0, OF_WEIGHTS) + "  # lanes of the next product of the first sequence")
        line(1, _CHUNKS)
        line(2, f"there = k * {LANES} + lane < M")
        line(2, "here = mine[:, None] & there[None, :]")
        self._weights(2)
        self.x.load(2, "x", "0", "0", CHUNK, "there & (T > 0) & (B > 0)")
        line(2, "first = first + w * x[None, :]")
        line(1, "for t in range(T):")
        line(2, "for b in range(B):")
        self._neurons()
        line(2, "tl.debug_barrier()  # factors and traces are in memory")
        line(2, "first = " + full(0.0, OF_WEIGHTS))
        line(2, _CHUNKS)
        self._learning()
        line(2, "tl.debug_barrier()  # and so are the weights")
        return self.module("streamed from memory", _LAYOUT, ("POSTS",))

    def arguments(self) -> None:
        """Everything that the kernel is given."""
        p, line = self.parts, self.w.line
        self.take_outputs()
        line(1, "rows = post.to(tl.int64)[:, None] * M + lane[None, :]  # where the weights of the first inputs lie")
        line(1, "weights = N.to(tl.int64) * M")
        line(1, "cells = N.to(tl.int64) * B  # time offsets exceed 32 bits")
        line(1, "pre_cells = M.to(tl.int64) * B")
        self.weight = p.pointer("weight_end", "weight", "weights, (N, M), read and written")
        self.fixed = p.of_weights("(N, M)")
        self.take_courses()
        self.of_step, self.of_rule = p.coefficients()
        self.take_running("(B, N, M)")
        self.take_results()
        for name, about in (("T", "time steps"), ("B", "sequences"), ("N", "outputs"), ("M", "inputs")):
            p.number(name, name, about)

    def _weights(self, depth: int) -> None:
        """A chunk of weights as a product reads them."""
        place = f"rows + k * {LANES}"
        self.w.line(depth, f"w = tl.load({self.weight} + {place}, mask=here, other=0.0)")
        for mask in self.load_fixed(depth, ["mask"], place, "here").values():
            self.w.line(depth, f"w = w * {mask}")

    def _neurons(self) -> None:
        line = self.w.line
        line(3, "lanes = first")
        line(3, "if b > 0:")
        line(4, f"lanes = {full(0.0, OF_WEIGHTS)}")
        line(4, _CHUNKS)
        line(5, f"there = k * {LANES} + lane < M")
        line(5, "here = mine[:, None] & there[None, :]")
        self._weights(5)
        self.x.load(5, "x", "t", "b", CHUNK, "there")
        line(5, "lanes = lanes + w * x[None, :]")
        self.neurons()

    def neurons(self) -> None:
        """From the lanes of sequence ``b``'s product to what the neurons show."""
        self.print_product()
        self.print_neurons(self.outputs_now(3))

    def _learning(self) -> None:
        line = self.w.line
        line(3, f"there = k * {LANES} + lane < M")
        line(3, "here = mine[:, None] & there[None, :]")
        line(3, f"w = tl.load({self.weight} + rows + k * {LANES}, mask=here, other=0.0)")
        # the first sequence's next input is loaded before anything is stored
        self.x.load(3, "coming", "(t + 1)", "0", CHUNK, "there & (t + 1 < T) & (B > 0)")
        fixed = self.learn_chunk("w")
        line(3, f"tl.store({self.weight} + rows + k * {LANES}, w_made, mask=here)")
        if "mask" in fixed:
            line(3, f"w_made = w_made * {fixed['mask']}")
        line(3, "first = first + tl.where(there[None, :], w_made, 0.0) * coming[None, :]")

    def learn_chunk(self, w: str) -> dict[str, str]:
        """``w_made``: a chunk of the weights ``w`` after what all sequences do to it; names of its mask and sign."""
        p, line, names = self.parts, self.w.line, self.w.names
        self.start_sums()
        line(3, "for b in range(B):")
        if self.watched is None:
            self.x.load(4, "x", "t", "b", CHUNK, "there")
        z = self.watch(4, "x")
        line(4, f"base = (program * B + b).to(tl.int64) * M + k * {LANES} + lane")
        traces = {}
        for t in p.side["pre"]:
            traces[t] = names.new(t)
            line(4, f"{traces[t]} = tl.load({self.running[key(t)]} + base, mask=there, other=0.0)")
        post = {f: names.new(f"post_{f}_now") for f in p.factors}
        for f, name in post.items():
            line(4, f"{name} = tl.load({self.factors[f]} + b * N + post, mask=mine, other=0.0)")
        self.print_sequence(z, traces, post, w)
        fixed = self.load_fixed(3, ["mask", "sign"], f"rows + k * {LANES}", "here")
        self.print_update(w, fixed)
        return fixed
