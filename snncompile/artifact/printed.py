"""Every kernel that a network needs of Triton or C, printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from snncompile.artifact.format import C_SOURCE, KERNELS, SOURCE
from snncompile.artifact.printed_cycles import (
    cycle_kernels,
    cycle_plans,
    plastic_plans,
    plastic_region_kernel,
    taught_kernels,
    triton_cycle,
)
from snncompile.ir.connection import Connection
from snncompile.ir.density import event_driven
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph
from snncompile.passes.pipeline import Request, compile_graph

if TYPE_CHECKING:
    from snncompile.artifact.usual import Usual
    from snncompile.targets.c.cycle_writer import CycleSource
    from snncompile.targets.c.kernel import KernelSource as CSource
    from snncompile.targets.c.plastic_seen import SeenForm
    from snncompile.targets.plastic_layer import PlasticLayer
    from snncompile.targets.recurrent_layer import Layer
    from snncompile.targets.triton.kernel import KernelSource

#: Kernels that training uses where it keeps the states of every step, and where it keeps those of some.
_SAVE_ALL, _SAVE_SOME = (
    frozenset({"forward_save", "backward"}),
    frozenset({"forward_checkpoint", "backward_checkpoint"}),
)


@dataclass(frozen=True)
class Printed:
    """One kernel.

    Attributes:
        node: the node it runs.
        stem: name of its files.
        source: its source.
        settings: for a kernel of a layer, name of a chip -> launch settings there.
        suffix: how its source's name ends.
    """

    node: str
    stem: str
    source: KernelSource | CSource | CycleSource
    settings: Mapping[str, Any] | None = None
    suffix: str = SOURCE

    @property
    def path(self) -> str:
        """Path of the source inside an artifact."""
        return f"{KERNELS}/{self.stem}{self.suffix}"


@dataclass(frozen=True)
class _Options:
    """What decides which kernels there are, besides the network: see :func:`printed_kernels`."""

    save_some: bool | None
    precision: str
    archs: tuple[str, ...]


def printed_kernels(
    graph: Graph, save_some: bool | None, target: str = "triton", precision: str = "auto", archs: Sequence[str] = ()
) -> list[Printed]:
    """Kernels of a network for inference and training.

    Args:
        graph: the network as written.
        save_some: whether training keeps the states of some steps only; None: both ways (C).
        target: ``"triton"`` or ``"c"``.
        precision: of the products inside recurrent layers, on Triton.
        archs: the chips that they are chosen for.
    """
    kernels_of = _c_of_graph if target == "c" else _of_graph
    options = _Options(save_some, precision, tuple(archs))
    found: dict[str, Printed] = {}
    for training in (False, True):
        compiled = _without_made(compile_graph(graph, Request(training)), target)
        for kernel in kernels_of(compiled, options):
            known = found.get(kernel.stem)
            if known is not None and known.source.text == kernel.source.text:
                continue
            stem = f"{kernel.stem}_training" if training else kernel.stem
            found[stem] = replace(kernel, stem=stem)
    return list(found.values())


def _without_made(compiled: Graph, target: str) -> Graph:
    """The graph with no offset at delays whose signals are made on ``target`` all the same: what reads them is printed
    as it runs."""
    from snncompile.delay_report import always_made

    made = [n for n, op in compiled.of_type(Connection) if op.attrs.get("offset") and always_made(compiled, n, target)]
    if not made:
        return compiled
    graph = compiled.copy()
    for name in made:
        op = graph.op(name)
        graph.nx.nodes[name]["op"] = replace(op, attrs={k: v for k, v in op.attrs.items() if k != "offset"})
    return graph


def _of_graph(compiled: Graph, options: _Options) -> Iterator[Printed]:
    from snncompile.artifact.usual import usual_layer, usual_learner, usual_scan
    from snncompile.targets.late_linear import late_products
    from snncompile.targets.scan import make_scan
    from snncompile.targets.triton.aot import scan_kernels

    for name in late_products(compiled):
        yield from _late_kernels(compiled, name, options)
    for name, node, late in _made_delays(compiled):
        per_neuron = [role for role, p in node.params.items() if p.shape != ()]
        panels = bool(compiled.op(name).attrs.get("offset"))
        for role, source in scan_kernels(make_scan(name, node), ["seen"], per_neuron, late, panels).items():
            yield Printed(name, f"{name}_{role}", source)
    layers, plastic = _layers(compiled, ring=True), _plastic_layers(compiled)
    plans = cycle_plans(compiled, layers, "triton")
    for plan in plans:
        for owner, stem, kernel in triton_cycle(compiled, plan, options.archs):
            yield Printed(owner, stem, kernel.source, kernel.settings)
    inside = {name for plan in plans for name in plan.nodes}
    learning = plastic_plans(compiled, plastic, "triton")
    for taught in learning:
        for learnt in taught_kernels(compiled, taught, options.archs):
            yield Printed(*learnt)
    yield from _sparse_kernels(compiled, inside, {n for taught in learning for n in taught.nodes}, options)
    inside |= {name for taught in learning for name in taught.nodes}
    for name, op in (*compiled.of_type(Elementwise), *_stand_ins(compiled, plastic)):
        if name in inside:
            continue
        read = _read(compiled, name, op.results)
        if name in layers:
            edges = compiled.inputs_of(name)
            usual = usual_layer(compiled, name, op, edges, layers[name].port)
            yield from _layer_kernels(compiled, layers[name], usual, read, options)
            continue
        if name in plastic:
            yield _plastic_kernel(compiled, plastic[name], usual_learner(compiled, plastic[name]), read, options)
            continue
        scan, per_neuron, late, _ = usual_scan(compiled, name)
        for role, source in scan_kernels(scan, read, per_neuron, late).items():
            if not scan.states or role not in (_SAVE_ALL if options.save_some else _SAVE_SOME):
                yield Printed(name, f"{name}_{role}", source)


def _layers(compiled: Graph, ring: bool) -> dict[str, Layer]:
    """Population -> the recurrent layer that it is part of; ``ring`` as for ``match``."""
    from snncompile.targets.recurrent_layer import Layer, match

    found = (match(compiled, region, ring) for region in compiled.regions if region.kind == "recurrent")
    return {layer.neurons: layer for layer in found if isinstance(layer, Layer)}


def _plastic_layers(compiled: Graph) -> dict[str, PlasticLayer]:
    """Population -> the layer that learns that it is part of; one without a population by its connection."""
    from snncompile.targets.plastic_layer import PlasticLayer, match

    found = (match(compiled, region) for region in compiled.regions if region.kind == "plastic")
    return {layer.neurons or layer.connection: layer for layer in found if isinstance(layer, PlasticLayer)}


def _stand_ins(compiled: Graph, plastic: Mapping[str, PlasticLayer]) -> list[tuple[str, Elementwise]]:
    """What stands for neurons in layers that have none."""
    return [layer.population(compiled) for layer in plastic.values() if not layer.neurons]


def _c_of_graph(compiled: Graph, options: _Options) -> Iterator[Printed]:
    from snncompile.artifact.usual import usual_layer, usual_learner, usual_scan, usual_seen
    from snncompile.targets.c.plastic_seen import make_form
    from snncompile.targets.c.sources import (
        event_conv_sources,
        event_sources,
        late_sources,
        layer_sources,
        plastic_sources,
        scan_sources,
        sparse_source,
    )
    from snncompile.targets.c.target import CTarget
    from snncompile.targets.conv_scan import conv_pairs
    from snncompile.targets.late_linear import late_products
    from snncompile.targets.plastic_rule import make_rule
    from snncompile.targets.pooled_scan import pooled_scans
    from snncompile.targets.scan import make_scan, one_number

    layers, plastic = _layers(compiled, ring=False), _plastic_layers(compiled)
    plans, learning = cycle_plans(compiled, layers, "c"), plastic_plans(compiled, plastic, "c")
    inside = {name for plan in (*plans, *learning) for name in plan.nodes}
    late_names = late_products(compiled)
    for name, op in compiled.of_type(Connection):
        if op.kind == "Sparse":  # one function serves every connection
            yield Printed(name, "sparse", sparse_source(), suffix=C_SOURCE)
        if name in late_names:  # the same functions serve every connection
            for role, source in late_sources(event_driven(op)).items():
                yield Printed(name, role, source, suffix=C_SOURCE)
        elif op.by_synapse:  # on a cycle, or without delays
            continue
        elif event_driven(op) and op.kind not in ("Linear", "DelayedLinear"):
            for role, source in event_conv_sources(op).items():
                yield Printed(name, f"{name}_{role}", source, suffix=C_SOURCE)
        elif event_driven(op):  # one pair of functions serves every connection
            for role, source in event_sources().items():
                yield Printed(name, role, source, suffix=C_SOURCE)
    pooled = pooled_scans(compiled, compiled.regions, CTarget)
    convs = conv_pairs(compiled, compiled.regions)
    for plan in plans:
        for owner, stem, printed in cycle_kernels(compiled, plan):
            yield Printed(owner, stem, printed, suffix=C_SOURCE)
    for name, node, kinds in _made_delays(compiled):
        scan, each = make_scan(name, node), [role for role, p in node.params.items() if p.shape != ()]
        one, one_back = (one_number(scan, each, reverse) for reverse in (False, True))
        for role, source in scan_sources(scan, ["seen"], one, one_back, False, kinds).items():
            yield Printed(name, f"{name}_{role}", source, suffix=C_SOURCE)
    for region in learning:
        yield Printed(*plastic_region_kernel(compiled, region), suffix=C_SOURCE)
    for name, op in (*compiled.of_type(Elementwise), *_stand_ins(compiled, plastic)):
        if name in inside:
            continue
        read = _read(compiled, name, op.results)
        if name in layers:
            usual = usual_layer(compiled, name, op, compiled.inputs_of(name), layers[name].port)
        else:
            usual = usual_learner(compiled, plastic[name]) if name in plastic else usual_scan(compiled, name)
        scan, per_neuron, late, port = usual
        one, one_back = (one_number(scan, per_neuron, reverse) for reverse in (False, True))
        if name in layers:
            layer = layers[name]
            bias = "bias" in compiled.op(layer.connection).params
            sources = layer_sources(scan, port, layer.source, bias, read, one, one_back, late)
        elif name in plastic:
            taught = plastic[name]
            rule, wiring = make_rule(taught.rule, compiled.op(taught.rule)), taught.wiring(compiled)._replace(port=port)
            seen = {
                what: make_form(made, kinds, tuple(c in one_number(made, each) for c in made.coefs))
                for what, (made, kinds, each) in usual_seen(compiled, taught).items()
            }
            sources = plastic_sources(scan, rule, wiring, read, one, late, seen)
        else:
            windows = pooled[name].windows if name in pooled else None
            ways = (False, True) if options.save_some is None else (options.save_some,)
            sources = {}
            for way in ways:
                sources |= scan_sources(scan, read, one, one_back, way, late, windows)
                if name in convs:
                    pair = convs[name]
                    shown = _shown_form(compiled, pair.edge.source.node)
                    together = scan_sources(scan, read, one, one_back, way, late, windows, pair.op, shown)
                    sources |= {f"with_{pair.connection}_{role}": source for role, source in together.items()}
        for role, source in sources.items():
            yield Printed(name, f"{name}_{role}", source, suffix=C_SOURCE)


def _layer_kernels(
    graph: Graph, layer: Layer, usual: Usual, read: Sequence[str], options: _Options
) -> Iterator[Printed]:
    from snncompile.targets.triton.arch import parse_arch
    from snncompile.targets.triton.layer_kernels import LayerShape, layer_kernels

    bias = "bias" in graph.op(layer.connection).params
    scan, per_neuron, late, port = usual
    shape = LayerShape(port, layer.source, layer.most, bias, graph.op(layer.neurons).size, layer.late > 1)
    chips = [parse_arch(name) for name in options.archs or ("sm_90",)]
    for kernel in layer_kernels(scan, shape, read, per_neuron, options.precision, chips, late):
        yield Printed(layer.neurons, f"{layer.neurons}_{kernel.role}", kernel.source, kernel.settings)


def _made_delays(graph: Graph) -> Iterator[tuple[str, Elementwise, tuple[str, ...]]]:
    """Delays whose signals are made by a kernel, whole or in panels: the node that does it, and how late its inputs
    are."""
    from snncompile.ir.regions import panel_readers
    from snncompile.targets.late_kinds import gathers
    from snncompile.targets.late_scan import made_reader

    for region in graph.regions:
        name, op = region.nodes[0], graph.op(region.nodes[0])
        made = region.kind == "product" and isinstance(op, Connection) and gathers(graph, name)
        if made and (panel_readers(graph, name) or not op.attrs.get("offset")):
            yield name, *made_reader(graph, name)


def _shown_form(graph: Graph, name: str) -> SeenForm | None:
    """What makes the images that C reads of a delay; None where ``name`` is none."""
    from snncompile.targets.c.plastic_seen import make_form
    from snncompile.targets.late_kinds import behind_views
    from snncompile.targets.late_scan import made_reader
    from snncompile.targets.scan import make_scan, one_number

    at = behind_views(graph, name)
    if not getattr(graph.op(at), "attrs", {}).get("offset"):
        return None
    node, kinds = made_reader(graph, at)
    scan = make_scan(at, node)
    one = one_number(scan, [role for role, p in node.params.items() if p.shape != ()])
    return make_form(scan, kinds, tuple(c in one for c in scan.coefs))


def _late_kernels(graph: Graph, name: str, options: _Options) -> Iterator[Printed]:
    """Those of a product with a delay for each synapse; the same serve every connection."""
    from snncompile.targets.triton.late_kernel import SUMS, VALUES, sums_settings, values_settings

    taps = 2 if graph.op(name).attrs["interpolation"] == "linear" else 1
    chips = options.archs or ("sm_90",)
    for source, settings in ((SUMS, sums_settings), (VALUES, values_settings)):
        yield Printed(name, f"{source.name}_{taps}", source, dict.fromkeys(chips, settings(taps)))


def _sparse_kernels(graph: Graph, cycles: set[str], learning: set[str], options: _Options) -> Iterator[Printed]:
    """Those of sparse connections, the same for every one; kernels of ``cycles`` leave weight gradients to them."""
    from snncompile.targets.triton.sparse_kernel import GATHER, GATHER_SETTINGS, WEIGHT, WEIGHT_SETTINGS

    chips = options.archs or ("sm_90",)
    for name, op in graph.of_type(Connection):
        if op.kind == "Sparse" and name not in learning:
            yield Printed(name, WEIGHT.name, WEIGHT, dict.fromkeys(chips, WEIGHT_SETTINGS))
            if name not in cycles:
                yield Printed(name, GATHER.name, GATHER, dict.fromkeys(chips, GATHER_SETTINGS))


def _plastic_kernel(
    graph: Graph, layer: PlasticLayer, usual: Usual, read: Sequence[str], options: _Options
) -> Printed:
    from snncompile.artifact.usual import usual_seen
    from snncompile.targets.plastic_rule import make_rule
    from snncompile.targets.triton.arch import parse_arch
    from snncompile.targets.triton.plastic_kernels import plastic_kernel
    from snncompile.targets.triton.plastic_seen import Shows

    rule = make_rule(layer.rule, graph.op(layer.rule))
    wiring = layer.wiring(graph)._replace(port=usual.port)
    seen = {what: Shows(*shown) for what, shown in usual_seen(graph, layer).items()}
    chips = [parse_arch(name) for name in options.archs or ("sm_90",)]
    kernel = plastic_kernel(usual.scan, rule, wiring, read, usual.per_neuron, chips, usual.late, seen)
    name = layer.neurons or layer.connection
    return Printed(name, f"{name}_plastic", kernel.source, kernel.settings)


def _read(graph: Graph, name: str, results: Sequence[str]) -> list[str]:
    """Results of node ``name`` that another node or an output reads."""
    ports = {edge.source.port for _, _, edge in graph.consumers(name)}
    ports |= {ref.port for _, ref in graph.outputs if ref.node == name}
    return [r for r in results if r in ports]
