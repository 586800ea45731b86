"""Signal types, parameters and errors: what they refuse, and how they say it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from snncompile.ir.errors import (
    ArtifactError,
    InputError,
    InterchangeError,
    Location,
    ModelError,
    SnnError,
    UnsupportedError,
    VerificationError,
)
from snncompile.ir.params import Init, Param, bind_param, channel_shape, check_constraint
from snncompile.ir.types import SignalType, as_shape

# -- types ---------------------------------------------------------------------------------------------------------


def test_types_read_well() -> None:
    assert str(SignalType("spikes", (2, 34, 34), 1)) == "spikes[2x34x34]<=1"
    assert str(SignalType("current", (64,))) == "current[64]"
    assert SignalType("membrane", (3, 4)).size == 12


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("smell", (4,)), "unknown signal kind 'smell'; use one of spikes, current, membrane, any"),
        (("current", ()), "a feature shape holds positive whole numbers, not ()"),
        (("current", (4, 0)), "a feature shape holds positive whole numbers, not (4, 0)"),
        (("current", (True,)), "a feature shape holds positive whole numbers, not (True,)"),
        (("current", (4.0,)), "a feature shape holds positive whole numbers, not (4.0,)"),
        (("spikes", (4,)), "spikes need a maximum count per step, a whole number of at least 1, not None"),
        (("spikes", (4,), 0), "spikes need a maximum count per step, a whole number of at least 1, not 0"),
    ],
)
def test_types_that_cannot_be(args: tuple, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        SignalType(*args)
    assert caught.value.message == message


def test_shapes_as_users_write_them() -> None:
    assert as_shape(64) == (64,)
    assert as_shape([2, 3]) == (2, 3)
    counted = as_shape(np.int64(4)) + as_shape((np.int32(2), 3))
    assert counted == (4, 2, 3) and all(type(n) is int for n in counted)
    for bad in ("64", 6.4, True, None):
        with pytest.raises(ModelError, match="a feature shape is a whole number or a tuple of them"):
            as_shape(bad)


# -- parameters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "shape"), [("scalar", ()), ("channel", (2, 1, 1)), ("neuron", (2, 3, 4)), (None, (2, 1, 1))]
)
def test_a_number_fills_its_layout(layout: str | None, shape: tuple[int, ...]) -> None:
    p = bind_param(Param(0.1, layout, "taus"), "lif.tau", (2, 3, 4))
    assert (p.name, p.shape, p.family, p.trainable) == ("lif.tau", shape, "taus", True)
    assert p.init == Init("constant", (float(np.float32(0.1)),))


@pytest.mark.parametrize("shape", [(), (2, 3, 4), (2, 1, 1), (1, 3, 1), (3, 4), (4,)])
def test_an_array_keeps_its_shape(shape: tuple[int, ...]) -> None:
    p = bind_param(Param(np.ones(shape)), "lif.tau", (2, 3, 4))
    assert p.shape == shape and p.init.kind == "given" and p.init.value is not None and p.init.value.shape == shape


def test_one_value_per_channel_is_spread_over_the_image() -> None:
    p = bind_param(Param(torch.tensor([1.0, 2.0])), "lif.tau", (2, 3, 4))
    assert p.shape == channel_shape((2, 3, 4)) == (2, 1, 1)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (Param("fast"), "tau is 'fast', not a number or an array"),
        (Param([1.0, 2.0, 3.0]), "tau has shape (3,), which does not fit the features (2,): give a number"),
        (Param(float("nan")), "tau holds a value that is not finite"),
        (Param(1e39), "tau holds a value that is not finite"),
        (Param(-1.0, constraint="positive"), "tau must be greater than 0, but is -1"),
        (Param(0.0, constraint="positive"), "tau must be greater than 0, but is 0"),
        (Param([1.0, -0.5], constraint="nonnegative"), "tau must be at least 0, but is -0.5"),
        (Param([1.0, 0.0], constraint="nonzero"), "tau must be other than 0, but is 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_parameters_that_cannot_be(declared: Param, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        bind_param(declared, "lif.tau", (2,), Location("model.py", 7))
    assert caught.value.message.startswith(message)
    assert str(caught.value).startswith("node 'lif' at model.py:7: tau ")


def test_declarations_that_cannot_be() -> None:
    with pytest.raises(ModelError, match="layout 'row' is unknown; use one of scalar, channel, neuron"):
        Param(1.0, layout="row")
    with pytest.raises(ModelError, match="constraint 'big' is unknown; use one of positive, nonnegative, nonzero"):
        Param(1.0, constraint="big")
    with pytest.raises(ModelError, match="unknown initialisation 'magic'"):
        Init("magic")


def test_what_a_user_says_wins() -> None:
    declared = Param(0.02, "channel", "taus", True, "positive")
    assert vars(declared.overridden(0.5)) == vars(declared) | {"value": 0.5}
    given = declared.overridden(Param(0.5, trainable=False, layout="neuron"))
    assert vars(given) == vars(declared) | {"value": 0.5, "trainable": False, "layout": "neuron"}


def test_constraints_hold_for_good_values() -> None:
    for constraint, value in (("positive", 1e-30), ("nonnegative", 0.0), ("nonzero", -1.0), (None, -1.0)):
        check_constraint(np.asarray(value), constraint, "tau", "lif")


# -- errors --------------------------------------------------------------------------------------------------------


def test_an_error_says_where() -> None:
    where = Location("model.py", 3)
    assert str(ModelError("it is wrong")) == "it is wrong"
    assert str(ModelError("it is wrong", node="lif")) == "node 'lif': it is wrong"
    assert str(ModelError("it is wrong", where=where)) == "at model.py:3: it is wrong"
    assert str(ModelError("it is wrong", node="lif", where=where)) == "node 'lif' at model.py:3: it is wrong"


@pytest.mark.parametrize(
    "kind", [ModelError, VerificationError, UnsupportedError, ArtifactError, InputError, InterchangeError]
)
def test_errors_of_every_kind_cross_processes(kind: type[SnnError]) -> None:
    error = kind("it is wrong", node="lif", where=Location("model.py", 3))
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind and str(back) == str(error) and vars(back) == vars(error)
    assert isinstance(back, SnnError) and kind.kind != "error"
