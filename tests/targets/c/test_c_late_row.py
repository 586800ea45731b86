"""Rows that are late: gathered and scattered by small C functions, against the delayed course as a tensor."""

import pytest
import torch

from snncompile.targets.c.compiler import function
from snncompile.targets.c.courses import past_end
from snncompile.targets.c.kernel import PREAMBLE
from snncompile.targets.c.late_row import LATE_ROWS, LateGradient, LateRow, late_address
from snncompile.targets.scan import Late, late_gradient

ROW = LateRow("x + b * x_b", "x_t", "past + b * (N / share)", "past_t", "late", "places", "most", "share")
GRADIENT = LateGradient("B * N", "late", "reach", "places")


def lines(*groups):
    return "\n".join(line for group in groups for line in group)


READ = f"""{PREAMBLE}
{LATE_ROWS}
void read_late(
    const float *x, int64_t x_t, int64_t x_b, const float *past, const int32_t *late, int64_t share, int64_t *places,
    float *out, int64_t T, int64_t B, int64_t N)
{{
    const int64_t past_t = B * (N / share);
{lines(ROW.prepare(1, "N"))}
    for (int64_t t = 0; t < T; t++)
        for (int64_t b = 0; b < B; b++) {{
            float *row = out + (t * B + b) * N;
{lines(ROW.gather(3, "N", "row"))}
        }}
}}
void read_one_late(
    const float *x, int64_t x_t, int64_t x_b, const float *past, int64_t late, float *out, int64_t T, int64_t B,
    int64_t N)
{{
    for (int64_t t = 0; t < T; t++)
        for (int64_t b = 0; b < B; b++) {{
            const float *row = {late_address("x + b * x_b", "x_t", "past + b * N", "B * N", "late")};
            for (int64_t j = 0; j < N; j++)
                out[(t * B + b) * N + j] = row[j];
        }}
}}
void put_late(
    const float *grad, const int32_t *late, int64_t reach, int64_t *places, float *out, int64_t T, int64_t B, int64_t N)
{{
{lines(GRADIENT.prepare(1, "N"))}
    for (int64_t t = T - 1; t >= 0; t--)
        for (int64_t b = 0; b < B; b++) {{
            const float *given = grad + (t * B + b) * N;
            float *to = out + (t * B + b) * N;
{lines(GRADIENT.scatter(3, "N", "given", "to"))}
        }}
}}
"""

SHAPES = [(6, 2, 35), (3, 1, 1), (9, 3, 8), (1, 2, 40), (0, 2, 4)]


def a_late(kind, reach, shape):
    """What makes a course of that shape late, and the course: transposed, and every second value over time."""
    steps, batch, size = shape
    g = torch.Generator().manual_seed(steps + size + reach)
    share = {"one": 1, "each": 1, "shared": next(s for s in (4, 5, 1) if size % s == 0)}[kind]
    channels = size // share
    late = torch.randint(0, reach + 1, (size,), generator=g, dtype=torch.int32)
    past = torch.randn(reach, batch, channels, generator=g)
    x = torch.randn(batch, 2 * steps, channels, generator=g).transpose(0, 1)[::2]
    return Late(past, reach if kind == "one" else late, share), x


@pytest.mark.parametrize("kind", ["one", "each", "shared"])
@pytest.mark.parametrize("reach", [1, 4, 11])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_those_of_the_late_course(kind, reach, shape):
    late, x = a_late(kind, reach, shape)
    made = torch.full(shape, float("nan"))
    places = torch.empty(shape[2], dtype=torch.int64)
    given = [x.data_ptr(), x.stride(0), x.stride(1), past_end(late)]
    if kind == "one":
        function("read_one_late", READ, "pqqpqpqqq")(*given, late.steps, made.data_ptr(), *shape)
    else:
        given += [late.steps.data_ptr(), late.share, places.data_ptr(), made.data_ptr()]
        function("read_late", READ, "pqqppqppqqq")(*given, *shape)
    assert torch.equal(made, late.seen(x))


@pytest.mark.parametrize("kind", ["one", "each", "shared"])
@pytest.mark.parametrize("reach", [1, 4, 11])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_go_to_the_rows_that_were_read(kind, reach, shape):
    late, _ = a_late(kind, reach, shape)
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    made = late_gradient(late, shape, lambda wanted: torch.full(wanted, float("nan")))
    if kind == "one":
        made[: shape[0]] = grad
    else:
        places = torch.empty(shape[2], dtype=torch.int64)
        run = function("put_late", READ, "ppqppqqq")
        run(grad.data_ptr(), late.steps.data_ptr(), reach, places.data_ptr(), made.data_ptr(), *shape)
    whole = torch.zeros(reach + shape[0], *shape[1:], requires_grad=True)
    alone = Late(whole[:reach], late.steps)  # a column for each neuron, whether or not some share a signal
    (wanted,) = torch.autograd.grad(alone.seen(whole[reach:]), whole, grad)
    assert torch.equal(made, wanted)
