"""The data that a quantised export is calibrated with and compared on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snncompile.arrays import named_inputs, read_arrays
from snncompile.ir.errors import InputError, InterchangeError
from snncompile.ir.graph import Graph
from snncompile.paths import no_file

LABELS = "labels"


@dataclass(frozen=True)
class Calibration:
    """Sequences like those the network will see.

    Attributes:
        inputs: input name -> ``(batch, time, *features)``, float32.
        labels: the right class of each sequence, ``(batch,)``; None where the data names none.
    """

    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None = None

    @property
    def sequences(self) -> int:
        """How many sequences."""
        return len(next(iter(self.inputs.values())))

    @property
    def steps(self) -> int:
        """How long they are."""
        return int(next(iter(self.inputs.values())).shape[1])


def read_calibration(data: str | Path | Mapping[str, Any], graph: Graph, steps: int | None = None) -> Calibration:
    """The calibration data for ``graph``.

    Args:
        data: the path of a ``.npz`` with an array for each input, and perhaps ``labels``; of a ``.npy`` with the one
            input; or a mapping like a ``.npz``.
        graph: the network.
        steps: where given, the length that the exported file will have: longer sequences are compared up to there.

    Raises:
        InputError: for data that does not fit, saying what does.
        InterchangeError: where there is nothing to calibrate with.
    """
    types = graph.input_types()
    if not types:
        raise InterchangeError("a network without inputs cannot be calibrated: export it without quantisation")
    source, arrays = _arrays(data)
    labels = None
    if LABELS in arrays and LABELS not in types:
        labels = np.asarray(arrays.pop(LABELS))
    found = named_inputs(source, {k: _float32(v) for k, v in arrays.items()}, types)
    full = {n: x if x.ndim == len(types[n].shape) + 2 else x[None] for n, x in found.items()}
    sizes = {x.shape[:2] for x in full.values()}
    if len(sizes) > 1:
        said = "; ".join(f"{n}: {x.shape[0]} sequences of {x.shape[1]} steps" for n, x in full.items())
        raise InputError(f"the inputs in {source} differ in length or batch: {said}")
    ((batch, length),) = sizes
    if not batch or not length:
        raise InputError(f"{source} holds {batch} sequences of {length} steps; calibration needs at least one of each")
    if steps is not None and length < steps:
        raise InputError(f"the sequences in {source} have {length} steps, and the unrolled file has {steps}")
    return Calibration(full, None if labels is None else _checked_labels(labels, batch, graph, source))


def _arrays(data: Any) -> tuple[str, dict[Any, Any]]:
    if isinstance(data, Mapping):
        return "the calibration data", dict(data)
    if not isinstance(data, (str, Path)):
        return "the calibration data", {None: data}
    path = Path(data)
    if not path.is_file():
        raise InputError(no_file(path))
    return str(path), dict(read_arrays(path))


def _float32(value: Any) -> np.ndarray:
    """Tensors and lists are taken too; what is no array of numbers is left for the check to name."""
    detach = getattr(value, "detach", None)
    return np.asarray(detach().cpu() if detach is not None else value)


def _checked_labels(labels: np.ndarray, batch: int, graph: Graph, source: str) -> np.ndarray:
    outputs = graph.output_types()
    if len(outputs) != 1 or len(next(iter(outputs.values())).shape) != 1:
        said = ", ".join(f"{key} {t}" for key, t in outputs.items())
        raise InputError(f"labels go with a network of one output, a score for each class; this one has {said}")
    (classes,) = next(iter(outputs.values())).shape
    if labels.shape != (batch,) or labels.dtype.kind not in "ui":
        raise InputError(
            f"labels in {source} have shape {labels.shape} and dtype {labels.dtype}; {batch} whole numbers are needed,"
            " the class of each sequence"
        )
    if labels.min() < 0 or labels.max() >= classes:
        bad = labels[(labels < 0) | (labels >= classes)][0]
        raise InputError(f"labels in {source} hold {bad}; the output has the classes 0 to {classes - 1}")
    return labels
