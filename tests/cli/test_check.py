"""``snncompile check``, and the checks themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import snncompile as snn
from snncompile import checks, network
from snncompile.checks import passes, targets
from snncompile.checks.running import random_sample
from snncompile.checks.whole import check_whole
from snncompile.ir.graph import Ref
from snncompile.ir.types import SignalType
from snncompile.targets.torch.loop import LoopTarget

from ..targets.plastic_calls import PlainPlastic

COMMAND = str(Path(sys.executable).with_name("snncompile"))


def status(checks: list) -> dict[str, str]:
    return {
        c["name"] if isinstance(c, dict) else c.name: c["status"] if isinstance(c, dict) else c.status for c in checks
    }


def test_a_good_network(cli, built):
    done = cli("check", built, "--target", "torch", "--json")
    assert done.status == 0, done.out
    assert status(done.json["checks"]) == dict.fromkeys(
        [
            "parameters",
            "finite values",
            "passes",
            "torch: spikes and states",
            "torch: gradients",
            "torch: whole network",
        ],
        "ok",
    )
    assert "FAILED" not in cli("check", built, "--target", "torch").out


def test_triton_in_a_process_of_its_own(model):
    """On a machine without a GPU it runs in the interpreter, and says so."""
    command = [COMMAND, "check", str(model), "--target", "triton", "--steps", "6", "--json"]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    assert status(facts["checks"])["triton: spikes and states"] == "ok"
    if not torch.cuda.is_available():
        assert "interpreter" in next(c["detail"] for c in facts["checks"] if c["name"] == "triton: spikes and states")
        assert facts["steps"] == 6


def test_the_environment_is_left_alone(cli, built):
    cli("check", built, "--target", "torch")
    assert "TRITON_INTERPRET" not in os.environ


class Wrong(LoopTarget):
    """The reference, but one value of the first scan is off from step 3 on, and gradients are doubled."""

    def forward(self, scan, call):
        result = super().forward(scan, call)
        stored = {k: v.clone() for k, v in result.stored.items()}
        if "lif_v" in stored:
            stored["lif_v"][3:, 1, 2] += 2.0
        return replace(result, stored=stored)

    def backward(self, scan, call):
        result = super().backward(scan, call)
        return replace(result, inputs=tuple(None if g is None else 2 * g for g in result.inputs))


def test_a_wrong_target_is_found(cli, built, monkeypatch):
    monkeypatch.setattr(targets, "make_target", lambda name: Wrong())
    done = cli("check", built, "--target", "torch", "--json")
    assert done.status == 1
    found = {c["name"]: c for c in done.json["checks"]}
    assert found["torch: spikes and states"]["status"] == "failed"
    assert "lif.v in exp_syn_lif first differs at step 3, element [1, 2]" in found["torch: spikes and states"]["detail"]
    assert found["torch: gradients"]["status"] == "failed"
    assert "FAILED" in cli("check", built, "--target", "torch").out


def test_a_wrong_pass_is_found(cli, built, monkeypatch):
    compile_graph = passes.compile_graph

    def wrong(graph, request, upto=None):
        done = compile_graph(graph, request, upto)
        if upto is None or upto in list(passes.pass_names())[2:]:
            return replace(done, outputs=(("out", Ref("linear_1")),))
        return done

    monkeypatch.setattr(passes, "compile_graph", wrong)
    last = checks.check_network(snn.load(built), [])[-1]
    assert (last.name, last.status) == ("passes", "failed")
    assert passes.pass_names()[2] in last.detail


def test_broken_parameters(cli, built, tmp_path):
    net = snn.load(built)
    with torch.no_grad():
        net.lif.tau_mem[1] = -1.0
    net.save(tmp_path / "b.snn")
    done = cli("check", "b.snn")
    assert done.status == 1 and "FAILED" in done.out and "tau_mem must be greater than 0" in done.out


def test_values_that_are_not_finite(cli, write):
    from .test_run import EXPLODES

    write(EXPLODES)
    done = cli("check", "net.py")
    assert done.status == 1
    assert "the first value that is not finite is" in done.out and "growing.y" in done.out


def test_a_fold_may_round(write, cli):
    write(
        "import snncompile as snn\n\n@snn.model(dt=1e-3)\ndef net(x=snn.Spikes(8)):\n"
        "    return x >> snn.Linear(8) >> snn.BatchNorm() >> snn.LIF() >> snn.Linear(3) >> snn.LI()\n"
    )
    done = cli("check", "net.py", "--target", "torch", "--steps", 40)
    assert done.status == 0, done.out


def test_a_model_without_inputs_or_gradients(write, cli):
    write(
        "import snncompile as snn\n\n@snn.model(dt=1e-3)\ndef net(x=snn.Current((2, 4, 4))):\n"
        "    return x >> snn.Conv2d(3, 3) >> snn.IF() >> snn.SumPool2d(2) >> snn.Flatten()\n"
    )
    done = cli("check", "net.py", "--target", "torch")
    assert done.status == 0, done.out + done.err


LEARNER = """
import snncompile as snn, torch

@snn.model(dt=1e-3)
def net(x=snn.Spikes(6)):
    connection = snn.Linear(4, bias=False, init=torch.linspace(0.1, 0.9, 24).reshape(4, 6))
    h = x >> connection >> snn.LIF()
    snn.learn(connection, snn.STDP(algorithm="multiplicative_pow", mu=0.5, w_min=0.1, w_max=0.9))
    return h
"""


def test_weights_that_learn_stay_within_their_bounds(write, cli):
    write(LEARNER)
    done = cli("check", "net.py", "--target", "torch", "--steps", 20)
    assert done.status == 0, done.out
    assert "values of outputs and the last state bit-identical, weights that do not learn rounded" in done.out


class Forgetful(PlainPlastic):
    """The plainest run of a layer that learns, but the weights that it ends with are off."""

    def forward(self, scan, rule, call):
        result = super().forward(scan, rule, call)
        return replace(result, weight=result.weight * 0.75)


@pytest.mark.parametrize(("learner", "found"), [(Forgetful, "failed"), (PlainPlastic, "ok")])
def test_weights_that_are_learnt_wrongly_are_found(learner, found, monkeypatch):
    @snn.model(dt=1e-3)
    def net(x=snn.Spikes((1, 5, 5), max=1)):
        connection = snn.Conv2d(2, 3, bias=False, init=torch.linspace(0.1, 0.9, 18).reshape(2, 1, 3, 3))
        h = x >> connection >> snn.LIF()
        snn.learn(connection, snn.STDP(eta_plus=0.01))
        return h

    other = LoopTarget()
    other.plastic = learner()
    real = network.make_target
    monkeypatch.setattr(network, "make_target", lambda name, *more: other if name == "c" else real(name, *more))
    given = random_sample({"x": SignalType("spikes", (1, 5, 5), 1)}, 10, 2, 0)
    check = check_whole(snn.compile(net), "c", given, torch.device("cpu"))
    assert check.status == found and "values of outputs and the last state" in check.detail


def test_wrong_arguments(cli, model):
    assert "there is no target 'x'" in cli("check", "net.py", "--target", "x").err
    assert cli("check", "gone.py").status == 2


@pytest.mark.parametrize("name", ["auto", "torch"])
def test_auto_is_no_target_of_its_own(cli, built, name):
    assert cli("check", built, "--target", name, "--json").status == 0
