"""The text form: it reads back exactly, stays the same, and says on which line it went wrong."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snncompile.ir.errors import SnnError, VerificationError
from snncompile.ir.graph import Edge, Note, Ref
from snncompile.ir.json_form import graph_to_json
from snncompile.ir.text_form import from_text, to_text

from ..golden_files import assert_golden
from ..random_models import random_model, seeds
from .models import graphs, images, layered, recurrent

GRAPHS = graphs()
TEXTS = {name: to_text(graph) for name, graph in GRAPHS.items()}


@pytest.mark.parametrize("name", GRAPHS)
def test_reads_back(name: str) -> None:
    back = from_text(TEXTS[name])
    assert to_text(back) == TEXTS[name]
    assert graph_to_json(back) == graph_to_json(GRAPHS[name])


@given(seeds)
def test_random_networks_read_back(seed: int) -> None:
    graph = random_model(seed).build()
    back = from_text(to_text(graph))
    assert to_text(back) == to_text(graph)
    assert graph_to_json(back) == graph_to_json(graph)


@pytest.mark.parametrize("model", [layered, recurrent, images], ids=lambda m: m.name)
def test_golden(model) -> None:
    assert_golden(f"{model.name}.txt", to_text(model.build(), places=False))


def test_without_places_it_is_the_same_but_for_them() -> None:
    text = to_text(GRAPHS["layered"], places=False)
    assert ".py:" not in text
    assert to_text(from_text(text)) == text


def test_a_graph_that_breaks_rules_can_be_shown() -> None:
    """A pass that breaks a graph is found by looking at it."""
    graph = layered.build()
    graph.nx.remove_edge("linear", "exp_syn")
    graph.connect("lif", "x", Edge(Ref("exp_syn", "isyn"), 0, "odd"))
    text = to_text(graph)
    assert "exp_syn = ExpSyn(x=?)" in text
    assert "lif = LIF(x=prev0(exp_syn.isyn as odd))" in text
    assert to_text(from_text(text, check=False)) == text


@pytest.mark.parametrize("said", ["", " ", "a: b; c", '"quoted"', " blank ", "ünïcode", 'a "b', "#nan", "\\"])
def test_free_text(said: str) -> None:
    graph = layered.build().noted([Note("a pass" + said, "no node" + said, said)])
    graph.nx.nodes["lif"]["op"].attrs["a setting"] = said
    back = from_text(to_text(graph))
    assert back.notes == graph.notes
    assert back.op("lif").attrs == {"a setting": said}


# -- refusals ------------------------------------------------------------------------------------------------------

HEAD = "graph g, dt 0.001\n\ninput x: spikes[4]\n"
LINEAR = "linear = Linear(x=x: spikes[4]<=1) -> current[2]\n  param weight: weights[2x4] = kaiming_uniform(4.0)\n"
START = "graph g, dt 0.001\n\ninput x: spikes[4]<=1\n\n"
OUT = "\noutput out = linear\n"


def test_the_smallest_network() -> None:
    graph = from_text(START + LINEAR + OUT)
    assert graph.names == ("x", "linear")


BAD = {
    "empty": ("", "line 1: the first line must be 'graph <name>, dt <seconds>'"),
    "header": ("network g\n", "line 1: the first line must be 'graph <name>, dt <seconds>'"),
    "time step": ("graph g, dt fast\n", "line 1: the first line must be"),
    "no line": (START + "hello\n", "line 5: this is no node, input, output, region, note or program: 'hello'"),
    "indented": ("  state v from 0.0\n", "line 1: this line is indented, but belongs to nothing"),
    "indented input": (START + "  state v from 0.0\n", "line 5: only nodes and programs have indented lines"),
    "type": (START + "input y: spikes[4x]<=1\n", "line 5: a shape is written [2x34x34], not '[4x]'"),
    "kind of signal": (START + "input y: smell[4]\n", "line 5: nodes[1].type: unknown signal kind 'smell'"),
    "spikes": (HEAD, "line 3: nodes[0].type: spikes need a maximum count"),
    "name twice": (START + "input x: current[4]\n", "line 5: nodes[1].name: two nodes are called 'x'"),
    "feed": (START + "a = Linear(y: x) -> current[2]\n", "line 5: this says not what feeds a port: 'y: x'"),
    "fed twice": (START + "a = Linear(x=x, x=x) -> current[2]\n", "line 5: port 'x' is fed twice"),
    "connection": (START + "a = Linear(x=x) -> current[2]\n", "line 5: this is a connection (it has no step)"),
    "source": (START + "a = Linear(x=y: current[4]) -> current[2]\n", "line 5: edges[0].source: there is no node 'y'"),
    "line of a node": (START + LINEAR + "  colour = red\n", "line 7: this is no line of a node: 'colour = red'"),
    "state": (START + LINEAR + "  state v from 0.0\n", "line 7: this is no line of a node"),
    "parameter twice": (START + LINEAR + LINEAR.splitlines()[1], "line 7: 'weight' stands twice in this node"),
    "constraints": (START + LINEAR.replace("(4.0)", "(4.0), positive, nonzero"), "line 6: a parameter has one"),
    "init": (START + LINEAR.replace("kaiming", "caiman") + OUT, "unknown initialisation 'caiman_uniform'"),
    "number": (START + LINEAR.replace("4.0)", "four)"), "line 6: 'four' is no number"),
    "attr": (START + LINEAR + "  attr a = {\n", "line 7: '{' cannot be read"),
    "output twice": (START + LINEAR + OUT + OUT, "line 10: 'out' stands twice among the outputs"),
    "rule": (START + LINEAR.replace("2x4", "2x5") + OUT, "line 5: a weight of (2, 5) does not fit features (4,)"),
    "no output": (START + LINEAR, "the graph 'g' has no output"),
    "return": (START + "program p(x)\n  a = neg x\n", "line 6: the program 'p' must end with 'return"),
    "operation": (START + "program p(x)\n  a neg x\n  return y = a\n", "line 6: an operation is written <name> = <op>"),
    "operand": (START + "program p(x)\n  a = neg x y\n  return y = a\n", "line 6: 'x y' is neither a name nor"),
    "result": (START + "program p(x)\n  return a\n", "line 6: a result is written <name> = <value>, not 'a'"),
    "program twice": (START + "program p(x)\n  return\nprogram p(x)\n  return\n", "line 7: 'p' stands twice among the"),
    "constant": (START + "program p(x)\n  return y = #maybe\n", "line 6: '#maybe' is no number"),
    "not used": (START + LINEAR + "program p(x)\n  return y = x\n" + OUT, "line 7: programs.p: no node uses this"),
    "infinite": (START + "program p(x)\n  return y = 1e99\n", "line 5: programs.p.outputs.y: must be a number"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str) -> None:
    text, message = BAD[case]
    with pytest.raises(VerificationError) as caught:
        from_text(text)
    assert message in str(caught.value)


@given(st.randoms(use_true_random=False), st.sampled_from(sorted(TEXTS)))
def test_damage_is_an_error_of_ours(rng: random.Random, name: str) -> None:
    lines = TEXTS[name].splitlines()
    for _ in range(rng.randrange(1, 4)):
        i = rng.randrange(len(lines))
        words = lines[i].split(" ")
        choice = rng.randrange(5)
        if choice == 0:
            del lines[i]
            if not lines:
                return
        elif choice == 1:
            lines.insert(i, rng.choice(lines))
        elif choice == 2:
            words[rng.randrange(len(words))] = rng.choice(rng.choice(lines).split(" "))
            lines[i] = " ".join(words)
        elif choice == 3:
            at = rng.randrange(len(lines[i]) + 1)
            lines[i] = lines[i][:at] + rng.choice("()[]=:;,.x0#\"'é \t") + lines[i][at + 1 :]
        else:
            lines[i] = lines[i][: rng.randrange(len(lines[i]) + 1)]
    try:
        graph = from_text("\n".join(lines))
    except SnnError as err:
        assert str(err)
    else:
        assert to_text(from_text(to_text(graph))) == to_text(graph)
