"""Pictures of a graph: Graphviz source, and a PNG with or without Graphviz."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from snncompile.ir.drawing import draw_with_matplotlib
from snncompile.ir.graph import Graph, Ref
from snncompile.ir.look import EDGE, FRAMES, LATE, OUTPUT, edge_label, label_of, style_of


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
    label = edge_label(graph, source, getattr(edge, "feedback", ""), getattr(edge, "delay", 0))
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
    draw_with_matplotlib(graph, path)
    return path
