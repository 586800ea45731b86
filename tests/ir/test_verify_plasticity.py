"""What the verifier says of plasticity that something broke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import snncompile as snn
from snncompile.ir.errors import SnnError, VerificationError
from snncompile.ir.graph import Edge, Graph, Ref
from snncompile.ir.program import Op, Program
from snncompile.ir.text_form import from_text, to_text
from snncompile.ir.verify import verify
from snncompile.passes.pipeline import Request, compile_graph


@snn.model
def net(x=snn.Spikes(4, max=1), reward=snn.Current(1)):
    connection = snn.Linear(3, bias=False)
    h = x >> connection >> snn.LIF()
    snn.learn(connection, snn.STDP())
    more = h >> snn.Linear(2) >> snn.LIF()
    snn.learn(more_connection(more), snn.MSTDPET(), reward=reward)
    return more


def more_connection(signal: Any) -> Any:
    """The connection before a population, as a signal."""
    edge = signal._builder.graph.inputs_of(signal._ref.node)["x"]
    return type(signal)(signal._builder, edge.source)


def changed(graph: Graph, name: str, **fields: Any) -> None:
    graph.nx.nodes[name]["op"] = replace(graph.op(name), **fields)


def rule(**fields: Any) -> Callable[[Graph], None]:
    return lambda graph: changed(graph, "stdp", **fields)


def reads_alien(graph: Graph) -> None:
    update = graph.op("stdp").update
    changed(graph, "stdp", update=replace(update, inputs=(*update.inputs, "t_pre")))


def no_factor(graph: Graph) -> None:
    before = graph.op("stdp").before
    changed(graph, "stdp", before=replace(before, outputs=before.outputs[:-1]))


def log_of_a_weight(graph: Graph) -> None:
    changed(graph, "stdp", update=Program(("w",), (Op("v", "log", ("w",)),), (("w", "v"),)))


def traces(**fields: Any) -> Callable[[Graph], None]:
    def damage(graph: Graph) -> None:
        first, *rest = graph.op("stdp").traces
        changed(graph, "stdp", traces=(replace(first, **fields), *rest))

    return damage


def large_parameter(graph: Graph) -> None:
    params = dict(graph.op("stdp").params)
    params["tau_pre"] = replace(params["tau_pre"], shape=(4,))
    changed(graph, "stdp", params=params)


def no_weight(graph: Graph) -> None:
    changed(graph, "stdp", params=graph.op("stdp").own)


def teaches_nothing(graph: Graph) -> None:
    graph.nx.remove_edge("stdp", "linear")


def early_weight(graph: Graph) -> None:
    graph.connect("linear", "weight", Edge(Ref("stdp", "weight"), 1, "late"))


def another_connection(graph: Graph) -> None:
    op = graph.op("linear")
    changed(graph, "linear", params={"weight": replace(op.params["weight"], trainable=False)})


def not_plastic(graph: Graph) -> None:
    changed(graph, "linear", attrs={})


def plastic_no(graph: Graph) -> None:
    changed(graph, "linear", attrs={"plastic": 1.5})


def folded(graph: Graph) -> None:
    op = graph.op("linear")
    weight = op.params["weight"]
    changed(graph, "linear", params={**op.params, "scale_factor": replace(weight, name="scale.factor", shape=())})


def synapse_missing(graph: Graph) -> None:
    changed(graph, "mstdpet", synapse=None)


def wide_reward(graph: Graph) -> None:
    graph.connect("mstdpet", "reward", Ref("x"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (rule(connection="Conv1d"), "a Conv1d does not learn; these do: Linear, Conv2d"),
        (rule(settings={"stride": (1, 1)}), "its settings are stride; those of a Linear are none"),
        (rule(pre=(0,)), r"the features \(0,\) of its input are no positive whole numbers"),
        (rule(pre=(5,)), r"a weight of \(3, 4\) does not lead from features \(5,\) to \(3,\)"),
        (rule(ordered=(("w_min", "w_high"),)), "w_min and w_high are no pair of its parameters"),
        (rule(bounded=("w_min",)), "w_min are no pair of its parameters"),
        (rule(kind="S T D P"), "'S T D P' cannot name a kind of node"),
        (traces(name="t_pre"), "the trace 't_pre' is called 't_pre', not '<node>.<name>'"),
        (traces(side="middle"), "the trace 't_pre' is of side 'middle', not one of pre, post, synapse"),
        (traces(init=float("inf")), "the trace 't_pre' starts from inf, which is not finite"),
        (traces(local="w"), "'w' names two of its values"),
        (traces(name="lif.v"), "the record 'lif.v' exists in 'lif' too"),
        (reads_alien, "the program 'update' reads 't_pre', which is none of w, potentiation"),
        (no_factor, "the program 'before' gives t_pre, potentiation; it must give t_pre, potentiation, depression"),
        (log_of_a_weight, "the program 'update' uses log on a signal or state"),
        (large_parameter, r"the parameter 'tau_pre' has shape \(4,\), not \(\)"),
        (no_weight, "the parameter 'weight' is missing"),
        (teaches_nothing, "nothing feeds port 'weight'"),
        (early_weight, "its weight is no late weight of a rule"),
        (another_connection, "is not the same as in 'linear'|does not fit the connection 'linear'"),
        (not_plastic, "it has no port 'weight'; its ports: x"),
        (plastic_no, "plastic is 1.5; it is true, or not there"),
        (folded, "nothing is folded into a weight that learns"),
        (synapse_missing, "it has signals or traces of synapses, but no program 'synapse' that reads them"),
        (wide_reward, r"port 'reward' expects features \(1,\), but x.out has \(4,\)"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_rules_of_plasticity(damage: Callable[[Graph], None], said: str) -> None:
    graph = net.build().copy()
    verify(graph)
    damage(graph)
    with pytest.raises(VerificationError, match=said):
        verify(graph)


LINES = to_text(compile_graph(net.build(), Request()), places=False).splitlines()
START = next(i for i, line in enumerate(LINES) if line.startswith("mstdpet ="))
BLOCK = range(START, START + LINES[START:].index(""))


@pytest.mark.parametrize("number", BLOCK, ids=lambda i: LINES[i].strip())
def test_a_line_that_is_gone_or_cut_is_told(number: int) -> None:
    """Where a text without a line, or with half of it, is no graph, it says so: an error of ours, with the line."""
    for line in ([], [LINES[number][: len(LINES[number]) // 2]]):
        text = "\n".join([*LINES[:number], *line, *LINES[number + 1 :]])
        if not line and LINES[number].strip().startswith("order"):
            assert from_text(text).op("mstdpet").ordered == ()
            continue
        with pytest.raises(SnnError, match=r"line \d+: "):
            from_text(text)
