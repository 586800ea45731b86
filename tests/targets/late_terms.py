"""Products with a delay for each synapse, written down plainly, for the targets that compute them."""

from __future__ import annotations

import torch
from torch import Tensor

from snncompile.targets.late_product import Lags

#: Steps, sequences, inputs, outputs, the longest delay, values of the past for each synapse.
SHAPES = [
    (1, 1, 1, 1, 0, 1),
    (7, 3, 5, 4, 3, 1),
    (0, 2, 3, 4, 2, 2),
    (3, 20, 17, 19, 6, 2),
    (65, 1, 33, 18, 9, 2),
    (1, 1, 30, 70, 12, 2),
    (270, 2, 20, 66, 25, 1),
]
#: Likewise, for an interpreter.
FEW_SHAPES = [*SHAPES[:3], (3, 20, 7, 6, 6, 2), (100, 3, 3, 5, 9, 2)]


def poisoned(shape, **options):
    return torch.full(shape, float("nan"), **options)


def terms(shape: tuple[int, ...], batch_first: bool = False, density: float = 1.0) -> tuple[Lags, list[Tensor], Tensor]:
    """Lags; input, what came before it, values and bias as leaves; a gradient. Sums are exact in every order."""
    steps, batch, inputs, outputs, depth, taps = shape
    g = torch.Generator().manual_seed(sum(shape))

    def some(*size: int) -> Tensor:
        return torch.randint(-3, 4, size, generator=g) / 4.0

    x, past = some(batch, steps, inputs).transpose(0, 1), some(batch, depth, inputs).transpose(0, 1)
    if density < 1:
        x, past = (v * (torch.rand(v.shape, generator=g) < density) for v in (x, past))
    if not batch_first:
        x, past = x.contiguous(), past.contiguous()
    index = torch.randint(0, depth + 1, (outputs, inputs, taps), generator=g, dtype=torch.int32)
    leaves = [t.detach().requires_grad_() for t in (x, past, some(outputs, inputs, taps), some(outputs))]
    return Lags(index, depth), leaves, some(steps, batch, outputs)


def plainly(lags: Lags, x: Tensor, past: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """The sum over all earlier steps of products with the weights of those steps."""
    record = torch.cat([past, x])
    kernel = torch.zeros(lags.depth + 1, *lags.index.shape[:2])
    kernel = kernel.scatter_add(0, lags.index.permute(2, 0, 1).long(), values.permute(2, 0, 1))
    y = sum(record[lags.depth - k : lags.depth - k + len(x)] @ kernel[k].T for k in range(lags.depth + 1))
    return y if bias is None else y + bias
