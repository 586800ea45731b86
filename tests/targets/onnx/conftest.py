"""Runs exported files as a user of ONNX Runtime would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

Arrays = dict[str, np.ndarray]
Runner = Callable[[Path], Callable[[Arrays], Arrays]]


def in_onnx_runtime(path: Path) -> Callable[[Arrays], Arrays]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))


def in_the_evaluator(path: Path) -> Callable[[Arrays], Arrays]:
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(str(path))
    return lambda feeds: dict(zip(session.output_names, session.run(None, feeds), strict=True))


@pytest.fixture(params=[in_onnx_runtime, in_the_evaluator], ids=["runtime", "evaluator"])
def runner(request: pytest.FixtureRequest) -> Runner:
    """Loads a file in one of the two runtimes."""
    return request.param


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def reference(net: Any, *inputs: torch.Tensor) -> Arrays:
    """Outputs and final state under the names that a file gives them."""
    out, state, _ = net.evolve(*inputs)
    if isinstance(out, tuple):
        out = {f"out_{i}": y for i, y in enumerate(out)}
    elif not isinstance(out, dict):
        out = {"out": out}
    named = {**out, **{f"{name}.next": s for name, s in state.items()}}
    return {name: value.numpy() for name, value in named.items()}


def assert_equal(got: Arrays, want: Arrays) -> None:
    assert set(got) <= set(want)  # the state of a node that no output needs is not in the file
    for name, value in got.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, want[name], err_msg=name)


def stream(run: Callable[[Arrays], Arrays], feeds: Arrays, state: Arrays) -> Arrays:
    """The step form over a sequence ``(batch, time, ...)``, the state handed on by name."""
    steps = next(iter(feeds.values())).shape[1]
    rows = []
    for t in range(steps):
        got = run({**{n: x[:, t] for n, x in feeds.items()}, **state})
        state = {name: got[f"{name}.next"] for name in state}
        rows.append(got)
    outputs = {n: np.stack([r[n] for r in rows], 1) for n in rows[0] if not n.endswith(".next")}
    return {**outputs, **{f"{name}.next": value for name, value in state.items()}}
