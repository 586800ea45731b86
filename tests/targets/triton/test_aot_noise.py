"""Kernels that draw random numbers compile for every chip with no GPU present."""

import torch

import snncompile as snn
from snncompile.targets.scan import make_scan
from snncompile.targets.triton.aot import compile_scans, scan_kernels
from snncompile.targets.triton.arch import ARCHS


@snn.model
def noisy(x=snn.Spikes(5)):
    return x >> snn.LIF(noise_std=snn.Param(1.0, trainable=True), max_spikes_per_dt=1)


def test_every_kernel_for_every_chip():
    scan = make_scan("lif", noisy.build().op("lif"))
    kernels = scan_kernels(scan)
    chosen = {role: kernels[role] for role in ("forward", "backward_checkpoint")}
    for b in compile_scans([chosen], list(ARCHS.values())):
        assert b.code[:4] == b"\x7fELF"
        assert b.resources.spills == 0 and b.resources.registers <= 128, f"{b.role} {b.arch.name}: {b.resources}"
        if b.arch.backend == "cuda":
            for word in (".ftz", "fma.", ".approx", "div.full"):
                assert word not in b.assembly


def test_a_source_without_inputs_and_states_runs():
    @snn.model
    def source():
        return snn.Poisson(300.0, 3)

    net = snn.compile(source, target="triton")
    want = snn.compile(source, target="torch")
    state = net.initial_state(2, seed=4)
    assert torch.equal(net.evolve(steps=5, batch=2, state=state)[0], want.evolve(steps=5, batch=2, state=state)[0])
