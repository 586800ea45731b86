"""A layered drawing of a graph with matplotlib, for machines without Graphviz."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from snncompile.ir.errors import UnsupportedError
from snncompile.ir.graph import Graph, Ref
from snncompile.ir.layout import HEIGHT, Layout
from snncompile.ir.look import EDGE, FRAMES, INPUT, LATE, Style, edge_label, label_of, style_of

_LABEL = {"fontsize": 6.5, "va": "center", "ha": "left", "zorder": 5,
          "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}}  # fmt: skip


def draw_with_matplotlib(graph: Graph, path: Path) -> None:
    """Draw ``graph`` into ``path``.

    Raises:
        UnsupportedError: where matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UnsupportedError(
            "drawing needs Graphviz' dot or matplotlib, and neither is installed. Install one, for example with"
            " `pip install snncompile[plots]`, or ask for --format dot"
        ) from None
    layout = Layout(graph)
    width, height = layout.size
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(-height, 0)
    axes.set_axis_off()
    _frames(axes, graph, layout)
    _edges(axes, graph, layout)
    _nodes(axes, graph, layout)
    figure.savefig(path, dpi=130)


def _frames(axes: Any, graph: Graph, layout: Layout) -> None:
    """A dashed frame around a region of several nodes; a short word beside one of a single node."""
    from matplotlib.patches import FancyBboxPatch

    for region in graph.regions:
        colour = FRAMES[region.kind]
        points = [layout.at[n] for n in region.nodes]
        left = min(layout.side(n, -1)[0] for n in region.nodes) - 0.14
        right = max(layout.side(n, 1)[0] for n in region.nodes) + 0.14
        low, high = min(p[1] for p in points) - HEIGHT / 2 - 0.12, max(p[1] for p in points) + HEIGHT / 2 + 0.12
        box = FancyBboxPatch(
            (left, low),
            right - left,
            high - low,
            boxstyle="round,pad=0,rounding_size=0.12",
            fill=False,
            edgecolor=colour,
            linestyle=(0, (4, 3)),
            linewidth=0.9,
            alpha=0.7,
            zorder=0,
        )
        axes.add_patch(box)
        axes.text(left + 0.08, high + 0.02, region.kind, fontsize=6.5, color=colour, va="bottom", ha="left", zorder=5)


def _nodes(axes: Any, graph: Graph, layout: Layout) -> None:
    from matplotlib.patches import FancyBboxPatch

    for name in graph.names:
        style: Style = style_of(graph.op(name))
        (x, y), width = layout.at[name], layout.widths[name]
        rounding = 0.26 if style.shape == "ellipse" else 0.03 if style is not INPUT else 0.12
        box = FancyBboxPatch(
            (x - width / 2, y - HEIGHT / 2),
            width,
            HEIGHT,
            boxstyle=f"round,pad=0,rounding_size={rounding}",
            facecolor=style.fill,
            edgecolor=style.line,
            linewidth=1.1,
            zorder=3,
        )
        axes.add_patch(box)
        title, detail = label_of(graph, name)
        axes.text(x, y + 0.1, title, ha="center", va="center", fontsize=8.5, weight="bold", zorder=4)
        axes.text(x, y - 0.12, detail, ha="center", va="center", fontsize=7, color="#3c4654", zorder=4)
    for end in layout.outputs:
        axes.text(*layout.at[end], end.removeprefix("output "), ha="center", va="center", fontsize=9, style="italic")


def _edges(axes: Any, graph: Graph, layout: Layout) -> None:
    drawn: dict[tuple[str, str], list[str]] = {}
    for name in graph.names:
        for edge in graph.inputs_of(name).values():
            label = edge_label(graph, edge.source, edge.feedback, edge.delay)
            if edge.delay:
                _late(axes, layout, edge.source, name, label)
            else:
                drawn.setdefault((edge.source.node, name), []).append(label)
    for end, ref in layout.outputs.items():
        drawn.setdefault((ref.node, end), []).append(edge_label(graph, ref, ""))
    for (a, b), labels in drawn.items():
        _line(axes, layout, a, b, ", ".join(label for label in labels if label))


def _line(axes: Any, layout: Layout, a: str, b: str, label: str) -> None:
    """A smooth line down from ``a`` through its waypoints to ``b``."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    (x0, y0), (x1, y1) = layout.at[a], layout.at[b]
    points = [(x0, y0 - HEIGHT / 2), *(layout.at[p] for p in layout.chains[a, b])]
    points.append((x1, y1 + (HEIGHT / 2 if not b.startswith("output ") else 0.14)))
    vertices, codes = [points[0]], [Curve.MOVETO]
    for (ax, ay), (bx, by) in pairwise(points):
        middle = (ay + by) / 2
        vertices += [(ax, middle), (bx, middle), (bx, by)]
        codes += [Curve.CURVE4] * 3
    axes.add_patch(FancyArrowPatch(path=Curve(vertices, codes), arrowstyle="-|>", mutation_scale=9, color=EDGE,
                                   linewidth=1.0, fill=None, zorder=2, shrinkA=0, shrinkB=0))  # fmt: skip
    if label:
        (ax, ay), (bx, by) = points[:2]
        axes.text((ax + bx) / 2 + 0.06, (ay + by) / 2, label, color=EDGE, **_LABEL)


def _late(axes: Any, layout: Layout, source: Ref, target: str, label: str) -> None:
    """A dashed line up the right-hand side."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    (x0, y0), (x1, y1) = layout.side(source.node, 1), layout.side(target, 1)
    right = layout.turn(source.node, target)
    if source.node == target:
        y0, y1 = y0 - 0.12, y1 + 0.12
    vertices = [(x0, y0), (right, y0), (right, y0), (right, (y0 + y1) / 2), (right, y1), (right, y1), (x1, y1)]
    axes.add_patch(FancyArrowPatch(path=Curve(vertices, [Curve.MOVETO] + [Curve.CURVE4] * 6), arrowstyle="-|>",
                                   mutation_scale=9, color=LATE, linewidth=1.0, linestyle="dashed", fill=None, zorder=2,
                                   shrinkA=0, shrinkB=0))  # fmt: skip
    axes.text(right + 0.05, (y0 + y1) / 2, label, color=LATE, **_LABEL)
