"""``snncompile show`` and ``snncompile explain``."""

from __future__ import annotations

import json

import pytest

from snncompile.ir.json_form import graph_from_json
from snncompile.passes.pipeline import pass_names


def test_text_of_a_model_and_of_an_artifact(cli, model, built):
    a, b = cli("show", "net.py"), cli("show", built)
    assert a.status == b.status == 0
    assert "graph net" in a.out and "linear = Linear" in a.out
    assert a.out == b.out


@pytest.mark.parametrize("name", [*pass_names(), "all"])
def test_after_every_pass(cli, model, name):
    assert cli("show", "net.py", "--after", name).status == 0


def test_after_fusion(cli, model):
    assert "exp_syn_lif" not in cli("show", "net.py").out
    assert "exp_syn_lif" in cli("show", "net.py", "--after", "fuse-chains").out


def test_unknown_pass_or_format(cli, model):
    done = cli("show", "net.py", "--after", "magic")
    assert done.status == 2 and "there is no pass 'magic'; the passes, in order: " in done.err
    assert all(name in done.err for name in pass_names())
    done = cli("show", "net.py", "--format", "svg")
    assert done.status == 2 and "the formats are text, json, dot, png" in done.err
    assert "--out graph.png" in cli("show", "net.py", "--format", "png").err


def test_json_reads_back(cli, model):
    graph = graph_from_json(cli("show", "net.py", "--format", "json").json)
    assert graph.name == "net"


def test_out(cli, model, tmp_path):
    assert cli("show", "net.py", "--out", "g.txt").out == ""
    assert (tmp_path / "g.txt").read_text() == cli("show", "net.py").out
    assert "there is no directory" in cli("show", "net.py", "--out", "gone/g.txt").err


def test_dot_and_png(cli, model, tmp_path):
    assert cli("show", "net.py", "--format", "dot").out.startswith("digraph")
    assert cli("show", "net.py", "--format", "png", "--out", "g.png").status == 0
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("target", ["torch", "triton", "c", "auto"])
def test_explain(cli, model, target):
    done = cli("explain", "net.py", "--target", target)
    assert done.status == 0
    for words in (
        "1. product: linear",
        "scan: exp_syn_lif",
        "computes  exp_syn, lif",
        "FLOPs",
        "training  keeps",
        "why  ",
    ):
        assert words in done.out
    assert ("Triton" in done.out) == (target in ("triton", "auto"))


def test_explain_says_why_not(cli, write):
    write(
        "import snncompile as snn\n\n@snn.model(dt=1e-3)\ndef net(x=snn.Spikes(4)):\n"
        "    h = x >> snn.ExpSyn()\n    return h >> snn.recurrent(snn.LIF(), via=snn.Linear(4))\n"
    )
    done = cli("explain", "net.py")
    assert "recurrent: " in done.out
    assert "not fused with exp_syn" in done.out and "(fuse-chains)" in done.out


def test_explain_json(cli, model):
    facts = cli("explain", "net.py", "--json", "--checkpoint", 4).json
    assert (facts["ok"], facts["model"], facts["checkpoint"]) == (True, "net", 4)
    assert [r["kind"] for r in facts["regions"]] == ["product", "scan", "product", "scan"]
    assert facts["regions"][0]["inference"]["flops"] > 0


def test_explain_takes_the_artifacts_settings(cli, model):
    cli("build", "net.py", "--target", "triton", "--checkpoint", 5)
    facts = json.loads(cli("explain", "net.snn", "--json").out)
    assert (facts["target"], facts["checkpoint"]) == ("triton", 5)
    assert "every 5 steps" in cli("explain", "net.snn").out
    assert "there is no target 'x'" in cli("explain", "net.snn", "--target", "x").err
