"""Every primitive of nir 1.0.8 against its equation."""

from __future__ import annotations

import nir
import numpy as np
import pytest

import snncompile as snn
from snncompile.interop.nir.reading import PRIMITIVES

N = 3


def neuron(kind, rng, n=N, reset=0.0):
    """A neuron whose parameters differ from each other."""

    def values(low, high):
        return rng.uniform(low, high, n)

    gain = values(2.0, 4.0)
    leaky = {"r": gain, "v_leak": values(-0.2, 0.2)}
    fires = {"v_threshold": values(0.3, 0.6), "v_reset": np.full(n, reset)}
    cuba = {"tau_syn": values(3e-3, 9e-3), "tau_mem": values(5e-3, 2e-2), "w_in": values(1.0, 3.0)}
    return {
        "LIF": lambda: nir.LIF(tau=values(5e-3, 2e-2), **leaky, **fires),
        "LI": lambda: nir.LI(tau=values(5e-3, 2e-2), **leaky),
        "IF": lambda: nir.IF(r=gain * 50, **fires),
        "I": lambda: nir.I(r=gain),
        "CubaLIF": lambda: nir.CubaLIF(**cuba, **leaky, **fires),
        "CubaLI": lambda: nir.CubaLI(**cuba, **leaky),
    }[kind]()


def agree(found, wanted):
    if set(np.unique(wanted)) <= {0.0, 1.0}:
        assert 0 < wanted.sum() < wanted.size
        np.testing.assert_array_equal(found, wanted)
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["exact", "euler"])
@pytest.mark.parametrize("kind", ["LIF", "LI", "IF", "I", "CubaLIF", "CubaLI"])
def test_neurons(kind, method, chain, both, equations, rng):
    node = neuron(kind, rng)
    x = rng.normal(0.2, 1.0, (150, N))
    agree(both(chain(node), x, method=method), equations(1e-3, method).run(node, x))


@pytest.mark.parametrize("method", ["exact", "euler"])
@pytest.mark.parametrize("kind", ["CubaLIF", "CubaLI"])
def test_the_current_before_its_update(kind, method, chain, both, equations, rng):
    node, x = neuron(kind, rng), rng.normal(0.2, 1.0, (150, N))
    wanted = equations(1e-3, method, current="before").run(node, x)
    agree(both(chain(node), x, method=method, current="before"), wanted)
    assert not np.array_equal(wanted, equations(1e-3, method).run(node, x))


@pytest.mark.parametrize("kind", ["LIF", "IF", "CubaLIF"])
@pytest.mark.parametrize(("reset", "value"), [("subtract", 0.0), ("zero", -0.25), ("zero", [0.1, -0.1, 0.0])])
def test_resets(kind, reset, value, chain, both, equations, rng):
    node, x = neuron(kind, rng, reset=value), rng.normal(0.2, 1.0, (150, N))
    agree(both(chain(node), x, reset=reset), equations(1e-3, reset=reset).run(node, x))


def test_the_threshold_is_strict_and_the_reset_is_0(chain, both):
    node = nir.IF(r=np.full(N, 1000.0), v_threshold=np.array([1.0, 2.0, 3.0]))
    y = both(chain(node), np.ones((6, N)))
    assert y.T.tolist() == [[0, 1, 0, 1, 0, 1], [0, 0, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0]]


def test_threshold_and_scale(chain, both, equations, rng):
    x = rng.normal(size=(30, N))
    for node in (nir.Threshold(np.array([-0.5, 0.0, 0.5])), nir.Scale(np.array([2.0, -1.0, 0.0]))):
        agree(both(chain(node), x), equations(1e-3).run(node, x))
    assert both(chain(nir.Threshold(np.zeros(N))), np.zeros((1, N))).sum() == 0


@pytest.mark.parametrize("bias", [False, True])
def test_linear_and_affine(bias, chain, both, equations, rng):
    weight = rng.normal(size=(4, N))
    node = nir.Affine(weight, rng.normal(size=4)) if bias else nir.Linear(weight)
    x = rng.normal(size=(20, N))
    agree(both(chain(node, out=4), x), equations(1e-3).run(node, x))


def test_conv1d(chain, both, equations, rng):
    node = nir.Conv1d(10, rng.normal(size=(4, 1, 3)), 2, 1, 2, 2, rng.normal(size=4))
    x = rng.normal(size=(5, 2, 10))
    wanted = equations(1e-3).run(node, x)
    agree(both(chain(node, size=(2, 10), out=wanted.shape[1:]), x), wanted)


@pytest.mark.parametrize("padding", [(1, 0), "same", "valid"])
def test_conv2d(padding, chain, both, equations, rng):
    weight, bias = rng.normal(size=(4, 2, 3, 3)), rng.normal(size=4)
    node = nir.Conv2d(None, weight, 1, padding, 1, 1, bias)
    plain = nir.Conv2d(None, weight, 1, {"same": 1, "valid": 0}.get(padding, padding), 1, 1, bias)
    x = rng.normal(size=(5, 2, 7, 6))
    wanted = equations(1e-3).run(plain, x)
    agree(both(chain(node, size=(2, 7, 6), out=wanted.shape[1:]), x), wanted)


@pytest.mark.parametrize("kind", [nir.SumPool2d, nir.AvgPool2d])
def test_pooling_and_flatten(kind, chain, both, equations, rng):
    nodes = [kind(np.array([2, 3]), np.array([2, 1]), np.array([0, 0])), nir.Flatten({"input": None}, 0, -1)]
    x = rng.normal(size=(5, 2, 6, 5))
    wanted = equations(1e-3).sequence(nodes, x)
    agree(both(chain(*nodes, size=(2, 6, 5), out=wanted.shape[1:]), x), wanted)


def test_a_flatten_that_changes_nothing(chain, both, rng):
    x = rng.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(both(chain(nir.Flatten({"input": np.array([4])}, 0, -1), size=4), x), x)


@pytest.mark.parametrize("steps", [[0], [1], [1, 1], [0, 1, 0], [5], [2, 3], [40]])
def test_delays(steps, chain, both, rng):
    x, late = rng.normal(size=(9, N)).astype(np.float32), sum(steps)
    y = both(chain(*(nir.Delay(np.full(N, s * 1e-3)) for s in steps)), x)
    np.testing.assert_array_equal(y, np.concatenate([np.zeros((late, N), np.float32), x])[: len(x)])


def test_delays_of_their_own(chain, both, rng):
    x, steps = rng.normal(size=(9, N)).astype(np.float32), np.array([0, 4, 1])
    y = both(chain(nir.Delay(steps * 1e-3)), x)
    for n, k in enumerate(steps):
        np.testing.assert_array_equal(y[:, n], np.concatenate([np.zeros(k, np.float32), x[:, n]])[: len(x)])


def test_one_value_for_all_neurons(chain, both, equations, rng):
    node, x = nir.I(np.array(5.0)), rng.normal(size=(20, N))
    agree(both(chain(node), x), equations(1e-3).run(node, x))


def test_images_of_neurons(chain, both, equations, rng):
    shape = (2, 3, 4)
    node = nir.LIF(*(rng.uniform(a, b, shape) for a, b in ((5e-3, 2e-2), (2, 4), (-0.1, 0.1), (0.3, 0.6))))
    x = rng.normal(0.2, 1, (50, *shape))
    agree(both(chain(node, size=shape), x), equations(1e-3).run(node, x))


def test_no_primitive_is_forgotten():
    from nir.ir import __all__ as names

    assert {n for n in names if n not in ("NIRNode", "str2NIRNode", "dict2NIRNode")} == set(PRIMITIVES)


REFUSED = {
    "half a step": (nir.Delay(np.full(N, 5e-4)), "it is 0.5 steps of dt = 0.001 s; a delay that is read is a whole"),
    "off the grid": (nir.Delay(np.array([0.0, 1e-3, 1.5e-3])), "0 to 1.5 steps"),
    "before": (nir.Delay(np.full(N, -1e-3)), "it is -1 steps"),
    "tau": (nir.LI(np.array([1e-3, 0.0, 1.0]), np.ones(N), np.zeros(N)), "tau is a time constant greater than 0"),
    "threshold": (nir.IF(np.ones(N), np.array([1.0, -1.0, 1.0])), "threshold must be greater than 0"),
    "not finite": (nir.I(np.array([1.0, np.nan, 1.0])), "r holds a value that is not finite"),
    "size": (nir.I(np.ones(2)), r"r has shape \(2,\), but it is given features \(3,\)"),
    "matrix": (nir.Linear(np.ones((2, 2, 3))), r"only a matrix"),
    "inputs": (nir.Linear(np.ones((2, 5))), r"its weight takes features \(5,\)"),
    "bias": (nir.Affine(np.ones((3, 3)), np.ones(2)), r"its bias has shape \(2,\)"),
    "dimensions": (nir.Flatten({"input": None}, 1, 3), "dimensions 1 to 3 do not exist"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case, chain):
    node, said = REFUSED[case]
    with pytest.raises(snn.InterchangeError, match=said) as err:
        snn.from_nir(chain(node), dt=1e-3)
    assert err.value.node == "n0" and type(node).__name__ in str(err.value)


def test_refused_in_images(chain):
    counted = nir.Flatten({"input": None}, 1, -1)
    with pytest.raises(snn.InterchangeError, match="NIR does not count the batch"):
        snn.from_nir(chain(counted, size=(2, 3, 4), out=24), dt=1e-3)
    even = nir.Conv2d(None, np.ones((1, 2, 2, 2)), 1, "same", 1, 1, np.zeros(1))
    with pytest.raises(snn.InterchangeError, match="odd kernel_size"):
        snn.from_nir(chain(even, size=(2, 4, 4), out=(1, 4, 4)), dt=1e-3)


def test_euler_does_not_overshoot(chain, both):
    node = nir.LI(np.full(N, 1e-3), np.ones(N), np.zeros(N))
    both(chain(node), np.ones((3, N)), method="euler")  # a step as long as the time constant forgets all, and no more
    with pytest.raises(snn.InterchangeError, match=r"is 0\.001 s, shorter than dt = 0\.002 s: .* overshoot") as err:
        snn.from_nir(chain(node), dt=2e-3, method="euler")
    assert err.value.node == "n0"
    snn.from_nir(chain(node), dt=2e-3)


def test_subtracting_has_no_reset_value(chain, rng):
    with pytest.raises(snn.InterchangeError, match=r"v_reset is 0\.5, and reset='subtract'"):
        snn.from_nir(chain(neuron("LIF", rng, reset=0.5)), dt=1e-3, reset="subtract")
