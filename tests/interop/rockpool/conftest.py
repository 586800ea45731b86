"""The module that most tests look at, and the original package, where it is installed."""

from __future__ import annotations

import importlib
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import snncompile as snn
from snncompile import ms
from snncompile.interop.rockpool import NetworkModule, as_module


@snn.model(dt=1 * ms)
def small(x=snn.Spikes(4, max=8), *, hidden=3):
    h = x >> snn.Linear(hidden, bias=False) >> snn.ExpSyn() >> snn.LIF()
    return h >> snn.Linear(2) >> snn.LI()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same numbers, whatever ran before."""
    torch.manual_seed(1)


@pytest.fixture
def module() -> NetworkModule:
    """Linear, ExpSyn, LIF, Linear, LI: 4 inputs, 2 outputs."""
    net = snn.compile(small, target="torch")
    with torch.no_grad():
        net.linear.weight.abs_()  # so that it fires
    return as_module(net)


@pytest.fixture
def model() -> snn.dsl.model.Model:
    """The model of it."""
    return small


@pytest.fixture(scope="session")
def original() -> Any:
    """Rockpool's torch modules, combinators and series."""
    pytest.importorskip("rockpool", reason="rockpool is not installed; see tests/oracles.txt")
    found = SimpleNamespace()
    names = {
        "rockpool": ["TSEvent", "TSContinuous"],
        "rockpool.nn.modules": ["LIFNeuronTorch", "LIFTorch", "ExpSynTorch", "LinearTorch"],
        "rockpool.nn.modules.native.lif": ["LIF"],
        "rockpool.nn.combinators": ["Sequential"],
    }
    with warnings.catch_warnings():  # of optional back ends that are not installed
        warnings.simplefilter("ignore")
        for where, wanted in names.items():
            loaded = importlib.import_module(where)
            for name in wanted:
                setattr(found, name, getattr(loaded, name))
    return found
