"""C source of a convolution of images that a delay shows: each is made where it is read, in memory of the thread.

Where all of an image is late by as many steps, it is an earlier one, as it stands. Else a function makes it just before
the convolution takes it. Backward, where the convolution's result is made again, a thread holds the images of its
sequence for the weight's gradient; else it makes as many at a time as are turned at once.
"""

from __future__ import annotations

from math import prod
from textwrap import indent

from torch import Tensor

from snncompile.targets.c.kernel import Writer
from snncompile.targets.c.late_row import LATE_ROWS, late_address
from snncompile.targets.c.plastic_seen import SeenForm, SeenRows, add_seen
from snncompile.targets.event_conv import ImageCourse


class LateImages:
    """What a function needs for them.

    Args:
        form: the delay.
        backward: whether they are read backward.
        locals: names that mean something in the function.
    """

    def __init__(self, form: SeenForm, backward: bool, locals: str) -> None:
        w = Writer(locals)
        self._each = "(kept ? block : T)" if backward else "block"  # images that a thread has room for
        self._at = "shown + t * M" if backward else "shown"
        self.rows = SeenRows(w, "seen", form, ("images", "images_t", "images_b"))
        self.declared = [a.declaration for a in w.arguments]
        own = [line.split()[-1].lstrip("*") for line in self.declared] + [tap.most for tap in self.rows.taps]
        own += [self.rows.name, *([self.rows.step.name] if self.rows.step else [])] if form.scan else []
        self.locals = " ".join([*own, "M", "shown", "more", "since", "end", "early"])

    @property
    def text(self) -> str:
        """The functions that it calls."""
        return f"{LATE_ROWS}\n{self.rows.text}" if self.rows.text else ""

    def at_start(self) -> list[str]:
        """What the function begins with."""
        size = "    const int64_t M = groups * channels * image_height * image_width; /* values of an image */"
        return [size, *(self.rows.whole(1) if self.rows.text else [])]

    def of_thread(self) -> list[str]:
        """What comes once for each thread."""
        lines = [f"float *shown = {self.rows.rows} + thread * {self._each} * M;"] if self.rows.text else []
        if self.rows.text and self.rows.room:
            lines.append(f"float *more = {self.rows.room} + thread * {self.rows.more} * M;")
        return ["        " + line for line in lines]

    def image(self) -> tuple[list[str], str]:
        """Statements that make the image of sequence ``b`` at step ``t``, and where it is."""
        if self.rows.text:
            return self._make(1, self._at), self._at
        (tap,) = self.rows.taps
        address = late_address("images + b * images_b", "images_t", f"{tap.past} + b * M", "B * M", tap.late)
        return [], address.replace(" ? ", "\n            ? ").replace(" : ", "\n            : ")

    def _make(self, depth: int, to: str) -> list[str]:
        """Make an image at ``to``; the lines stand four deeper in the file."""
        return [line[16:] for line in self.rows.make(depth + 4, "more", to)]

    def weight(self, grad: str, step: str, rest: str, held: bool) -> str:
        """What adds up the gradient of the weight.

        Args:
            grad: where that of the convolution's result at step 0 is.
            step: its stride over time.
            rest: the arguments of ``snn_conv_weight`` behind how many images there are.
            held: whether the images are still there, unless ``kept``.
        """
        if not self.rows.text:
            (tap,) = self.rows.taps
            past = f"{tap.past} + b * M - {tap.late} * B * M"
            calls = (
                f"const int64_t early = T < {tap.late} ? T : {tap.late};",
                f"snn_conv_weight(\n    {past}, B * M,\n    {grad}, {step}, early,\n    {rest});",
                "snn_conv_weight(\n    images + b * images_b, images_t,\n"
                f"    {grad} + early * {step}, {step}, T - early,\n    {rest});",
            )
            return "\n".join(["if (sums) {", *(indent(call, "    ") for call in calls), "}"])
        many = "(kept ? block : T)" if held else "block"
        return "\n".join([
            f"for (int64_t since = 0; since < T && sums; since += {many}) {{",
            f"    const int64_t end = since + {many} < T ? since + {many} : T;",
            f"    for (int64_t t = since; t < end{' && kept' if held else ''}; t++)",
            *self._make(2, "shown + (t - since) * M"),
            "    snn_conv_weight(",
            f"        shown, M, {grad} + since * {step}, {step}, end - since,",
            indent(f"    {rest});", "    "),
            "}",
        ])  # fmt: skip


def add_late_images(args: list[int], conv: ImageCourse, block: int, team: int) -> list[Tensor]:
    """Append what makes the images, as a function takes it; what must live until it has run.

    Args:
        args: the arguments so far.
        conv: the convolution; of images that are there, nothing is appended.
        block: images that a thread has room for.
        team: threads.
    """
    return [] if conv.seen is None else add_seen(args, conv.seen, block, prod(conv.image), team)
