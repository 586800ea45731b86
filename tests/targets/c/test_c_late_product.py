"""Products with a delay for each synapse in C: the sums that they are, for every shape, order and number of threads."""

import pytest
import torch

from snncompile.targets.c.late import LateEvents, LateProducts
from snncompile.targets.late_product import Lags, apply_late
from tests.targets.late_terms import SHAPES, plainly, poisoned, terms

KINDS = {"dense": LateProducts, "events": LateEvents}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_exact_sums_and_gradients(shape, kind, batch_first):
    lags, leaves, grad = terms(shape, batch_first, 0.3 if kind == "events" else 1.0)
    want = plainly(lags, *leaves)
    expected = torch.autograd.grad(want, leaves, grad, allow_unused=True)
    for threads in (1, 3):
        made = apply_late(KINDS[kind](threads, poisoned), lags, *leaves)
        assert torch.equal(made, want) and made.transpose(0, int(batch_first)).is_contiguous()
        for a, b, leaf in zip(torch.autograd.grad(made, leaves, grad), expected, leaves, strict=True):
            assert torch.equal(a, torch.zeros_like(leaf) if b is None else b)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_change_nothing(kind):
    g = torch.Generator().manual_seed(0)
    x, past, grad = (torch.randn(n, 3, f, generator=g) for n, f in ((40, 37), (9, 37), (40, 80)))
    values = torch.randn(80, 37, 2, generator=g)
    lags = Lags(torch.randint(0, 10, (80, 37, 2), generator=g, dtype=torch.int32), 9)
    first = None
    for threads in (1, 2, 5, 100):
        late = KINDS[kind](threads, poisoned)
        made = late.forward(lags, x, past, values, None), *late.input_gradient(lags, values, grad, True)
        made += (late.value_gradient(lags, grad, x, past),)
        first = first or made
        assert all(torch.equal(a, b) for a, b in zip(made, first, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_any_strides(kind):
    lags, (x, past, values, _), grad = terms((6, 2, 5, 4, 3, 1))
    late, odd = KINDS[kind](2, poisoned), lambda t: t.detach().repeat_interleave(2, 2)[..., ::2]
    want = late.forward(lags, x, past, values, None)
    assert torch.equal(late.forward(lags, odd(x), odd(past), values, None), want)
    assert torch.equal(late.value_gradient(lags, odd(grad), odd(x), past), late.value_gradient(lags, grad, x, past))
    assert torch.equal(late.input_gradient(lags, values, odd(grad), False)[0],
                       late.input_gradient(lags, values, grad, False)[0])  # fmt: skip


def test_a_value_that_is_not_finite_stays_where_it_is():
    """What lies beside a row in memory takes no part in its sums."""
    lags = Lags(torch.tensor([[0, 1, 2], [2, 1, 0]], dtype=torch.int32).unsqueeze(-1), 2)
    x, past, grad = torch.ones(5, 2, 3), torch.ones(2, 2, 3), torch.ones(5, 2, 2)
    x[1, 0, 1] = float("inf")
    for late in (LateProducts(1, poisoned), LateEvents(1, poisoned)):
        y = late.forward(lags, x, past, torch.ones(2, 3, 1), None)
        assert torch.equal(y.isinf().nonzero(), torch.tensor([[2, 0, 0], [2, 0, 1]])) and not y.isnan().any()
        d = late.value_gradient(lags, grad, x, past)
        assert torch.equal(d.isinf()[..., 0], torch.tensor([[False, True, False]] * 2)) and not d.isnan().any()
