"""Connections: shapes, types, parameters and errors. Shapes are held against torch's own modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import snncompile as snn
from snncompile.ir.connection import CONNECTIONS, Connection
from snncompile.ir.nodes import ConnectionNode
from snncompile.ir.types import SignalType


def lower(node: ConnectionNode, shape: tuple[int, ...], kind: str = "spikes", most: int = 2) -> Connection:
    return node.lower("node", {"x": SignalType(kind, shape, most if kind == "spikes" else None)}, 1e-3, None)


sizes = st.integers(4, 9)
small = st.integers(1, 3)


@settings(max_examples=30)
@given(h=sizes, w=sizes, kernel=small, stride=small, padding=st.integers(0, 2), dilation=st.integers(1, 2))
def test_conv2d_shape_is_torchs(h: int, w: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    if dilation * (kernel - 1) + 1 > min(h, w) + 2 * padding:
        return
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 2}
    op = lower(snn.Conv2d(6, kernel, **options), (4, h, w))
    torchs = nn.Conv2d(4, 6, kernel, **options)
    assert op.output.shape == tuple(torchs(torch.zeros(1, 4, h, w)).shape[1:])
    assert op.params["weight"].shape == tuple(torchs.weight.shape)
    assert op.params["bias"].shape == tuple(torchs.bias.shape)
    assert op.attrs == {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (dilation,) * 2, "groups": 2}


@settings(max_examples=20)
@given(n=sizes, kernel=small, stride=small, padding=st.integers(0, 2))
def test_conv1d_shape_is_torchs(n: int, kernel: int, stride: int, padding: int) -> None:
    op = lower(snn.Conv1d(6, kernel, stride, padding), (4, n))
    torchs = nn.Conv1d(4, 6, kernel, stride, padding)
    assert op.output.shape == tuple(torchs(torch.zeros(1, 4, n)).shape[1:])
    assert op.params["weight"].shape == tuple(torchs.weight.shape)


@settings(max_examples=20)
@given(h=sizes, w=sizes, kernel=small, stride=st.none() | small, padding=st.integers(0, 1))
def test_pool_shape_is_torchs(h: int, w: int, kernel: int, stride: int | None, padding: int) -> None:
    if 2 * padding > kernel:
        return
    want = tuple(nn.MaxPool2d(kernel, stride, padding)(torch.zeros(1, 3, h, w)).shape[1:])
    for node in (snn.SumPool2d, snn.AvgPool2d, snn.MaxPool2d):
        assert lower(node(kernel, stride, padding), (3, h, w)).output.shape == want


def test_padding_same() -> None:
    assert lower(snn.Conv2d(5, (3, 5), padding="same", dilation=(2, 1)), (2, 8, 9)).output.shape == (5, 8, 9)
    assert lower(snn.Conv1d(5, 7, padding="same"), (2, 8)).attrs["padding"] == (3,)


def test_kinds_of_signals() -> None:
    image = (2, 6, 6)
    assert str(lower(snn.SumPool2d((2, 3)), image).output) == "spikes[2x3x2]<=12"
    assert str(lower(snn.SumPool2d(2), image, "current").output) == "current[2x3x3]"
    assert str(lower(snn.AvgPool2d(2), image).output) == "current[2x3x3]"
    assert str(lower(snn.MaxPool2d(2), image).output) == "spikes[2x3x3]<=2"
    assert str(lower(snn.Flatten(), image).output) == "spikes[72]<=2"
    assert str(lower(snn.Flatten(), image, "membrane").output) == "membrane[72]"
    assert str(lower(snn.Dropout(), image).output) == "current[2x6x6]"
    assert str(lower(snn.Dropout(0.0), image).output) == "spikes[2x6x6]<=2"
    assert str(lower(snn.BatchNorm(), image).output) == "current[2x6x6]"
    assert str(lower(snn.Linear(3), (4,)).output) == "current[3]"


def test_attributes_are_those_of_the_ir() -> None:
    nodes = {
        "Linear": (snn.Linear(3), (4,)),
        "Conv1d": (snn.Conv1d(2, 3), (2, 8)),
        "Conv2d": (snn.Conv2d(2, 3), (2, 8, 8)),
        "SumPool2d": (snn.SumPool2d(2), (2, 8, 8)),
        "AvgPool2d": (snn.AvgPool2d(2), (2, 8, 8)),
        "MaxPool2d": (snn.MaxPool2d(2), (2, 8, 8)),
        "Flatten": (snn.Flatten(), (2, 8)),
        "Dropout": (snn.Dropout(), (4,)),
        "BatchNorm": (snn.BatchNorm(), (4,)),
        "Sparse": (snn.Sparse(3, p=0.5, seed=0), (4,)),
        "Delay": (snn.Delay(2e-3), (4,)),
        "DelayedLinear": (snn.Linear(3, delay=2e-3), (4,)),
    }
    assert set(nodes) == set(CONNECTIONS)
    for kind, (node, shape) in nodes.items():
        op = lower(node, shape)
        assert op.kind == kind and set(op.attrs) == set(CONNECTIONS[kind]) and op.members == ("node",)


def test_first_weights() -> None:
    op = lower(snn.Linear(3), (4,))
    assert (op.params["weight"].init.kind, op.params["weight"].init.args) == ("kaiming_uniform", (4.0,))
    assert (op.params["bias"].init.kind, op.params["bias"].init.args) == ("fan_in_uniform", (4.0,))
    assert lower(snn.Conv2d(4, 3, groups=2), (6, 8, 8)).params["weight"].init.args == (27.0,)
    for init in (np.ones((3, 4)), torch.ones(3, 4), [[1] * 4] * 3, torch.ones, lambda shape: np.ones(shape)):
        p = lower(snn.Linear(3, init=init), (4,)).params["weight"]
        assert p.init.kind == "given" and p.init.value is not None and p.init.value.shape == (3, 4)
        assert p.init.value.dtype == np.float32 and (p.init.value == 1).all()


def test_given_weights_are_copied() -> None:
    given_ = np.ones((3, 4), dtype=np.float32)
    p = lower(snn.Linear(3, init=given_), (4,)).params["weight"]
    given_[:] = 7
    assert p.init.value is not None and (p.init.value == 1).all()


def test_mask_and_sign() -> None:
    signs = [1, -1, 1, -1]
    op = lower(snn.Linear(3, bias=False, init=np.full((3, 4), -2.0), mask=np.eye(3, 4), sign=signs), (4,))
    assert list(op.params) == ["weight", "mask", "sign"]
    for role, family in (("mask", "masks"), ("sign", "signs")):
        p = op.params[role]
        assert (p.shape, p.family, p.trainable) == ((3, 4), family, False)
    assert op.params["weight"].init.value.tolist() == [[2, -2, 2, -2]] * 3  # type: ignore[union-attr]
    drawn = lower(snn.Linear(3, sign=-1), (4,)).params["weight"].init
    assert drawn.kind == "kaiming_uniform" and drawn.sign is not None and (drawn.sign == -1).all()


def test_trainable() -> None:
    assert not any(p.trainable for p in lower(snn.Conv1d(2, 3, trainable=False), (2, 8)).params.values())
    trained = {role: p.trainable for role, p in lower(snn.BatchNorm(), (4, 3, 3)).params.items()}
    assert trained == {"weight": True, "bias": True, "running_mean": False, "running_var": False}
    assert {p.shape for p in lower(snn.BatchNorm(), (4, 3, 3)).params.values()} == {(4,)}


IMAGE = (4, 6, 6)


@pytest.mark.parametrize(
    ("node", "shape", "message"),
    [
        (snn.Linear(0), (4,), "Linear: out must be a whole number of at least 1, not 0"),
        (snn.Linear(3.0), (4,), "Linear: out must be a whole number of at least 1, not 3.0"),
        (snn.Linear(3), IMAGE, "Linear: it takes flat features, not (4, 6, 6). Put `>> Flatten()` before it"),
        (snn.Linear(3, init=np.ones((4, 3))), (4,), "Linear: init has shape (4, 3), but the weight is (3, 4)"),
        (snn.Linear(3, init="zeros"), (4,), "Linear: init is 'zeros', not an array of numbers"),
        (snn.Linear(3, init=lambda s: np.full(s, np.nan)), (4,), "Linear: init holds a value that is not finite"),
        (snn.Linear(3, mask=[0.5] * 4), (4,), "Linear: mask holds only 0 and 1, but one value is 0.5"),
        (snn.Linear(3, mask=[1] * 5), (4,), "Linear: mask has shape (5,), which does not fit the weight (3, 4)"),
        (snn.Linear(3, sign=0), (4,), "Linear: sign holds only -1 and 1, but one value is 0"),
        (snn.Conv2d(3, 3), (4,), "Conv2d: it takes features (channels, height, width), not (4,)"),
        (snn.Conv1d(3, 3), IMAGE, "Conv1d: it takes features (channels, length), not (4, 6, 6)"),
        (snn.Conv2d(3, 7), IMAGE, "Conv2d: kernel_size 7 is larger than the image 6x6"),
        (
            snn.Conv2d(3, 5, padding=1, dilation=3),
            IMAGE,
            "Conv2d: kernel_size 5 (13 wide with dilation 3) is larger than the image 6x6 with padding 1",
        ),
        (snn.Conv2d(4, 3, groups=3), IMAGE, "Conv2d: the input's 4 channels cannot be divided into groups=3"),
        (snn.Conv2d(5, 3, groups=2), IMAGE, "Conv2d: out_channels = 5 channels cannot be divided into groups=2"),
        (snn.Conv2d(3, (3, 3, 3)), IMAGE, "Conv2d: kernel_size takes a whole number or 2 of them, not (3, 3, 3)"),
        (snn.Conv2d(3, 3, stride=0), IMAGE, "Conv2d: stride must be a whole number of at least 1, not 0"),
        (snn.Conv2d(3, 3, padding=-1), IMAGE, "Conv2d: padding must be a whole number of at least 0, not -1"),
        (snn.Conv2d(3, 3, padding="full"), IMAGE, "Conv2d: padding must be a whole number, 2 of them or 'same'"),
        (snn.Conv2d(3, 4, padding="same"), IMAGE, "Conv2d: padding='same' needs an odd kernel_size"),
        (snn.Conv2d(3, 3, 2, "same"), IMAGE, "Conv2d: padding='same' needs stride 1. Give the padding as a number"),
        (snn.SumPool2d(2), (4,), "SumPool2d: it takes features (channels, height, width), not (4,)"),
        (snn.AvgPool2d(8), IMAGE, "AvgPool2d: kernel_size 8 is larger than the image 6x6"),
        (snn.MaxPool2d(2, padding=2), IMAGE, "MaxPool2d: padding (2, 2) is more than half of kernel_size (2, 2)"),
        (snn.Dropout(1.0), (4,), "Dropout: p is a probability of at least 0 and less than 1, not 1.0"),
        (snn.Dropout("half"), (4,), "Dropout: p must be a finite number, not 'half'"),
        (snn.BatchNorm(eps=0), (4,), "BatchNorm: eps must be greater than 0, not 0"),
        (snn.BatchNorm(momentum=2), (4,), "BatchNorm: momentum must be from 0 to 1, not 2"),
    ],
)
def test_errors(node: ConnectionNode, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(snn.ModelError) as err:
        lower(node, shape)
    assert str(err.value).startswith(f"node 'node': {message}")


def test_a_connection_has_one_port() -> None:
    given_ = dict.fromkeys(("a", "b"), SignalType("current", (4,)))
    with pytest.raises(snn.ModelError, match="Linear takes one signal, on port x, not a, b"):
        snn.Linear(3).lower("node", given_, 1e-3, None)


def test_sums_of_signals() -> None:
    @snn.model(dt=1e-3)
    def net(a=snn.Spikes(4, max=1), b=snn.Spikes(4, max=1), c=snn.Spikes(4, max=1)):
        return snn.Add()(a, b, c), a + b

    x = torch.ones(1, 2, 4)
    three, two = snn.compile(net, target="torch")(x, x, x)
    assert (three == 3).all() and (two == 2).all()
