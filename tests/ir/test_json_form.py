"""The JSON form: it says all there is, reads back exactly, and trusts nothing it reads."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import snncompile as snn
from snncompile.ir.errors import ArtifactError, SnnError, VerificationError
from snncompile.ir.graph import Note
from snncompile.ir.json_form import FORMAT, graph_from_json, graph_to_json
from snncompile.ir.program import Op, Program
from snncompile.ir.reading import MAX_TEXT, parse_json

from ..random_models import random_model, seeds
from .models import graphs, layered, shared

GRAPHS = graphs()


def dumped(graph) -> str:
    return json.dumps(graph_to_json(graph), indent=1, allow_nan=False)


@pytest.mark.parametrize("name", GRAPHS)
def test_reads_back(name: str) -> None:
    text = dumped(GRAPHS[name])
    back = graph_from_json(parse_json(text))
    assert dumped(back) == text
    assert back.names == GRAPHS[name].names
    assert back.states() == GRAPHS[name].states()
    assert back.parameters() == GRAPHS[name].parameters()
    assert back.regions == GRAPHS[name].regions


@given(seeds)
def test_random_networks_read_back(seed: int) -> None:
    text = dumped(random_model(seed).build())
    assert dumped(graph_from_json(json.loads(text))) == text


def test_same_model_same_bytes() -> None:
    assert dumped(layered.build()) == dumped(layered.build())


def test_a_graph_read_back_runs_the_same() -> None:
    import torch

    torch.manual_seed(0)
    net = snn.compile(layered, target="torch")
    again = snn.compile(graph_from_json(graph_to_json(net.graph)), target="torch")
    again.load_state_dict(net.state_dict())
    x = (torch.rand(2, 30, 6) < 0.5).float()
    assert torch.equal(net(x), again(x))


def test_no_machine_path_and_no_array() -> None:
    text = dumped(shared.build())
    assert str(Path(__file__).parent) not in text
    assert "models.py:" in text
    weight = graph_to_json(shared.build())["nodes"][2]["params"]["weight"]
    assert weight["init"] == {"kind": "given", "args": []}


def test_identical_programs_are_written_once() -> None:
    data = graph_to_json(shared.build())
    assert [n.get("forward") for n in data["nodes"] if n.get("kind") == "CubaLIF"] == ["cuba_lif.step"] * 2
    assert sorted(data["programs"]) == ["add.grad", "add.step", "cuba_lif.grad", "cuba_lif.step"]


def test_constants_that_json_lacks() -> None:
    graph = layered.build()
    op = graph.op("lif")
    strange = (float("nan"), float("inf"), -float("inf"), -0.0)
    ops = tuple(Op(f"c{i}", "add", ("x", c)) for i, c in enumerate(strange))
    flag = Op("f", "and", (True, False))
    outputs = tuple((name, arg) for name, arg in op.forward.outputs)
    program = Program(op.forward.inputs, (*op.forward.ops, *ops, flag), outputs)
    graph.nx.nodes["lif"]["op"] = type(op)(**{**vars_of(op), "forward": program})
    text = dumped(graph)
    back = graph_from_json(parse_json(text)).op("lif").forward
    assert [repr(o.args[1]) for o in back.ops[-5:-1]] == ["nan", "inf", "-inf", "-0.0"]
    assert back.ops[-1].args == (True, False)


def vars_of(op) -> dict:
    import dataclasses

    return {f.name: getattr(op, f.name) for f in dataclasses.fields(op)}


def test_a_note_is_written_on_one_line() -> None:
    graph = layered.build().noted([Note("me", "lif", "one\ntwo" + "x" * MAX_TEXT)])
    (note,) = graph_from_json(graph_to_json(graph)).notes
    assert note.text.startswith("one two") and len(note.text) == MAX_TEXT


# -- refusals ------------------------------------------------------------------------------------------------------


def change(path: str, value: object):
    def apply(data: dict) -> None:
        *keys, last = [int(k) if k.isdigit() else k for k in path.split("/")]
        for key in keys:
            data = data[key]
        data[last] = value

    return apply


def drop(path: str):
    def apply(data: dict) -> None:
        *keys, last = [int(k) if k.isdigit() else k for k in path.split("/")]
        for key in keys:
            data = data[key]
        del data[last]

    return apply


P = "programs/lif.step"
BAD = {
    "newer": (change("format", FORMAT + 1), f"format: {FORMAT + 1} is newer than the format {FORMAT}"),
    "no format": (drop("format"), "format: must be a whole number, not null"),
    "unknown key": (change("colour", 1), "the top level: unknown key 'colour'"),
    "missing key": (drop("edges"), "the top level: the key 'edges' is missing"),
    "unknown node key": (change("nodes/3/colour", 1), "nodes[3]: unknown key 'colour'"),
    "missing node key": (drop("nodes/3/states"), "nodes[3]: the key 'states' is missing"),
    "no op": (drop("nodes/3/op"), "nodes[3]: the key 'op' is missing"),
    "unknown op": (change("nodes/3/op", "magic"), "nodes[3].op: is 'magic', not one of input, connection"),
    "unknown kind": (change("nodes/1/kind", "Quadratic"), "node 'linear' at models.py"),
    "bad node name": (change("nodes/3/name", "a b"), "nodes[3].name: 'a b' cannot name a node"),
    "a name for C": (change("nodes/3/name", "a;system()"), "cannot name a node"),
    "same name": (change("nodes/3/name", "linear"), "two nodes are called 'linear'"),
    "shape": (change("nodes/1/output/shape", [4, "4"]), "nodes[1].output.shape[1]: must be a whole number, not '4'"),
    "bool is no number": (change("nodes/1/output/shape", [True]), "must be a whole number, not True"),
    "negative": (change("nodes/1/output/shape", [-4]), "nodes[1].output: a feature shape holds positive"),
    "huge number": (change("nodes/1/output/shape", [2**70]), "is too large a number"),
    "huge signal": (change("nodes/0/type/shape", [2**40]), "more than the limit"),
    "many axes": (change("nodes/0/type/shape", [1] * 20), "has 20 axes, more than the limit of 8"),
    "signal kind": (change("nodes/0/type/kind", "smell"), "nodes[0].type: unknown signal kind 'smell'"),
    "init": (change("nodes/1/params/bias/init/kind", "magic"), "unknown initialisation 'magic'"),
    "constraint": (change("nodes/3/params/tau_mem/constraint", "large"), "unknown constraint 'large'"),
    "where": (change("nodes/3/where", "nowhere"), "nodes[3].where: must be 'file:line', not 'nowhere'"),
    "line break": (change("nodes/3/where", "a\n:1"), "holds a character that cannot be printed"),
    "long text": (change("nodes/3/where", "a" * 5000 + ":1"), "text of 5002 characters, more than the limit"),
    "attr": (change("nodes/3/attrs", {"a": [[1]]}), "nodes[3].attrs.a[0]: a list within a list"),
    "no program": (change("nodes/3/forward", "x.step"), "nodes[3].forward: there is no program 'x.step'"),
    "source": (change("edges/0/source", "ghost.out"), "edges[0].source: there is no node 'ghost'"),
    "ref": (change("edges/0/source", "x"), "edges[0].source: must be 'node.port', not 'x'"),
    "fed twice": (change("edges/1/target", "linear.x"), "edges[1].target: linear.x is fed twice"),
    "delay": (change("edges/1/delay", 0.5), "edges[1].delay: must be a whole number, not 0.5"),
    "NaN": (change("dt", float("nan")), "dt: must be a number, not nan"),
    "float": (change("dt", {"float": "big"}), "dt: must be a number, not an object"),
    "nodes": (change("nodes", {}), "nodes: must be a list, not an object"),
    "operation": (change(f"{P}/ops/0/1", "system"), "unknown operation 'system'"),
    "operation form": (change(f"{P}/ops/0", ["a"]), "programs.lif.step.ops[0]: must be a list of name, operation"),
    "operand": (change(f"{P}/ops/0/2", ["v", None]), "programs.lif.step.ops[0][2][1]: must be a number, not null"),
    "value name": (change(f"{P}/ops/0/0", "a b"), "'a b' is not a valid name for a value"),
    "constant": (change(f"{P}/ops/0/2", [0.1, "tau_mem"]), "the constant 0.1 is not a float32"),
    "too many operands": (change(f"{P}/ops/0/2", ["x"] * 9), "holds 9 values, more than the limit of 8"),
    "too many operations": (change(f"{P}/ops", [["a", "neg", ["x"], ""]] * 20_001), "more than the limit of 20000"),
    "outputs": (change("outputs", {}), "has no output"),
    "output": (change("outputs/out", "lif.smell"), "there is no port lif.smell"),
    "region": (change("regions", [{"kind": "scan", "nodes": ["lif"]}]), "regions[0]: the key 'reason' is missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str) -> None:
    damage, message = BAD[case]
    data = json.loads(dumped(layered.build()))
    damage(data)
    with pytest.raises((ArtifactError, VerificationError)) as caught:
        graph_from_json(data)
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "graph", 3, {"format": True}, {1: 2}])
def test_refuses_what_is_no_graph(data: object) -> None:
    with pytest.raises(ArtifactError):
        graph_from_json(data)


def test_json_that_means_two_things() -> None:
    with pytest.raises(ArtifactError, match="the key 'a' stands twice"):
        parse_json('{"a": 1, "a": 2}')
    with pytest.raises(ArtifactError, match="NaN is no JSON number"):
        parse_json("[NaN]")
    with pytest.raises(ArtifactError, match="not valid JSON"):
        parse_json("[1, 2")
    with pytest.raises(ArtifactError, match="not valid JSON"):
        parse_json("[" * 100_000)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([]), st.just({}),
    st.sampled_from(["lif", "x", "v", "lif.v", "linear.out", "scan", "spikes", "exp", "lif.step", {"float": "nan"}]),
)  # fmt: skip


@given(st.randoms(use_true_random=False), st.lists(VALUES, min_size=1, max_size=3), st.sampled_from(sorted(GRAPHS)))
def test_damage_is_an_error_of_ours(rng: random.Random, values: list, name: str) -> None:
    """Whatever stands in a file: it reads, or one of our errors says why not."""
    data = copy.deepcopy(JSON[name])
    for value in values:
        replace_somewhere(rng, data, value)
    try:
        text = json.dumps(graph_to_json(graph_from_json(data)))
    except SnnError as err:
        assert str(err)
    else:
        assert graph_to_json(graph_from_json(json.loads(text))) == json.loads(text)


JSON = {name: graph_to_json(graph) for name, graph in GRAPHS.items()}


def replace_somewhere(rng: random.Random, data: object, value: object) -> None:
    """Walk down at random, and there replace, remove, add or swap."""
    while True:
        keys = list(data) if isinstance(data, dict) else list(range(len(data)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(data[key], (dict, list)) and data[key] and rng.random() < 0.85:
            data = data[key]
            continue
        choice = rng.randrange(4)
        if choice == 0:
            del data[key]
        elif choice == 1:
            data[key] = data[rng.choice(keys)]
        elif choice == 2 and isinstance(data, dict):
            data[str(value)[:20]] = data[key]
        else:
            data[key] = value
        return
