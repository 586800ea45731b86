"""Networks that learn while they run: state, commit, frozen twins, what is kept between examples, every target."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import snncompile as snn
from snncompile import ms
from snncompile.explain import explain, explain_text
from snncompile.finite import first_non_finite
from snncompile.ir.dot import to_dot
from snncompile.ir.json_form import graph_from_json, graph_to_json
from snncompile.ir.text_form import from_text, to_text
from snncompile.network import Network
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.executor import Executor

from .golden_files import assert_golden
from .plain_target import PlainTarget

START = torch.rand(6, 10, generator=torch.Generator().manual_seed(0))


@snn.neuron(states={"v": 0.0, "theta": 0.0}, outputs={"spikes": 1})
def Adaptive(v, theta, x, *, gain=0.2):
    """Its threshold rises with every spike, and stays."""
    v = v * 0.9 + x
    s = snn.spike(v, 1.0 + theta)
    return {"v": torch.where(s > 0.0, 0.0, v), "theta": theta + gain * s, "spikes": s}


@snn.model(dt=1 * ms)
def digits(x=snn.Spikes(10, max=1), *, rule=None):
    excite = snn.Linear(6, bias=False, init=START)
    back = snn.Feedback(6, max=1, name="inhibition")
    h = (x >> excite) + (back >> snn.Linear(6, bias=False, sign=-1)) >> snn.ExpSyn(tau=3 * ms) >> Adaptive(name="exc")
    back.close(h)
    snn.learn(excite, rule or snn.STDP(eta_plus=0.05, eta_minus=0.01))
    return h


@snn.model(dt=1 * ms)
def layer(x=snn.Spikes(10, max=1), *, rule=None):
    connection = snn.Linear(6, init=START)
    h = x >> connection >> snn.ExpSyn(tau=3 * ms) >> snn.LIF(threshold=2.0)
    snn.learn(connection, rule or snn.STDP(eta_plus=0.05, eta_minus=0.03))
    return h


@snn.model(dt=1 * ms)
def images(x=snn.Spikes((1, 6, 6), max=1)):
    connection = snn.Conv2d(3, 3, stride=2, padding=1, bias=False, init=START[:3, :9].reshape(3, 1, 3, 3))
    h = x >> connection >> snn.LIF(threshold=2.0)
    snn.learn(connection, snn.STDP(eta_plus=0.05, eta_minus=0.03))
    return h


@snn.model(dt=1 * ms)
def recurrent(x=snn.Spikes(10, max=1)):
    via = snn.Linear(6, bias=False, init=0.2 * START[:, :6])
    h = x >> snn.Linear(6, init=START) >> snn.recurrent(snn.LIF(threshold=2.0), via=via)
    snn.learn(via, snn.TripletSTDP())
    return h


@snn.model(dt=1 * ms)
def rewarded(x=snn.Spikes(10, max=1), reward=snn.Current(1)):
    connection = snn.Linear(6, bias=False, init=START)
    h = x >> connection >> snn.LIF(threshold=2.0)
    snn.learn(connection, snn.MSTDPET(eta=0.5), reward=reward)
    return h


@snn.model(dt=1 * ms)
def delayed(x=snn.Spikes(10, max=1)):
    connection = snn.Linear(6, bias=False, init=START)
    h = x >> snn.Delay(3 * ms) >> connection >> snn.LIF(threshold=2.0)
    snn.learn(connection, snn.STDP(eta_plus=0.05), post=h >> snn.Delay(2 * ms))
    return h


def spikes(batch: int, steps: int, shape: Any = (10,), seed: int = 0) -> Tensor:
    return (torch.rand(batch, steps, *shape, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


def compiled(model: snn.Model = layer, target: str = "torch", **options: Any) -> snn.Network:
    torch.manual_seed(0)
    return snn.compile(model, target=target, **options)


def test_a_plain_call_is_refused() -> None:
    with pytest.raises(snn.ModelError, match=r"net.learn\(x\).*net.evolve\(x\).*net.commit\(state\).*net.frozen\(\)"):
        compiled()(spikes(1, 3))


def test_evolve_is_pure_learn_commits() -> None:
    net, x = compiled(), spikes(2, 30)
    with torch.no_grad():
        out, state, record = net.evolve(x, record=["stdp.t_pre", "stdp.t_post:sum", "linear.out", "exp_syn.isyn"])
    assert torch.equal(net.value("linear.weight"), START)
    assert not torch.equal(state["linear.weight"], START) and state["linear.weight"].shape == (6, 10)
    assert state["stdp.t_pre"].shape == (2, 10) and state["stdp.t_post"].shape == (2, 6)
    assert record["stdp.t_pre"].shape == (2, 30, 10) and record["stdp.t_post:sum"].shape == (2, 6)
    assert torch.equal(record["stdp.t_pre"][:, -1], state["stdp.t_pre"])
    assert record["linear.out"].shape == (2, 30, 6)
    again, learnt, _ = net.learn(x)
    assert torch.equal(again, out) and torch.equal(learnt["linear.weight"], state["linear.weight"])
    assert torch.equal(net.value("linear.weight"), state["linear.weight"])
    net.commit({"linear.weight": START})
    assert torch.equal(net.value("linear.weight"), START)


def test_the_current_is_that_of_the_weights_before_the_update() -> None:
    net, x = compiled(), torch.ones(1, 2, 10)
    with torch.no_grad():
        bias = net.value("linear.bias")
        _, first, record = net.evolve(x[:, :1], record="linear.out")
        assert torch.allclose(record["linear.out"][0, 0], START.sum(1) + bias)
        _, _, record = net.evolve(x, record="linear.out")
    assert torch.allclose(record["linear.out"][0, 1], first["linear.weight"].sum(1) + bias)


@pytest.mark.parametrize("model", [layer, digits, recurrent, delayed], ids=lambda m: m.name)
def test_a_run_in_pieces_is_the_run(model: snn.Model) -> None:
    net, x = compiled(model), spikes(2, 20)
    with torch.no_grad():
        out, state, _ = net.evolve(x)
        first, middle, _ = net.evolve(x[:, :7])
        second, last, _ = net.evolve(x[:, 7:], state=middle)
        held, steps = None, []
        for t in range(20):
            y, held = net.step(x[:, t], held)
            steps.append(y)
    assert torch.equal(torch.cat([first, second], 1), out) and torch.equal(torch.stack(steps, 1), out)
    for name, value in state.items():
        assert torch.equal(last[name], value) and torch.equal(held[name], value), name


def test_no_steps_no_batch_no_batch_axis() -> None:
    net = compiled()
    out, state, _ = net.learn(spikes(2, 0))
    assert out.shape == (2, 0, 6) and torch.equal(state["linear.weight"], START)
    out, state, _ = net.learn(spikes(0, 3))
    assert out.shape == (0, 3, 6) and torch.equal(state["linear.weight"], START)
    out, state, _ = net.learn(spikes(1, 8)[0])
    assert out.shape == (8, 6) and state["linear.weight"].shape == (6, 10)


@pytest.mark.parametrize("model", [layer, digits, images, recurrent, rewarded, delayed], ids=lambda m: m.name)
@pytest.mark.parametrize("target", ["c", "triton"])
def test_every_target_learns_the_same(model: snn.Model, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    batch, steps = 2, 8 if target == "triton" else 40
    net = compiled(model)
    inputs = {n: spikes(batch, steps, t.shape, seed=1) for n, t in net.graph.input_types().items()}
    twin = snn.Network(net.graph, target, values={n: v.detach().clone() for n, v in net.state_dict().items()})
    want, state, _ = net.learn(**inputs)
    got, other, _ = twin.learn(**inputs)
    assert float(want.sum()) > 0 and torch.equal(got, want)
    for name, value in state.items():
        assert torch.equal(other[name], value), name
    learned = net.layout.learned[0]
    assert not torch.equal(state[learned], compiled(model).value(learned))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), batch=st.integers(1, 3), steps=st.integers(1, 9), name=st.sampled_from("aprt"))
def test_passes_change_nothing(seed: int, batch: int, steps: int, name: str) -> None:
    rules = {
        "a": snn.STDP(eta_plus=0.1, eta_minus=0.2, algorithm="additive_step"),
        "p": snn.STDP(eta_plus=0.1, algorithm="multiplicative_pow", mu=0.4),
        "r": snn.STDP(eta_minus=0.1, algorithm="multiplicative_relu", hardbound=False),
        "t": snn.TripletSTDP(a2_plus=0.02),
    }
    net, x = compiled(digits, rule=rules[name]), spikes(batch, steps, seed=seed)
    plain = copy.copy(net)
    plain.executor = lambda device, keep=frozenset(): Executor(net.graph, PlainTarget())  # type: ignore[method-assign]
    with torch.no_grad():
        (out, state, _), (want, held, _) = net.evolve(x), plain.evolve(x)
    assert torch.equal(out, want) and all(torch.equal(state[n], held[n]) for n in held)


# -- between examples ----------------------------------------------------------------------------------------------


def test_what_neurons_keep_from_one_example_to_the_next() -> None:
    net, x = compiled(digits), spikes(1, 30)
    _, state, _ = net.learn(x)
    assert float(state["exc.theta"].sum()) > 0
    net.normalize_("linear.weight", 3.0)
    assert torch.allclose(net.value("linear.weight").sum(1), torch.full((6,), 3.0), atol=1e-5)
    normal = net.value("linear.weight").detach().clone()
    fresh = net.initial_state(1, carry={"exc.theta": state["exc.theta"]})
    assert torch.equal(fresh["linear.weight"], normal) and not fresh["exc.v"].any() and not fresh["stdp.t_pre"].any()
    with torch.no_grad():
        want = net.evolve(x, state=fresh)
    got = net.learn(x, state=state, keep=["exc.theta"])
    assert torch.equal(got[0], want[0]) and torch.equal(got[1]["linear.weight"], want[1]["linear.weight"])
    assert net.initial_state(4, carry={"exc.theta": state["exc.theta"]})["exc.theta"].shape == (4, 6)
    alone = compiled(digits).learn(x, keep="exc.theta")  # the first example has nothing to go on from
    assert torch.equal(alone[1]["exc.theta"], state["exc.theta"])


def test_normalisation_leaves_what_is_zero_and_takes_any_axis() -> None:
    net = compiled()
    net.commit({"linear.weight": torch.cat([torch.zeros(1, 10), START[1:]])})
    net.normalize_("linear.weight", 2.0)
    assert not net.value("linear.weight")[0].any()
    assert torch.allclose(net.normalize_("linear.weight", 1.0, dim=0).value("linear.weight").sum(0), torch.ones(10))
    kernels = compiled(images).normalize_("conv2d.weight", 4.0).value("conv2d.weight")
    assert torch.allclose(kernels.flatten(1).sum(1), torch.full((3,), 4.0))
    net.commit({"linear.weight": -START})
    assert torch.allclose(net.normalize_("linear.weight", -2.0).value("linear.weight").sum(1), torch.full((6,), -2.0))


def test_normalisation_leaves_out_what_a_mask_takes_away() -> None:
    mask = (torch.arange(60).reshape(6, 10) % 3 == 0).float()

    @snn.model(dt=1 * ms)
    def masked(x=snn.Spikes(10, max=1)):
        connection = snn.Linear(6, bias=False, init=torch.where(mask == 0, -2.0, START), mask=mask)
        h = x >> connection >> snn.LIF(threshold=2.0)
        snn.learn(connection, snn.STDP())
        return h

    weight = snn.compile(masked, target="torch").normalize_("linear.weight", 3.0).value("linear.weight")
    assert torch.allclose((weight * mask).sum(1), torch.full((6,), 3.0))
    assert torch.equal(weight[mask == 0], torch.full((int((mask == 0).sum()),), -2.0))


def test_normalisation_that_makes_no_sense() -> None:
    net = compiled()
    for total in (0.0, float("nan"), float("inf"), None, "3", torch.ones(6)):
        with pytest.raises(snn.InputError, match=r"cannot be scaled to sum to .*a finite number other than 0"):
            net.normalize_("linear.weight", total)
    for dim in (2, "a", 1.0, (1, -1)):
        said = rf"linear.weight has shape \(6, 10\): there is no axis {re.escape(str(dim))} to sum over"
        with pytest.raises(snn.InputError, match=said):
            net.normalize_("linear.weight", 1.0, dim=dim)
    with pytest.raises(snn.InputError, match=r"linear.bias has shape \(6,\): there is no axis None"):
        net.normalize_("linear.bias", 1.0)
    with pytest.raises(snn.InputError, match=r"a sum there is \d.*every weight would change its sign"):
        net.normalize_("linear.weight", -1.0)
    assert torch.equal(net.value("linear.weight"), START)


def test_mistakes_between_examples() -> None:
    net, state = compiled(digits), compiled(digits).initial_state(2)
    with pytest.raises(snn.InputError, match=r"keep names 'exc.thetas', which is no state; states: exp_syn.isyn"):
        net.learn(spikes(1, 2), state=state, keep=["exc.thetas"])
    with pytest.raises(snn.InputError, match=r"'exc.theta' has shape \(2, 6\); here it is \(3, 6\)"):
        net.learn(spikes(3, 2), state=state, keep=["exc.theta"])
    with pytest.raises(snn.InputError, match="no state 'theta' to carry on"):
        net.initial_state(1, carry={"theta": torch.zeros(1, 6)})
    with pytest.raises(snn.InputError, match=r"no parameter 'linear'; parameters: linear.weight"):
        net.normalize_("linear", 1.0)
    with pytest.raises(snn.InputError, match=r"this state has no 'linear.weight'"):
        net.commit({"exc.v": torch.zeros(1, 6)})
    with pytest.raises(snn.InputError, match=r"'linear.weight' has shape \(6,\) in this state, not \(6, 10\)"):
        net.commit({"linear.weight": torch.zeros(6)})
    with pytest.raises(snn.InputError, match=r"'linear.weight' is not finite any more in this state: learning ran"):
        net.commit({"linear.weight": START * float("inf")})
    assert torch.equal(net.value("linear.weight"), START)
    with pytest.raises(snn.InputError, match=r"state 'linear.weight' has shape \(2, 6, 10\)"):
        net.learn(spikes(2, 2), state={**state, "linear.weight": START.expand(2, 6, 10)})
    for keep in (None, 5):
        with pytest.raises(snn.InputError, match=rf"keep takes names of states, e.g. \['exp_syn.isyn'\], not {keep}"):
            net.learn(spikes(1, 2), state=state, keep=keep)
    with pytest.raises(snn.InputError, match="a state is a dict of tensors by name, not a list"):
        net.learn(spikes(1, 2), state=["exc.theta"], keep=["exc.theta"])
    with pytest.raises(snn.InputError, match="carry is a dict of states by name, not a list"):
        net.initial_state(1, carry=["exc.theta"])
    with pytest.raises(snn.InputError, match=r"state 'exc.theta' is of type NoneType: give a tensor or an array"):
        net.initial_state(1, carry={"exc.theta": None})
    with pytest.raises(snn.InputError, match=r"state 'linear.weight' is of type NoneType: give a tensor or an array"):
        net.commit({"linear.weight": None})
    with pytest.raises(snn.InputError, match=r"state 'linear.weight' is complex64; networks compute in float32"):
        net.commit({"linear.weight": START.to(torch.complex64)})
    assert torch.equal(net.commit({"linear.weight": START.numpy()}).value("linear.weight"), START)
    theta = net.initial_state(3, carry={"exc.theta": START[:1, :6].numpy()})["exc.theta"]
    assert torch.equal(theta, START[:1, :6].expand(3, 6))
    for use in (lambda n: n.learn(spikes(1, 2)), lambda n: n.commit({})):
        with pytest.raises(snn.ModelError, match="nothing in this network learns"):
            use(net.frozen())


# -- without learning, and with gradients --------------------------------------------------------------------------


def test_a_frozen_twin_shares_its_parameters_and_trains() -> None:
    net, x = compiled(), spikes(2, 20)
    frozen = net.frozen()
    assert list(frozen.state_dict()) == [n for n in net.state_dict() if not n.startswith("stdp.")]
    assert "stdp.t_pre" not in frozen.initial_state()
    still = compiled(rule=snn.STDP(eta_plus=0.0, eta_minus=0.0)).learn(x)[0]
    assert torch.equal(frozen(x), still)
    net.learn(x)
    frozen(x).sum().backward()
    assert float(net.value("linear.weight").grad.abs().sum()) > 0
    before = net.value("linear.weight").detach().clone()
    torch.optim.SGD(frozen.parameters(), lr=0.1).step()
    assert not torch.equal(net.value("linear.weight"), before)


def test_no_gradient_flows_unless_asked_for() -> None:
    net, x = compiled(), spikes(1, 5)
    with pytest.raises(snn.InputError, match=r"\(stdp\), but linear.weight requires one.*net.learn.*no_grad.*frozen"):
        net.evolve(x)
    for p in net.parameters():
        p.requires_grad_(False)
    out, state, _ = net.evolve(x)
    assert not out.requires_grad and not state["linear.weight"].requires_grad
    with pytest.raises(snn.InputError, match=r"the signal x.out requires one"):
        net.evolve(x.clone().requires_grad_())
    held = {**state, "lif.v": state["lif.v"].clone().requires_grad_()}
    with pytest.raises(snn.InputError, match=r"the state lif.v requires one"):
        net.evolve(x, state=held)
    net.learn(x.clone().requires_grad_())  # learning records nothing
    assert not net.learn(x)[1]["linear.weight"].requires_grad


def test_gradients_through_learning() -> None:
    @snn.model(dt=1 * ms)
    def taught(x=snn.Spikes(10, max=1), teacher=snn.Spikes(6, max=1)):
        connection = snn.Linear(6, bias=False, init=START)
        h = x >> connection >> snn.LIF(threshold=2.0)
        rate = snn.Param(0.02, trainable=True)
        snn.learn(connection, snn.STDP(eta_plus=rate, algorithm="multiplicative_relu"), post=teacher)
        return h

    net, x = compiled(taught), (spikes(2, 25), spikes(2, 25, (6,), seed=1))
    weights = torch.randn(6, 10)

    def loss(eta: float) -> Tensor:
        net.commit({"linear.weight": START})
        with torch.no_grad():
            net.value("stdp.eta_plus").fill_(eta)
        _, state, _ = net.learn(*x, differentiable=True)
        return (state["linear.weight"] * weights).sum()

    net.zero_grad()
    loss(0.02).backward()
    slope = float(net.value("stdp.eta_plus").grad)
    numeric = float((loss(0.021) - loss(0.019)).detach()) / 2e-3
    assert abs(slope - numeric) < 1e-2 * abs(numeric) and abs(slope) > 1
    assert float(net.value("linear.weight").grad.abs().sum()) > 0
    with pytest.raises(snn.InputError, match='differentiable=True needs target "torch"; this network runs on "c"'):
        compiled(target="c").learn(spikes(1, 2), differentiable=True)


def test_powers_need_weights_within_bounds() -> None:
    rule = snn.STDP(algorithm="multiplicative_pow", mu=0.5, w_max=0.5)
    with pytest.raises(snn.ModelError, match=r"linear.weight lies from .* within w_min=0 and w_max=0.5: .*NaN"):
        compiled(rule=rule)
    net = compiled(rule=snn.STDP(algorithm="multiplicative_pow", mu=0.5))
    with pytest.raises(snn.ModelError, match=r"linear.weight lies from .* within w_min=0 and w_max=1: .*NaN"):
        net.commit({"linear.weight": 3.0 * START})
    assert torch.equal(net.value("linear.weight"), START)
    with torch.no_grad():
        net.value("linear.weight").sub_(2.0)
    with pytest.raises(snn.ModelError, match=r"linear.weight lies from -.* Start within them"):
        net.learn(spikes(1, 2))
    with pytest.raises(snn.ModelError, match="w_min must be smaller than w_max"):
        net.value("stdp.w_min").fill_(2.0)
        net.check_parameters()
    net.clamp_()
    assert float(net.value("stdp.w_min")) < 1.0


# -- the rest of the house -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [layer, digits, images, recurrent, rewarded], ids=lambda m: m.name)
def test_forms_read_back(model: snn.Model) -> None:
    for graph in (model.build(), compile_graph(model.build(), Request())):
        assert to_text(from_text(to_text(graph))) == to_text(graph)
        assert to_text(graph_from_json(graph_to_json(graph))) == to_text(graph)
        assert "hexagon" in to_dot(graph)


def test_the_text_of_a_network_that_learns() -> None:
    assert_golden("learning.txt", to_text(compile_graph(digits.build(), Request()), places=False))


def test_artifacts_learn_on(tmp_path: Path) -> None:
    net, x = compiled(digits), spikes(1, 20)
    _, _, _ = net.learn(x)
    back = snn.load(net.save(tmp_path / "digits.snn"), target="torch")
    want, state, _ = net.learn(x)
    got, other, _ = back.learn(x)
    assert torch.equal(got, want) and torch.equal(other["linear.weight"], state["linear.weight"])


def test_copies_learn_by_themselves() -> None:
    net, x = compiled(), spikes(1, 20)
    twin = copy.deepcopy(net)
    net.learn(x)
    assert torch.equal(twin.value("linear.weight"), START)
    assert torch.equal(twin.learn(x)[1]["linear.weight"], net.value("linear.weight"))


def test_inside_a_compiled_module() -> None:
    net, x = compiled(), spikes(1, 6)

    def run(x: Tensor) -> Tensor:
        return net.evolve(x)[1]["linear.weight"] * 2

    with torch.no_grad():
        want = run(x)
        assert torch.equal(torch.compile(run, backend="eager")(x), want)


def test_interchange_refuses_it_by_name(tmp_path: Path) -> None:
    net = compiled()
    with pytest.raises(snn.InterchangeError, match=r"'stdp'.*NIR cannot say that linear.weight learns \(STDP\).*lossy"):
        net.to_nir(tmp_path / "net.nir")
    assert not list(tmp_path.iterdir())
    assert net.frozen().to_onnx(tmp_path / "net.onnx").path.exists()


@pytest.mark.parametrize("rewarded", [False, True])
def test_lossy_nir_is_the_network_without_learning(tmp_path: Path, rewarded: bool) -> None:
    pytest.importorskip("nir")

    @snn.model(dt=1 * ms)
    def learner(x=snn.Spikes(4, max=1), reward=snn.Current(1)):
        connection = snn.Linear(3, bias=False, init=START[:3, :4], name="fc")
        fires = snn.LIF(tau_mem=10 * ms, threshold=0.4, strict=True, max_spikes_per_dt=1, reset="zero")
        h = x >> connection >> fires
        if rewarded:
            snn.learn(connection, snn.MSTDPET(eta=0.1), reward=reward)
        else:
            snn.learn(connection, snn.STDP(eta_plus=0.05))
        return h

    net = snn.compile(learner)
    made = net.to_nir(tmp_path / "net.nir", lossy=True)
    (line,) = made.lost
    assert "fc.weight learns" in line
    back = snn.from_nir(made.path, **made.read_with)
    x, reward = spikes(2, 15)[..., :4], torch.zeros(2, 15, 1)
    with torch.no_grad():
        want = net.frozen()(x=x, reward=reward)
        assert want.sum() > 0 and torch.equal(back(x=x, reward=reward), want)


def test_explained() -> None:
    text = explain_text(explain(digits.build(), "torch"))
    assert "plastic: linear_1, add_exp_syn_exc" in text or "plastic: linear," in text
    assert "a loop over the steps (the reference), weights updated at each" in text
    assert "linear.weight learns at every step, a cycle through inhibition" in text
    assert "one kernel for all steps (C), weights updated at each" in explain_text(explain(images.build(), "c"))
    said = explain_text(explain(layer.build(), "auto"))
    gpu = "on a GPU one kernel for all steps (Triton), weights updated at each: weights in registers"
    assert gpu in said and "; on a CPU one kernel for all steps (C), weights updated at each" in said
    one = "one function for all steps, weights updated at each"
    assert f"runs as   {one}" in explain_text(explain(digits.build(), "c"))
    kernel = "one kernel for all steps, weights updated at each: 1 kernel, 2 products, 1 rule inside, in one program"
    many = "and for 2,729 sequences or more in several that share it"
    assert f"runs as   {kernel}, {many} (Triton)" in explain_text(explain(digits.build(), "triton"))
    assert f"on a GPU {kernel}, {many}; on a CPU {one}" in explain_text(explain(digits.build(), "auto"))


def test_the_first_value_that_is_not_finite() -> None:
    net = compiled(rule=snn.STDP(eta_plus=1e38, hardbound=False))
    x = torch.ones(1, 30, 10)
    with torch.no_grad():
        found = first_non_finite(net, {"x": x}, None, None, None)
    assert found is not None and found.signal == "linear.out"


def test_values_that_are_given_stay_the_callers() -> None:
    graph = layer.build()
    mine = {name: value.detach().clone() for name, value in snn.compile(layer).state_dict().items()}
    before = {name: value.clone() for name, value in mine.items()}
    net = Network(graph, "torch", values=mine)
    (name,) = [n for n in mine if n.endswith("weight")]
    net.normalize_(name, 5.0)
    assert not torch.equal(net.state_dict()[name], mine[name])
    assert all(torch.equal(value, before[n]) for n, value in mine.items())
