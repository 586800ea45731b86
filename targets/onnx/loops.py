"""How a stateful region runs over time: as a Scan, as copies of its step, or once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from snncompile.ir.connection import DELAYS, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Edge, Ref, Region, StateInfo
from snncompile.ir.plasticity import Plasticity
from snncompile.targets.onnx.building import GraphBuilder
from snncompile.targets.onnx.delays import state_of
from snncompile.targets.onnx.plasticity import current, learn

if TYPE_CHECKING:
    from snncompile.targets.onnx.export import Exporter

Found = tuple[dict[Ref, str], dict[str, str]]
"""Courses of the ports read outside, and final states."""


class Loop(Protocol):
    """Runs regions."""

    def run(self, ex: Exporter, region: Region) -> Found:
        """Append ``region`` to the main graph."""
        ...


def loop_of(form: str, steps: int | None) -> Loop:
    """The loop of a form."""
    if form == "scan":
        return ScanLoop()
    return CopiesLoop(steps) if steps is not None else OneStep()


class Layout:
    """What goes into a region, stays in it from step to step, and leaves it."""

    def __init__(self, ex: Exporter, region: Region) -> None:
        self.ex = ex
        self.nodes = region.nodes
        inside = set(region.nodes)
        self.edges = {n: list(ex.graph.inputs_of(n).values()) for n in region.nodes}
        flat = [e for edges in self.edges.values() for e in edges]
        self.held = {e.feedback: e for e in flat if e.delay and e.source.node in inside}
        self.outside = list(dict.fromkeys(e for e in flat if e.source.node not in inside))
        self.states = [s.name for n in region.nodes for s in _own_states(ex.graph.op(n))]
        self.plastic = region.kind == "plastic"
        self.delays = [n for n in region.nodes if getattr(ex.graph.op(n), "kind", "") in DELAYS]
        self.states += [state_of(n) for n in self.delays if ex.graph.op(n).depth] + list(self.held)
        #: delays that show nothing newer than what is known before their input is
        self.waiting = {n for n in self.delays if any(ex.graph.waits(e.source.node, n) for e in self.edges[n])}
        self.leaving = [Ref(n, port) for n in region.nodes for port in ex.read[n] if self._leaves(Ref(n, port))]
        self._inside = inside

    def _leaves(self, ref: Ref) -> bool:
        graph = self.ex.graph
        readers = [dst for dst, _, e in graph.consumers(ref.node) if e.source == ref and dst not in set(self.nodes)]
        return bool(readers) or any(out == ref for _, out in graph.outputs)

    def step(self, gb: GraphBuilder, states: dict[str, str], inputs: dict[Edge, str]) -> Found:
        """One step in ``gb``: values of the leaving ports, and new states."""
        now: dict[Ref, str] = {}
        after: dict[str, str] = {}
        late: dict[str, str] = {}
        for edge in self.held.values():
            late[edge.feedback] = oldest(gb, edge.feedback, edge.delay, states[edge.feedback])
        for name in self.nodes:
            op = self.ex.graph.op(name)
            if isinstance(op, Plasticity):
                fed = [self._fed(e, late, inputs, now) for e in self.edges[name]]
                weight, traces, later = learn(self.ex, gb, name, dict(zip(op.inputs, fed, strict=True)), states)
                now[Ref(name, "weight")] = weight
                now.update({Ref(name, local): value for local, value in traces.items()})
                after.update(later)
                continue
            if name in self.waiting:
                past = self.ex.past(gb, name, False)
                now[Ref(name)] = past.output(past.known(states[state_of(name)]))
                continue
            fed = [self._fed(e, late, inputs, now) for e in self.edges[name]]
            if name in self.delays:
                past = self.ex.past(gb, name, False)
                record = past.record(states.get(state_of(name), ""), fed[0])
                now[Ref(name)] = past.output(record)
                if op.depth:
                    after[state_of(name)] = past.later(record)
                continue
            if isinstance(op, Connection) and self.plastic and (op.plastic or op.kind == "Linear"):
                now[Ref(name)] = current(self.ex, gb, name, fed[0], fed[1] if op.plastic else None)
                continue
            if isinstance(op, Connection):
                now[Ref(name)] = self.ex.connect(gb, name, fed[0], False)
                continue
            assert isinstance(op, Elementwise)
            results = self.ex.call(gb, name, [states[s.name] for s in op.states], fed, False)
            now.update({Ref(name, port): value for port, value in results.items()})
            after.update({s.name: results[s.local] for s in op.states})
        for name in self.waiting:
            (x,) = (self._fed(e, late, inputs, now) for e in self.edges[name])
            past = self.ex.past(gb, name, False)
            after[state_of(name)] = past.later(past.record(states[state_of(name)], x))
        for name, edge in self.held.items():
            after[name] = shift(gb, name, edge.delay, states[name], now[edge.source])[1]
        return {ref: now[ref] for ref in self.leaving}, after

    def _fed(self, edge: Edge, late: dict[str, str], inputs: dict[Edge, str], now: dict[Ref, str]) -> str:
        if edge.source.node not in self._inside:
            return inputs[edge]
        return late[edge.feedback] if edge.delay else now[edge.source]

    def course_name(self, ref: Ref) -> str:
        """A name for the course of a port: the record's, where it is free."""
        op = self.ex.graph.op(ref.node)
        records = {local: record for record, local in getattr(op, "recordable", {}).items()}
        return records.get(ref.port, str(ref))


def oldest(gb: GraphBuilder, name: str, delay: int, held: str) -> str:
    """What a late edge shows at one step, from what it holds: ``(batch, *features)``, or the last ``delay`` of it."""
    if delay == 1:
        return held
    first = gb.node("Gather", [held, gb.ints([0])], f"{name}.first", axis=1)
    return gb.node("Squeeze", [first, gb.ints([1])], f"{name}.late")


def shift(gb: GraphBuilder, name: str, delay: int, held: str, now: str) -> tuple[str, str]:
    """What a late edge shows at one step, and what it holds after that."""
    if delay == 1:
        return held, now
    one = gb.ints([1])
    kept = gb.node("Slice", [held, one, gb.ints([delay]), one], f"{name}.kept")
    newest = gb.node("Unsqueeze", [now, one], f"{name}.newest")
    return oldest(gb, name, delay, held), gb.node("Concat", [kept, newest], f"{name}.moved", axis=1)


class ScanLoop:
    """One Scan, whose body is the step."""

    def run(self, ex: Exporter, region: Region) -> Found:
        """Append ``region`` as a Scan."""
        layout = Layout(ex, region)
        body = GraphBuilder(ex.gb)
        states = {s: ex.gb.fresh(f"{s}.before") for s in layout.states}
        inputs = {e: ex.gb.fresh(f"{layout.course_name(e.source)}.step") for e in layout.outside}
        courses = [ex.course(e) for e in layout.outside]
        initial = [ex.initial(s) for s in layout.states]
        declared = [_state(states[s], ex.infos[s]) for s in layout.states]
        declared += [_info(inputs[e], ex.graph.type_of(e.source).shape) for e in layout.outside]
        if not courses:  # a Scan takes its length from an input
            courses = [ex.gb.node("ConstantOfShape", [ex.steps()], f"{region.nodes[0]}.clock")]
            clock = ex.gb.fresh(f"{region.nodes[0]}.tick")
            declared.append(helper.make_tensor_value_info(clock, TensorProto.FLOAT, []))
        leaving, after = layout.step(body, states, inputs)
        taken = {*states.values(), *inputs.values()}
        outs = []
        wanted = [(s, after[s], _state(s, ex.infos[s]), "after") for s in layout.states]
        wanted += [(layout.course_name(r), leaving[r], _info("", ex.graph.type_of(r).shape), "out")
                   for r in layout.leaving]  # fmt: skip
        for name, value, info, suffix in wanted:
            if value in taken:  # an output is a value of its own
                value = body.node("Identity", [value], f"{name}.{suffix}")
            taken.add(value)
            info.name = value
            outs.append(info)
        title = "_".join(region.nodes)[:80]
        graph = helper.make_graph(body.nodes, f"step_of_{title}", declared, outs)
        finals = {s: ex.gb.fresh(f"{s}.final") for s in layout.states}
        found = {r: ex.gb.fresh(layout.course_name(r)) for r in layout.leaving}
        ex.gb.add(
            "Scan", [*initial, *courses], [*finals.values(), *found.values()], title,
            doc=region.reason, body=graph, num_scan_inputs=len(courses),
        )  # fmt: skip
        return found, finals


class OneStep:
    """The step itself."""

    def run(self, ex: Exporter, region: Region) -> Found:
        """Append one step of ``region``."""
        layout = Layout(ex, region)
        states = {s: ex.initial(s) for s in layout.states}
        return layout.step(ex.gb, states, {e: ex.course(e) for e in layout.outside})


class CopiesLoop:
    """The step as many times as there are steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def run(self, ex: Exporter, region: Region) -> Found:
        """Append ``steps`` copies of the step of ``region``."""
        layout = Layout(ex, region)
        gb = ex.gb
        states = {s: ex.initial(s) for s in layout.states}
        courses: dict[Ref, list[str]] = {ref: [] for ref in layout.leaving}
        whole = {e: ex.course(e) for e in layout.outside}
        zero = gb.ints([0])
        for t in range(self.steps):
            inputs = {}
            for edge, course in whole.items():
                name = layout.course_name(edge.source)
                row = gb.node("Gather", [course, gb.stored(f"step_{t}", _scalar(t))], f"{name}.step_{t}", axis=0)
                inputs[edge] = row
            leaving, states = layout.step(gb, states, inputs)
            for ref, value in leaving.items():
                courses[ref].append(gb.node("Unsqueeze", [value, zero], f"{layout.course_name(ref)}.row_{t}"))
        found = {
            ref: gb.node("Concat", rows, layout.course_name(ref), axis=0) for ref, rows in courses.items()
        }  # fmt: skip
        return found, states


def _scalar(value: int) -> np.ndarray:
    return np.asarray(value, dtype=np.int64)


def _info(name: str, shape: tuple[int, ...]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])


def _state(name: str, info: StateInfo) -> ValueInfoProto:
    shape = info.shape if info.shared else ("batch", *info.shape)
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _own_states(op: object) -> tuple:
    return op.traces if isinstance(op, Plasticity) else getattr(op, "states", ())
