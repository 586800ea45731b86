"""What learns, as ONNX operators: currents summed in order, the rule's programs, and the products of their factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from snncompile.ir.connection import Connection
from snncompile.ir.errors import InterchangeError
from snncompile.ir.ordered import LANES
from snncompile.ir.plasticity import FACTORS, Plasticity
from snncompile.targets.onnx.building import GraphBuilder
from snncompile.targets.onnx.coefficients import as_array
from snncompile.targets.onnx.functions import DOMAIN
from snncompile.targets.plastic_rule import PreparedRule
from snncompile.targets.torch.products import folded

if TYPE_CHECKING:
    from snncompile.targets.onnx.export import Exporter

_CPU = torch.device("cpu")


def current(ex: Exporter, gb: GraphBuilder, name: str, x: str, weight: str | None) -> str:
    """A Linear or a convolution of a plastic region at one step.

    A Linear is summed as :func:`snncompile.ir.ordered.ordered_product` says.

    Args:
        ex: the export.
        gb: where it goes.
        name: the connection.
        x: its input, ``(batch, *features)``.
        weight: the weight of this step; None where it does not learn.
    """
    op: Connection = ex.graph.op(name)
    own = {role: ex.request.values[p.name] for role, p in op.params.items()}
    if weight is None:
        value, bias = folded(op, own)
        weight = gb.stored(f"{name}.weight.ordered", as_array(value))
    else:
        extra = sorted(set(op.params) - {"weight", "bias", "mask", "sign"})
        if extra:
            said = f"a weight that learns and has {', '.join(extra)} cannot be written as ONNX"
            raise InterchangeError(said, node=name)
        bias = own.get("bias")
        if "mask" in op.params:
            mask = gb.initializer(op.params["mask"].name, as_array(own["mask"]))
            weight = gb.node("Mul", [weight, mask], f"{name}.weight.masked")
    if op.kind == "Conv2d":
        inputs = [weight, x] if bias is None else [weight, x, gb.stored(f"{name}.bias.added", as_array(bias))]
        return _convolved(gb, f"{name}.now", op.attrs, op.params["weight"].shape, *inputs)
    y = _ordered(gb, name, weight, x, op.input.shape[0])
    if bias is None:
        return y
    return gb.node("Add", [y, gb.stored(f"{name}.bias.added", as_array(bias))], f"{name}.now", f"{name}/Add")


def _convolved(
    gb: GraphBuilder, wanted: str, a: Mapping[str, Any], shape: tuple[int, ...], weight: str, x: str, bias: str = ""
) -> str:
    return gb.node(
        "Conv", [x, weight, bias] if bias else [x, weight], wanted, kernel_shape=list(shape[2:]),
        strides=list(a["stride"]), pads=[*a["padding"], *a["padding"]], dilations=list(a["dilation"]),
    )  # fmt: skip


def _ordered(gb: GraphBuilder, name: str, weight: str, x: str, size: int) -> str:
    """Lanes of products, then neighbours added until one is left. Lanes that would be 0 throughout are left out."""
    lanes = LANES
    while lanes // 2 >= size:
        lanes //= 2
    missing = -size % lanes
    if missing:
        pads = gb.ints([0, 0, 0, missing])
        weight = gb.node("Pad", [weight, pads], f"{name}.weight.padded")
        x = gb.node("Pad", [x, pads], f"{name}.x.padded")
    rows = gb.node("Unsqueeze", [x, gb.ints([1])], f"{name}.x.rows")
    total = ""
    for start in range(0, size, lanes):
        bounds = [gb.ints([start]), gb.ints([start + lanes]), gb.ints([-1])]
        w = gb.node("Slice", [weight, *bounds], f"{name}.weight.chunk")
        z = gb.node("Slice", [rows, *bounds], f"{name}.x.chunk")
        term = gb.node("Mul", [w, z], f"{name}.terms", f"{name}/Mul")
        total = gb.node("Add", [total, term], f"{name}.lanes") if total else term
    last = gb.ints([3])
    while lanes > 1:
        lanes //= 2
        pairs = gb.node("Reshape", [total, gb.ints([0, 0, lanes, 2])], f"{name}.pairs")
        left, right = (
            gb.node("Slice", [pairs, gb.ints([i]), gb.ints([i + 1]), last], f"{name}.neighbours") for i in (0, 1)
        )
        both = gb.node("Add", [left, right], f"{name}.sums")
        total = gb.node("Squeeze", [both, last], f"{name}.halved")
    return gb.node("Squeeze", [total, gb.ints([2])], f"{name}.product")


def learn(
    ex: Exporter, gb: GraphBuilder, name: str, arrived: Mapping[str, str], states: Mapping[str, str]
) -> tuple[str, dict[str, str], dict[str, str]]:
    """One step of a rule.

    Args:
        ex: the export.
        gb: where it goes.
        name: the node of the rule.
        arrived: port -> value of this step.
        states: state name -> value before it, the weight's among them.

    Returns:
        the new weight, the traces of this step by local name, and their new values by state name.
    """
    op: Plasticity = ex.graph.op(name)
    own = {p.name: ex.request.values[p.name].detach().cpu() for p in op.own.values()}
    prepared = PreparedRule(name, op)
    coefs = prepared.bind(own, own, _CPU, False).coefs
    held = {t.local: states[t.name] for t in op.traces}
    w = states[op.weight.name]

    def run(part: str, wide: list[str], fixed: list[str], table: Mapping[str, str]) -> dict[str, str]:
        """Call the program ``part`` as a local function; ``wide`` have the full shape, ``fixed`` broadcast."""
        numbers = {c: gb.stored(f"{name}.{c}", as_array(value)) for c, value in coefs[part].items()}
        results = op.results(part)
        known = [t.local for t in op.traces]
        doc = f"{op.kind}, {part}: one time step, elementwise"
        step = ex.functions.step(
            f"{op.kind}_{part}", prepared.rule.programs[part], wide, [*fixed, *numbers], known, results, doc
        )
        outs = [gb.fresh(f"{name}.{r}") for r in results]
        given = [*(table[n] for n in (*wide, *fixed)), *numbers.values()]
        gb.add(step.name, given, outs, f"{name}/{part}", domain=DOMAIN, doc=doc)
        return dict(zip(results, outs, strict=True))

    factors, traces = {}, {}
    for side, part in (("pre", "before"), ("post", "after")):
        made = run(part, op.given(part), [], {"z": arrived[side], **held})
        factors[side] = {f: made.pop(f) for f in FACTORS}
        traces.update(made)
    products = {f: _outer(gb, name, op, f, factors) for f in FACTORS}
    if op.synapse is None:
        given = {f: _summed(gb, f"{name}.{f}", product) for f, product in products.items()}
    else:
        wide = [*FACTORS, *(t.local for t in op.of_side("synapse"))]
        axes = gb.ints(list(range(2, 1 + len(op.weight.shape))))  # (batch, 1) against (batch, *weight)
        signals = {port: gb.node("Unsqueeze", [arrived[port], axes], f"{name}.{port}") for port in op.signals}
        made = run("synapse", wide, ["w", *op.signals], {"w": w, **products, **held, **signals})
        given = {"change": _summed(gb, f"{name}.change", made.pop("change"))}
        traces.update(made)
    fixed = {
        role: gb.initializer(op.params[role].name, as_array(ex.request.values[op.params[role].name]))
        for role in ("mask", "sign")
        if role in op.params
    }
    new = run("update", ["w", *given, *fixed], [], {"w": w, **given, **fixed})["w"]
    return new, traces, {t.name: traces[t.local] for t in op.traces}


def _outer(
    gb: GraphBuilder, name: str, op: Plasticity, factor: str, factors: Mapping[str, Mapping[str, str]]
) -> str:
    """The product of both sides' factors for each sequence, ``(batch, *weight)``."""
    if op.connection == "Conv2d":
        return _over_positions(gb, f"{name}.{factor}", op, factors["post"][factor], factors["pre"][factor])
    after = gb.node("Unsqueeze", [factors["post"][factor], gb.ints([2])], f"{name}.{factor}.post")
    before = gb.node("Unsqueeze", [factors["pre"][factor], gb.ints([1])], f"{name}.{factor}.pre")
    return gb.node("Mul", [after, before], f"{name}.{factor}.each", f"{name}/outer")


def _over_positions(gb: GraphBuilder, name: str, op: Plasticity, after: str, before: str) -> str:
    """The same summed over the positions of a convolution, on unfolded receptive fields."""
    out, channels, height, width = op.weight.shape
    fields = channels * height * width
    one_each = np.eye(fields, dtype=np.float32).reshape(fields, channels, height, width)
    unfold = gb.stored(f"{name}.unfold", one_each)
    seen = _convolved(gb, f"{name}.fields", op.settings, one_each.shape, unfold, before)
    rows = gb.node("Reshape", [seen, gb.ints([0, fields, -1])], f"{name}.rows")
    turned = gb.node("Transpose", [rows], f"{name}.rows.transposed", perm=[0, 2, 1])
    spikes = gb.node("Reshape", [after, gb.ints([0, out, -1])], f"{name}.positions")
    product = gb.node("MatMul", [spikes, turned], f"{name}.product", f"{name}/MatMul")
    return gb.node("Reshape", [product, gb.ints([-1, *op.weight.shape])], f"{name}.each")


def _summed(gb: GraphBuilder, name: str, terms: str) -> str:
    """The sum over the batch. Runtimes add rows in their order; the check of a file says so if one does not."""
    return gb.node("ReduceSum", [terms, gb.ints([0])], f"{name}.summed", keepdims=0)
