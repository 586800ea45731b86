"""Kernels of cycles that several programs share compile for every chip of NVIDIA; on AMD one program takes them."""

from itertools import pairwise

import pytest

import snncompile as snn
from snncompile import ms
from snncompile.artifact.printed import printed_kernels
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.cycle_shared_design import SharedSettings


@snn.model(dt=1 * ms)
def wide(x=snn.Spikes(40, max=1)):
    """Lists for a dense and a sparse product; a dense product of few values."""
    back = snn.Feedback(2048, delay=3 * ms)
    current = (x >> snn.Linear(2048)) + (back >> snn.Sparse(2048, p=0.05, seed=0))
    few = current >> snn.LIF(noise_std=0.01) >> snn.Linear(64) >> snn.CubaLIF()
    back.close(few >> snn.Linear(2048) >> snn.LIF())
    return few


@pytest.fixture(scope="module")
def printed():
    return {p.stem: p for p in printed_kernels(wide.build(), None, archs=list(ARCHS)) if "cycle" in p.stem}


@pytest.fixture(scope="module")
def binaries(printed):
    wanted = {"forward": ["sm_80", "sm_90", "sm_100"], "backward": ["sm_90"]}
    return compile_jobs(
        [
            Job(p.stem, p.source, ARCHS[arch], p.settings[arch])
            for p in printed.values()
            for arch in wanted.get(p.stem.removesuffix("_shared").split("_")[-1], ())
            if arch in p.settings
        ]
    )


def test_forms(printed):
    chips = {stem.split("linear_")[-1].lstrip("0123456789_"): set(p.settings) for stem, p in printed.items()}
    alone, shared = {"gfx942"}, set(ARCHS) - {"gfx942"}
    assert list(chips.values()) == [alone, alone, shared, shared]
    found = [p.source.text for p in printed.values()]
    assert ["snn_meet(" in text for text in found] == [False, False, True, True]
    for helper in ("total = snn_marked(", "total = snn_picked(", "total = snn_dense("):
        assert helper in found[2]
    for p in list(printed.values())[2:]:
        for name, s in p.settings.items():
            assert isinstance(s, SharedSettings), name
            assert (s.rows, s.steps) == (1, 4) and (s.columns, s.shares) == ((32, 64) if name == "sm_80" else (16, 128))


def test_no_spills_and_nothing_runs_ahead(binaries):
    assert len(binaries) == 4
    for b in binaries:
        assert b.resources.spills == 0, f"{b.role} {b.arch.name}: {b.resources}"
        assert b.resources.registers <= 255 and b.resources.shared <= 1024
        for word in (".ftz", "fma.", ".approx", "div.full", "ld.global.nc", "cp.async"):
            assert word not in b.assembly, f"{b.role} {b.arch.name} holds {word}"


def test_waits(binaries):
    """An arrival is a release after a barrier of all threads, and a barrier comes after the acquire of each wait."""
    for b in binaries:
        waits = b.source.text.count("snn_meet(arrived, met)  #")
        pieces = b.assembly.split("atom.global.gpu.release.add")
        assert len(pieces) == waits + 1 > 2
        for before, after in pairwise(pieces):
            assert before.rindex("bar.sync") > before.rfind("st.global")
            seen = after[after.rindex("ld.global.gpu.acquire") + 9 :]
            touched = [seen.find(word) for word in ("ld.global", "st.global") if word in seen]
            assert seen.index("bar.sync") < min(touched, default=len(seen))
