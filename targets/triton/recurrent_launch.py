"""Launches the kernels of a recurrent layer, and has a CUDA graph repeat those that take a launch for every step."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from snncompile.targets.scan import Late
from snncompile.targets.triton.availability import interpreting
from snncompile.targets.triton.courses import add_course, on_device
from snncompile.targets.triton.load import load
from snncompile.targets.triton.meeting import APART
from snncompile.targets.triton.recurrent_design import Design, check_together, groups
from snncompile.targets.triton.recurrent_sliced import ring_shape
from snncompile.targets.triton.split_kernel import SPLIT, SplitTile
from snncompile.targets.triton.step_graph import StepGraphs
from snncompile.targets.triton.turns import run_in_turns


@dataclass
class Arguments:
    """A kernel's arguments, and which of them it writes.

    Attributes:
        values: the arguments in order.
        written: positions of the tensors that it writes.
        fresh: positions of those that it does not read before.
    """

    values: list[Any] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)

    def read(self, *values: Any) -> None:
        """Add tensors that are read, or numbers."""
        self.values += values

    def operand(self, tensor: Tensor, flat: bool, dense: bool) -> None:
        """Add a course that is read, and its strides, unless it is ``dense``."""
        if dense:
            self.values.append(tensor)
        else:
            add_course(self.values, tensor, flat)

    def late(self, tensor: Tensor, how: Late, flat: bool, dense: bool) -> None:
        """Add an input that is read late, as ``targets/triton/recurrent_offsets.py`` lists what it takes."""
        self.values += (tensor, *(() if dense else tensor.stride()[: 1 if flat else 2]), how.past, len(how.past))
        self.values += () if how.kind == "one" else (how.steps,) if how.kind == "each" else (how.steps, how.share)

    def update(self, *tensors: Tensor) -> None:
        """Add tensors that are read and written."""
        self.written += range(len(self.values), len(self.values) + len(tensors))
        self.values += tensors

    def write(self, *tensors: Tensor) -> None:
        """Add tensors that are written."""
        self.fresh += range(len(self.values), len(self.values) + len(tensors))
        self.update(*tensors)


class Launcher:
    """Launches kernels; it holds the graphs of those that take many launches."""

    def __init__(self) -> None:
        self._graphs = StepGraphs()

    def run(
        self,
        kernel: Any,
        a: Arguments,
        design: Design,
        shape: tuple[int, int, int],
        device: torch.device,
        key: Any,
        late: int,
    ) -> None:
        """Run ``kernel`` over the whole sequence.

        Args:
            kernel: the loaded function.
            a: its arguments, without sizes and constants.
            design: how it is launched.
            shape: T, B, N.
            device: where.
            key: what it runs: the same one for the same kernel.
            late: how many steps late the source comes back: so many run in a launch where programs share the neurons.
        """
        steps, batch, size = shape
        if not batch * size:
            return
        constants = list(design.constants.values())
        options = {"num_warps": design.warps, "num_stages": design.stages, "enable_fp_fusion": False}
        tiles = groups(batch, design)
        with on_device(device):
            if design.resident:
                ring = (late,) if late > 1 else ()
                kernel[(tiles,)](*a.values, steps, batch, *ring, *constants, **options)
                return
            if design.together:
                lot = check_together(batch, design, processors(device))
                options["launch_cooperative_grid"] = True
            if design.sliced:
                for first in range(0, tiles, lot):
                    values = [*a.values, steps, batch, first, late, *constants]
                    launch_together(kernel, (min(lot, tiles - first), design.shares), values, options)
                return
            grid = (tiles, 1 if design.form == "streamed" else design.shares)
            arrived = (torch.zeros if design.together else torch.empty)(tiles, dtype=torch.int32, device=device)

            def launch(values: list[Any], first: int, end: int) -> None:
                values = [*values, arrived, steps, batch, first, end, late, *constants]
                if design.together:
                    launch_together(kernel, grid, values, options)
                else:
                    kernel[grid](*values, **options)

            def every_step(values: list[Any]) -> None:
                for t in range(0, steps, late):
                    launch(values, t, min(t + late, steps))

            if design.form != "steps":
                if steps:
                    launch(a.values, 0, steps)
            elif steps > late and device.type == "cuda":
                key = (key, design, shape, device, late)
                self._graphs.run(key, every_step, a.values, a.written, a.fresh, [arrived])
            else:
                every_step(a.values)


def launch_together(kernel: Any, grid: tuple[int, ...], values: list[Any], options: dict[str, Any]) -> None:
    """Launch programs that wait for each other."""
    if interpreting():
        run_in_turns(kernel, grid, values, options)
    else:
        kernel[grid](*values, **options)


def exchange(design: Design, batch: int, late: int, half: bool, device: torch.device) -> list[Tensor]:
    """What programs of the sliced form meet at and exchange: counters and rings, all zeros.

    Args:
        design: how they are launched.
        batch: sequences.
        late: how many steps late what they exchange is read.
        half: whether it is float16.
        device: where.
    """
    tiles = groups(batch, design)
    arrived = torch.zeros(tiles * APART, dtype=torch.int32, device=device)
    ring = (tiles, *ring_shape(late, design.rows, design.width))
    return [arrived, torch.zeros(ring, dtype=torch.float16 if half else torch.float32, device=device)]


#: Programs of a launch that the interpreter takes to run at once, each in a thread.
_INTERPRETED = 8


@functools.cache
def processors(device: torch.device) -> int:
    """Programs that ``device`` runs at the same time, for sure."""
    if device.type != "cuda":
        return _INTERPRETED
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def split_weight(weight: Tensor, parts: int, design: Design) -> list[Any]:
    """A weight as its float16 parts and what undoes their scaling, as a kernel takes them.

    Args:
        weight: ``(outputs, inputs)``, any strides.
        parts: how many.
        design: says how far they are filled up with zeros.
    """
    size, device = weight.shape[0], weight.device
    rows = -(-size // design.columns) * design.columns
    high, *low = [torch.empty((rows, design.width), dtype=torch.float16, device=device) for _ in range(parts)]
    scale = torch.empty(rows, dtype=torch.float32, device=device)
    tile = SplitTile(design.width, parts)
    if size:
        with on_device(device):
            load(SPLIT, interpreting())[(rows // tile.rows,)](
                weight, *weight.stride(), high, *(low or [high]), scale, size, *tile.constants.values(),
                num_warps=tile.warps, enable_fp_fusion=False,
            )  # fmt: skip
    return [high, *low, scale]
