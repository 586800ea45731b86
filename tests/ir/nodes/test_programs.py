"""The programs of every node against the node's own step function."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snncompile as snn
from snncompile import ms
from snncompile.ir import nodes
from snncompile.ir.nodes import ElementwiseNode

from .running import assert_close_norms, assert_same_bits, random_case, random_weights, run_eager, run_programs

NODES = {
    "exp_syn": snn.ExpSyn(),
    "exp_current": snn.ExpCurrent(),
    "double_exp_current": snn.DoubleExpCurrent(),
    "alpha_syn": snn.AlphaSyn(),
    "if": snn.IF(),
    "if_zero": snn.IF(reset="zero"),
    "lif": snn.LIF(),
    "lif_periodic": snn.LIF(surrogate=snn.PeriodicExponential(0.3)),
    "lif_sigmoid": snn.LIF(surrogate=snn.Sigmoid()),
    "lif_atan": snn.LIF(surrogate=snn.ATan()),
    "lif_fast_sigmoid": snn.LIF(surrogate=snn.FastSigmoid(5.0)),
    "lif_triangle": snn.LIF(surrogate=snn.Triangle(0.7, 0.3)),
    "lif_capped": snn.LIF(max_spikes_per_dt=2),
    "lif_binary": snn.LIF(max_spikes_per_dt=1),
    "lif_strict": snn.LIF(strict=True),
    "lif_detached": snn.LIF(detach_reset=True),
    "lif_leak": snn.LIF(v_leak=0.1),
    "lif_zero": snn.LIF(reset="zero"),
    "lif_value": snn.LIF(reset=-0.25),
    "lif_values": snn.LIF(reset=snn.Param(-0.25, trainable=True)),
    "lif_refractory": snn.LIF(refractory=2 * ms),
    "lif_refractory_value": snn.LIF(refractory=3 * ms, reset=-0.1, surrogate=snn.ATan(), v_leak=0.0),
    "cuba_lif": snn.CubaLIF(),
    "cuba_lif_refractory": snn.CubaLIF(refractory=1 * ms, reset="zero"),
    "alif": snn.ALIF(),
    "alif_options": snn.ALIF(v_leak=0.1, refractory=2 * ms, detach_reset=True, surrogate=snn.Triangle()),
    "li": snn.LI(),
    "li_leak": snn.LI(v_leak=0.1),
    "izhikevich": snn.Izhikevich(surrogate=snn.StepPWL(15.0)),
    "scale": snn.Scale(2.0, trainable=True),
    "add": snn.Add(3),
}


@pytest.mark.parametrize("name", NODES)
@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_programs_do_what_the_step_does(name: str, seed: int) -> None:
    node = NODES[name]
    case = random_case(node, seed)
    weights = random_weights(case, seed)
    programs, eager = run_programs(case, weights), run_eager(case, weights)
    assert_same_bits(programs.results, eager.results)
    assert_close_norms(programs.grads, eager.grads)


@pytest.mark.parametrize("name", [n for n in NODES if "if" in n or n == "izhikevich"])
def test_cases_spike(name: str) -> None:
    case = random_case(NODES[name], 7)
    spikes = run_eager(case, random_weights(case, 7)).results["spikes"]
    assert 0 < spikes.count_nonzero() < spikes.numel()
    most = case.op.outputs[0].type.max
    assert most is not None and spikes.max() <= most
    if most > 2:
        assert spikes.max() > 2


def test_every_node_has_a_case() -> None:
    public = {getattr(nodes, n) for n in nodes.__all__}
    steps = {c for c in public if isinstance(c, type) and issubclass(c, ElementwiseNode)}
    steps -= {nodes.ElementwiseNode, nodes.UserNode}
    steps -= {nodes.PoissonEncoder, nodes.BernoulliEncoder}  # they draw: test_noise.py
    assert steps == {type(n) for n in NODES.values()}
