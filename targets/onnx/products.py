"""Connections as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from snncompile.ir.connection import Connection
from snncompile.ir.errors import InterchangeError
from snncompile.targets.onnx.building import GraphBuilder
from snncompile.targets.onnx.coefficients import as_array
from snncompile.targets.onnx.quantizing import Int8
from snncompile.targets.sparse import as_dense
from snncompile.targets.torch.products import folded


@dataclass(frozen=True)
class Place:
    """Where a connection stands.

    Attributes:
        gb: the graph it goes into.
        node: its name.
        values: role -> value.
        timed: whether its input has a time axis, ``(time, batch, *features)``; otherwise it is one step.
        batch: gives the name of the batch size, a vector of one number.
        label: what to call its output.
        int8: its weight, where that is stored as int8.
        rounding: what one code of its input stands for, where that is rounded to int8, too.
    """

    gb: GraphBuilder
    node: str
    values: Mapping[str, Tensor]
    timed: bool
    batch: Callable[[], str]
    label: str
    int8: Int8 | None = None
    rounding: float | None = None


def lower(op: Connection, x: str, at: Place) -> str:
    """Append ``op`` applied to the value ``x``; the name of its output.

    Raises:
        InterchangeError: for a connection that ONNX has no words for.
    """
    if op.kind not in _LOWERINGS:
        raise InterchangeError(f"{op.kind} cannot be written as ONNX", node=at.node)
    return _LOWERINGS[op.kind](op, x, at)


def _weights(op: Connection, at: Place, turned: bool = False) -> tuple[str, str | None]:
    """Names of weight and bias: the ``state_dict``'s, unless something is folded in.

    Args:
        op: the product.
        at: where it stands.
        turned: whether a matrix is wanted as (in, out).
    """
    weight, bias = folded(op, at.values)

    def stored(role: str, value: Tensor) -> str:
        if role in op.params and value is at.values[role]:
            return at.gb.initializer(op.params[role].name, as_array(value))
        return at.gb.stored(f"{at.node}.{role}.folded", as_array(value))

    direct = turned and at.int8 is not None and at.rounding is not None
    name = _dequantized(at.int8, at, direct) if at.int8 is not None else stored("weight", weight)
    if turned and not direct:
        root = at.gb.root
        name = root.node("Transpose", [name], f"{at.node}.weight.transposed", f"{at.node}/Transpose", perm=[1, 0])
    return name, None if bias is None else stored("bias", bias)


def _dequantized(int8: Int8, at: Place, turned: bool) -> str:
    """A weight from its codes.

    Where the input is int8, too, they are stored the way they are multiplied, so that runtimes can multiply the codes.
    Elsewhere a Transpose stays between: ONNX Runtime would round the input of a MatMul whose other side is dequantised,
    by a range of its own, and not say so.
    """
    codes = at.gb.initializer(f"{int8.name}.int8", np.ascontiguousarray(int8.codes.T if turned else int8.codes))
    scale = at.gb.initializer(f"{int8.name}.scale", int8.scale)
    root, label = at.gb.root, f"{at.node}/DequantizeLinear"
    return root.node("DequantizeLinear", [codes, scale], f"{at.node}.weight.float", label, axis=int(turned))


def _rounded(x: str, at: Place) -> str:
    """``x`` as int8 and back, where it is rounded. Next to the operator: runtimes look for it there."""
    if at.rounding is None:
        return x
    gb, name = at.gb, f"{at.node}.input"
    step = gb.stored(f"{name}.scale", np.asarray(at.rounding, dtype=np.float32))
    zero = gb.stored("int8_zero", np.asarray(0, dtype=np.int8))
    codes = gb.node("QuantizeLinear", [x, step, zero], f"{name}.int8", f"{at.node}/QuantizeLinear")
    return gb.node("DequantizeLinear", [codes, step, zero], f"{name}.float", f"{at.node}/DequantizeLinear")


def _linear(op: Connection, x: str, at: Place) -> str:
    turned, bias = _weights(op, at, turned=True)
    wanted = at.label if bias is None else f"{at.node}.product"
    y = at.gb.node("MatMul", [_rounded(x, at), turned], wanted, f"{at.node}/MatMul")
    return y if bias is None else at.gb.node("Add", [y, bias], at.label, f"{at.node}/Add")


def _sparse(op: Connection, x: str, at: Place) -> str:
    """A dense product with the matrix that has zeros where there is no synapse."""
    weight = as_dense(op, at.values)
    if weight is None:
        raise InterchangeError(
            f"ONNX has no sparse products, and {op.output.size} x {op.input.size} is too large for a dense one",
            node=at.node,
        )
    turned = at.gb.stored(f"{at.node}.weight.dense", np.ascontiguousarray(as_array(weight).T))
    wanted = at.label if "bias" not in op.params else f"{at.node}.product"
    y = at.gb.node("MatMul", [x, turned], wanted, f"{at.node}/MatMul")
    if "bias" not in op.params:
        return y
    bias = at.gb.initializer(op.params["bias"].name, as_array(at.values["bias"]))
    return at.gb.node("Add", [y, bias], at.label, f"{at.node}/Add")


def _conv(op: Connection, x: str, at: Place) -> str:
    weight, bias = _weights(op, at)
    inputs = [weight] if bias is None else [weight, bias]
    a = op.attrs
    return _on_images(
        op, x, at, "Conv", inputs,
        strides=list(a["stride"]), pads=[*a["padding"], *a["padding"]], dilations=list(a["dilation"]),
        group=a["groups"], kernel_shape=list(op.params["weight"].shape[2:]),
    )  # fmt: skip


def _windows(op: Connection) -> dict[str, list[int]]:
    a = op.attrs
    return {
        "kernel_shape": list(a["kernel_size"]),
        "strides": list(a["stride"]),
        "pads": [*a["padding"], *a["padding"]],
    }


def _sum_pool(op: Connection, x: str, at: Place) -> str:
    """A convolution with ones, channel by channel: exact on spikes, which a mean times the area would not be."""
    channels = op.input.shape[0]
    ones = np.ones((channels, 1, *op.attrs["kernel_size"]), dtype=np.float32)
    kernel = at.gb.stored(f"{at.node}.ones", ones)
    return _on_images(op, x, at, "Conv", [kernel], group=channels, **_windows(op))


def _average_pool(op: Connection, x: str, at: Place) -> str:
    return _on_images(op, x, at, "AveragePool", [], count_include_pad=1, **_windows(op))


def _max_pool(op: Connection, x: str, at: Place) -> str:
    return _on_images(op, x, at, "MaxPool", [], **_windows(op))


def _batch_norm(op: Connection, x: str, at: Place) -> str:
    inputs = []
    for role, start in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
        if role in op.params:
            inputs.append(at.gb.initializer(op.params[role].name, as_array(at.values[role])))
        else:
            filled = np.full(op.input.shape[:1], start, dtype=np.float32)
            inputs.append(at.gb.stored(f"{at.node}.{role}.absent", filled))
    return _on_images(op, x, at, "BatchNormalization", inputs, epsilon=op.attrs["eps"])


def _flatten(op: Connection, x: str, at: Place) -> str:
    shape = at.gb.ints([0, 0, op.output.size] if at.timed else [0, op.output.size])  # 0 keeps the axis
    return at.gb.node("Reshape", [x, shape], at.label, f"{at.node}/Reshape")


def _nothing(op: Connection, x: str, at: Place) -> str:
    return at.gb.node("Identity", [x], at.label, at.node)


def _on_images(op: Connection, x: str, at: Place, kind: str, inputs: list[str], **attributes: object) -> str:
    """An operator that knows one batch axis, on time and batch together."""
    gb = at.gb
    if not at.timed:
        return gb.node(kind, [_rounded(x, at), *inputs], at.label, f"{at.node}/{kind}", **attributes)
    merged = gb.ints([-1, *op.input.shape])
    flat = gb.node("Reshape", [x, merged], f"{at.node}.steps_as_batch", f"{at.node}/merge")
    y = gb.node(kind, [_rounded(flat, at), *inputs], f"{at.node}.images", f"{at.node}/{kind}", **attributes)
    parts = [gb.ints([-1]), at.batch(), gb.ints(op.output.shape)]
    shape = gb.node("Concat", parts, f"{at.node}.shape", f"{at.node}/shape", axis=0)
    return gb.node("Reshape", [y, shape], at.label, f"{at.node}/split")


_LOWERINGS: dict[str, Callable[[Connection, str, Place], str]] = {
    "Linear": _linear,
    "Sparse": _sparse,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "SumPool2d": _sum_pool,
    "AvgPool2d": _average_pool,
    "MaxPool2d": _max_pool,
    "Flatten": _flatten,
    "Dropout": _nothing,
    "BatchNorm": _batch_norm,
}
