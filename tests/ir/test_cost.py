"""Costs counted from the IR, against numbers worked out by hand."""

from __future__ import annotations

import snncompile as snn
from snncompile import ms
from snncompile.ir.cost import Work, network_cost, program_flops, region_costs
from snncompile.ir.definitions import definition
from snncompile.ir.program import Op, Program
from snncompile.passes.pipeline import Request, compile_graph

from .models import graphs


@snn.model(dt=1 * ms)
def dense(x=snn.Spikes(64)):
    return x >> snn.Linear(128) >> snn.LIF()


@snn.model(dt=1 * ms)
def bounded(x=snn.Spikes(64)):
    """A neuron of known arithmetic."""
    return x >> snn.Linear(128, bias=False) >> Counted() >> snn.Linear(10) >> Counted()


@snn.neuron(states={"v": 0.0}, outputs={"spikes": 1})
def Counted(v, x, *, leak=0.5):
    v = v * leak + x  # 2
    return {"v": v, "spikes": v}


def test_linear() -> None:
    linear, _ = region_costs(dense.build())
    assert (linear.kind, linear.nodes) == ("product", ("linear",))
    # 64 multiply-adds and a bias for each of 128 outputs; 64 floats in, 128 out
    assert linear.inference == linear.training == Work(2 * 64 * 128 + 128, 4 * 64, 4 * 128)
    # only the gradient of weight (a product as large) and bias: data needs none. It reads input and output gradient
    assert linear.backward == Work(2 * 64 * 128 + 128, 4 * 64 + 4 * 128, 0)
    assert (linear.parameters, linear.constants, linear.state_bytes) == (64 * 128 + 128, 0, 0)
    assert linear.parameter_bytes == 4 * (64 * 128 + 128)


def test_lif_moves_what_it_must() -> None:
    """Reads the current, writes the spikes, keeps the membrane on chip; training saves the membrane."""
    _, lif = region_costs(dense.build())
    n = 4 * 128
    assert lif.inference.bytes == 2 * n
    assert (lif.training.read, lif.training.written) == (n, 2 * n)
    # membrane, current and gradient of the spikes in; gradient of the current out
    assert (lif.backward.read, lif.backward.written) == (3 * n, n)
    assert lif.state_bytes == n
    assert lif.parameters == 128 + 128 + 1  # tau_mem, threshold, one bias
    assert lif.training.flops == lif.inference.flops == 128 * 10


def test_arithmetic_of_a_known_neuron() -> None:
    _, cell, second, _ = region_costs(bounded.build())
    assert cell.inference == Work(128 * 2, 4 * 128, 4 * 128)
    # grad_v + grad_spikes, times leak, times v, and a sum over time for leak; the input is not needed again
    assert cell.backward == Work(128 * 4, 4 * 128 * 2, 4 * 128)
    # a product in the middle has both gradients
    assert second.backward.flops == 2 * (2 * 128 * 10) + 10
    assert second.backward.written == 4 * 128


def test_nothing_is_learnt_where_nothing_is_trained() -> None:
    @snn.model
    def fixed(x=snn.Spikes(4)):
        return x >> snn.Linear(3, trainable=False) >> Counted(leak=snn.Param(0.5, trainable=False))

    linear, cell = region_costs(fixed.build())
    assert linear.backward == cell.backward == Work()
    assert (linear.parameters, linear.constants) == (0, 15)


def test_transcendental_functions_count_as_what_they_are_made_of() -> None:
    assert program_flops(definition("exp")) > 20
    program = Program(("x",), (Op("a", "exp", ("x",)), Op("b", "mul", ("a", "x"))), (("y", "b"),))
    assert program_flops(program) == program_flops(definition("exp")) + 1
    logic = Program(
        ("x",), (Op("a", "gt", ("x", 0.0)), Op("b", "not", ("a",)), Op("c", "float", ("b",))), (("y", "c"),)
    )
    assert program_flops(logic) == 1


def test_images() -> None:
    @snn.model
    def net(x=snn.Spikes((2, 8, 8), max=1)):
        return x >> snn.Conv2d(4, 3, groups=2) >> snn.SumPool2d(2) >> snn.Flatten() >> snn.Dropout(0.5)

    conv, pool, flat, drop = region_costs(net.build())
    assert conv.inference == Work(4 * 6 * 6 * (2 * 9 + 1), 4 * 128, 4 * 144)
    assert pool.inference == Work(4 * 3 * 3 * 3, 4 * 144, 4 * 36)
    assert flat.inference == flat.training == flat.backward == Work()
    assert drop.inference == Work() and drop.training == Work(36, 144, 144)


def test_a_recurrent_region_moves_its_states_at_every_step() -> None:
    @snn.model
    def net(x=snn.Spikes(8)):
        return x >> snn.recurrent(Counted(), via=snn.Linear(8, bias=False))

    (loop,) = region_costs(net.build())
    assert loop.kind == "recurrent"
    n = 4 * 8
    # linear 1 in 1 out, add 2 in 1 out, cell 1 in 1 out, membrane in and out
    assert (loop.inference.read, loop.inference.written) == (5 * n, 4 * n)
    assert loop.state_bytes == 2 * n  # the membrane and the held spikes
    assert loop.inference.flops == 2 * 64 + 8 + 16


def test_fusion_saves_traffic_and_changes_no_arithmetic() -> None:
    @snn.model
    def chain(x=snn.Current(16)):
        return x >> Counted() >> Counted() >> Counted()

    plain, fused = network_cost(chain.build()), network_cost(compile_graph(chain.build(), Request()))
    assert plain.inference.flops == fused.inference.flops == 16 * 6
    assert (plain.inference.bytes, fused.inference.bytes) == (6 * 64, 2 * 64)


def test_every_network_has_a_cost() -> None:
    for graph in graphs().values():
        whole = network_cost(graph)
        assert whole.inference.flops > 0 and whole.training.bytes >= whole.inference.bytes
        assert whole.backward.flops > 0
        assert whole.parameters == sum(_size(p) for p in graph.parameters().values() if p.trainable)


def _size(parameter) -> int:
    size = 1
    for n in parameter.shape:
        size *= n
    return size
