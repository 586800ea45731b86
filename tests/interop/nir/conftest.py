"""Real NIR files, where they lie beside the repository, and NIR's equations in plain numpy."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import snncompile as snn

nir = pytest.importorskip("nir")
pytest.importorskip("h5py")

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real files: $SNNCOMPILE_NIR_FILES, or shared/nir beside the repository."""
    folder = Path(os.environ.get("SNNCOMPILE_NIR_FILES", ROOT.parent / "shared" / "nir"))
    if not folder.is_dir():
        pytest.skip("the real NIR files are not here (SNNCOMPILE_NIR_FILES)")
    return folder


def graph(nodes: dict[str, Any], edges: list[tuple[str, str]], size: Any = 3, out: Any = None) -> Any:
    """A NIR graph with an Input and an Output."""
    ends = {"input": nir.Input(np.atleast_1d(size)), "output": nir.Output(np.atleast_1d(size if out is None else out))}
    return nir.NIRGraph(nodes={**ends, **nodes}, edges=edges, type_check=False)


@pytest.fixture
def chain() -> Callable[..., Any]:
    """A NIR graph of nodes in a row, called n0, n1, ..."""

    def make(*nodes: Any, size: Any = 3, out: Any = None) -> Any:
        names = ["input", *(f"n{i}" for i in range(len(nodes))), "output"]
        return graph(dict(zip(names[1:-1], nodes, strict=True)), list(pairwise(names)), size, out)

    return make


@pytest.fixture
def linked() -> Callable[..., Any]:
    """A NIR graph of named nodes and edges."""
    return graph


@pytest.fixture
def both() -> Callable[..., np.ndarray]:
    """Runs a graph on targets torch and c, which must agree; the output."""

    def run(source: Any, x: np.ndarray, record: list[str] | None = None, **options: Any) -> Any:
        found = []
        for target in ("torch", "c"):
            net = snn.from_nir(source, target=target, **{"dt": 1e-3, **options}).eval()
            with torch.no_grad():
                y, _, records = net.evolve(torch.from_numpy(x.astype(np.float32)), record=record)
            found.append([y.numpy(), *(r.numpy() for r in records.values())])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        return found[0] if record else found[0][0]

    return run


class Equations:
    """One step of each of NIR's equations after the other, in float64."""

    def __init__(self, dt: float, method: str = "exact", reset: str = "zero", current: str = "after") -> None:
        self.dt, self.method, self.reset, self.current = dt, method, reset, current

    def towards(self, v: Any, goal: Any, tau: Any) -> Any:
        """``tau v' = goal - v`` over one step."""
        if self.method == "euler":
            return v + self.dt / tau * (goal - v)
        return goal + (v - goal) * np.exp(-self.dt / tau)

    def run(self, node: Any, x: np.ndarray) -> np.ndarray:
        """The output of one node for ``(time, *features)``."""
        kind = type(node).__name__
        if kind in ("Affine", "Linear"):
            return x @ np.asarray(node.weight, np.float64).T + getattr(node, "bias", 0.0)
        if kind in ("Conv1d", "Conv2d"):
            function = torch.nn.functional.conv1d if kind == "Conv1d" else torch.nn.functional.conv2d
            options = {
                role: tuple(map(int, np.atleast_1d(getattr(node, role)))) for role in ("stride", "padding", "dilation")
            }
            weight, bias = (torch.from_numpy(np.asarray(a, np.float64)) for a in (node.weight, node.bias))
            return function(torch.from_numpy(x), weight, bias, groups=int(node.groups), **options).numpy()
        if kind in ("SumPool2d", "AvgPool2d"):
            windows = np.lib.stride_tricks.sliding_window_view(x, tuple(node.kernel_size), axis=(2, 3))
            windows = windows[:, :, :: node.stride[0], :: node.stride[1]]
            return windows.sum((-1, -2)) if kind == "SumPool2d" else windows.mean((-1, -2))
        if kind == "Flatten":
            return x.reshape(len(x), -1)
        if kind == "Scale":
            return x * node.scale
        if kind == "Threshold":
            return (x > node.threshold).astype(float)
        return self.neuron(node, x)[0]

    def neuron(self, node: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Output and membrane of a neuron."""
        v, current = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
        leaky, cuba = hasattr(node, "v_leak"), hasattr(node, "tau_syn")
        out, trace = [], []
        for given in x:
            before = current
            if cuba:
                current = self.towards(current, node.w_in * given, node.tau_syn)
                given = before if self.current == "before" else current
            if leaky:
                v = self.towards(v, node.v_leak + node.r * given, node.tau_mem if cuba else node.tau)
            else:
                v = v + self.dt * node.r * given
            if hasattr(node, "v_threshold"):
                spikes = v > node.v_threshold
                low = node.v_reset if self.reset == "zero" else v - node.v_threshold
                v = np.where(spikes, low, v)
                out.append(spikes.astype(float))
            else:
                out.append(v)
            trace.append(v)
        return np.array(out), np.array(trace)

    def sequence(self, nodes: list[Any], x: np.ndarray) -> np.ndarray:
        """The output of nodes in a row."""
        for node in nodes:
            x = self.run(node, x)
        return x


@pytest.fixture
def equations() -> type[Equations]:
    """The simulator."""
    return Equations


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator."""
    return np.random.default_rng(0)
