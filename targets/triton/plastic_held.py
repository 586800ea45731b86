"""Prints the kernel of a plastic layer that keeps weights in registers, and all else in memory: for any batch."""

from __future__ import annotations

from snncompile.ir.ordered import LANES
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.scan import Scan
from snncompile.targets.triton.plastic_parts import OF_WEIGHTS, PlasticSource, PlasticVariant, full
from snncompile.targets.triton.plastic_printing import CHUNK, CHUNK_THERE, EACH_CHUNK
from snncompile.targets.triton.plastic_streamed import Streamed

_LAYOUT = f"""One program owns POSTS outputs and their weights: a tuple of CHUNKS tiles (POSTS, {LANES}), in registers
for the whole sequence. States and traces lie in memory, and so do traces of all inputs, which each program computes for
itself. A step goes twice over the sequences, for the neurons and then, chunk by chunk, for the weights."""


def print_held(scan: Scan, rule: PlasticRule, variant: PlasticVariant) -> PlasticSource:
    """The module of the kernel."""
    return _Held(scan, rule, variant, "plastic_held").print()


class _Held(Streamed):
    """The kernel being printed."""

    def print(self) -> PlasticSource:
        """The module."""
        self.arguments()
        line = self.w.line
        line(1, "w = ()")
        line(1, EACH_CHUNK)
        self._place(2)
        line(2, f"w = w + (tl.load({self.weight} + rows + k * {LANES}, mask=here, other=0.0),)")
        line(1, "for t in range(T):")
        line(2, "for b in range(B):")
        self._product()
        self.neurons()
        line(2, "tl.debug_barrier()  # factors and traces are in memory")
        line(2, "w_new = ()")
        line(2, EACH_CHUNK)
        self._place(3)
        self.learn_chunk("w[k]")
        line(3, "w_new = w_new + (tl.where(there[None, :], w_made, 0.0),)  # beyond the last input there is nothing")
        line(2, "w = w_new")
        line(2, "tl.debug_barrier()  # and so are the traces of the inputs")
        self.find_places_again()
        line(1, EACH_CHUNK)
        self._place(2)
        line(2, f"tl.store({self.weight} + rows + k * {LANES}, w[k], mask=here)")
        return self.module("in registers", _LAYOUT, ("POSTS", "CHUNKS"))

    def _place(self, depth: int) -> None:
        self.w.line(depth, CHUNK_THERE)
        self.w.line(depth, "here = mine[:, None] & there[None, :]")

    def _product(self) -> None:
        line = self.w.line
        line(3, f"lanes = {full(0.0, OF_WEIGHTS)}")
        line(3, EACH_CHUNK)
        self._place(4)
        self.x.load(4, "x", "t", "b", CHUNK, "there")
        masks = self.load_fixed(4, ["mask"], f"rows + k * {LANES}", "here")
        seen = f"(w[k] * {masks['mask']})" if masks else "w[k]"
        line(4, f"lanes = lanes + {seen} * x[None, :]")
