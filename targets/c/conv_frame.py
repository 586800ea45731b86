"""C source around the blocks of a scan whose input is an event-driven convolution: sequence by sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from textwrap import indent

from snncompile.targets.c.events_conv_source import Taps, part
from snncompile.targets.c.kernel import Argument, Blocks, Course
from snncompile.targets.c.late_images import LateImages
from snncompile.targets.c.plastic_seen import SeenForm
from snncompile.targets.c.printer import call_lines

_ARGUMENTS = """const float *images
int64_t images_t
int64_t images_b
const float *weight
const float *bias
int32_t *lists
float *values
float *room
int64_t each
int64_t groups
int64_t channels
int64_t image_height
int64_t image_width
int64_t rows
int64_t columns
int64_t kept""".splitlines()
_BACK = """float *sums
float *totals
int64_t parts
int64_t block
int64_t whole""".splitlines()

_LOCALS = " ".join(line.split()[-1].lstrip("*") for line in [*_ARGUMENTS, *_BACK])
_LOCALS += " thread place grad_place part mine listed factors own size OUTPUTS KH KW SH SW PH PW DH DW memcpy"
_LOCALS += " snn_conv_image snn_conv_weight snn_spread snn_gather snn_turn snn_turn_eight snn_eight"
_LOCALS += " SNN_ALONE SNN_TURN_EIGHT SNN_LOW SNN_HIGH SNN_LOW_PAIRS SNN_HIGH_PAIRS SNN_LOW_HALF SNN_HIGH_HALF"

_ABOUT = """
 * Its input is a convolution, whose own input is mostly zero: images (T, B, groups * channels, image_height,
 * image_width), each of them contiguous, weight (groups * channels, KH, KW, OUTPUTS) with the last column first. A
 * thread takes one sequence after the other through the convolution and all steps. The convolution's result is in
 * memory of that thread, which the next sequence takes over, unless it is kept.
 *{more}
 *   images_t, images_b  strides of images
 *   lists, values, room  what a thread works in: `each` integers and numbers, and `block` images
 *   rows, columns  of an image of the result
 *   kept  whether the result has room for all sequences{already}"""

_ABOUT_LATE = """
 * A delay shows the images: what it delays is (T, B, values). A thread makes an image where it reads it.
 *"""

_ABOUT_BACK = """
 * Backward it is made again, unless it was kept; then its gradient, likewise in memory of the thread; then what that
 * gives for the weight.
 *"""


@dataclass(frozen=True)
class ConvFrame:
    """A convolution, then the blocks of a scan; backward their gradients: a frame as ``kernel.Frame``.

    Attributes:
        taps: the convolution.
        backward: which direction.
        form: the delay that shows the images, or None.
    """

    taps: Taps
    backward: bool
    form: SeenForm | None = None

    @cached_property
    def _late(self) -> LateImages | None:
        return None if self.form is None else LateImages(self.form, self.backward, _LOCALS)

    @property
    def locals(self) -> str:
        """Names that mean something in it."""
        return _LOCALS if self._late is None else f"{_LOCALS} {self._late.locals}"

    @property
    def types(self) -> str:
        """Of its own arguments."""
        return "".join("p" if "*" in line else "q" for line in self._own)

    @property
    def about(self) -> str:
        """What it does."""
        late = _ABOUT_LATE if self.form is not None else ""
        if not self.backward:
            return _ABOUT.format(more=late, already="")
        return (
            _ABOUT.format(more=late + _ABOUT_BACK, already=", and is there already")
            + "\n *   sums, totals  gradients of weight and bias, of each of `parts`; none where sums is 0"
            + "\n *   block  images whose gradients are turned at once"
            + "\n *   whole  whether the result's gradient has room for all sequences"
        )

    @property
    def _own(self) -> list[str]:
        return [*_ARGUMENTS, *(_BACK if self.backward else []), *(self._late.declared if self._late else [])]

    def lines(self, name: str, blocks: Blocks, source: Course | None, grad: Course | None) -> list[str]:
        """The function ``name``."""
        arguments, source_row = _placed(blocks.arguments, source, "place", write=True)
        arguments, grad_row = _placed(arguments, grad, "grad_place", write=False)
        blocks = blocks._replace(arguments=arguments)
        depth = 3 if self.backward else 2
        body: list[str] = []
        if source:
            at = f"{source.pointer} + place * {source_row} + t * {source.step}"
            body += self._image(at)
        body.append(_EACH_BLOCK)
        deep = indent("\n".join(body), "    " * depth).splitlines() + blocks.call(depth + 1) + ["    " * depth + "}"]
        if grad:
            at = f"{grad.pointer} + grad_place * {grad_row}"
            weight = _WEIGHT.format(grad=at, step=grad.step, rest=_REST)
            if self._late:
                weight = self._late.weight(at, grad.step, _REST, held=source is not None)
            deep += indent(weight, "    " * depth).splitlines()
        frame = _BACKWARD if self.backward else _FORWARD
        own = f"float *own = scratch + thread * K * {blocks.scratch} * width;" if blocks.scratch else ""
        late = self._late
        start, of_thread = (late.at_start(), late.of_thread()) if late else ([], [])
        frame = frame.replace("LATE_START", "\n".join(start).strip())
        frame = frame.replace("LATE_THREAD", "\n".join(of_thread).strip())
        text = frame.replace("OWN_SCRATCH", own).replace("EACH_SEQUENCE", "\n".join(deep).lstrip())
        ways = [way for way, there in (("forward", source), ("weight", grad)) if there]
        head = call_lines(f"void {name}", [*self._own, *blocks.declared])
        helpers = [part(self.taps, *ways), *([late.text] if late and late.text else [])]
        return [*helpers, *head, *(line for line in text.splitlines() if line.strip())]

    def _image(self, out: str) -> list[str]:
        """What convolves the image of each step."""
        times = "t < T && !kept" if self.backward else "t < T"
        if self._late is None:
            return [_CONV.format(times=times, image="images + t * images_t + b * images_b", out=out)]
        make, image = self._late.image()
        first, *rest = _CONV.format(times=times, image=image, out=out).splitlines()
        return [f"{first} {{", *make, *rest, "}"] if make else [first, *rest]


def _placed(
    arguments: list[Argument], course: Course | None, place: str, write: bool
) -> tuple[list[Argument], str]:
    """``arguments`` with a course whose sequence is ``place``, and the name of its stride over sequences."""
    if course is None:
        return arguments, ""
    at = next(i for i, a in enumerate(arguments) if a.declaration.split()[-1] == f"*{course.pointer}")
    row = arguments[at + 2].declaration.split()[-1]
    found = arguments[at]
    own = replace(
        found,
        declaration=found.declaration.removeprefix("const ") if write else found.declaration,
        part=f"{course.pointer} + {place} * {row} + first",
    )
    return [*arguments[:at], own, *arguments[at + 1 :]], row


_THREAD = """\
#ifdef _OPENMP
        const int64_t thread = omp_get_thread_num();
#else
        const int64_t thread = 0;
#endif
        int32_t *listed = lists + thread * each;
        float *factors = values + thread * each, *mine = room + thread * block * rows * columns * OUTPUTS;
        LATE_THREAD
        OWN_SCRATCH"""

_FORWARD = f"""{{
    const int64_t block = 1;
    LATE_START
    (void)threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t b = 0; b < B; b++) {{
{_THREAD}
        const int64_t place = kept ? b : thread;
        EACH_SEQUENCE
    }}
}}
"""

_BACKWARD = f"""{{
    const int64_t size = groups * channels * KH * KW * OUTPUTS;
    LATE_START
    (void)threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t part = 0; part < parts; part++) {{
{_THREAD}
        for (int64_t i = 0; i < size && sums; i++)
            sums[part * size + i] = 0.0f;
        for (int64_t i = 0; i < groups * OUTPUTS && sums; i++)
            totals[part * groups * OUTPUTS + i] = 0.0f;
        for (int64_t b = part * B / parts; b < (part + 1) * B / parts; b++) {{
            const int64_t place = kept ? b : thread, grad_place = whole ? b : thread;
            EACH_SEQUENCE
        }}
    }}
}}
"""

_CONV = """\
for (int64_t t = 0; {times}; t++)
    snn_conv_image(
        {image}, weight, bias, listed, factors, mine,
        {out}, groups, channels, image_height,
        image_width, rows, columns);"""

_EACH_BLOCK = """\
for (int64_t first = 0; first < N; first += width) {
    const int64_t at = b * N + first;
    const int m = (int)(N - first < width ? N - first : width);"""

_REST = """\
block, listed, factors, mine,
        sums + part * size, totals + part * groups * OUTPUTS, groups, channels, image_height,
        image_width, rows, columns"""

_WEIGHT = """\
if (sums)
    snn_conv_weight(
        images + b * images_b, images_t,
        {grad}, {step}, T, {rest});"""
