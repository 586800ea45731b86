"""Sparse connections in Triton: the bits of the torch target, in the interpreter and compiled ahead of time."""

import pytest
import torch

import snncompile as snn
from snncompile.targets.sparse import Pattern, _Tables
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.sparse import SparseKernels
from snncompile.targets.triton.sparse_kernel import GATHER, GATHER_SETTINGS, WEIGHT, WEIGHT_SETTINGS


def poisoned(shape, **options):
    return torch.full(shape, float("nan"), **options)


@pytest.mark.parametrize("rows", [1, 7])
def test_the_same_bits(rows):
    g = torch.Generator().manual_seed(0)
    w = torch.randn(150, 60, generator=g) * (torch.rand(150, 60, generator=g) < 0.2)
    w[3] = 0.0  # an output without synapses
    pairs = w.T.nonzero()
    pattern = Pattern(pairs[:, 1].float(), (w != 0).sum(0).float(), 150)
    weight = w.T[pairs[:, 0], pairs[:, 1]].contiguous()
    x, grad = (torch.randn(n, rows, generator=g).T for n in (60, 150))  # strided
    kernels, want = SparseKernels(poisoned), _Tables()
    assert torch.equal(kernels.forward(pattern, weight, x), want.forward(pattern, weight, x))
    assert torch.equal(kernels.input_gradient(pattern, weight, grad), want.input_gradient(pattern, weight, grad))
    found, exact = kernels.weight_gradient(pattern, grad, x), want.weight_gradient(pattern, grad, x)
    assert float((found - exact).norm()) <= 1e-6 * float(exact.norm())


def test_a_network():
    @snn.model
    def model(x=snn.Spikes(9)):
        h = x >> snn.Sparse(12, p=0.4, bias=True) >> snn.LIF(threshold=0.2)
        return h >> snn.recurrent(snn.LIF(threshold=0.2), via=snn.Sparse(12, indegree=3))

    results = []
    for target in ("torch", "triton"):
        torch.manual_seed(0)
        net = snn.compile(model, target=target)
        x = (torch.rand(2, 4, 9, generator=torch.Generator().manual_seed(1)) < 0.4).float()
        y = net(x)
        y.sum().backward()
        results.append((y.detach(), net.sparse.weight.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-5, atol=1e-6)
    assert net(torch.zeros(2, 0, 9)).shape == (2, 0, 12)


def test_every_kernel_for_every_chip():
    jobs = [
        Job(role, source, arch, settings)
        for arch in ARCHS.values()
        for role, source, settings in (("gather", GATHER, GATHER_SETTINGS), ("weight", WEIGHT, WEIGHT_SETTINGS))
    ]
    for b in compile_jobs(jobs):
        assert b.code[:4] == b"\x7fELF" and b.resources.spills == 0
        if b.arch.backend == "cuda":
            for word in (".ftz", "fma.", ".approx"):
                assert word not in b.assembly


def test_artifacts_hold_the_kernels(tmp_path):
    @snn.model
    def ahead(x=snn.Spikes(9)):
        return x >> snn.Sparse(12, p=0.4) >> snn.LIF()

    @snn.model
    def back(x=snn.Spikes(9)):  # the cycle's own kernel sums up, but for the gradient of the weight
        h = x >> snn.Linear(12) >> snn.recurrent(snn.ALIF(), via=snn.Sparse(12, indegree=3))
        return h >> snn.LI()

    for model, names in ((ahead, {"snn_sparse_gather", "snn_sparse_weight"}), (back, {"snn_sparse_weight"})):
        path = snn.compile(model, target="triton").save(tmp_path / "n.snn")
        kernels = {p.stem: p for p in (path / "kernels").glob("snn_sparse_*.py")}
        assert kernels.keys() == names and "def snn_sparse_weight(" in kernels["snn_sparse_weight"].read_text()
        assert "kernels/snn_sparse_weight.py  (node sparse)" in (path / "report.txt").read_text()
