"""Pictures of a graph: Graphviz source, and a PNG with or without Graphviz."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from snncompile.ir.connection import PRODUCTS, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Input, Ref


@dataclass(frozen=True)
class Style:
    """How a family of nodes looks.

    Attributes:
        shape: Graphviz' name of the outline.
        fill: colour inside.
        line: colour of the outline.
    """

    shape: str
    fill: str
    line: str


INPUT = Style("cds", "#eef2f7", "#5b6b7f")
PRODUCT = Style("box", "#dbe9f9", "#2f6db3")
RESHAPE = Style("box", "#eef4fb", "#7fa3cf")
STATEFUL = Style("ellipse", "#fde3cf", "#c8641b")
STATELESS = Style("ellipse", "#f2f0e6", "#8a8263")
OUTPUT = Style("plaintext", "#ffffff", "#5b6b7f")
EDGE = "#3c4654"
LATE = "#b3261e"

#: Frames of regions: kind -> colour.
FRAMES = {"product": "#2f6db3", "scan": "#c8641b", "recurrent": "#b3261e"}


def style_of(op: object) -> Style:
    """Connections are boxes; synapses and neurons ellipses, those with state the stronger colour."""
    if isinstance(op, Input):
        return INPUT
    if isinstance(op, Connection):
        return PRODUCT if op.kind in PRODUCTS else RESHAPE
    return STATELESS if isinstance(op, Elementwise) and op.stateless else STATEFUL


def label_of(graph: Graph, name: str) -> tuple[str, str]:
    """Two lines: the node's name, and its kind and features."""
    op = graph.op(name)
    if isinstance(op, Input):
        return name, str(op.type)
    features = "x".join(map(str, op.output.shape if isinstance(op, Connection) else op.shape))
    return name, f"{op.kind} [{features}]"


def edge_label(graph: Graph, source: Ref, feedback: str) -> str:
    """What to write at an edge: a feedback's name, or a port that is not the usual one."""
    op = graph.op(source.node)
    usual = op.outputs[0].local if isinstance(op, Elementwise) else "out"
    port = "" if source.port == usual else source.port
    return ", ".join(part for part in (port, f"{feedback} (t-1)" if feedback else "") if part)


def to_dot(graph: Graph) -> str:
    """``graph`` in Graphviz' language, regions as clusters."""
    framed = {name: i for i, region in enumerate(graph.regions) for name in region.nodes}
    lines = [
        f"digraph {_quoted(graph.name)} {{",
        '  graph [rankdir=TB, fontname="Helvetica", fontsize=10, nodesep=0.35, ranksep=0.45];',
        '  node [style=filled, fontname="Helvetica", fontsize=11, margin="0.15,0.07"];',
        f'  edge [color="{EDGE}", fontname="Helvetica", fontsize=9];',
    ]
    lines += [f"  {_node(graph, name)}" for name in graph.names if name not in framed]
    for i, region in enumerate(graph.regions):
        lines.append(f"  subgraph cluster_{i} {{")
        look = f'style="rounded,dashed", color="{FRAMES[region.kind]}", fontcolor="{FRAMES[region.kind]}"'
        lines.append(f"    label={_quoted(region.kind)}; {look.replace(', ', '; ')};")
        lines += [f"    {_node(graph, name)}" for name in region.nodes]
        lines.append("  }")
    for name in graph.names:
        for edge in graph.inputs_of(name).values():
            lines.append(f"  {_quoted(edge.source.node)} -> {_quoted(name)}{_edge_look(graph, edge.source, edge)};")
    for key, ref in graph.outputs:
        end = _quoted(f"output {key}")
        lines.append(f"  {end} [label={_quoted(key)}, shape={OUTPUT.shape}, fillcolor=none];")
        lines.append(f"  {_quoted(ref.node)} -> {end}{_edge_look(graph, ref, None)};")
    return "\n".join([*lines, "}"]) + "\n"


def _node(graph: Graph, name: str) -> str:
    style = style_of(graph.op(name))
    label = _quoted("\n".join(label_of(graph, name)))
    return f'{_quoted(name)} [label={label}, shape={style.shape}, fillcolor="{style.fill}", color="{style.line}"];'


def _edge_look(graph: Graph, source: Ref, edge: object) -> str:
    late = getattr(edge, "delay", 0)
    label = edge_label(graph, source, getattr(edge, "feedback", ""))
    look = [f"label={_quoted(label)}"] if label else []
    if late:
        look += ["style=dashed", f'color="{LATE}"', f'fontcolor="{LATE}"', "constraint=false"]
    return f" [{', '.join(look)}]" if look else ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def draw_png(graph: Graph, path: str | Path) -> Path:
    """Draw ``graph`` into ``path``: by Graphviz where its ``dot`` is installed, else by matplotlib.

    Raises:
        UnsupportedError: where neither is.
    """
    path = Path(path)
    dot = shutil.which("dot")
    if dot:
        subprocess.run([dot, "-Tpng", "-Gdpi=130", "-o", str(path)], input=to_dot(graph).encode(), check=True)
        return path
    from snncompile.ir.drawing import draw_with_matplotlib

    draw_with_matplotlib(graph, path)
    return path
