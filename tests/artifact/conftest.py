"""A small network with everything in it, and artifacts made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import snncompile as snn
from snncompile import ms


@snn.neuron(states={"v": 0.0}, outputs={"spikes": 1})
def OwnLIF(v, x, *, tau=snn.Param(20 * ms, family="taus", constraint="positive"), dt):
    v = v * torch.exp(-dt / tau) + x
    s = snn.spike(v, 1.0)
    return {"v": v - s, "spikes": s}


@snn.model(dt=1 * ms)
def small(x=snn.Spikes(5, max=2), c=snn.Current(4)):
    h = (x >> snn.Linear(4, init=[[0.5] * 5] * 4)) + c
    h = h >> snn.recurrent(OwnLIF(name="own"), via=snn.Linear(4))
    return {"a": h >> snn.Linear(3) >> snn.LI(), "b": h}


def build(target: str = "torch", seed: int = 1, checkpoint: int = 1) -> snn.Network:
    torch.manual_seed(seed)
    return snn.compile(small, target=target, checkpoint=checkpoint)


@pytest.fixture
def net() -> snn.Network:
    return build()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with kernel sources; copy it before changing it."""
    return build("triton").save(tmp_path_factory.mktemp("built") / "small.snn")


@pytest.fixture
def artifact(built: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    import shutil

    return Path(shutil.copytree(built, tmp_path / "small.snn"))


@pytest.fixture
def data() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "x": torch.randint(0, 3, (2, 7, 5), generator=generator).float(),
        "c": torch.randn(2, 7, 4, generator=generator),
    }
