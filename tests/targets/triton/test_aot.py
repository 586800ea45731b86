"""Every kernel compiles for every chip with no GPU present: no spills, no contraction, nothing flushed."""

import pytest

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.triton.aot import Job, compile_jobs, compile_scans, scan_kernels
from snncompile.targets.triton.arch import ARCHS, parse_arch
from snncompile.targets.triton.config import Config, choose
from snncompile.targets.triton.resources import Resources, check_fits

from ..scans import awkward, chain, lif


@pytest.fixture(scope="module")
def binaries():
    scans = [scan_kernels(lif(), per_neuron=("bias",)), scan_kernels(awkward())]
    scans[1] = {role: scans[1][role] for role in ("forward", "backward")}
    return compile_scans(scans, list(ARCHS.values()))


def test_every_kernel_for_every_chip(binaries):
    assert len(binaries) == (5 + 2) * 4
    for b in binaries:
        assert b.code[:4] == b"\x7fELF"
        assert b.source.name in b.assembly


def test_no_spills(binaries):
    for b in binaries:
        assert b.resources.spills == 0, f"{b.source.name} {b.role} {b.arch.name}: {b.resources}"
        assert 0 < b.resources.registers <= 128


def test_ieee(binaries):
    for b in binaries:
        if b.arch.backend == "cuda":
            for word in (".ftz", "fma.", ".approx", "div.full"):
                assert word not in b.assembly, f"{b.source.name} {b.role} {b.arch.name} holds {word}"
        else:
            assert ".amdhsa_float_denorm_mode_32 3" in b.assembly


def test_no_path_of_this_machine(binaries, tmp_path_factory):
    folder = str(tmp_path_factory.getbasetemp())
    for b in binaries:
        assert folder not in b.assembly
        assert folder.encode() not in b.code


def test_cache(monkeypatch):
    from snncompile.targets.triton import aot

    job = [{"forward": scan_kernels(lif())["forward"]}]
    first = compile_scans(job, [ARCHS["sm_90"]])
    report, code, _ = aot._files(aot.Job("forward", first[0].source, ARCHS["sm_90"], first[0].settings))
    compiled = []
    real = aot._compile
    monkeypatch.setattr(aot, "_compile", lambda *task: compiled.append(task) or real(*task))
    assert compile_scans(job, [ARCHS["sm_90"]]) == first
    assert not compiled
    code.write_bytes(b"damaged")
    assert compile_scans(job, [ARCHS["sm_90"]]) == first
    assert len(compiled) == 1
    report.write_text("{}")
    assert compile_scans(job, [ARCHS["sm_90"]]) == first
    assert len(compiled) == 2


def test_several_states_and_inputs():
    scan = chain()
    kernels = scan_kernels(scan, per_neuron=("decay",))
    chosen = {role: kernels[role] for role in ("forward_checkpoint", "backward_checkpoint")}
    for b in compile_scans([chosen], [ARCHS["sm_90"]]):
        assert b.resources.spills == 0


def test_unknown_chip():
    with pytest.raises(UnsupportedError, match=r"unknown architecture 'sm_7'. Known ones: sm_80, .*gfx942"):
        parse_arch("sm_7")
    assert parse_arch(" sm_90 ").chip == 90


def test_too_much_shared_memory():
    with pytest.raises(UnsupportedError, match="f needs 70000 bytes of shared memory, and gfx942 has 65536"):
        check_fits("f", Resources(32, 0, 70_000), ARCHS["gfx942"])


@pytest.mark.parametrize("steps", [1, 100])
def test_settings_for_small_layers_and_single_steps(steps):
    arch = ARCHS["sm_90"]
    jobs = [
        Job(role, k, arch, choose(1000, k.streams, k.work, steps)) for role, k in scan_kernels(lif()).items()
    ]
    for b in compile_jobs(jobs):
        assert b.resources.spills == 0, f"{b.role} {b.settings}: {b.resources}"


def test_loads_ahead_are_limited():
    assert choose(1000, 1, 7) == Config(32, 1, 16)
    assert choose(1000, 1, 7, steps=1).ahead == 1
    assert choose(10**6, 3, 20).ahead == 2
    assert choose(1000, 1, 500).ahead == 2  # a long step would take minutes to compile
    assert choose(1000, 1, 7, warp=64).block == 64


def test_inputs_read_late():
    """Loads of a course some steps before, and of its past, for one number of steps and for one of each neuron."""
    kernels = [scan_kernels(lif(), per_neuron=("bias",), late=(kind,)) for kind in ("one", "each")]
    wanted = [{role: found[role] for role in ("forward", "backward_checkpoint")} for found in kernels]
    made = compile_scans(wanted, list(ARCHS.values()))
    assert len(made) == 2 * 2 * len(ARCHS)
    for b in made:
        assert b.code[:4] == b"\x7fELF" and b.resources.spills == 0 and b.resources.registers <= 128
