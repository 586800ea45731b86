"""Runs a model file in ONNX Runtime and in the reference evaluator, whatever its form."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx

from snncompile.ir.errors import InterchangeError

Arrays = Mapping[str, np.ndarray]
Session = Callable[[Arrays], dict[str, np.ndarray]]
"""Inputs by name -> outputs by name."""


def onnx_runtime(path: Path) -> Session | None:
    """``path`` in ONNX Runtime's CPU provider; None where that is not installed.

    Raises:
        InterchangeError: where it cannot load the file.
    """
    try:
        import onnxruntime as ort
    except ImportError:
        return None
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as err:  # its exceptions have no common base
        said = str(err).strip().splitlines()[-1]
        raise InterchangeError(
            f"ONNX Runtime {ort.__version__} cannot load the file: {said}. A lower opset may help; check=False skips"
            " this"
        ) from None
    names = [o.name for o in session.get_outputs()]

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        try:
            return dict(zip(names, session.run(names, dict(feeds)), strict=True))
        except Exception as err:  # as above
            raise InterchangeError(f"ONNX Runtime {ort.__version__} cannot run the file: {err}") from None

    return run


def evaluator(path: Path) -> Session:
    """``path`` in onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    opset = next(i.version for i in onnx.load(path, load_external_data=False).opset_import if not i.domain)
    session = ReferenceEvaluator(str(path), new_ops=_of_old_opsets(opset))

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return dict(zip(session.output_names, session.run(None, dict(feeds)), strict=True))

    return run


def _of_old_opsets(opset: int) -> list[type]:
    """Operators that the evaluator lacks, or gets wrong, in operator sets below 19.

    It has the first two from 19 on only (here for int8); of the third, below 14, it takes the statistics of the data.
    """
    from onnx.reference.op_run import OpRun

    class QuantizeLinear(OpRun):
        op_domain = ""

        def _run(self, x: np.ndarray, scale: np.ndarray, zero: np.ndarray, **_: int) -> tuple[np.ndarray]:
            return (np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8),)

    class DequantizeLinear(OpRun):
        op_domain = ""

        def _run(
            self, x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None, axis: int = 1, **_: int
        ) -> tuple[np.ndarray]:
            wide = scale.reshape([-1 if d == axis else 1 for d in range(x.ndim)]) if scale.ndim else scale
            offset = 0 if zero is None else zero.astype(np.float32)
            return ((x.astype(np.float32) - offset) * wide,)

    class BatchNormalization(OpRun):
        op_domain = ""

        def _run(
            self, x: np.ndarray, *given: np.ndarray, epsilon: float = 1e-5, **_: float
        ) -> tuple[np.ndarray]:
            scale, bias, mean, var = (v.reshape(-1, *(1,) * (x.ndim - 2)) for v in given)
            return (((x - mean) / np.sqrt(var + np.float32(epsilon)) * scale + bias).astype(x.dtype),)

    made: list[type] = [QuantizeLinear, DequantizeLinear] if opset < 19 else []
    return [*made, BatchNormalization] if opset < 14 else made


def drive(
    session: Session,
    form: str,
    inputs: Arrays,
    given: Arrays,
    state: Arrays,
    later: Mapping[str, str],
    inner: frozenset[str] = frozenset(),
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Run over a sequence.

    Args:
        session: the model.
        form: its form.
        inputs: its inputs, time-major ``(T, B, ...)``.
        given: further inputs that are time-major in the file, too.
        state: states before the first step; those not given take their defaults (not in the step form).
        later: state name -> output that holds its new value.
        inner: outputs that are time-major in the file.

    Returns:
        courses of the outputs, time-major, and the final state.
    """
    finals = set(later.values())
    if form != "step":
        feeds = {name: np.ascontiguousarray(np.swapaxes(x, 0, 1)) for name, x in inputs.items()}
        got = session({**feeds, **given, **state})
        courses = {n: y if n in inner else np.swapaxes(y, 0, 1) for n, y in got.items() if n not in finals}
        return courses, {name: got[out] for name, out in later.items()}
    rows: list[dict[str, np.ndarray]] = []
    held = dict(state)
    for t in range(len(next(iter(inputs.values())))):
        got = session({**{n: np.ascontiguousarray(x[t]) for n, x in {**inputs, **given}.items()}, **held})
        held = {name: got[out] for name, out in later.items()}
        rows.append(got)
    return {n: np.stack([r[n] for r in rows]) for n in rows[0] if n not in finals}, held
