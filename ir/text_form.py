"""The graph as text for people: one block a node, one line an operation. It reads back exactly.

    graph digits, dt 0.001

    input x: spikes[64]<=1                               ; model.py:5

    lif = LIF(x=linear) -> spikes: spikes[128]<=65536    ; model.py:6
      state v from 0.0
      param tau_mem: taus[128] = constant(0.02), positive
      step lif.step, grad lif.grad

    output out = lif.spikes

    program lif.step(v, x, tau_mem)
      t0 = div -0.001, tau_mem                           ; snncompile/ir/nodes/membrane.py:80
      ...
      return v = v_1, spikes = spikes_1

What is as usual is not said: ``.out`` of a source, record and parameter names of the form ``<node>.<name>``.
``docs/ir.md`` describes every line.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from snncompile.ir.errors import VerificationError
from snncompile.ir.graph import Graph
from snncompile.ir.json_form import build, graph_to_json
from snncompile.ir.reading import Malformed, shown
from snncompile.ir.verify import verify

#: What stands without quotes where a name is expected.
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")

#: Comments stand in one column, unless a line is longer than this.
_COLUMN = 72


def to_text(graph: Graph, *, places: bool = True) -> str:
    """``graph`` as text; the same graph gives the same text.

    Args:
        graph: what to print.
        places: whether to say from which line of which source a node or an operation comes. Without, the text stays
            the same when a source file is edited: that is what golden files hold.
    """
    data = graph_to_json(graph)
    if not places:
        _forget_places(data)
    feeds: dict[str, dict[str, str]] = {node["name"]: {} for node in data["nodes"]}
    for edge in data["edges"]:
        name, _, port = edge["target"].partition(".")
        feeds[name][port] = _source(edge)
    blocks = [[f"graph {data['name']}, dt {constant(data['dt'])}"]]
    blocks += [_node(node, feeds[node["name"]]) for node in data["nodes"]]
    blocks.append([f"output {key} = {_ref(ref)}" for key, ref in data["outputs"].items()])
    blocks.append([f"region {r['kind']} ({', '.join(r['nodes'])}): {_free(r['reason'])}" for r in data["regions"]])
    blocks.append([f"note {word(n['by'])} about {word(n['node'])}: {_free(n['text'])}" for n in data["notes"]])
    blocks += [_program(name, program) for name, program in data["programs"].items()]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def from_text(text: str, *, check: bool = True) -> Graph:
    """The graph that ``text`` says.

    Args:
        text: as :func:`to_text` writes it.
        check: whether to verify the graph.

    Raises:
        VerificationError: for a line that cannot be read, and for a rule that the graph breaks; both with the line.
        ModelError: as :func:`~snncompile.ir.verify.verify` does.
    """
    from snncompile.ir.text_reader import Reader

    reader = Reader(text)
    try:
        graph = build(reader.data())
    except Malformed as err:
        raise VerificationError(f"line {reader.line_of(err.path)}: {shown(err.path)}: {err.reason}") from None
    if check:
        try:
            verify(graph)
        except VerificationError as err:
            line = reader.line_of(("node", err.node)) if err.node else 0
            at = f"line {line}: " if line else ""
            raise VerificationError(f"{at}{err.message}", node=err.node) from None
    return graph


def _forget_places(data: dict[str, Any]) -> None:
    for node in data["nodes"]:
        node["where"] = None
    for program in data["programs"].values():
        program["ops"] = [[*op[:3], ""] for op in program["ops"]]


# -- pieces --------------------------------------------------------------------------------------------------------


def word(text: str) -> str:
    """A name as it is, anything else in quotes."""
    return text if WORD.match(text) else json.dumps(text, ensure_ascii=False)


def constant(value: Any) -> str:
    """A number; what is no plain number starts with ``#``, so that it is not taken for a name."""
    if isinstance(value, bool):
        return f"#{str(value).lower()}"
    if isinstance(value, dict):
        return f"#{value['float']}"
    return repr(value)


def single(value: Any) -> str:
    """A float32 number with the fewest digits that round to it."""
    plain = isinstance(value, float) and ctypes.c_float(value).value == value
    return str(np.float32(value)) if plain else constant(value)


def _free(text: str) -> str:
    """Text up to the end of the line."""
    plain = text and text == text.strip() and not text.startswith('"')
    return text if plain else json.dumps(text, ensure_ascii=False)


def _type(signal: Mapping[str, Any]) -> str:
    most = "" if signal["max"] is None else f"<={signal['max']}"
    return f"{signal['kind']}{_shape(signal['shape'])}{most}"


def _shape(shape: Iterable[int]) -> str:
    return f"[{'x'.join(map(str, shape))}]"


def _ref(ref: str) -> str:
    return ref.removesuffix(".out")


def _source(edge: Mapping[str, Any]) -> str:
    source = _ref(edge["source"])
    if edge["delay"] == 0 and not edge["feedback"]:
        return source
    steps = "" if edge["delay"] == 1 else edge["delay"]
    return f"prev{steps}({source} as {edge['feedback']})"


def _renamed(name: str, usual: str) -> str:
    return "" if name == usual else f" as {name}"


def _commented(lines: list[tuple[str, str]]) -> list[str]:
    """Lines with their source places in one column."""
    width = max((len(line) for line, place in lines if place and len(line) <= _COLUMN), default=0)
    return [f"{line:<{width}}  ; {place}" if place else line for line, place in lines]


# -- blocks --------------------------------------------------------------------------------------------------------


def _node(node: Mapping[str, Any], feeds: Mapping[str, str]) -> list[str]:
    name = node["name"]
    if node["op"] == "input":
        return _commented([(f"input {name}: {_type(node['type'])}", node["where"] or "")])
    inputs = _ports(node)
    args = {port: feeds.get(port, "?") for port in inputs}
    if node["op"] == "elementwise":
        result = _output(name, node["outputs"][0]) if _inline(node) else ""
    elif node["op"] == "plasticity":
        result = f"{node['connection']}{_shape(node['params'].get('weight', {}).get('shape', []))}"
    else:
        args["x"] += f": {_type(node['input'])}"
        result = _type(node["output"])
    said = ", ".join(f"{port}={source}" for port, source in args.items())
    head = f"{name} = {node['kind']}({said})" + (f" -> {result}" if result else "")
    return _commented([(head, node["where"] or "")]) + [f"  {line}" for line in _body(node)]


def _ports(node: Mapping[str, Any]) -> list[str]:
    if node["op"] == "elementwise":
        return node["inputs"]
    if node["op"] == "plasticity":
        return ["pre", "post", *node["signals"]]
    return ["x", "weight"] if node["attrs"].get("plastic") is True else ["x"]


def _inline(node: Mapping[str, Any]) -> bool:
    """Whether the outputs are so simple that the first line says them."""
    return [o["name"] for o in node["outputs"]] == [f"{node['name']}.{o['local']}" for o in node["outputs"][:1]]


def _output(node: str, out: Mapping[str, Any]) -> str:
    return f"{out['local']}: {_type(out['type'])}{_renamed(out['name'], f'{node}.' + out['local'])}"


def _body(node: Mapping[str, Any]) -> list[str]:
    name, lines = node["name"], []
    if node["op"] == "elementwise" and node["shape"] != [n for o in node["outputs"][:1] for n in o["type"]["shape"]]:
        lines.append(f"shape {_shape(node['shape'])}")
    if node["op"] == "elementwise" and not _inline(node):
        lines += [f"out {_output(name, out)}" for out in node["outputs"]]
    if node["op"] == "plasticity":
        lines.append(f"learns from {_shape(node['pre'])} to {_shape(node['post'])}")
        lines += [f"setting {word(k)} = {json.dumps(v, ensure_ascii=False)}" for k, v in node["settings"].items()]
    for trace in node.get("traces", ()):
        renamed = _renamed(trace["name"], f"{name}.{trace['local']}")
        lines.append(f"trace {trace['local']}{renamed} of {word(trace['side'])} from {constant(trace['init'])}")
    for state in node.get("states", ()):
        renamed = _renamed(state["name"], f"{name}.{state['local']}")
        lines.append(f"state {state['local']}{renamed} from {constant(state['init'])}")
    lines += [_param(role, p, f"{name}.{role}") for role, p in node["params"].items()]
    lines += [f"order {low} < {high}" for low, high in node.get("ordered", ())]
    lines += [f"weights within {', '.join(node['bounded'])}"] if node.get("bounded") else []
    lines += [f"attr {word(k)} = {json.dumps(v, ensure_ascii=False)}" for k, v in node["attrs"].items()]
    if node["members"] != [name]:
        lines.append(f"members {', '.join(node['members'])}".rstrip())
    if node["op"] == "elementwise":
        once = f", once {node['derived']}" if node["derived"] else ""
        lines.append(f"step {node['forward']}, grad {node['reverse']}{once}")
    if node["op"] == "plasticity":
        parts = ("before", "after", "synapse", "update")
        lines.append(f"rule {', '.join(f'{part} {node[part]}' for part in parts if node[part])}")
    return lines


def _param(role: str, p: Mapping[str, Any], usual: str) -> str:
    init = f"{p['init']['kind']}({', '.join(map(single, p['init']['args']))})"
    more = [*([p["constraint"]] if p["constraint"] else []), *([] if p["trainable"] else ["fixed"])]
    renamed = _renamed(p["name"], usual)
    return ", ".join([f"param {role}{renamed}: {word(p['family'])}{_shape(p['shape'])} = {init}", *more])


def _program(name: str, program: Mapping[str, Any]) -> list[str]:
    ops = [(f"  {result} = {op} {_args(args)}".rstrip(), where) for result, op, args, where in program["ops"]]
    outputs = ", ".join(f"{key} = {_arg(arg)}" for key, arg in program["outputs"].items())
    return [f"program {name}({', '.join(program['inputs'])})", *_commented(ops), f"  return {outputs}".rstrip()]


def _args(args: Iterable[Any]) -> str:
    return ", ".join(_arg(a) for a in args)


def _arg(arg: Any) -> str:
    return arg if isinstance(arg, str) else single(arg)
