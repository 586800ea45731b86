"""How nodes and edges look in a picture, whatever draws it."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.ir.connection import PRODUCTS, Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.graph import Graph, Input, Ref
from snncompile.ir.plasticity import Plasticity


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
DELAY = Style("box", "#e9e0f5", "#6a4ca3")
RESHAPE = Style("box", "#eef4fb", "#7fa3cf")
STATEFUL = Style("ellipse", "#fde3cf", "#c8641b")
STATELESS = Style("ellipse", "#f2f0e6", "#8a8263")
LEARNING = Style("hexagon", "#e2f0d9", "#4f8f2f")
OUTPUT = Style("plaintext", "#ffffff", "#5b6b7f")
EDGE = "#3c4654"
LATE = "#b3261e"

#: Frames of regions: kind -> colour.
FRAMES = {"product": "#2f6db3", "scan": "#c8641b", "recurrent": "#b3261e", "plastic": "#4f8f2f"}


def style_of(op: object) -> Style:
    """Connections are boxes; synapses and neurons ellipses, those with state the stronger colour; rules hexagons."""
    if isinstance(op, Input):
        return INPUT
    if isinstance(op, Connection):
        return DELAY if op.depth else PRODUCT if op.kind in (*PRODUCTS, "Sparse") else RESHAPE
    if isinstance(op, Plasticity):
        return LEARNING
    return STATELESS if isinstance(op, Elementwise) and op.stateless else STATEFUL


def label_of(graph: Graph, name: str) -> tuple[str, str]:
    """Two lines: the node's name, and its kind and features."""
    op = graph.op(name)
    if isinstance(op, Input):
        return name, str(op.type)
    if isinstance(op, Plasticity):
        return name, f"{op.kind} [{'x'.join(map(str, op.weight.shape))}]"
    features = "x".join(map(str, op.output.shape if isinstance(op, Connection) else op.shape))
    return name, f"{op.kind} [{features}]"


def edge_label(graph: Graph, source: Ref, feedback: str, delay: int = 1) -> str:
    """What to write at an edge: a feedback's name, or a port that is not the usual one."""
    op = graph.op(source.node)
    if isinstance(op, Plasticity) and source.port == "weight":
        return f"{feedback} (t-1)"
    usual = op.outputs[0].local if isinstance(op, Elementwise) else "out"
    port = "" if source.port == usual else source.port
    return ", ".join(part for part in (port, f"{feedback} (t-{delay})" if feedback else "") if part)
