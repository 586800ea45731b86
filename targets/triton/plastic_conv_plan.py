"""How a convolution that learns is divided over a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.targets.plastic_fields import Fields

#: Threads of a program.
_THREADS = 128

#: Programs that fill a GPU: channels of a program are doubled until no more are needed.
_PROGRAMS = 128

#: Neurons, and weights, that a program computes at a time, at most.
_NEURONS, _WEIGHTS = 512, 256


@dataclass(frozen=True)
class ConvPlan:
    """How a plastic layer with a convolution runs.

    Attributes:
        posts: output channels that one program owns.
        places: positions that it computes at a time.
        taps: weights of a channel that it computes at a time.
        pixels: inputs that it computes at a time.
        warps: warps of a program.
        stages: how far loads of a loop run ahead, as Triton counts.
        registers: that a thread may take of a chip of NVIDIA: left to itself the assembler stops at fewer, and spills.
    """

    posts: int
    places: int
    taps: int
    pixels: int
    warps: int
    stages: int = 1
    registers: int = 200

    def more(self, cuda: bool) -> dict[str, int]:
        """Launch settings besides warps and stages."""
        return {"maxnreg": self.registers} if cuda else {}

    def reading_late(self) -> ConvPlan:
        """The plan where anything is read late."""
        return self

    @property
    def resident(self) -> bool:
        """Weights are in memory: as few as they are, they stay in the cache of their program."""
        return False

    @property
    def held(self) -> bool:
        """See ``resident``."""
        return False

    @property
    def constants(self) -> dict[str, int]:
        """The kernel's compile-time arguments, in order."""
        return {"POSTS": self.posts, "PLACES": self.places, "TAPS": self.taps, "PIXELS": self.pixels}

    def text(self, outs: int) -> str:
        """The plan for ``outs`` output channels in words."""
        programs = -(-outs // self.posts)
        each = f"{self.posts} output channel{'s' if self.posts != 1 else ''}"
        block = f"{programs} program{'s' if programs != 1 else ''} of {each} and {self.warps} warps"
        return f"a program has whole output channels, and so needs nothing of the others; {block}"


def choose_conv_plan(fields: Fields, warp: int = 32) -> ConvPlan:
    """The plan of a layer.

    Args:
        fields: which input meets which output.
        warp: threads of a warp.
    """
    posts = 1
    while -(-fields.outs // posts) > _PROGRAMS and posts < 8:
        posts *= 2
    places = _within(fields.positions, _THREADS // posts, _NEURONS // posts)
    taps = _within(fields.taps, 16, _WEIGHTS // posts)
    pixels = _within(fields.channels * fields.pixels, _THREADS, 4 * _THREADS)
    return ConvPlan(posts, places, taps, pixels, _THREADS // warp)


def _within(size: int, least: int, most: int) -> int:
    """The least power of two of at least ``size``, between two others."""
    return max(least, min(most, 1 << max(0, size - 1).bit_length()))
