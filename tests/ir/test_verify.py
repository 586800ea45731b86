"""The verifier: one broken graph for each rule, with its message."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

import snncompile as snn
from snncompile import ms
from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import OutPort, State
from snncompile.ir.errors import ModelError, VerificationError
from snncompile.ir.graph import Edge, Graph, Ref, Region
from snncompile.ir.params import Init
from snncompile.ir.program import Op, Program
from snncompile.ir.types import SignalType
from snncompile.ir.verify import verify
from snncompile.ir.verify_nodes import LIMITS
from snncompile.passes.pipeline import Request, compile_graph

from .models import graphs

GRAPHS = graphs()


@pytest.mark.parametrize("name", GRAPHS)
def test_good_graphs_pass(name: str) -> None:
    verify(GRAPHS[name])


@snn.model(dt=1 * ms)
def plain(x=snn.Spikes(6, max=1)):
    h = x >> snn.Linear(4) >> snn.ExpSyn() >> snn.LIF()
    return h >> snn.recurrent(snn.IF(), via=snn.Linear(4))


@snn.model(dt=1 * ms)
def image(x=snn.Spikes((2, 6, 6), max=1)):
    return x >> snn.Conv2d(4, 3) >> snn.BatchNorm() >> snn.MaxPool2d(2) >> snn.Dropout(0.5) >> snn.Flatten()


def replaced(graph: Graph, name: str, **fields: object) -> None:
    graph.nx.nodes[name]["op"] = dataclasses.replace(graph.op(name), **fields)


def param(graph: Graph, node: str, role: str, **fields: object) -> None:
    params = graph.op(node).params
    replaced(graph, node, params={**params, role: dataclasses.replace(params[role], **fields)})


def forward(graph: Graph, node: str, **fields: object) -> None:
    replaced(graph, node, forward=dataclasses.replace(graph.op(node).forward, **fields))


def attrs(graph: Graph, node: str, **fields: object) -> None:
    replaced(graph, node, attrs={**graph.op(node).attrs, **fields})


def without(table, key):
    return {k: v for k, v in table.items() if k != key}


# -- the graph -----------------------------------------------------------------------------------------------------


def name_of_graph(g: Graph) -> None:
    g.name = "a b"


def time_step(g: Graph) -> None:
    g.dt = float("nan")


def no_output(g: Graph) -> None:
    g.outputs = ()


def output_twice(g: Graph) -> None:
    g.outputs = g.outputs * 2


def output_key(g: Graph) -> None:
    g.outputs = (("a b", Ref("lif", "spikes")),)


def output_of_nothing(g: Graph) -> None:
    g.outputs = (("out", Ref("lif", "smell")),)


def too_many_nodes(g: Graph) -> None:
    for i in range(LIMITS.nodes):
        g.nx.add_node(f"n{i}", op=g.op("x"), where=None)


def strange_op(g: Graph) -> None:
    g.nx.nodes["x"]["op"] = "input"


def strange_name(g: Graph) -> None:
    g.nx.add_node("a b", op=g.op("x"), where=None)


def no_source(g: Graph) -> None:
    g.connect("lif", "x", Ref("ghost"))


def no_source_port(g: Graph) -> None:
    g.connect("lif", "x", Ref("exp_syn", "smell"))


def port_not_fed(g: Graph) -> None:
    g.nx.remove_edge("linear", "exp_syn")


def port_fed_twice(g: Graph) -> None:
    g.nx.add_edge("x", "linear", source_port="out", port="x", delay=0, feedback="")


def unknown_port(g: Graph) -> None:
    g.connect("lif", "y", Ref("x"))


def late_by_less_than_nothing(g: Graph) -> None:
    g.connect("linear_1", "x", Edge(Ref("if", "spikes"), -2, "back"))


def one_name_two_delays(g: Graph) -> None:
    g.connect("linear_1", "x", Edge(Ref("if", "spikes"), 1, "back"))
    g.connect("lif", "x", Edge(Ref("if", "spikes"), 3, "back"))


def late_without_name(g: Graph) -> None:
    g.connect("linear_1", "x", Edge(Ref("if", "spikes"), 1, ""))


def name_without_delay(g: Graph) -> None:
    g.connect("linear_1", "x", Edge(Ref("lif", "spikes"), 0, "back"))


def feedback_of_two(g: Graph) -> None:
    g.connect("lif", "x", Edge(Ref("exp_syn", "isyn"), 1, "if_back"))


def feedback_named_like_state(g: Graph) -> None:
    replaced(g, "lif", states=(State("v", "if_back"),))


def shapes_differ(g: Graph) -> None:
    g.connect("exp_syn", "x", Ref("x"))


def too_many_spikes(g: Graph) -> None:
    replaced(g, "linear", input=SignalType("spikes", (6,), 1))
    replaced(g, "x", type=SignalType("spikes", (6,), 2))


def instant_cycle(g: Graph) -> None:
    g.connect("linear_1", "x", Ref("if", "spikes"))


def records_twice(g: Graph) -> None:
    replaced(g, "lif", states=(State("v", "exp_syn.isyn"),))


def parameters_differ(g: Graph) -> None:
    param(g, "lif", "tau_mem", name="exp_syn.tau", shape=())


GRAPH_RULES: dict[Callable[[Graph], None], str] = {
    name_of_graph: "'a b' cannot name a graph: use letters, digits and _",
    time_step: "dt is a time in seconds greater than 0, not nan",
    no_output: "the graph 'plain' has no output",
    output_twice: "the output 'out' is named twice",
    output_key: "'a b' cannot name an output",
    output_of_nothing: "the output 'out': there is no port lif.smell",
    too_many_nodes: "a graph of 10007 nodes is over the limit of 10000",
    strange_op: "node 'x' at test_verify.py: its op is a str, no input, connection, elementwise node or plasticity",
    strange_name: "'a b' cannot name a node: use letters, digits and _",
    no_source: "node 'lif': it reads from 'ghost', which is no node",
    no_source_port: "node 'lif': there is no port exp_syn.smell",
    port_not_fed: "node 'exp_syn' at test_verify.py: nothing feeds port 'x'",
    port_fed_twice: "node 'linear' at test_verify.py: port 'x' is fed 2 times",
    unknown_port: "node 'lif' at test_verify.py: it has no port 'y'; its ports: x",
    late_by_less_than_nothing: "node 'linear_1': port 'x' is fed -2 steps late, not a whole number of steps up to",
    one_name_two_delays: "the feedback 'back' is both",
    late_without_name: "node 'linear_1': port 'x' is fed late by if.spikes without a valid name",
    name_without_delay: "node 'linear_1': port 'x' has a feedback name but no delay",
    feedback_of_two: "the feedback 'if_back' is the late value of both",
    feedback_named_like_state: "node 'linear_1': the feedback 'if_back' has the name of a state of 'lif'",
    shapes_differ: "node 'exp_syn' at test_verify.py: port 'x' expects features (4,), but x.out has (6,)",
    too_many_spikes: "node 'linear': it is declared to read spikes[6]<=1, but x.out is spikes[6]<=2",
    instant_cycle: "has no delay: close one of its edges with snn.Feedback",
    records_twice: "node 'lif': the record 'exp_syn.isyn' exists in 'exp_syn' too",
    parameters_differ: "node 'lif': its parameter 'exp_syn.tau' is not the same as in 'exp_syn'",
}


def check(graph: Graph, damage: Callable[[Graph], None], message: str, kind: type = VerificationError) -> None:
    graph = graph.copy()
    damage(graph)
    with pytest.raises(kind) as caught:
        verify(graph)
    said = str(caught.value)
    for part in message.split("test_verify.py: "):
        assert part in said, said


@pytest.mark.parametrize("damage", GRAPH_RULES, ids=lambda f: f.__name__)
def test_rules_of_graphs(damage: Callable[[Graph], None]) -> None:
    check(plain.build(), damage, GRAPH_RULES[damage])


def test_the_cycle_without_delay_is_named() -> None:
    check(plain.build(), instant_cycle, "linear_1")
    check(plain.build(), instant_cycle, "add")
    check(plain.build(), instant_cycle, "if")


# -- elementwise nodes ---------------------------------------------------------------------------------------------

NEG = Op("n", "neg", ("v",))
ELEMENTWISE_RULES: dict[str, tuple[Callable[[Graph], None], str]] = {
    "no output": (lambda g: replaced(g, "lif", outputs=()), "node 'lif' at test_verify.py: it has no output"),
    "kind": (lambda g: replaced(g, "lif", kind="L;F"), "'L;F' cannot name a kind of node"),
    "shape": (lambda g: replaced(g, "lif", shape=(0,)), "its shape (0,) holds no positive whole numbers"),
    "large": (lambda g: replaced(g, "lif", shape=(2**20, 2**20)), "more than the limit of 2147483647"),
    "port": (lambda g: replaced(g, "lif", inputs=("x y",)), "'x y' cannot name a value"),
    "local twice": (lambda g: replaced(g, "lif", inputs=("v",)), "'v' names two of its states, inputs and parameters"),
    "output is input": (
        lambda g: replaced(g, "lif", outputs=(OutPort("x", "lif.x", SignalType("current", (4,))),)),
        "the output 'x' has the name of an input or parameter",
    ),
    "output features": (
        lambda g: replaced(g, "lif", outputs=(OutPort("spikes", "lif.spikes", SignalType("current", (5,))),)),
        "the output 'spikes' has features (5,), the node (4,)",
    ),
    "record name": (lambda g: replaced(g, "lif", states=(State("v", "lif.v.w"),)), "'v' is recorded as 'lif.v.w', not"),
    "record twice": (lambda g: replaced(g, "lif", states=(State("v", "lif.spikes"),)), "two of its records"),
    "state start": (lambda g: replaced(g, "lif", states=(State("v", "lif.v", float("inf")),)), "starts from inf"),
    "member": (lambda g: replaced(g, "lif", members=("a b",)), "'a b' cannot name a source node"),
    "order": (lambda g: replaced(g, "lif", ordered=(("tau_mem", "tau"),)), "names 'tau', which is no parameter"),
    "parameter name": (lambda g: param(g, "lif", "tau_mem", name="tau"), "is called 'tau', not '<node>.<role>'"),
    "parameter shape": (lambda g: param(g, "lif", "tau_mem", shape=(3,)), "does not broadcast to the features (4,)"),
    "parameter axes": (lambda g: param(g, "lif", "tau_mem", shape=(1, 4)), "does not broadcast"),
    "parameter size": (lambda g: param(g, "lif", "tau_mem", shape=(0,)), "which holds no positive whole numbers"),
    "parameter values": (lambda g: param(g, "lif", "tau_mem", shape=(2**40,)), "more than the limit of"),
    "constraint": (lambda g: param(g, "lif", "tau_mem", constraint="big"), "has an unknown constraint 'big'"),
    "init": (lambda g: param(g, "lif", "tau_mem", init=Init("constant")), "initialised by constant(), which cannot be"),
    "init value": (lambda g: param(g, "lif", "tau_mem", init=Init("constant", (0.1,))), "which cannot be"),
    "program": (lambda g: forward(g, "lif", ops=(Op("a", "melt", ("v",)),)), "unknown operation 'melt'"),
    "program input": (
        lambda g: forward(g, "lif", inputs=(*g.op("lif").forward.inputs, "u")),
        "the step reads 'u', which is none of v, x, tau_mem",
    ),
    "program results": (
        lambda g: forward(g, "lif", outputs=(("v", "v"),)),
        "the step gives v; it must give v, spikes",
    ),
    "gradient results": (
        lambda g: replaced(g, "lif", reverse=g.op("lif").forward),
        "the gradient gives v, spikes; it must give grad_v, grad_x",
    ),
    "log of a state": (
        lambda g: forward(g, "lif", ops=(*g.op("lif").forward.ops, Op("l", "log", ("v",), "a.py:3"))),
        "the step uses log on a signal or state (a.py:3); it exists on parameters only",
    ),
}


@pytest.mark.parametrize("rule", ELEMENTWISE_RULES)
def test_rules_of_elementwise_nodes(rule: str) -> None:
    check(plain.build(), *ELEMENTWISE_RULES[rule])


def test_log_of_a_parameter_is_fine() -> None:
    graph = plain.build()
    forward(graph, "lif", ops=(*graph.op("lif").forward.ops, Op("l", "log", ("tau_mem",))))
    verify(graph)


PROGRAM_RULES = {
    "undefined": (Program(("x",), (Op("a", "neg", ("b",)),), ()), "operand 'b' is not defined before its use"),
    "defined twice": (Program(("x",), (Op("x", "neg", ("x",)),), ()), "value 'x' is defined twice"),
    "operands": (Program(("x",), (Op("a", "add", ("x",)),), ()), "add takes 2 operands, not 1"),
    "types": (Program(("x",), (Op("a", "not", ("x",)),), ()), "a = not: operand is f32, expected bool"),
    "constant type": (Program(("x",), (Op("a", "add", ("x", True)),), ()), "operand is bool, expected f32"),
    "whole constant": (Program(("x",), (Op("a", "add", ("x", 1)),), ()), "operand 1 is not defined before its use"),
    "constant": (Program(("x",), (Op("a", "add", ("x", 0.1)),), ()), "the constant 0.1 is not a float32"),
    "huge constant": (Program((), (), (("y", 1e300),)), "the constant 1e+300 is not a float32"),
    "name": (Program(("x",), (Op("a;b", "neg", ("x",)),), ()), "'a;b' is not a valid name for a value"),
    "long name": (Program(("x" * 121,), (), ()), "is not a valid name for a value"),
    "output twice": (Program(("x",), (), (("y", "x"), ("y", "x"))), "output 'y' is defined twice"),
    "output name": (Program(("x",), (), (("y z", "x"),)), "'y z' is not a valid output name"),
    "output type": (Program(("x",), (), (("y", True),)), "output 'y' is not float32"),
    "length": (Program(("x",), (Op("a", "neg", ("x",)),) * 20_001, ()), "20001 operations is over the limit of 20000"),
}


@pytest.mark.parametrize("rule", PROGRAM_RULES)
def test_rules_of_programs(rule: str) -> None:
    from snncompile.ir.verify_program import verify_program

    program, message = PROGRAM_RULES[rule]
    with pytest.raises(VerificationError) as caught:
        verify_program(program)
    assert message in str(caught.value)


# -- connections ---------------------------------------------------------------------------------------------------

C = "conv2d"
CONNECTION_RULES: dict[str, tuple[Callable[[Graph], None], str]] = {
    "kind": (lambda g: replaced(g, C, kind="Conv9d"), "node 'conv2d' at test_verify.py: 'Conv9d' is no kind of"),
    "missing setting": (
        lambda g: replaced(g, C, attrs=without(g.op(C).attrs, "groups")),
        "setting 'groups' is missing",
    ),
    "unknown setting": (lambda g: attrs(g, C, colour=1), "unknown setting 'colour'"),
    "missing weight": (lambda g: replaced(g, C, params=without(g.op(C).params, "weight")), "'weight' is missing"),
    "unknown parameter": (lambda g: replaced(g, C, params={**g.op(C).params, "w": g.op(C).params["bias"]}), "'w'"),
    "weight": (
        lambda g: param(g, C, "weight", shape=(4, 3, 3, 3)),
        "a weight of (4, 3, 3, 3) in 1 groups does not fit",
    ),
    "weight axes": (lambda g: param(g, C, "weight", shape=(4, 2, 3)), "does not fit features (2, 6, 6)"),
    "bias": (lambda g: param(g, C, "bias", shape=(3,)), "the parameter 'bias' has shape (3,), Conv2d needs (4,)"),
    "stride": (lambda g: attrs(g, C, stride=(0, 1)), "stride is (0, 1), not 2 whole numbers of at least 1"),
    "stride type": (lambda g: attrs(g, C, stride=1), "stride is 1, not 2 whole numbers"),
    "padding": (lambda g: attrs(g, C, padding=(-1, 0)), "padding is (-1, 0), not 2 whole numbers of at least 0"),
    "groups": (lambda g: attrs(g, C, groups=0), "groups is 0, not a whole number of at least 1"),
    "kernel": (lambda g: attrs(g, C, dilation=(5, 1)), "a kernel of (3, 3) is larger than the image (6, 6)"),
    "output": (
        lambda g: replaced(g, C, output=SignalType("current", (4, 6, 6))),
        "Conv2d of (2, 6, 6) gives (4, 4, 4), not (4, 6, 6)",
    ),
    "norm": (lambda g: param(g, "batch_norm", "running_var", shape=(1,)), "BatchNorm needs (4,)"),
    "eps": (lambda g: attrs(g, "batch_norm", eps=float("nan")), "eps is nan, not a number of at least 0"),
    "pool": (
        lambda g: attrs(g, "max_pool2d", padding=(2, 0)),
        "padding (2, 0) is more than half of kernel_size (2, 2)",
    ),
    "dropout": (lambda g: attrs(g, "dropout", p=1.0), "p is 1.0, not a probability below 1"),
    "flatten": (
        lambda g: replaced(g, "flatten", output=SignalType("current", (15,))),
        "Flatten of (4, 2, 2) gives (16,), not (15,)",
    ),
}


@pytest.mark.parametrize("rule", CONNECTION_RULES)
def test_rules_of_connections(rule: str) -> None:
    check(image.build(), *CONNECTION_RULES[rule])


def test_rules_of_linear() -> None:
    check(
        plain.build(), lambda g: param(g, "linear", "weight", shape=(4, 5)), "a weight of (4, 5) does not fit features"
    )
    check(plain.build(), lambda g: replaced(g, "linear", output=SignalType("current", (5,))), "gives (4,), not (5,)")


def test_rules_of_a_folded_norm() -> None:
    graph = compile_graph(image.build(), Request())
    assert "norm_eps" in graph.op("batch_norm").attrs
    norm = graph.op("batch_norm")
    damage = lambda g: replaced(g, "batch_norm", params=without(norm.params, "norm_running_var"))  # noqa: E731
    check(graph, damage, "the parameter 'norm_running_var' is missing")


def test_norm_in_a_cycle() -> None:
    @snn.model
    def net(x=snn.Spikes(4)):
        return x >> snn.recurrent(snn.LIF(), via=snn.Linear(4) >> snn.BatchNorm())

    with pytest.raises(ModelError) as caught:
        verify(net.build())
    said = str(caught.value)
    assert "node 'batch_norm'" in said and "BatchNorm needs all steps at once, but stands on the cycle" in said
    for name in ("linear", "batch_norm", "add", "lif"):
        assert name in said


# -- regions -------------------------------------------------------------------------------------------------------


def region(kind: str, *nodes: str) -> Region:
    return Region(kind, nodes, "a test")


def good() -> tuple[Region, ...]:
    return (
        region("product", "linear"),
        region("scan", "exp_syn"),
        region("scan", "lif"),
        region("recurrent", "linear_1", "add", "if"),
    )


def test_good_regions_pass() -> None:
    graph = plain.build()
    verify(dataclasses.replace(graph, regions=good()))


REGION_RULES = {
    "missing": (good()[:-1], "node 'linear_1': it is in no region"),
    "twice": ((*good(), good()[2]), "node 'lif': it runs twice, in regions 2 and 4"),
    "order": ((good()[1], good()[0], *good()[2:]), "'exp_syn': it runs in region 0, but reads linear.out of region 1"),
    "order within": (
        (*good()[:3], region("recurrent", "add", "linear_1", "if")),
        "node 'add': it runs before linear_1.out, which it reads",
    ),
    "kind": ((region("magic", "linear"), *good()[1:]), "region 0 is of kind 'magic', not one of product, scan"),
    "empty": ((region("scan"), *good()), "region 0 is empty"),
    "product": ((good()[0], region("product", "exp_syn"), *good()[2:]), "it runs one connection node, not exp_syn"),
    "two": ((good()[0], region("scan", "exp_syn", "lif"), good()[3]), "it runs one elementwise node, not exp_syn, lif"),
    "input": ((region("scan", "x"), *good()), "region 0 runs 'x', which is no node to run"),
    "ghost": ((region("scan", "ghost"), *good()), "region 0 runs 'ghost', which is no node to run"),
}


@pytest.mark.parametrize("rule", REGION_RULES)
def test_rules_of_regions(rule: str) -> None:
    regions, message = REGION_RULES[rule]

    def damage(g: Graph) -> None:
        g.regions = regions

    check(plain.build(), damage, message)


def test_a_late_value_from_a_later_region() -> None:
    """A scan reads whole courses: also what comes late must be there before."""
    graph = plain.build()
    graph.connect("lif", "x", Edge(Ref("if", "spikes"), 1, "if_back"))

    def damage(g: Graph) -> None:
        g.regions = good()

    check(graph, damage, "node 'lif': it runs in region 2, but reads if.spikes of region 3")


def test_a_loop_on_one_node_is_recurrent() -> None:
    graph = plain.build()
    graph.connect("lif", "x", Edge(Ref("lif", "spikes"), 1, "lif_back"))

    def damage(g: Graph) -> None:
        g.regions = good()

    check(graph, damage, "node 'lif': it reads lif.spikes of its own region, a scan")


def test_connections_have_one_kind_of_op() -> None:
    assert isinstance(plain.build().op("linear"), Connection)
