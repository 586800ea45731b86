"""The workloads: their shapes, and the data and weights that every contender gets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

DT = 1e-3
TAU_TRACE, ETA = 50e-3, 1e-3  # of the plastic workload
CHUNK = 25  # steps in one compiled piece of a loop


@dataclass(frozen=True)
class Workload:
    """A network and the shape of its input.

    Attributes:
        name: ``"W1"``, ...
        kind: ``"lif"``, ``"synapse"`` (an exponential one before it), ``"recurrent"``, ``"conv"`` or ``"plastic"``.
        inputs: features of the input (the side of an image for ``"conv"``).
        size: neurons (channels of the first layer for ``"conv"``).
        batch: sequences.
        steps: time steps.
        density: share of the inputs that spike.
        gain: what the initial weights are multiplied by, so that neurons fire.
    """

    name: str
    kind: str
    inputs: int
    size: int
    batch: int
    steps: int
    density: float = 0.05
    gain: float = 2.5

    @property
    def title(self) -> str:
        """What it is, in words."""
        n, m = self.inputs, self.size
        what = {
            "lif": f"Linear({n},{m})+LIF",
            "synapse": f"Linear({n},{m})+ExpSyn+LIF",
            "recurrent": f"recurrent LIF, {n} in, N={m}",
            "plastic": f"STDP {n} to {m}",
            "conv": f"LIF after conv {m}k5, conv {2 * m}k5, Linear(10) on {n}x{n}",
        }[self.kind]
        return f"{what}, B={self.batch}, T={self.steps}"

    @property
    def trains(self) -> bool:
        """Whether it has a backward pass."""
        return self.kind != "plastic"

    @property
    def features(self) -> tuple[int, ...]:
        """The input's features."""
        return (1, self.inputs, self.inputs) if self.kind == "conv" else (self.inputs,)

    @property
    def outputs(self) -> int:
        """The output's features."""
        return 10 if self.kind == "conv" else self.size

    def tiny(self) -> Workload:
        """The same network, small enough for a test."""
        small = {"batch": min(self.batch, 2), "steps": CHUNK}
        return replace(self, **small) if self.kind == "conv" else replace(self, **small, inputs=24, size=16, gain=6.0)


WORKLOADS = {
    w.name: w
    for w in (
        Workload("W1", "lif", 512, 512, 16, 500),
        Workload("W2", "lif", 256, 256, 16, 100),
        Workload("W3", "lif", 128, 128, 1, 1000),
        Workload("W4", "recurrent", 140, 256, 16, 250),
        Workload("W5", "plastic", 784, 100, 1, 350),
        Workload("W6", "conv", 28, 16, 16, 25, gain=2.5),
        Workload("W7", "synapse", 256, 256, 16, 250, gain=1.5),
    )
}


@dataclass(frozen=True)
class Data:
    """What goes in: spikes and the gradient of the output, time first, and weights."""

    x: Tensor
    grad: Tensor
    weights: dict[str, Tensor] = field(default_factory=dict)

    def leaves(self, **scale: float) -> dict[str, Tensor]:
        """Copies of the weights that take gradients; ``scale`` multiplies some of them by name."""
        return {n: (w * scale.get(n, 1.0)).requires_grad_() for n, w in self.weights.items()}

    def scaled(self, factor: float) -> dict[str, Tensor]:
        """As :meth:`leaves`, all multiplied: for libraries whose neurons scale their input."""
        return self.leaves(**dict.fromkeys(self.weights, factor))


def make_data(w: Workload, seed: int = 0, device: str = "cpu") -> Data:
    """Spikes at the workload's density, a random gradient, and weights that make neurons fire."""
    torch.manual_seed(seed)
    x = (torch.rand(w.steps, w.batch, *w.features) < w.density).float()
    grad = torch.rand(w.steps, w.batch, w.outputs)
    weights: dict[str, Tensor] = {}

    def add(name: str, module: nn.Module, gain: float) -> None:
        weights[f"{name}weight"] = module.weight.detach() * gain  # type: ignore[operator]
        if module.bias is not None:
            weights[f"{name}bias"] = module.bias.detach() * gain  # type: ignore[operator]

    if w.kind == "plastic":
        weights["weight"] = torch.rand(w.size, w.inputs) * (8.0 / w.inputs)
    elif w.kind == "conv":
        side = ((w.inputs - 4) // 2 - 4) // 2
        add("conv1.", nn.Conv2d(1, w.size, 5), w.gain)
        add("conv2.", nn.Conv2d(w.size, 2 * w.size, 5), w.gain)
        add("linear.", nn.Linear(2 * w.size * side * side, 10), w.gain)
    else:
        add("", nn.Linear(w.inputs, w.size), w.gain)
        if w.kind == "recurrent":
            weights["recurrent"] = nn.Linear(w.size, w.size, bias=False).weight.detach() * 1.0
    moved = {n: t.to(device) for n, t in weights.items()}
    return Data(x.to(device), grad.to(device), moved)
