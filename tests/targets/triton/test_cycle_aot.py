"""Kernels of whole cycles compile for every chip with no GPU present, as `snncompile build` writes them."""

import numpy as np
import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.artifact.printed import printed_kernels
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS

from ..cycle_checks import delayed


@snn.model(dt=1 * ms)
def balanced(x=snn.Spikes(40, max=1)):
    """Two populations of usual sizes, with products of every kind: dense, sparse, a delay of each synapse, dense and
    sparse; noise; a line that is read by several."""
    rng = np.random.default_rng(0)
    e_back, i_back = snn.Feedback(160, delay=0, name="e_back"), snn.Feedback(40, delay=3 * ms, name="i_back")
    each = rng.integers(1, 7, (160, 160)) * ms
    e = (x >> snn.Linear(160)) + (e_back >> snn.Linear(160, delay=each)) + (i_back >> snn.Sparse(160, p=0.2, sign=-1))
    e = e >> snn.CubaLIF(threshold=0.5, noise_std=0.01)
    far = rng.integers(1, 30, (40, 160)) * ms
    i = (e >> snn.Linear(40, delay=far)) + (i_back >> snn.Linear(40)) >> snn.LIF(threshold=0.5)
    e_back.close(e)
    i_back.close(i)
    return e


@snn.model(dt=1 * ms)
def few(x=snn.Spikes(3, max=1)):
    back = snn.Feedback(4, delay=2 * ms)
    h = x + (back >> snn.Linear(3)) >> snn.LIF() >> snn.Sparse(4, p=0.5) >> snn.LIF()
    back.close(h)
    return h


def jobs(model, archs):
    printed = [p for p in printed_kernels(model.build(), None, archs=archs) if p.stem.startswith("cycle")]
    assert len(printed) == 2
    return [Job(p.stem, p.source, ARCHS[a], p.settings[a]) for p in printed for a in archs]


@pytest.fixture(scope="module")
def binaries():
    others = [name for name in ARCHS if name != "sm_90"]
    return compile_jobs([*jobs(balanced, ["sm_90"]), *jobs(few, others)])


def test_every_kernel_for_every_chip(binaries):
    assert len(binaries) == 2 * len(ARCHS)
    for b in binaries:
        assert b.resources.spills == 0, f"{b.role} {b.arch.name}: {b.resources}"
        assert b.resources.registers <= 128 and b.resources.shared == 0


def test_ieee_and_nothing_runs_ahead(binaries):
    """No load is taken for one of what nobody writes, and none stands before the barrier that it must wait for."""
    for b in binaries:
        if b.arch.backend == "cuda":
            for word in (".ftz", "fma.", ".approx", "div.full", "ld.global.nc", "cp.async"):
                assert word not in b.assembly, f"{b.role} {b.arch.name} holds {word}"
            printed = b.source.text[b.source.text.index(f"def {b.source.name}(") :].count("tl.debug_barrier()")
            assert b.assembly.count("bar.sync") == printed > 1


def test_what_is_printed_is_what_runs():
    shown = {p.source.name: p.source.text for p in printed_kernels(delayed.build(), None)}
    net = snn.compile(delayed, target="triton")
    net(torch.ones(1, 2, 6))["second"].sum().backward()
    (made,) = net.executor(torch.device("cpu")).runner.cycles._kernels.values()
    ran = {kernel.source.name: kernel.source.text for kernel in made.values()}
    assert set(ran) == set(shown)
    assert ran["cycle_linear_1_forward"] == shown["cycle_linear_1_forward"]
