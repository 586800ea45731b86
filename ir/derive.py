"""Hoisting on a node: its programs keep what happens at every step; the rest becomes its program ``derived``."""

from __future__ import annotations

import re
from dataclasses import replace

from snncompile.ir.elementwise import Elementwise
from snncompile.ir.hoist import hoist
from snncompile.ir.program import Arg, Op, Program, cse, dce, unused

_TEMPORARY = re.compile(r"t[0-9_]*\Z")


def hoisted(node: Elementwise) -> Elementwise:
    """``node`` with what depends on parameters alone moved out of its step and gradient (itself, if that was done).

    Both read the values of one program ``derived``, so that a factor that both need is computed once.
    """
    if node.derived is not None:
        return node
    front, back = hoist(node.forward, node.params), hoist(node.reverse, node.params)
    twins = {op.name: f"{op.name}__reverse" for op in back.derived.ops}
    behind = back.derived.renamed(lambda n: twins.get(n, n))
    wanted = [(f"forward {n}", n) for n, _ in front.derived.outputs]
    wanted += [(f"reverse {n}", twins[n]) for n, _ in back.derived.outputs]
    both = cse(Program(tuple(node.params), (*front.derived.ops, *behind.ops), tuple(wanted)))
    results = dict(both.outputs)
    names = _names(node, dce(both), [*front.body.ops, *back.body.ops])
    ops = tuple(replace(op, name=names[op.name], args=tuple(_renamed(a, names) for a in op.args)) for op in both.ops)
    outputs = dict.fromkeys(names[str(arg)] for arg in results.values())
    return replace(
        node,
        forward=_reading(front.body, {n: names[str(results[f"forward {n}"])] for n, _ in front.derived.outputs}),
        reverse=_reading(back.body, {n: names[str(results[f"reverse {n}"])] for n, _ in back.derived.outputs}),
        derived=dce(Program(both.inputs, ops, tuple((n, n) for n in outputs))),
    )


def _names(node: Elementwise, derived: Program, inside: list[Op]) -> dict[str, str]:
    """New names for the derived operations that nothing inside the step uses; a temporary is called ``fixed``."""
    taken = {*node.forward.inputs, *node.reverse.inputs, *node.params, *(f"grad_{n}" for n in node.forward.inputs)}
    taken |= {op.name for op in inside} | set(node.forward.output_names) | set(node.reverse.output_names)
    names: dict[str, str] = {}
    for op in derived.ops:
        plain = op.name.removesuffix("__reverse")
        base = "fixed" if _TEMPORARY.match(plain) else plain
        names[op.name] = unused(base, taken)
    return names


def _renamed(arg: Arg, names: dict[str, str]) -> Arg:
    return names.get(arg, arg) if isinstance(arg, str) else arg


def _reading(body: Program, names: dict[str, str]) -> Program:
    """``body`` with its derived inputs under their new names; what two of them share is read once."""
    renamed = body.renamed(lambda n: names.get(n, n))
    return replace(renamed, inputs=tuple(dict.fromkeys(renamed.inputs)))
