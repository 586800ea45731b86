"""From a compiled graph to an ONNX model: borders, regions in order, states."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import TensorProto, ValueInfoProto, helper

from snncompile.ir.connection import DELAYS, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import InterchangeError, UnsupportedError
from snncompile.ir.graph import Edge, Ref, Region, StateInfo
from snncompile.ir.regions import choose_regions
from snncompile.ir.types import SignalType
from snncompile.targets.autograd import PreparedScan
from snncompile.targets.onnx.building import GraphBuilder
from snncompile.targets.onnx.coefficients import coefficients
from snncompile.targets.onnx.delays import Past, state_of
from snncompile.targets.onnx.functions import DOMAIN, Functions, Step
from snncompile.targets.onnx.loops import Loop, loop_of, shift
from snncompile.targets.onnx.parts import (
    LATER,
    Built,
    Request,
    first_value,
    refuse_random,
    refuse_unknown,
    signal_info,
    state_info,
)
from snncompile.targets.onnx.products import Place, lower
from snncompile.targets.printing import check_printable
from snncompile.targets.torch.loop import LoopTarget


def build(request: Request) -> Built:
    """The model's parts.

    Raises:
        InterchangeError: for what cannot be written as ONNX, with the node's name.
    """
    return Exporter(request).build()


class Exporter:
    """One export in progress. Signals are time-major inside, ``(time, batch, *features)``."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.graph = request.graph
        self.timed = request.form != "step"
        self.gb = GraphBuilder()
        self.functions = Functions(request.opset)
        self.courses: dict[Ref, str] = {}
        self.finals: dict[str, str] = {}
        self.infos: dict[str, StateInfo] = self.graph.states()
        self.results: dict[str, Ref] = {}
        self._late: dict[str, str] = {}
        self._initial: dict[str, str] = {}
        self._sizes: dict[str, str] = {}
        self._steps: dict[str, tuple[Step, list[str], tuple[str, ...]]] = {}
        self.read = self._ports_read()
        refuse_random(request.source)
        refuse_unknown(self.graph)

    # -- the whole ---------------------------------------------------------------------------------------------------

    def build(self) -> Built:
        """The model and what a caller needs to feed it; once per exporter.

        Raises:
            InterchangeError: for what cannot be written as ONNX, with the node's name.
        """
        types = self.graph.input_types()
        given: dict[str, str | None] = {self.gb.fresh(name): name for name in types}
        if not given:
            given = {self.gb.fresh("clock"): None}
        for name in dict.fromkeys((*self.infos, *self.graph.parameters())):  # a weight that learns is both
            if self.gb.fresh(name) != name:
                raise InterchangeError(f"two things would be called {name} in the file: rename a node or an input")
        self.first = next(iter(given))
        taken = {*given, *self.infos}
        outputs = {key: self.gb.fresh(f"{key}.out" if key in taken else key) for key, _ in self.graph.outputs}
        later = {name: self.gb.fresh(f"{name}{LATER}") for name in self.infos}
        for name, info in self.infos.items():
            if self.timed:
                self.gb.initializer(name, first_value(info, self.request.values, 1))
        for label, source in given.items():
            if source is not None:
                self.courses[Ref(source)] = self._border(label, f"{label}.steps", len(types[source].shape), label)
        loop = loop_of(self.request.form, self.request.steps)
        for region in self.graph.regions or choose_regions(self.graph):
            self._region(region, loop)
        for key, ref in self.graph.outputs:
            rank = len(self.graph.type_of(ref).shape)
            self._border(self.courses[ref], outputs[key], rank, f"{outputs[key]}/batch_first", outputs[key])
        for state, out in later.items():
            self.gb.add("Identity", [self.finals.get(state) or self.initial(state)], [out], out)
        lead = ["batch"] if not self.timed else ["batch", self.request.steps or "time"]
        inputs = [self._input(label, name, types, lead) for label, name in given.items()]
        outs = [signal_info(outputs[k], lead, t, str(t)) for k, t in self.graph.output_types().items()]
        outs += [state_info(out, self.infos[n], f"{n} after the last step") for n, out in later.items()]
        states = [state_info(n, i, f"{n} before the first step; {_at_rest(i)}") for n, i in self.infos.items()]
        return Built(
            self.gb.nodes, self.functions.protos, inputs, states, outs, self.gb.initializers, self.results,
            {**outputs, **{f"state:{n}": out for n, out in later.items()}}, given,
        )  # fmt: skip

    @staticmethod
    def _input(label: str, name: str | None, types: Mapping[str, SignalType], lead: list) -> ValueInfoProto:
        if name is None:
            said = "its shape says how many sequences and steps; its values are not read"
            return helper.make_tensor_value_info(label, TensorProto.FLOAT, lead, said)
        return signal_info(label, lead, types[name], str(types[name]))

    def _border(self, x: str, wanted: str, rank: int, label: str, out: str | None = None) -> str:
        """Swap batch and time; in the step form there is nothing to swap."""
        if not self.timed:
            if out is not None:
                self.gb.add("Identity", [x], [out], label)
            return x
        y = out or self.gb.fresh(wanted)
        self.gb.add("Transpose", [x], [y], label, perm=[1, 0, *range(2, rank + 2)])
        return y

    def _ports_read(self) -> dict[str, list[str]]:
        read: dict[str, list[str]] = {name: [] for name in self.graph.names}
        refs = [e.source for name in self.graph.names for e in self.graph.inputs_of(name).values()]
        for ref in [*refs, *(ref for _, ref in self.graph.outputs)]:
            if ref.port not in read[ref.node]:
                read[ref.node].append(ref.port)
        return read

    # -- sizes and states --------------------------------------------------------------------------------------------

    def batch(self) -> str:
        """The batch size, a vector of one number.

        It is read off the first time step: a sequence without steps ends here with an error in plain words, where it
        would take ONNX Runtime down in a Scan.
        """
        if "batch" not in self._sizes:
            x = self.first
            if self.timed:
                first = self.gb.ints([0])
                x = self.gb.node("Gather", [x, first], "first_step", "at_least_one_time_step", axis=1)
            self._sizes["batch"] = self._size(x, 0, "batch_size")
        return self._sizes["batch"]

    def steps(self) -> str:
        """The number of time steps, a vector of one number."""
        if "steps" not in self._sizes:
            self._sizes["steps"] = self._size(self.first, 1, "step_count")
        return self._sizes["steps"]

    def _size(self, x: str, axis: int, wanted: str) -> str:
        shape = self.gb.node("Shape", [x], f"{wanted}.shape")
        bounds = [self.gb.ints([axis]), self.gb.ints([axis + 1]), self.gb.ints([0])]
        return self.gb.node("Slice", [shape, *bounds], wanted)

    def initial(self, name: str) -> str:
        """State ``name`` before the first step, for every sequence of the batch."""
        if not self.timed or self.infos[name].shared:
            return name
        if name not in self._initial:
            shape = [self.batch(), self.gb.ints(self.infos[name].shape)]
            full = self.gb.node("Concat", shape, f"{name}.shape", axis=0)
            self._initial[name] = self.gb.node("Expand", [name, full], f"{name}.initial")
        return self._initial[name]

    def like(self, node: str, timed: bool) -> str:
        """A tensor of the shape of a signal of ``node``."""
        sizes = [self.steps(), self.batch()] if timed else [self.batch()]
        shape = self.gb.node("Concat", [*sizes, self.gb.ints(self.graph.op(node).shape)], f"{node}.shape", axis=0)
        return self.gb.node("ConstantOfShape", [shape], f"{node}.like")

    def course(self, edge: Edge) -> str:
        """What arrives along ``edge`` at every step; a late edge starts with the value held in the state."""
        course = self.courses[edge.source]
        if not edge.delay:
            return course
        name = edge.feedback
        if name not in self._late:
            held = self.initial(name)
            if not self.timed:
                self._late[name], self.finals[name] = shift(self.gb, name, edge.delay, held, course)
                return self._late[name]
            zero, last = self.gb.ints([0]), self.gb.ints([-edge.delay])
            rank = len(self.graph.type_of(edge.source).shape)
            turn = [1, 0, *range(2, rank + 2)]
            if edge.delay == 1:
                start = self.gb.node("Unsqueeze", [held, zero], f"{name}.start")
            else:
                start = self.gb.node("Transpose", [held], f"{name}.start", perm=turn)
            longer = self.gb.node("Concat", [start, course], f"{name}.longer", axis=0)
            self._late[name] = self.gb.node("Slice", [longer, zero, last, zero], f"{name}.late")
            end = self.gb.node("Slice", [longer, last, self.gb.ints([2**31 - 1]), zero], f"{name}.end")
            if edge.delay == 1:
                self.finals[name] = self.gb.node("Squeeze", [end, zero], f"{name}.held")
            else:
                self.finals[name] = self.gb.node("Transpose", [end], f"{name}.held", perm=turn)
        return self._late[name]

    # -- regions -----------------------------------------------------------------------------------------------------

    def _region(self, region: Region, loop: Loop) -> None:
        name = region.nodes[0]
        op = self.graph.op(name)
        if region.kind in ("recurrent", "plastic") or (isinstance(op, Elementwise) and op.states):
            found, finals = loop.run(self, region)
            self.finals.update(finals)
        elif isinstance(op, Connection) and op.kind in DELAYS:
            found = self._delay(name, op)
        elif isinstance(op, Connection):
            (edge,) = self.graph.inputs_of(name).values()
            found = {Ref(name): self.connect(self.gb, name, self.course(edge), self.timed)}
        elif name in self.request.rounding:
            (edge,) = self.graph.inputs_of(name).values()
            self.courses[Ref(name, "y")] = self.course(edge)  # the product that it feeds rounds it
            return
        else:
            inputs = [self.course(e) for e in self.graph.inputs_of(name).values()]
            results = self.call(self.gb, name, [], inputs, self.timed)
            found = {Ref(name, port): results[port] for port in self.read[name]}
        self.courses.update(found)
        for ref, value in found.items():
            self.results.setdefault(value, ref)

    def _delay(self, name: str, op: Connection) -> dict[Ref, str]:
        """A delay outside all cycles."""
        (edge,) = self.graph.inputs_of(name).values()
        past = self.past(self.gb, name, self.timed)
        history = self.initial(state_of(name)) if op.depth else ""
        record = past.record(history, self.course(edge))
        if op.depth:
            self.finals[state_of(name)] = past.later(record)
        return {Ref(name): past.output(record)} if self.read[name] else {}

    def past(self, gb: GraphBuilder, name: str, timed: bool) -> Past:
        """The delay of connection ``name``, to be read over all steps or at one."""
        op: Connection = self.graph.op(name)
        values = {role: self.request.values[p.name] for role, p in op.params.items()}
        label = f"{name}.out" if gb is self.gb else f"{name}.now"
        return Past(op, Place(gb, name, values, timed, self.batch, label), self.steps() if timed else "")

    def connect(self, gb: GraphBuilder, name: str, x: str, timed: bool) -> str:
        """Connection ``name`` applied to ``x``."""
        op: Connection = self.graph.op(name)
        values = {role: self.request.values[p.name] for role, p in op.params.items()}
        label = f"{name}.out" if gb is self.gb else f"{name}.now"
        (edge,) = self.graph.inputs_of(name).values()
        int8, rounding = self.request.int8.get(name), self.request.rounding.get(edge.source.node)
        return lower(op, x, Place(gb, name, values, timed, self.batch, label, int8, rounding))

    def call(self, gb: GraphBuilder, name: str, states: list[str], inputs: list[str], timed: bool) -> dict[str, str]:
        """The step of node ``name``: local name of a result -> value."""
        op: Elementwise = self.graph.op(name)
        step, coefs, results = self._step(name, op)
        extra = [self.like(name, timed)] if step.needs_like else []
        records = {local: record for record, local in op.recordable.items()}
        outs = [gb.fresh(f"{records.get(r, f'{name}.{r}')}.now") for r in results]
        members = ", ".join(op.members)
        label = name if gb is self.gb else f"{name}/step"
        gb.add(step.name, [*states, *inputs, *coefs, *extra], outs, label, domain=DOMAIN, doc=f"one step of {members}")
        return dict(zip(results, outs, strict=True))

    def _step(self, name: str, op: Elementwise) -> tuple[Step, list[str], tuple[str, ...]]:
        if name not in self._steps:
            prepared = PreparedScan(name, op, LoopTarget())
            scan = prepared.scan
            try:
                check_printable(scan.forward, name)
            except UnsupportedError as err:
                raise InterchangeError(err.message, node=name, where=self.graph.where(name)) from None
            coefs = coefficients(self.gb, name, op, prepared, self.request.values)
            kinds = "_".join(self._kinds(op))[:80]
            doc = f"{' then '.join(self._kinds(op))}: one time step, elementwise"
            timed = (*scan.states, *scan.inputs)
            step = self.functions.step(kinds, scan.forward, timed, scan.coefs, scan.states, scan.results, doc)
            self._steps[name] = step, coefs, scan.results
        return self._steps[name]

    def _kinds(self, op: Elementwise) -> list[str]:
        if op.kind != "Fused":
            return [op.kind]
        return [self.request.source.op(m).kind if m in self.request.source.nx else m for m in op.members]


def _at_rest(info: StateInfo) -> str:
    return "as trained" if info.parameter else f"{info.init:g} at rest"
