"""Which input meets which output of a convolution that learns."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.ir.plasticity import Plasticity


@dataclass(frozen=True)
class Fields:
    """The receptive fields of a convolution. Each entry of a pair is for rows, then for columns.

    Attributes:
        channels: of the input.
        image: height and width of the input.
        outs: channels of the output.
        places: height and width of the output.
        kernel: height and width of the kernel.
        stride: how far apart fields begin.
        padding: zeros around the input.
        dilation: how far apart taps lie.
    """

    channels: int
    image: tuple[int, int]
    outs: int
    places: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def taps(self) -> int:
        """Weights of an output channel."""
        return self.channels * self.kernel[0] * self.kernel[1]

    @property
    def positions(self) -> int:
        """Places of an output channel."""
        return self.places[0] * self.places[1]

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width of the input with its padding."""
        (height, width), (above, aside) = self.image, self.padding
        return height + 2 * above, width + 2 * aside

    @property
    def pixels(self) -> int:
        """Places of an input channel."""
        return self.image[0] * self.image[1]


def fields_of(rule: Plasticity) -> Fields | None:
    """The fields of the convolution that ``rule`` teaches; None where it teaches a dense connection."""
    if rule.connection != "Conv2d":
        return None
    outs, channels, *kernel = rule.weight.shape
    named = {"image": rule.pre[1:], "places": rule.post[1:], "kernel": kernel, **rule.settings}
    pairs = {name: (int(pair[0]), int(pair[1])) for name, pair in named.items()}
    return Fields(channels, outs=outs, **pairs)
