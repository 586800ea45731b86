"""The files of a scan that a usual caller needs, printed without calling anything: for a person to read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from snncompile.ir.connection import Connection
from snncompile.targets.c import late_events_source as late_events
from snncompile.targets.c import late_source as late
from snncompile.targets.c.backward import print_backward
from snncompile.targets.c.conv_frame import ConvFrame
from snncompile.targets.c.events_conv_source import FUNCTIONS, Taps, source, taps_of
from snncompile.targets.c.events_source import (
    FORWARD,
    FORWARD_NAME,
    FORWARD_TYPES,
    WEIGHT,
    WEIGHT_NAME,
    WEIGHT_TYPES,
)
from snncompile.targets.c.forward import print_forward
from snncompile.targets.c.kernel import KernelSource
from snncompile.targets.c.plastic_kernel import print_plastic
from snncompile.targets.c.plastic_printing import PlasticVariant
from snncompile.targets.c.plastic_seen import SeenForm
from snncompile.targets.c.recurrent_kernel import (
    LayerBackward,
    LayerForward,
    print_layer_backward,
    print_layer_forward,
)
from snncompile.targets.c.sparse_source import NAME as SPARSE_NAME
from snncompile.targets.c.sparse_source import SOURCE as SPARSE
from snncompile.targets.c.sparse_source import TYPES as SPARSE_TYPES
from snncompile.targets.event_conv import window_of
from snncompile.targets.plastic_call import Wiring, heard
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.pooling import Windows
from snncompile.targets.scan import Scan
from snncompile.targets.variant import BackwardVariant, ForwardVariant, Layout

#: For a layer that reads nothing late.
NOT_LATE: Mapping[str, SeenForm] = MappingProxyType({})


def scan_sources(
    scan: Scan,
    outputs: Collection[str],
    one: Collection[str],
    one_reverse: Collection[str],
    save_some: bool,
    late: tuple[str, ...] = (),
    windows: Windows | None = None,
    conv: Connection | None = None,
    shown: SeenForm | None = None,
) -> dict[str, KernelSource]:
    """Role -> file: inference, and training forward and backward.

    Args:
        scan: the scan.
        outputs: results whose course is wanted.
        one: coefficients that are one number for all neurons.
        one_reverse: reverse coefficients that are.
        save_some: whether training keeps the states of some steps only.
        late: per input how late it is read, as in :class:`~snncompile.targets.variant.Layout`; empty where none is.
        windows: pooling of a result.
        conv: the event-driven convolution that runs in the same function.
        shown: the delay that shows its images, or None.
    """
    store = tuple(r for r in scan.results if r in outputs)
    frames = [None if conv is None else ConvFrame(_taps(conv), way, shown) for way in (False, True)]
    unit, scalar = (True,) * len(scan.inputs), tuple(c in one for c in scan.coefs)
    forward = ForwardVariant(Layout(unit, scalar, late), store, (), "none", windows)
    backward = BackwardVariant(
        Layout(unit, tuple(c in one_reverse for c in scan.reverse_coefs), late),
        scalar if save_some else (),
        save_some,
        tuple((r, True) for r in store),
        (),
        scan.inputs,
        bool(scan.accumulators),
        windows,
    )
    sources = {"forward": print_forward(scan, forward, frames[0])}
    if scan.states:
        save = "some" if save_some else "all"
        role = f"forward_{'checkpoint' if save_some else 'save'}"
        sources[role] = print_forward(scan, forward._replace(save=save), frames[0])
    role = "backward_checkpoint" if save_some and scan.states else "backward"
    sources[role] = print_backward(scan, backward, frames[1])
    return sources


def layer_sources(
    scan: Scan,
    port: str,
    source: str,
    bias: bool,
    outputs: Collection[str],
    one: Collection[str],
    one_reverse: Collection[str],
    late: tuple[str, ...] = (),
) -> dict[str, KernelSource]:
    """Role -> file of a recurrent layer: inference, and training forward and backward.

    Args:
        scan: the layer's neurons.
        port: the input that is the product.
        source: the result that the product reads.
        bias: whether the product has a bias.
        outputs: results whose course is wanted.
        one: coefficients that are one number for all neurons.
        one_reverse: reverse coefficients that are.
        late: per input how late it is read, as in :class:`~snncompile.targets.variant.Layout`; empty where none is.
    """
    store = tuple(r for r in scan.results if r in outputs or r == source)
    unit = (True,) * len(scan.inputs)
    layout = Layout(unit, tuple(c in one for c in scan.coefs), late)
    forward = LayerForward(port, source, layout, bias, store, False)
    backward = LayerBackward(
        port,
        source,
        Layout(unit, tuple(c in one_reverse for c in scan.reverse_coefs), late),
        tuple((r, True) for r in store),
        (),
        tuple(x for x in scan.inputs if x != port),
        bool(scan.accumulators),
    )
    return {
        "recurrent": print_layer_forward(scan, forward),
        "recurrent_save": print_layer_forward(scan, forward._replace(train=True)),
        "recurrent_backward": print_layer_backward(scan, backward),
    }


def plastic_sources(
    scan: Scan,
    rule: PlasticRule,
    wiring: Wiring,
    outputs: Collection[str],
    one: Collection[str],
    late: tuple[str, ...] = (),
    seen: Mapping[str, SeenForm] = NOT_LATE,
) -> dict[str, KernelSource]:
    """Role -> file of a layer that learns.

    Args:
        scan: the layer's neurons.
        rule: its rule.
        wiring: the layer besides.
        outputs: results whose course is wanted.
        one: coefficients that are one number for all neurons.
        late: per input how late it is read, as in :class:`~snncompile.targets.variant.Layout`; empty where none is.
        seen: what a delay shows, as in :class:`~snncompile.targets.plastic_call.PlasticForwardCall` ->
            :func:`~snncompile.targets.c.plastic_seen.make_form`.
    """
    layout = Layout((True,) * len(scan.inputs), tuple(c in one for c in scan.coefs), late)
    store = tuple(r for r in scan.results if r in outputs)
    port, source, bias, product, other = wiring
    told = tuple((s, seen[heard(s)]) for s in rule.node.signals if heard(s) in seen)
    rows = seen.get("x"), seen.get("pre"), told
    variant = PlasticVariant(port, source, layout, bias, store, (), product, other, *rows)
    return {"plastic": print_plastic(scan, rule, variant).kernel}


def event_sources() -> dict[str, KernelSource]:
    """Role -> file of event-driven products: forward, and the weight's gradient."""
    return {
        "events_forward": _fixed(FORWARD_NAME, FORWARD, FORWARD_TYPES),
        "events_weight": _fixed(WEIGHT_NAME, WEIGHT, WEIGHT_TYPES),
    }


def event_conv_sources(op: Connection) -> dict[str, KernelSource]:
    """Role -> file of the event-driven convolution ``op``: forward, and the weight's gradient."""
    return {f"events_{way}": _fixed(name, source(_taps(op), way), types) for way, (name, types) in FUNCTIONS.items()}


def _taps(op: Connection) -> Taps:
    outputs, channels, *kernel = op.params["weight"].shape
    return taps_of((outputs, channels, *[1] * (2 - len(kernel)), *kernel), window_of(op))


def late_sources(sparse: bool) -> dict[str, KernelSource]:
    """Role -> file of products with a delay for each synapse: the product, and the gradients of input and weight."""
    dense = {"late_product": _fixed(late.PRODUCT_NAME, late.PRODUCT, late.PRODUCT_TYPES)}
    if not sparse:
        return {**dense, "late_weight": _fixed(late.WEIGHT_NAME, late.WEIGHT, late.WEIGHT_TYPES)}
    return {  # the gradient of the input is dense
        **dense,
        "late_events": _fixed(late_events.PRODUCT_NAME, late_events.PRODUCT, late_events.PRODUCT_TYPES),
        "late_events_weight": _fixed(late_events.WEIGHT_NAME, late_events.WEIGHT, late_events.WEIGHT_TYPES),
    }


def sparse_source() -> KernelSource:
    """The file of sparse connections."""
    return _fixed(SPARSE_NAME, SPARSE, SPARSE_TYPES)


def _fixed(name: str, text: str, types: str) -> KernelSource:
    return KernelSource(name, text, types, inputs=(), coefs=(), states=(), by_chunk=False)
