"""Products with a delay for each synapse in Triton: in the interpreter, and compiled ahead of time for every chip."""

import pytest
import torch

from snncompile.targets.late_product import apply_late
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.late import LateKernels
from snncompile.targets.triton.late_kernel import SUMS, VALUES, sums_settings, values_settings
from tests.targets.late_terms import FEW_SHAPES, plainly, poisoned, terms


@pytest.mark.parametrize("shape", FEW_SHAPES)
def test_exact_sums_and_gradients(shape):
    lags, leaves, grad = terms(shape, batch_first=shape[0] % 2 == 1)
    want = plainly(lags, *leaves)
    made = apply_late(LateKernels(poisoned), lags, *leaves)
    assert torch.equal(made, want)
    expected = torch.autograd.grad(want, leaves, grad, allow_unused=True)
    for a, b, leaf in zip(torch.autograd.grad(made, leaves, grad), expected, leaves, strict=True):
        assert torch.equal(a, torch.zeros_like(leaf) if b is None else b)


def test_any_strides_and_no_bias():
    lags, (x, past, values, _), grad = terms((6, 2, 5, 4, 3, 1))
    late, odd = LateKernels(poisoned), lambda t: t.detach().repeat_interleave(2, 2)[..., ::2]
    want = late.forward(lags, x, past, values, None)
    assert torch.equal(late.forward(lags, odd(x), odd(past), odd(values), None), want)
    assert torch.equal(late.value_gradient(lags, odd(grad), odd(x), past), late.value_gradient(lags, grad, x, past))
    made, early = late.input_gradient(lags, odd(values), odd(grad), False)
    assert early is None and torch.equal(made, late.input_gradient(lags, values, grad, True)[0])


def test_every_kernel_for_every_chip():
    jobs = [
        Job(f"{source.name}_{taps}", source, arch, settings(taps))
        for arch in ARCHS.values()
        for source, settings in ((SUMS, sums_settings), (VALUES, values_settings))
        for taps in (1, 2)
    ]
    for b in compile_jobs(jobs):
        assert b.code[:4] == b"\x7fELF" and b.resources.spills == 0
        if b.arch.backend == "cuda":
            for word in (".ftz", "fma.", ".approx"):
                assert word not in b.assembly
