"""The kernels that a recurrent layer needs, for the chips they are compiled for ahead of time.

As for scans these are the kernels a usual caller needs, for contiguous operands; others are compiled when first used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from snncompile.targets.scan import Scan, one_number
from snncompile.targets.triton.arch import Arch
from snncompile.targets.triton.kernel import KernelSource
from snncompile.targets.triton.recurrent_design import Demand, Design, choose_design
from snncompile.targets.triton.recurrent_kernel import RecurrentVariant, print_recurrent
from snncompile.targets.triton.recurrent_product import product_of
from snncompile.targets.triton.recurrent_resident import held
from snncompile.targets.triton.split_kernel import SPLIT, SplitTile
from snncompile.targets.variant import Layout


@dataclass(frozen=True)
class LayerShape:
    """What a recurrent layer is made of, besides its neurons' scan.

    Attributes:
        port: the scan's input that is the product.
        source: the scan's result that comes back.
        most: its largest value where it counts spikes, else None.
        bias: whether the product has a bias.
        size: neurons.
        ring: whether what comes back is more than one step late.
    """

    port: str
    source: str
    most: int | None
    bias: bool
    size: int
    ring: bool = False


@dataclass(frozen=True)
class LayerKernel:
    """One kernel.

    Attributes:
        role: ``"recurrent"`` (inference), ``"recurrent_save"``, ``"recurrent_backward"`` (training),
            ``"recurrent_step"`` (inference, one step) or ``"recurrent_split"`` (parts of the weight); with the form
            appended where chips differ in it.
        source: the printed kernel.
        settings: name of a chip -> launch settings there.
    """

    role: str
    source: KernelSource
    settings: Mapping[str, Design | SplitTile]


def layer_designs(
    scan: Scan, size: int, precision: str, arch: Arch, ring: bool, most: int | None
) -> tuple[Design, Design]:
    """How a layer runs forward and backward on ``arch``; ``ring`` and ``most`` as in :class:`LayerShape`."""
    forward, backward = (
        choose_design(Demand(size, precision, back, held(scan, back, ring), real=most is None and not back), arch)
        for back in (False, True)
    )
    return forward, backward


def layer_kernels(
    scan: Scan,
    shape: LayerShape,
    read: Collection[str],
    per_neuron: Collection[str],
    precision: str,
    archs: Sequence[Arch],
    late: tuple[str, ...] = (),
) -> list[LayerKernel]:
    """Kernels of a recurrent layer.

    Args:
        scan: its neurons.
        shape: what else it is made of.
        read: results that something else reads.
        per_neuron: parameters that have one value for each neuron (the others are one number).
        precision: what was asked for.
        archs: the chips, at least one.
        late: per input of the scan how late it is read, as in :class:`~snncompile.targets.variant.Layout`; empty where
            none is.
    """
    flat = (True,) * len(scan.inputs)
    one, one_back = (one_number(scan, per_neuron, reverse) for reverse in (False, True))
    store = tuple(dict.fromkeys((*(r for r in scan.results if r in read), shape.source)))
    forward = RecurrentVariant(
        False,
        shape.port,
        shape.source,
        Layout(flat, tuple(c in one for c in scan.coefs), late),
        bias=shape.bias,
        store=store,
    )
    backward = RecurrentVariant(
        True,
        shape.port,
        shape.source,
        Layout(flat, tuple(c in one_back for c in scan.reverse_coefs), late),
        grads=tuple((r, True) for r in scan.results if r in store),
        need_inputs=tuple(x for x in scan.inputs if x != shape.port),
        need_accumulators=bool(scan.accumulators),
    )
    found: dict[str, LayerKernel] = {}

    def add(role: str, arch: Arch, design: Design, variant: RecurrentVariant) -> None:
        product = product_of(design.precision, None if variant.backward else shape.most)
        ring = design.resident and shape.ring
        variant = variant._replace(resident=design.resident, sliced=design.sliced, product=product, ring=ring)
        source = print_recurrent(scan, variant._replace(dense=design.dense))
        if role in found and found[role].source.text != source.text:
            role = f"{role}_{design.form}"
        known = found.get(role, LayerKernel(role, source, {}))
        found[role] = replace(known, settings={**known.settings, arch.name: replace(design, why="")})

    for arch in archs:
        ahead, back = layer_designs(scan, shape.size, precision, arch, shape.ring, shape.most)
        add("recurrent", arch, ahead, forward)
        add("recurrent_save", arch, ahead, forward._replace(train=True))
        add("recurrent_backward", arch, back, backward)
        single = choose_design(Demand(shape.size, precision, steps=1), arch)
        if ahead.form != "steps" and single.form == "steps":
            add("recurrent_step", arch, single, forward)
        if ahead.width:
            role = "recurrent_split"
            known = found.get(role, LayerKernel(role, SPLIT, {}))
            tile = SplitTile(ahead.width, product_of(ahead.precision, None).parts)
            found[role] = replace(known, settings={**known.settings, arch.name: tile})
    return list(found.values())
