"""Connections in torch: what each kind computes, on every target that runs inside torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snncompile.ir.connection import Connection


def apply_connection(op: Connection, params: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
    """``op`` on a signal.

    Args:
        op: the connection.
        params: role -> value.
        x: ``(time, batch, *features)``.
        training: whether Dropout drops and BatchNorm uses (and updates) batch statistics.

    Returns:
        ``(time, batch, *features)`` of the output type.
    """
    return _LOWERINGS[op.kind](op, params, x, training)


def effective_weight(params: Mapping[str, Tensor]) -> Tensor:
    """The weight that acts: masked where a mask is given."""
    return params["weight"] * params["mask"] if "mask" in params else params["weight"]


def folded(op: Connection, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a product, with the BatchNorm and the Scale behind it folded in where passes said so."""
    weight, bias = effective_weight(params), params.get("bias")
    if "norm_running_var" in params:
        weight, bias = _with_norm(op, params, weight, bias)
    if "scale_factor" in params:
        factor = params["scale_factor"].flatten() if params["scale_factor"].dim() else params["scale_factor"]
        weight, bias = _scaled(weight, factor), None if bias is None else bias * factor
    return weight, bias


def _with_norm(
    op: Connection, params: Mapping[str, Tensor], weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    scale = torch.rsqrt(params["norm_running_var"] + op.attrs["norm_eps"])
    if "norm_weight" in params:
        scale = scale * params["norm_weight"]
    shift = -params["norm_running_mean"] if bias is None else bias - params["norm_running_mean"]
    shift = shift * scale
    if "norm_bias" in params:
        shift = shift + params["norm_bias"]
    return _scaled(weight, scale), shift


def _scaled(weight: Tensor, factor: Tensor) -> Tensor:
    """``weight`` with each output channel multiplied by its factor (or all by one)."""
    return weight * (factor.reshape(-1, *(1,) * (weight.dim() - 1)) if factor.dim() else factor)


def _linear(op: Connection, params: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
    return dense(x, *folded(op, params))


def dense(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x (T, B, in)`` times the transpose of ``weight (out, in)``, plus ``bias``, in the memory order of ``x``."""
    if not x.is_contiguous() and x.transpose(0, 1).is_contiguous():  # batch-first memory: keep it, do not copy
        return F.linear(x.transpose(0, 1), weight, bias).transpose(0, 1)
    return F.linear(x, weight, bias)


def _sparse(op: Connection, params: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
    from snncompile.targets.sparse import apply_sparse

    return apply_sparse(op, params, x)


def _conv(fn: Callable[..., Tensor]) -> Callable[[Connection, Mapping[str, Tensor], Tensor, bool], Tensor]:
    def lower(op: Connection, params: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        weight, bias = folded(op, params)
        a = op.attrs
        if op.input.size < op.output.size:
            x = x.contiguous()  # else it is the gradient of the output, which is larger, that is turned to its order
        return _over_time(x, lambda y: fn(y, weight, bias, a["stride"], a["padding"], a["dilation"], a["groups"]))

    return lower


def _pool(fn: Callable[..., Tensor]) -> Callable[[Connection, Mapping[str, Tensor], Tensor, bool], Tensor]:
    def lower(op: Connection, params: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        a = op.attrs
        return _over_time(x, lambda y: fn(y, a["kernel_size"], a["stride"], a["padding"]))

    return lower


def _sum_pool(x: Tensor, kernel: Any, stride: Any, padding: Any) -> Tensor:
    return F.avg_pool2d(x, kernel, stride, padding, divisor_override=1)


def _flatten(op: Connection, params: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
    return x.flatten(2)


def _dropout(op: Connection, params: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
    if not training or op.attrs["p"] == 0:
        return x
    return x * dropout_mask(op, x[:1] if x.shape[0] else x.new_zeros(1, *x.shape[1:]))


def dropout_mask(op: Connection, like: Tensor) -> Tensor:
    """One mask for a whole sequence, ``(1, batch, *features)``."""
    return F.dropout(torch.ones_like(like), op.attrs["p"], training=True)


def sequence_mask(op: Connection, batch: int, device: torch.device) -> Tensor:
    """The mask of a Dropout inside a cycle, drawn before the first step: ``(1, batch, *features)``."""
    return dropout_mask(op, torch.ones(1, batch, *op.output.shape, dtype=torch.float32, device=device))


def _batch_norm(op: Connection, params: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
    return _over_time(
        x,
        lambda y: F.batch_norm(
            y,
            params["running_mean"],
            params["running_var"],
            params.get("weight"),
            params.get("bias"),
            training and y.shape[0] > 0,
            op.attrs["momentum"],
            op.attrs["eps"],
        ),
    )


def _over_time(x: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    """``fn``, which knows one batch axis, on time and batch together."""
    batch_first = not x.is_contiguous() and x.transpose(0, 1).is_contiguous()
    y = x.transpose(0, 1) if batch_first else x
    result = fn(y.flatten(0, 1)).unflatten(0, y.shape[:2])
    return result.transpose(0, 1) if batch_first else result


_LOWERINGS: dict[str, Callable[[Connection, Mapping[str, Tensor], Tensor, bool], Tensor]] = {
    "Linear": _linear,
    "DelayedLinear": _linear,  # on what its delays show
    "Sparse": _sparse,
    "Conv1d": _conv(F.conv1d),
    "Conv2d": _conv(F.conv2d),
    "SumPool2d": _pool(_sum_pool),
    "AvgPool2d": _pool(F.avg_pool2d),
    "MaxPool2d": _pool(F.max_pool2d),
    "Flatten": _flatten,
    "Dropout": _dropout,
    "BatchNorm": _batch_norm,
}
