"""Windows over images as sums over planes: any geometry, without a kernel."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from snncompile.targets.sliding import Packing, Pass, Sliding


def pack(x: torch.Tensor, packing: Packing) -> torch.Tensor:
    """``x (C, H, W)`` in planes, and room behind them: a place reads beyond them in what is not used."""
    (top, left), (sh, sw), (rows, pitch) = packing
    planes = torch.zeros(len(x), sh, sw, rows, pitch)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            y, z = i + top, j + left
            planes[:, y % sh, z % sw, y // sh, z // sw] = x[:, i, j]
    return torch.cat([planes.flatten(1), torch.full((len(x), rows * pitch), float("nan"))], 1)


def summed(planes: torch.Tensor, packing: Packing, part: Pass, weight: torch.Tensor) -> torch.Tensor:
    """``weight (O, C, taps)`` over the planes: ``(O, *size)``."""
    (rows, columns), pitch = part.size, packing.plane[1]
    found = torch.zeros(len(weight), rows, columns)
    for i in range(rows):
        at = [planes[:, o + i * pitch : o + i * pitch + columns] for o in part.offsets]
        found[:, i] = torch.einsum("oct,tcj->oj", weight[..., list(part.taps)], torch.stack(at))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_as_a_convolution_and_its_gradient(seed):
    rng = np.random.default_rng(seed)
    kernel, stride, padding, dilation = (
        tuple(int(v) for v in rng.integers(low, high, 2)) for low, high in ((1, 4), (1, 5), (0, 4), (1, 3))
    )
    windows = list(zip(kernel, stride, padding, dilation, strict=True))
    size = [max(int(rng.integers(1, 8)), d * (k - 1) + 1 - 2 * p) for k, _, p, d in windows]
    outs = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, (k, s, p, d) in zip(size, windows, strict=True)]
    x = torch.randn(2, *size, requires_grad=True)
    weight = torch.randn(3, 2, *kernel)
    want = F.conv2d(x[None], weight, None, stride, padding, dilation)[0]
    s = Sliding((2, *x.shape[1:]), (3, *outs), kernel, stride, padding, dilation, 1)
    packing, whole = s.forward()
    found = summed(pack(x.detach(), packing), packing, whole, weight.flatten(2))
    assert torch.allclose(found, want, atol=1e-5)
    grad = torch.randn_like(want)
    (wanted,) = torch.autograd.grad(want, x, grad)
    packing, passes = s.backward()
    back = torch.zeros_like(x)
    for part in passes:
        made = summed(pack(grad, packing), packing, part, weight.flatten(2).transpose(0, 1))
        y, z = part.start
        back[:, y :: part.apart[0], z :: part.apart[1]] = made
    assert torch.allclose(back, wanted, atol=1e-5)
