"""Reads the text form into the same values that the JSON form holds."""

from __future__ import annotations

import re
from typing import Any

from snncompile.ir.json_form import FORMAT
from snncompile.ir.text_lines import ID, NUMBER, REF, TYPE, WORD, Lines, pattern

_GRAPH = pattern(rf"graph ({ID}), dt ({NUMBER})")
_INPUT = pattern(rf"input ({ID}): ({TYPE})")
_NODE = pattern(rf"({ID}) = ({ID})\((.*)\)(?: -> (.*))?")
_FEED = pattern(rf"({ID})=(?:({REF}|\?)|prev([0-9]{{0,9}})\(({REF}) as ({REF})?\))(?:: ({TYPE}))?")
_OUT = pattern(rf"({ID}): ({TYPE})(?: as ({REF}))?")
_SHAPE = pattern(r"shape (\[[0-9x]*\])")
_STATE = pattern(rf"state ({ID})(?: as ({REF}))? from ({NUMBER})")
_PARAM = pattern(rf"param ({ID})(?: as ({REF}))?: ({WORD})(\[[0-9x]*\]) = ({ID})\(([^()]*)\)((?:, [a-z]+)*)")
_ORDER = pattern(rf"order ({ID}) < ({ID})")
_ATTR = pattern(rf"attr ({WORD}) = (.+)")
_MEMBERS = pattern(rf"members((?: {ID}(?:, {ID})*)?)")
_STEP = pattern(r"step ([A-Za-z0-9_.]+), grad ([A-Za-z0-9_.]+)(?:, once ([A-Za-z0-9_.]+))?")
_LEARNS = pattern(r"learns from (\[[0-9x]*\]) to (\[[0-9x]*\])")
_SETTING = pattern(rf"setting ({WORD}) = (.+)")
_TRACE = pattern(rf"trace ({ID})(?: as ({REF}))? of ({WORD}) from ({NUMBER})")
_WITHIN = pattern(rf"weights within ({ID}(?:, {ID})*)")
_RULE = pattern(
    r"rule before ([A-Za-z0-9_.]+), after ([A-Za-z0-9_.]+)(?:, synapse ([A-Za-z0-9_.]+))?, update ([A-Za-z0-9_.]+)"
)
_OUTPUT = pattern(rf"output ({ID}) = ({REF})")
_REGION = pattern(rf"region ([a-z]+) \(((?:{ID}(?:, {ID})*)?)\): (.*)")
_NOTE = pattern(rf"note ({WORD}) about ({WORD}): (.*)")
_PROGRAM = pattern(rf"program ([A-Za-z0-9_.]+)\(((?:{ID}(?:, {ID})*)?)\)")
_OP = pattern(rf"({ID}) = ({ID})(?: (.*))?")
_RETURN = pattern(r"return(?: (.*))?")


class Reader(Lines):
    """Turns text into values."""

    def data(self) -> dict[str, Any]:
        """The values of the whole text.

        Raises:
            VerificationError: for a line that cannot be read.
        """
        blocks = self.blocks()
        head, body = next(blocks, ("", []))
        found = _GRAPH.match(head)
        if not found or body:
            self.fail("the first line must be 'graph <name>, dt <seconds>'")
        self._data: dict[str, Any] = {
            "format": FORMAT, "name": found[1], "dt": self.constant(found[2]), "nodes": [], "edges": [], "outputs": {},
            "regions": [], "notes": [], "programs": {},
        }  # fmt: skip
        for head, body in blocks:
            self._block(head, body)
        return self._data

    def _block(self, head: str, body: list[tuple[int, str]]) -> None:
        bare, _, place = head.partition(";")
        bare, place = bare.rstrip(), place.strip()
        if found := _NODE.match(bare):
            self._node(found, place or None, body)
        elif found := _PROGRAM.match(bare):
            self._program(found, body)
        elif body:
            self.fail("only nodes and programs have indented lines", body[0][0])
        elif found := _INPUT.match(bare):
            self._add({"name": found[1], "op": "input", "where": place or None, "type": self.type(found[2])})
        elif found := _OUTPUT.match(head):
            self._put("outputs", found[1], _full(found[2]))
        elif found := _REGION.match(head):
            self.places["regions", len(self._data["regions"])] = self.at
            region = {"kind": found[1], "nodes": _names(found[2]), "reason": self.free(found[3])}
            self._data["regions"].append(region)
        elif found := _NOTE.match(head):
            self.places["notes", len(self._data["notes"])] = self.at
            note = {"by": self.word(found[1]), "node": self.word(found[2]), "text": self.free(found[3])}
            self._data["notes"].append(note)
        else:
            self.fail(f"this is no node, input, output, region, note or program: {head[:80]!r}")

    def _put(self, table: str, key: str, value: Any) -> None:
        if key in self._data[table]:
            self.fail(f"{key!r} stands twice among the {table}")
        self.places[table, key] = self.at
        self._data[table][key] = value

    # -- nodes -----------------------------------------------------------------------------------------------------

    def _add(self, node: dict[str, Any]) -> None:
        self.places["nodes", len(self._data["nodes"])] = self.at
        self.places["node", node["name"]] = self.at
        self._data["nodes"].append(node)

    def _node(self, found: re.Match[str], place: str | None, body: list[tuple[int, str]]) -> None:
        name, start = found[1], self.at
        elementwise = any(line.startswith("step ") for _, line in body)
        learns = not elementwise and any(line.startswith("rule ") for _, line in body)
        ports, declared = self._feeds(name, found[3])
        node: dict[str, Any] = {"name": name, "where": place, "kind": found[2], "params": {}, "attrs": {}}
        node["members"] = [name]
        if elementwise:
            outputs = [self._out(name, found[4])] if found[4] else []
            node |= {"op": "elementwise", "shape": None, "inputs": ports, "outputs": outputs, "states": []}
            node |= {"ordered": []}
        elif learns:
            node |= {"op": "plasticity", "connection": (found[4] or "").partition("[")[0], "settings": {}}
            node |= {"pre": None, "post": None, "signals": ports[2:], "traces": [], "ordered": [], "bounded": []}
            node |= {"synapse": None}
            if ports[:2] != ["pre", "post"]:
                self.fail("plasticity is written Kind(pre=source, post=source) -> Connection[weight]")
        else:
            if ports not in (["x"], ["x", "weight"]) or declared["x"] is None or not found[4]:
                self.fail("this is a connection (it has no step), which is written Kind(x=source: type) -> type")
            node |= {"op": "connection", "input": self.type(declared["x"]), "output": self.type(found[4])}
        for self.at, line in body:
            if not (learns and self._rule_line(node, line)):
                self._node_line(node, line)
        self.at = start
        if elementwise and node["shape"] is None:
            node["shape"] = [n for out in node["outputs"][:1] for n in out["type"]["shape"]]
        self._add(node)

    def _feeds(self, name: str, args: str) -> tuple[list[str], dict[str, str | None]]:
        ports: list[str] = []
        declared: dict[str, str | None] = {}
        for arg in args.split(", ") if args else []:
            found = _FEED.match(arg)
            if not found:
                self.fail(f"this says not what feeds a port: {arg[:80]!r}")
            port, source, late, held, feedback, type = found.groups()
            if port in ports:
                self.fail(f"port {port!r} is fed twice")
            ports.append(port)
            declared[port] = type
            if source == "?":
                continue
            delay = 0 if source else int(late or 1)
            edge = {"source": _full(source or held), "target": f"{name}.{port}", "delay": delay}
            self.places["edges", len(self._data["edges"])] = self.at
            self._data["edges"].append({**edge, "feedback": feedback or ""})
        return ports, declared

    def _out(self, name: str, text: str) -> dict[str, Any]:
        found = _OUT.match(text)
        if not found:
            self.fail(f"an output is written <name>: <type>, not {text[:80]!r}")
        return {"local": found[1], "name": found[3] or f"{name}.{found[1]}", "type": self.type(found[2])}

    def _node_line(self, node: dict[str, Any], line: str) -> None:
        name, elementwise = node["name"], node["op"] == "elementwise"
        if found := _PARAM.match(line):
            self._param(node, found)
        elif found := _ATTR.match(line):
            self._fresh(node["attrs"], self.word(found[1]), self.json(found[2]))
        elif found := _MEMBERS.match(line):
            node["members"] = _names(found[1].strip())
        elif elementwise and line.startswith("out "):
            node["outputs"].append(self._out(name, line.removeprefix("out ")))
        elif elementwise and (found := _STATE.match(line)):
            renamed = found[2] or f"{name}.{found[1]}"
            node["states"].append({"local": found[1], "name": renamed, "init": self.constant(found[3])})
        elif elementwise and (found := _ORDER.match(line)):
            node["ordered"].append([found[1], found[2]])
        elif elementwise and (found := _SHAPE.match(line)):
            node["shape"] = self.shape(found[1])
        elif elementwise and (found := _STEP.match(line)):
            node |= {"forward": found[1], "reverse": found[2], "derived": found[3]}
        else:
            self.fail(f"this is no line of a node: {line[:80]!r}")

    def _rule_line(self, node: dict[str, Any], line: str) -> bool:
        """Read ``line`` if it is one that only plasticity has."""
        if found := _LEARNS.match(line):
            node |= {"pre": self.shape(found[1]), "post": self.shape(found[2])}
        elif found := _SETTING.match(line):
            self._fresh(node["settings"], self.word(found[1]), self.json(found[2]))
        elif found := _TRACE.match(line):
            name, init = found[2] or f"{node['name']}.{found[1]}", self.constant(found[4])
            node["traces"].append({"local": found[1], "name": name, "init": init, "side": self.word(found[3])})
        elif found := _ORDER.match(line):
            node["ordered"].append([found[1], found[2]])
        elif found := _WITHIN.match(line):
            node["bounded"] = _names(found[1])
        elif found := _RULE.match(line):
            node |= {"before": found[1], "after": found[2], "synapse": found[3], "update": found[4]}
        else:
            return False
        return True

    def _param(self, node: dict[str, Any], found: re.Match[str]) -> None:
        role, name, family, shape, init, args, more = found.groups()
        flags = more.split(", ")[1:]
        trainable = "fixed" not in flags
        constraints = [flag for flag in flags if flag != "fixed"]
        if len(constraints) > 1:
            self.fail(f"a parameter has one constraint, not {', '.join(constraints)}")
        numbers = [self.single(a) for a in args.split(", ")] if args else []
        declared = {
            "name": name or f"{node['name']}.{role}", "shape": self.shape(shape), "family": self.word(family),
            "init": {"kind": init, "args": numbers}, "trainable": trainable,
            "constraint": constraints[0] if constraints else None,
        }  # fmt: skip
        self._fresh(node["params"], role, declared)

    def _fresh(self, table: dict[str, Any], key: str, value: Any) -> None:
        if key in table:
            self.fail(f"{key!r} stands twice in this node")
        table[key] = value

    # -- programs --------------------------------------------------------------------------------------------------

    def _program(self, found: re.Match[str], body: list[tuple[int, str]]) -> None:
        name = found[1]
        program: dict[str, Any] = {"inputs": _names(found[2]), "ops": [], "outputs": {}}
        self._put("programs", name, program)
        last = body[-1][1] if body else ""
        for self.at, line in body[:-1]:
            bare, _, place = line.partition(";")
            op = _OP.match(bare.rstrip())
            if not op:
                self.fail(f"an operation is written <name> = <op> <operands>, not {line[:80]!r}")
            self.places["programs", name, "ops", len(program["ops"])] = self.at
            args = [self.value(a) for a in op[3].split(", ")] if op[3] else []
            program["ops"].append([op[1], op[2], args, place.strip()])
        if body:
            self.at = body[-1][0]
        returned = _RETURN.match(last)
        if not returned:
            self.fail(f"the program {name!r} must end with 'return <name> = <value>, ...'")
        for pair in returned[1].split(", ") if returned[1] else []:
            key, equals, value = pair.partition(" = ")
            if not equals:
                self.fail(f"a result is written <name> = <value>, not {pair[:80]!r}")
            self._fresh(program["outputs"], key, self.value(value))


def _full(ref: str) -> str:
    return ref if "." in ref else f"{ref}.out"


def _names(text: str) -> list[str]:
    return text.split(", ") if text else []
