"""Prints the products inside a cycle, dense and by synapse, forward and back.

A sum takes its terms in the order of lags and inputs, each product rounded before it is added: results depend neither
on the tiles nor on the rest of the batch.
"""

from __future__ import annotations

from snncompile.targets.cycle_plan import Product, Read
from snncompile.targets.triton.cycle_writer import CycleWriter

DENSE = '''@triton.jit
def snn_dense(total, x, size, weight, width, b, n, there, present, AHEAD: tl.constexpr):
    """`total` + x (B, size) @ weight (size, width): one input after the other, AHEAD of them loaded at a time."""
    for k in range(0, size, AHEAD):
        values = ()
        weights = ()
        for u in tl.static_range(AHEAD):
            inside = k + u < size
            values = values + (tl.load(x + b * size + (k + u), mask=present & inside, other=0.0),)
            weights = weights + (tl.load(weight + (k + u) * width + n, mask=there & inside, other=0.0),)
        for u in tl.static_range(AHEAD):
            total = total + values[u] * weights[u]
    return total
'''

GATHER = '''@triton.jit
def snn_gather(
    total, x, now, ring, B, size, most, weights, sources, offsets, width, b, n, there, present,
    LATE: tl.constexpr, AHEAD: tl.constexpr,
):
    """`total` + what comes over the synapses of each neuron, (most, width); the source is -1 where there is none.

    A synapse reads value `now` of the line x, or (LATE) as many steps later as its offset says.
    """
    for k in range(0, most, AHEAD):
        factors = ()
        values = ()
        for u in tl.static_range(AHEAD):
            place = (k + u) * width + n
            source = tl.load(sources + place, mask=there & (k + u < most), other=-1)
            used = source >= 0
            row = now & ring
            if LATE:
                row = (now + tl.load(offsets + place, mask=used, other=0)) & ring
            factors = factors + (tl.load(weights + place, mask=used, other=0.0),)
            from_x = (row.to(tl.int64) * B + b) * size + source
            values = values + (tl.load(x + from_x, mask=present & used, other=0.0),)
        for u in tl.static_range(AHEAD):
            total = total + factors[u] * values[u]
    return total
'''


def zeros(w: CycleWriter) -> str:
    """A tile of zeros."""
    return f"tl.full({w.tile}, 0.0, tl.float32)"


def print_product(w: CycleWriter, product: Product, bias: bool, divisor: int = 1) -> None:
    """One step of a product; ``bias``: whether it has one; ``divisor``: by what a sparse one is divided."""
    width = w.plan.lines[product.line].size
    w.begin_step(f"{product.name}: the product", [("line", product.read.line)], [("line", product.line)])
    made = w.row("line", Read(product.line))
    added = print_bias(w, product) if bias else ""
    if product.sparse:
        line, ring = w.line_of("line", product.read.line)
        late = product.part != "weight"
        now = _number(w, product.read, late)
        about = f"most synapses of a neuron of {product.name}"
        most = w.integer(("most", *_key(product)), f"{product.name}_most", about)
        weights, sources, offsets = (synapse_table(w, product, what) for what in ("weights", "sources", "offsets"))
        w.tiles(width)
        items = [zeros(w), line, now, ring, "B", str(w.plan.lines[product.read.line].size), most]
        items += [weights, sources, offsets if late else sources, str(width), *_WHERE, str(late), "AHEAD"]
        w.call(3, "total = snn_gather", items)
        _divide(w, divisor)
        if bias:
            w.line(3, f"total = total + {added}")
    else:
        _dense(w, product, width, added)
    w.store(3, made, "total")


_WHERE = ("b", "n", "there", "present")


def _number(w: CycleWriter, read: Read, late: bool) -> str:
    """The number of the value that is read; where synapses have lags of their own, what these add to."""
    return "t" if late else f"t{w.offset(read.line, read.lag)}"


def _key(product: Product) -> tuple[str, str]:
    return product.name, product.part


def print_bias(w: CycleWriter, product: Product) -> str:
    """The values of a product's bias."""
    pointer = w.address(("bias", *_key(product)), f"{product.name}_bias", f"bias of {product.name}, (out,)")
    return f"tl.load({pointer} + n, mask=there, other=0.0)"


def _divide(w: CycleWriter, divisor: int) -> None:
    if divisor != 1:
        w.line(3, f"total = tl.div_rn(total, tl.full({w.tile}, {float(divisor)}, tl.float32))")


def synapse_table(w: CycleWriter, product: Product, what: str) -> str:
    """An argument with a sparse product's ``"weights"``, ``"sources"`` or ``"offsets"``, by neuron; its name."""
    about = {
        "weights": f"weights of {product.name}, (most, out), each neuron's in order",
        "sources": f"sources of {product.name}, likewise; -1 where there are no more",
        "offsets": f"what to add to a step for what {product.name} reads, likewise",
    }[what]
    if what == "offsets" and product.part == "weight":
        return ""
    return w.address((what, *_key(product)), f"{product.name}_{what}", about, "*fp32" if what == "weights" else "*i32")


def _lags(w: CycleWriter, product: Product) -> tuple[str, str]:
    """Names of a product's lags, as what to add to a step, and of how many there are."""
    about = f"what to add to a step for each lag of {product.name}, (lags,)"
    pointer = w.address(("lag offsets", *_key(product)), f"{product.name}_lags", about, "*i32")
    return pointer, w.integer(("lags", *_key(product)), f"{product.name}_lag_count", f"lags of {product.name}")


def _dense(w: CycleWriter, product: Product, width: int, added: str) -> None:
    read, size = product.read, w.plan.lines[product.read.line].size
    about = f"weight of {product.name}, (lags, in, out)"
    weight = w.address(("weight", *_key(product)), f"{product.name}_weight", about)
    begin = f"tl.broadcast_to({added}, {w.tile})" if added else zeros(w)
    where = [str(width), *_WHERE, "AHEAD"]
    if product.part == "weight":
        x = w.row("line", read)
        w.tiles(width)
        w.call(3, "total = snn_dense", [begin, x, str(size), weight, *where])
        return
    lags, count = _lags(w, product)
    line, ring = w.line_of("line", read.line)
    w.tiles(width)
    w.line(3, f"total = {begin}")
    w.line(3, f"part = {weight}")
    w.line(3, f"for l in range(0, {count}):")
    w.line(4, f"x = snn_row({line}, t + tl.load({lags} + l), {ring}, B, {size})")
    w.call(4, "total = snn_dense", ["total", "x", str(size), "part", *where])
    w.line(4, f"part += {size * width}")


def print_product_back(w: CycleWriter, product: Product, divisor: int = 1) -> None:
    """The gradient of one step of a product, for what it reads; ``divisor`` as in :func:`print_product`."""
    read, size, width = product.read, w.plan.lines[product.read.line].size, w.plan.lines[product.line].size
    grad = ("grad", product.line)
    w.begin_step(f"{product.name}: the gradient of the product", [grad], [("grad", read.line)])
    if product.sparse:
        _scatter(w, product, divisor)
        return
    given = w.row("grad", Read(product.line))
    about = f"weight of {product.name}, (lags, out, in)"
    weight = w.address(("weight back", *_key(product)), f"{product.name}_weight", about)
    depth, part = 2, weight
    if product.part == "weight":
        to = w.row("grad", read)
    else:
        lags, count = _lags(w, product)
        line, ring = w.line_of("grad", read.line)
        depth, part, to = 3, w.names.new("part"), w.names.new("to")
        w.line(2, f"{part} = {weight}")
        w.line(2, f"for l in range(0, {count}):")
        w.line(3, f"{to} = snn_row({line}, t + tl.load({lags} + l), {ring}, B, {size})")
    w.tiles(size, depth)
    w.load(depth + 1, "total", to)
    w.call(depth + 1, "total = snn_dense", ["total", given, str(width), part, str(size), *_WHERE, "AHEAD"])
    w.store(depth + 1, to, "total")
    if depth == 3:
        w.line(3, f"{part} += {size * width}")


def _scatter(w: CycleWriter, product: Product, divisor: int) -> None:
    """Groups of synapses of one source and one lag: no two of them add to the same value."""
    read, size, width = product.read, w.plan.lines[product.read.line].size, w.plan.lines[product.line].size
    key, name = _key(product), product.name
    late = product.part != "weight"
    line, ring = w.line_of("grad", read.line)
    given, given_ring = w.line_of("grad", product.line)
    now, given_now = _number(w, read, late), _number(w, Read(product.line), False)
    groups = w.integer(("groups", *key), f"{name}_groups", f"groups of synapses of {name}: of one lag and source")
    most = w.integer(("most back", *key), f"{name}_most", f"most synapses of a group of {name}")
    tables = [
        w.address((what, *key), f"{name}_{stem}", about, kind)
        for what, stem, about, kind in (
            ("weights back", "weights", f"weights of {name}, (most, groups)", "*fp32"),
            ("targets", "targets", "where they lead, likewise; -1 where there are no more", "*i32"),
        )
    ]
    sources = w.address(("group sources", *key), f"{name}_sources", "source of each group, (groups,)", "*i32")
    w.tiles(groups)
    items = [zeros(w), given, given_now, given_ring, "B", str(width), most, *tables, tables[1], groups]
    w.call(3, "total = snn_gather", [*items, *_WHERE, "False", "AHEAD"])
    _divide(w, divisor)
    w.line(3, f"source = tl.load({sources} + n, mask=there, other=0)")
    number = now
    if late:
        offsets = w.address(("group offsets", *key), f"{name}_offsets", "what to add to a step for its lag", "*i32")
        number = f"{number} + tl.load({offsets} + n, mask=there, other=0)"
    w.line(3, f"row = ({number}) & {ring}")
    w.line(3, f"to = {line} + (row.to(tl.int64) * B + b) * {size} + source")
    w.line(3, "tl.store(to, tl.load(to, mask=active, other=0.0) + total, mask=active)")
