"""The graph as JSON: what an artifact's ``graph.json`` holds.

The same graph gives the same bytes. Identical programs are written once, in the table ``programs``, named after the
first node that uses them. Arrays are not in it: a parameter that was *given* says so, and its value lies beside.
Reading takes nothing on trust: unknown keys, wrong types, bad names, sizes over the limits and newer formats are
refused, nothing is evaluated, and the graph is verified.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from snncompile.ir.connection import Connection
from snncompile.ir.elementwise import Elementwise
from snncompile.ir.errors import ArtifactError, Location, ModelError
from snncompile.ir.graph import Edge, Graph, Input, Note, Ref, Region
from snncompile.ir.plasticity import Plasticity
from snncompile.ir.program import MAX_OPS, Arg, Op, Program
from snncompile.ir.reading import (
    Malformed,
    Path,
    exact_keys,
    listed,
    mapping,
    number,
    plain,
    read,
    real,
    shown,
    text,
    whole,
)
from snncompile.ir.verify import verify

#: The format written, and the newest one read.
FORMAT = 1

_OPS: Mapping[str, Any] = {
    "input": Input,
    "connection": Connection,
    "elementwise": Elementwise,
    "plasticity": Plasticity,
}
_OP_NAMES = {cls: name for name, cls in _OPS.items()}
_KEYS = ("format", "name", "dt", "nodes", "edges", "outputs", "regions", "notes", "programs")


# -- writing -------------------------------------------------------------------------------------------------------


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """``graph`` as values that ``json.dumps`` takes, always in the same order."""
    programs = _Programs()
    nodes = [_node(graph, name, programs) for name in graph.names]
    return {
        "format": FORMAT,
        "name": graph.name,
        "dt": number(graph.dt),
        "nodes": nodes,
        "edges": [
            {"source": str(e.source), "target": f"{name}.{port}", "delay": e.delay, "feedback": e.feedback}
            for name in graph.names
            for port, e in graph.inputs_of(name).items()
        ],
        "outputs": {key: str(ref) for key, ref in graph.outputs},
        "regions": [plain(region, {}) for region in graph.regions],
        "notes": [plain(note, {}) for note in graph.notes],
        "programs": programs.table,
    }


class _Programs:
    """The table of programs, filled as nodes are written."""

    def __init__(self) -> None:
        self.table: dict[str, Any] = {}
        self._known: dict[str, str] = {}

    def name(self, program: Program, wanted: str) -> str:
        data = {
            "inputs": list(program.inputs),
            "ops": [[op.name, op.op, [_arg(a) for a in op.args], op.where] for op in program.ops],
            "outputs": {name: _arg(arg) for name, arg in program.outputs},
        }
        key = json.dumps(data)  # not the program itself: -0.0 == 0.0 and nan != nan
        if key not in self._known:
            self._known[key] = wanted
            self.table[wanted] = data
        return self._known[key]


def _arg(arg: Arg) -> Any:
    return number(arg) if isinstance(arg, float) else arg


def _node(graph: Graph, name: str, programs: _Programs) -> dict[str, Any]:
    op, where = graph.op(name), graph.where(name)
    head = {"name": name, "op": _OP_NAMES[type(op)], "where": _place(where)}
    if isinstance(op, Elementwise):
        forward = programs.name(op.forward, f"{name}.step")
        reverse = programs.name(op.reverse, f"{name}.grad")
        derived = None if op.derived is None else programs.name(op.derived, f"{name}.once")
        rest = plain(op, {Program: lambda _: None})
        return {**head, **rest, "forward": forward, "reverse": reverse, "derived": derived}
    if isinstance(op, Plasticity):
        named = {part: programs.name(p, f"{name}.{part}") for part, p in op.programs().items()}
        return {**head, **plain(op, {Program: lambda _: None}), **named}
    return {**head, **plain(op, {})}


def _place(where: Location | None) -> str | None:
    """File and line, the file without the directories of the machine it was written on."""
    if where is None:
        return None
    file = "".join(c if c.isprintable() else "?" for c in os.path.basename(where.file))
    return f"{file[-200:]}:{where.line}"


# -- reading -------------------------------------------------------------------------------------------------------


def graph_from_json(data: Any) -> Graph:
    """The verified graph that :func:`graph_to_json` wrote.

    Raises:
        ArtifactError: where ``data`` is malformed or of a newer format; it names the key.
        VerificationError, ModelError: where what it says breaks a rule of the IR.
    """
    try:
        graph = build(data)
    except Malformed as err:
        raise ArtifactError(f"graph: {shown(err.path)}: {err.reason}") from None
    verify(graph)
    return graph


def build(data: Any) -> Graph:
    """The graph, as far as its form is right; not verified.

    Raises:
        Malformed: with the place.
    """
    mapping(data, ())
    version = whole(data.get("format"), ("format",))
    if version != FORMAT:
        newer = "newer than" if version > FORMAT else "not"
        raise Malformed(("format",), f"{version} is {newer} the format {FORMAT} that this version of snncompile reads")
    exact_keys(data, _KEYS, ())
    table = mapping(data["programs"], ("programs",))
    programs = {name: _read_program(p, ("programs", name)) for name, p in table.items()}
    graph = Graph(text(data["name"], ("name",)), real(data["dt"], ("dt",)))
    used: set[str] = set()
    try:
        for i, node in enumerate(listed(data["nodes"], ("nodes",))):
            _add(graph, node, ("nodes", i), programs, used)
        for i, edge in enumerate(listed(data["edges"], ("edges",))):
            _connect(graph, edge, ("edges", i))
    except ModelError as err:
        raise Malformed(("nodes",), str(err)) from None
    for name in programs:
        if name not in used:
            raise Malformed(("programs", name), "no node uses this program")
    outputs = mapping(data["outputs"], ("outputs",))
    graph.outputs = tuple((key, _ref(ref, ("outputs", key))) for key, ref in outputs.items())
    graph.regions = read(tuple[Region, ...], data["regions"], ("regions",), {})
    graph.notes = read(tuple[Note, ...], data["notes"], ("notes",), {})
    return graph


def _add(graph: Graph, data: Any, path: Path, programs: Mapping[str, Program], used: set[str]) -> None:
    rest = dict(mapping(data, path))
    for key in ("name", "op", "where"):
        if key not in rest:
            raise Malformed(path, f"the key {key!r} is missing")
    name = text(rest.pop("name"), (*path, "name"))
    cls = _OPS.get(text(rest.pop("op"), (*path, "op")))
    if cls is None:
        raise Malformed((*path, "op"), f"is {data['op']!r}, not one of {', '.join(_OPS)}")
    where = rest.pop("where")

    def program(key: Any, at: Path) -> Program:
        if text(key, at) not in programs:
            raise Malformed(at, f"there is no program {key!r}")
        used.add(key)
        return programs[key]

    op = read(cls, rest, path, {Program: program})
    if name in graph.nx:
        raise Malformed((*path, "name"), f"two nodes are called {name!r}")
    try:
        graph.add(name, op, where=None if where is None else _location(where, (*path, "where")))
    except ModelError as err:
        raise Malformed((*path, "name"), err.message) from None


def _connect(graph: Graph, data: Any, path: Path) -> None:
    exact_keys(mapping(data, path), ("source", "target", "delay", "feedback"), path)
    target = _ref(data["target"], (*path, "target"))
    source = _ref(data["source"], (*path, "source"))
    for ref, key in ((source, "source"), (target, "target")):
        if ref.node not in graph.nx:
            raise Malformed((*path, key), f"there is no node {ref.node!r}")
    if any(d["port"] == target.port for _, _, d in graph.nx.in_edges(target.node, data=True)):
        raise Malformed((*path, "target"), f"{target} is fed twice")
    delay = whole(data["delay"], (*path, "delay"))
    graph.connect(target.node, target.port, Edge(source, delay, text(data["feedback"], (*path, "feedback"))))


def _ref(data: Any, path: Path) -> Ref:
    node, dot, port = text(data, path).partition(".")
    if not dot or not node or not port:
        raise Malformed(path, f"must be 'node.port', not {data!r}")
    return Ref(node, port)


def _location(data: Any, path: Path) -> Location:
    file, _, line = text(data, path).rpartition(":")
    if not file or not line.isascii() or not line.isdigit() or len(line) > 9:
        raise Malformed(path, f"must be 'file:line', not {data!r}")
    return Location(file, int(line))


def _read_program(data: Any, path: Path) -> Program:
    exact_keys(mapping(data, path), ("inputs", "ops", "outputs"), path)
    ops = [_read_op(op, (*path, "ops", i)) for i, op in enumerate(listed(data["ops"], (*path, "ops"), MAX_OPS))]
    outputs = mapping(data["outputs"], (*path, "outputs"))
    return Program(
        read(tuple[str, ...], data["inputs"], (*path, "inputs"), {}),
        tuple(ops),
        tuple((text(name, path), _read_arg(arg, (*path, "outputs", name))) for name, arg in outputs.items()),
    )


def _read_op(data: Any, path: Path) -> Op:
    items = listed(data, path)
    if len(items) != 4:
        raise Malformed(path, "must be a list of name, operation, operands and source line")
    args = tuple(_read_arg(a, (*path, 2, i)) for i, a in enumerate(listed(items[2], (*path, 2), 8)))
    return Op(text(items[0], path), text(items[1], path), args, text(items[3], path))


def _read_arg(data: Any, path: Path) -> Arg:
    if isinstance(data, bool):
        return data
    return text(data, path) if isinstance(data, str) else real(data, path)
