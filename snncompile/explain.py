"""What the compiler made of a network: regions, kernels, costs, and why each fusion was or was not made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from snncompile.delay_report import made_for
from snncompile.ir.connection import PRODUCTS, WHOLE_SEQUENCE, Connection
from snncompile.ir.cost import Work, network_cost, region_costs
from snncompile.ir.density import event_driven, why
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Input, Region
from snncompile.passes.pipeline import Request, compile_graph
from snncompile.targets.conv_scan import LEAST_SEQUENCES, conv_pairs
from snncompile.targets.pooled_scan import pooled_scans
from snncompile.targets.pooling import tiles

if TYPE_CHECKING:
    from snncompile.targets.cycle_limits import Way

_BACKENDS = {"triton": "Triton", "c": "C", "auto": "the target that serves the input"}

FLOAT = 4
"""Bytes of a value."""

_NOTHING = "nothing of its own"


@dataclass(frozen=True)
class RegionReport:
    """One region of the schedule.

    Attributes:
        kind: ``"product"``, ``"scan"``, ``"recurrent"`` or ``"plastic"``.
        nodes: names after the passes.
        members: the nodes of the model that are computed there.
        runs_as: what runs it on the target, in words.
        why: why these nodes form a region.
        inference: what a forward step of one sequence costs.
        training: what a forward step costs in training, which saves the states.
        backward: what the gradient of a step costs.
        saved: bytes of states that training keeps for every sequence and kept step.
        parameters: number of values, trained or not.
        kernels: for a recurrent layer on Triton: the form of kernel on each chip, its precision, and why.
    """

    kind: str
    nodes: tuple[str, ...]
    members: tuple[str, ...]
    runs_as: str
    why: str
    inference: Work
    training: Work
    backward: Work
    saved: int
    parameters: int
    kernels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """What the compiler made of a network.

    Attributes:
        model: its name.
        target: the target.
        dt: the time step in seconds.
        nodes: number of nodes as written.
        nodes_after: number of nodes after the passes.
        parameters: number of values.
        states: number of state values of a sequence.
        checkpoint: every how many steps training keeps the states; None: as the target likes best.
        inference: what a forward step of one sequence costs in the whole network.
        training: likewise, in training.
        backward: what the gradient of a step costs.
        regions: the schedule.
        notes: what passes have to say: pass, node, text.
        precision: asked for, for the products inside recurrent layers.
    """

    model: str
    target: str
    dt: float
    nodes: int
    nodes_after: int
    parameters: int
    states: int
    checkpoint: int | None
    inference: Work
    training: Work
    backward: Work
    regions: tuple[RegionReport, ...]
    notes: tuple[tuple[str, str, str], ...]
    precision: str = "auto"

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        data = asdict(self)
        data["notes"] = [{"pass": by, "node": node, "text": text} for by, node, text in self.notes]
        return data


def explain(
    graph: Graph,
    target: str = "auto",
    *,
    training: bool = False,
    checkpoint: int | None = None,
    precision: str = "auto",
    archs: Sequence[str] = (),
) -> Explanation:
    """What the compiler makes of ``graph``.

    Args:
        graph: the network as written.
        target: the target it is meant for.
        training: whether it is compiled as for training.
        checkpoint: every how many steps training keeps the states; None: as the target likes best.
        precision: of the products inside recurrent layers, on Triton.
        archs: the chips to speak of, where what runs depends on them.
    """
    compiled = compile_graph(graph, Request(training))
    costs = region_costs(compiled)
    whole = network_cost(compiled)
    regions = []
    for region, cost in zip(compiled.regions, costs, strict=True):
        members = [m for n in region.nodes for m in (getattr(compiled.op(n), "members", ()) or (n,))]
        saved = 0 if region.kind == "plastic" else FLOAT * sum(_state_size(compiled, n) for n in region.nodes)
        runs_as = _runs_as(compiled, region, target)
        work = (cost.inference, cost.training, cost.backward)
        values = cost.parameters + cost.constants
        names = tuple(dict.fromkeys(members))
        kernels = _kernels(compiled, region, target, precision, archs)
        reason = _reason(compiled, region, runs_as)
        regions.append(RegionReport(region.kind, region.nodes, names, runs_as, reason, *work, saved, values, kernels))
    return Explanation(
        model=graph.name,
        target=target,
        dt=graph.dt,
        nodes=sum(not isinstance(graph.op(n), Input) for n in graph.names),
        nodes_after=sum(not isinstance(compiled.op(n), Input) for n in compiled.names),
        parameters=sum(prod(p.shape) for p in graph.parameters().values()),
        states=sum(prod(s.shape) for s in graph.states().values() if not s.shared),
        checkpoint=checkpoint,
        inference=whole.inference,
        training=whole.training,
        backward=whole.backward,
        regions=tuple(regions),
        notes=tuple((n.by, n.node, n.text) for n in compiled.notes),
        precision=precision,
    )


def _reason(graph: Graph, region: Region, runs_as: str) -> str:
    """Why nodes form a region: of a delay whose signal is made here all the same, without the offsets."""
    op = graph.op(region.nodes[0])
    made = isinstance(op, Connection) and op.attrs.get("offset") and not runs_as.startswith(_NOTHING)
    return region.reason.partition(":")[0] if made else region.reason


def explain_text(e: Explanation) -> str:
    """An explanation as plain text."""
    lines = [
        f'model {e.model}, target "{e.target}", dt {e.dt:g} s: {e.nodes} nodes as written, {e.nodes_after} after the'
        f" passes, {len(e.regions)} regions",
        f"{e.parameters:,} parameter values, {e.states:,} state values for each sequence",
        f"forward   {_work(e.inference)}, per step and sequence",
        f"backward  {_work(e.backward)}, per step and sequence",
        "",
        "Regions, in the order in which they run; costs are for one step of one sequence",
    ]
    for i, r in enumerate(e.regions, 1):
        lines += ["", f"{i:3d}. {r.kind}: {', '.join(r.nodes)}"]
        if r.members != r.nodes:
            lines.append(f"     computes  {', '.join(r.members)}")
        lines.append(f"     runs as   {r.runs_as}")
        for text in r.kernels:
            lines += wrap(text, 120, initial_indent="     kernels   ", subsequent_indent=" " * 15)
        lines.append(f"     why       {r.why}")
        lines.append(f"     forward   {_work(r.inference)}")
        lines.append(f"     backward  {_work(r.backward)}" if r.backward != Work() else "     backward  not needed")
        if r.parameters:
            lines.append(f"     holds     {r.parameters:,} parameter values")
        if r.saved:
            every = _every(e.checkpoint, "torch" if r.kind == "recurrent" else e.target)  # a cycle keeps all
            lines.append(f"     training  keeps {r.saved:,} bytes of states{every}")
    lines += ["", *_plan(e)]
    lines += ["", "Why something was not done"] + ([""] if e.notes else [])
    lines += [f"  {node}: {text} ({by})" for by, node, text in e.notes] or ["", "  nothing was declined"]
    return "\n".join(lines)


def _work(w: Work) -> str:
    return f"{w.flops:,} FLOPs, {w.read:,} bytes read, {w.written:,} written"


def _every(checkpoint: int | None, target: str) -> str:
    if checkpoint is None and target in ("c", "auto"):
        return " at every step, or at every 8th or 32nd"
    return " at every step" if checkpoint in (1, None) else f" every {checkpoint} steps"


def _plan(e: Explanation) -> Sequence[str]:
    saved = sum(r.saved for r in e.regions)
    again = "and the steps between are computed again"
    text = f"every state at every step: {saved:,} bytes for each sequence and step"
    if e.checkpoint not in (1, None):
        kept = f"{saved / e.checkpoint:,.0f} bytes for each sequence and step"
        text = f"the states every {e.checkpoint} steps ({kept}), {again}"
    elif e.checkpoint is None and e.target in ("c", "auto"):
        text += ".\n  On C, a scan of more than 64 steps whose states take 1 MiB or more keeps those of every 32nd,"
        text += f"\n  one of more than 16 whose states take 2 MiB those of every 8th, {again}"
    return ["What training keeps for the backward pass", "", f"  {text}"]


def _state_size(graph: Graph, name: str) -> int:
    op = graph.op(name)
    return op.size * len(op.states) if isinstance(op, Elementwise) else 0


def _product(graph: Graph, name: str, target: str) -> str:
    from snncompile.targets.late_kinds import gathers

    op: Connection = graph.op(name)
    dense = "one call of torch over all steps"
    if target in ("c", "auto") and tiles(op):
        return f"one function over all steps (C{'' if target == 'c' else ' on a CPU'}): windows that lie side by side"
    if gathers(graph, name) and target != "torch":
        return f"one kernel over all steps ({_BACKENDS[target]}), which reads what it shows at offsets, and writes it"
    if op.kind == "DelayedLinear" and op.attrs["steps"] == "given" and op.depth and target != "torch":
        return _late_product(op, target)
    if target not in ("c", "auto") or op.kind not in PRODUCTS:
        return dense
    if not event_driven(op):
        return f"{dense}, dense: {why(op)}"
    backend = "C" if target == "c" else "C on a CPU"
    neurons = next((n for n, pair in conv_pairs(graph, graph.regions).items() if pair.connection == name), None)
    many = f"; of {LEAST_SEQUENCES} sequences or more, one function with {neurons}" if neurons else ""
    return f"one event-driven product over all steps ({backend}): {why(op)}{many}"


def _at_offsets(graph: Graph, name: str, target: str) -> str:
    """How a delay runs whose signal is not made."""
    from snncompile.ir.regions import panel_readers
    from snncompile.targets.c.target import CTarget
    from snncompile.targets.late_choice import when_made
    from snncompile.targets.late_kinds import late_kinds
    from snncompile.targets.panel_readers import turns_weights
    from snncompile.targets.triton.target import TritonTarget

    op, said = graph.op(name), f"{_NOTHING}: the kernels that read it read what it delays, earlier"
    products = panel_readers(graph, name)
    if not products:
        return said
    if op.same_for_all is not None and late_kinds(graph, name) == ["one"]:
        return f"{said}; products read another view of it"
    size = TritonTarget.panel if target == "triton" else CTarget.panel
    when = {n: when_made(graph.op(n)) for n in products} if size.choose else {}
    always = [n for n, often in when.items() if often == "always"]
    if always:
        return f"one kernel that makes it ({_BACKENDS[target]}): for {', '.join(always)} that is quicker than panels"
    large = any(turns_weights(graph.op(n)) for n in products)
    sizes = f"about {(size.most if large else size.bytes) // 2**10:,} KiB"
    panels = f"{', '.join(products)} {'read' if len(products) > 1 else 'reads'} panels of {sizes}"
    said = f"{_NOTHING}: {panels}, filled at offsets ({_BACKENDS[target]})"
    if op.output.size > op.input.size:
        said += "; in training it is made where it is larger than a panel"
    for n in [n for n in when if when[n]]:
        said += f"; {when[n]} it is made, which is quicker for {n}"
    whole = [n for n in products if graph.op(n).kind in WHOLE_SEQUENCE]
    if whole:
        said += f"; in training it is made, since {whole[0]} looks at all steps there"
    pairs = {pair.connection: n for n, pair in conv_pairs(graph, graph.regions).items()} if target != "triton" else {}
    together = [n for n in products if n in pairs]
    if together:
        which = f"{together[0]} and {pairs[together[0]]}"
        said += f"; where {which} run as one function, a thread makes each image where it is read"
    return said


def _late_product(op: Connection, target: str) -> str:
    """How a product with a delay for each synapse runs on a target that reads at offsets."""
    from snncompile.targets.c.late import WORTH as ON_C
    from snncompile.targets.triton.late import WORTH as ON_TRITON

    sparse = target != "triton" and event_driven(op)
    few = (ON_TRITON if target == "triton" else ON_C) * (2 if op.attrs["interpolation"] == "linear" else 1)
    if op.rule.trained and op.depth < few and not sparse:
        return f"a product for each of {op.depth + 1} numbers of steps: of so few that is quicker than one at offsets"
    what, where = ("function", "C") if target == "c" else ("kernel", "Triton")
    where = "Triton on a GPU, else C" if target == "auto" else where
    said = f"one {what} over all steps ({where}): each synapse reads its input at an offset,"
    how = "" if target == "triton" else f"; {'event-driven' if sparse else 'dense'}: {why(op)}"
    apart = "" if sparse or op.rule.trained else f"; of up to {few} different delays, a product for each"
    return f"{said} no buffer{how}{apart}"


def _pooled(graph: Graph, region: Region, target: str) -> str:
    """How pooling runs that a scan does itself; "" where none does."""
    if target not in ("c", "auto"):
        return ""
    from snncompile.targets.c.target import CTarget

    pooled = pooled_scans(graph, graph.regions, CTarget)
    found = next((p for p in pooled.values() if p.pool == region.nodes[0]), None)
    if found is None:
        return ""
    said = f"{_NOTHING}: the kernel of {found.scan} writes its windows, unless what they pool is recorded"
    return f"{said} (C{'' if target == 'c' else ' on a CPU'})"


def _runs_as(graph: Graph, region: Region, target: str) -> str:
    if region.kind == "plastic":
        return _plastic(graph, region, target)
    if region.kind == "product" and getattr(graph.op(region.nodes[0]), "attrs", {}).get("offset") and target != "torch":
        made = made_for(graph, region.nodes[0], target)
        return f"{_product(graph, region.nodes[0], target)}: {made}" if made else (
            _at_offsets(graph, region.nodes[0], target)
        )
    if region.kind == "product":
        return _pooled(graph, region, target) or _product(graph, region.nodes[0], target)
    if target == "torch":
        return "a loop over the steps (the reference)"
    backend = {"triton": "Triton", "c": "C"}.get(target, "Triton on a GPU, else C, else the reference")
    if region.kind == "scan":
        return f"one kernel over all steps, forward, and one backward ({backend})"
    from snncompile.targets.recurrent_layer import Layer, match

    layer = match(graph, region, ring=target != "c")
    if isinstance(layer, Layer) and target == "c":
        op = graph.op(layer.connection)
        gradient = "event-driven" if event_driven(op) else "dense"
        return (
            f"one function over all steps: the product of {layer.connection}, event-driven, then {layer.neurons}"
            f" ({backend}); the weight's gradient {gradient}: {why(op)}"
        )
    if isinstance(layer, Layer):
        said = f"one operation over all steps: the product of {layer.connection}, then {layer.neurons}"
        if layer.late == 1:
            return f"{said} ({backend})"
        if target != "triton":
            backend = "Triton on a GPU, else C"
        return f"{said}; what comes back is a ring of {layer.late} steps in the kernel ({backend})"
    from snncompile.cycle_report import cycle_report

    return cycle_report(graph, region, target)


def _kernels(graph: Graph, region: Region, target: str, precision: str, archs: Sequence[str]) -> tuple[str, ...]:
    """What runs a recurrent layer on Triton."""
    if region.kind != "recurrent" or target not in ("triton", "auto"):
        return ()
    from snncompile.layer_report import layer_report
    from snncompile.targets.recurrent_layer import Layer, match

    layer = match(graph, region, ring=True)
    return layer_report(graph, layer, precision, archs) if isinstance(layer, Layer) else ()


def _plastic(graph: Graph, region: Region, target: str) -> str:
    if target == "torch":
        return "a loop over the steps (the reference), weights updated at each"
    from snncompile.artifact.usual import usual_seen
    from snncompile.targets.plastic_layer import PlasticLayer, match, plan_of, planned

    layer = match(graph, region)
    if isinstance(layer, PlasticLayer):
        if target == "auto":
            return f"on a GPU {_plastic(graph, region, 'triton')}; on a CPU {_plastic(graph, region, 'c')}"
        made = [one for what, one in usual_seen(graph, layer).items() if what in ("x", "pre")]
        plan = plan_of(graph, layer, target, made)
        layer = planned(graph, layer, target)
        if not layer:
            said = f": {plan}" if plan else ""
            return f"one kernel for all steps ({_BACKENDS[target]}), weights updated at each{said}"
    return _plastic_region(graph, region, target)


def _programs(way: Way) -> str:
    """How many programs run a region that learns."""
    from math import inf

    if way.at_most != inf:
        return f"in one program; of more than {way.at_most:,.0f} sequences a loop over the steps"
    if way.shared_from <= 1:
        return "in several programs that share it"
    return f"in one program, and for {way.shared_from:,.0f} sequences or more in several that share it"


def _plastic_region(graph: Graph, region: Region, target: str) -> str:
    """What runs a region that learns and is no layer."""
    from math import inf

    from snncompile.targets.cycle_limits import way_of
    from snncompile.targets.plastic_planner import plan_plastic

    loop = f"a loop over the steps (neurons: {_BACKENDS[target]}), weights updated at each"
    plan = plan_plastic(graph, region, {}, {})
    learn, products = len(plan.learns), len(plan.products) + len(plan.plastic_products)
    parts = [(len(plan.neurons), "kernel"), (products, "product"), (learn, "rule")]
    said = ", ".join(f"{n} {what}{'' if n == 1 else 's'}" for n, what in parts)
    one = f"one function for all steps, weights updated at each: {said} inside"
    if target == "c":
        return f"{one} ({_BACKENDS[target]})"
    way = way_of(plan, "triton")
    gpu = f"{loop}, since {way.why}"
    if way.blocks_up_to != inf:
        gpu = f"one kernel for all steps, weights updated at each: {said} inside, {_programs(way)}"
    return f"{gpu} (Triton)" if target == "triton" else f"on a GPU {gpu}; on a CPU {one}"
