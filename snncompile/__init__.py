"""snncompile: a graph compiler for spiking neural networks.

A network is written once, as a function of signals; it runs on the torch reference or as fused Triton kernels, trains
with surrogate gradients, and is shipped as an artifact. Names are imported when first used, so that the command line
starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

ms = 1e-3
"""One millisecond, in seconds: write ``20 * ms``."""
us = 1e-6
"""One microsecond, in seconds."""

_NAMES = {
    "model": "dsl.model",
    "Model": "dsl.model",
    "Spikes": "dsl.signals",
    "Current": "dsl.signals",
    "Signal": "dsl.signals",
    "Feedback": "dsl.feedback",
    "recurrent": "dsl.feedback",
    "learn": "dsl.learning",
    "Poisson": "dsl.sources",
    "Bernoulli": "dsl.sources",
    "Normal": "dsl.sources",
    "compile": "compiling",
    "calibrate": "densities",
    "Network": "network",
    "load": "artifact",
    "SnnError": "ir.errors",
    "ModelError": "ir.errors",
    "VerificationError": "ir.errors",
    "UnsupportedError": "ir.errors",
    "ArtifactError": "ir.errors",
    "InputError": "ir.errors",
    "InterchangeError": "ir.errors",
    "from_nir": "interop.nir",
    "Param": "ir.params",
    "Const": "ir.nodes",
    **dict.fromkeys(
        ("ExpSyn", "ExpCurrent", "DoubleExpCurrent", "AlphaSyn", "LIF", "IF", "LI", "CubaLIF", "ALIF", "Izhikevich",
         "Linear", "Sparse", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "MaxPool2d", "Flatten", "Scale", "Add",
         "Dropout", "BatchNorm", "Delay", "PoissonEncoder", "BernoulliEncoder", "StepPWL", "PeriodicExponential",
         "Sigmoid", "ATan", "FastSigmoid", "Triangle", "Surrogate", "spike", "uniform", "normal", "neuron", "synapse",
         "Block", "Node", "plasticity", "Rule", "STDP", "MSTDPET", "TripletSTDP"), "ir.nodes"),
}  # fmt: skip

__all__ = ["__version__", "ms", "us", *_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'snncompile' has no attribute {name!r}{_hint(name)}")
    value = getattr(import_module(f"snncompile.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def _hint(name: str) -> str:
    if name.startswith("_"):
        return ""
    from difflib import get_close_matches

    alike = {known.lower(): known for known in __all__}
    found = get_close_matches(name.lower(), alike, n=1)
    return f". Did you mean {alike[found[0]]!r}?" if found else ""


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})


