"""A learning rule as a target reads it: programs of each step, and coefficients computed once a sequence.

This is for plasticity what ``targets/scan.py`` is for neurons. :class:`PlasticRule` has the programs without what
depends on parameters alone; :class:`BoundRule` the values of that for one sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from snncompile.ir.hoist import hoist
from snncompile.ir.interp import Interpreter
from snncompile.ir.plasticity import FACTORS, Plasticity
from snncompile.ir.program import Program
from snncompile.targets.transfer import move

_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class PlasticRule:
    """The programs of a rule, hoisted.

    Each program reads values by the names that :meth:`Plasticity.given` lists, and coefficients: parameters and derived
    values, one number each. ``derived`` computes the latter from the parameters, by torch's own functions on the CPU.

    Attributes:
        name: a valid identifier, for kernel names.
        node: the IR node.
        programs: ``"before"``, ``"after"``, ``"synapse"`` where the rule has it, ``"update"``.
        derived: program name -> parameters to derived values.
        coefs: program name -> the coefficients it reads, in the order of its inputs.
    """

    name: str
    node: Plasticity
    programs: Mapping[str, Program]
    derived: Mapping[str, Program]
    coefs: Mapping[str, tuple[str, ...]]


def make_rule(name: str, node: Plasticity) -> PlasticRule:
    """Split the programs of ``node`` into what is computed once and what is computed at every step."""
    split = {part: hoist(program, tuple(node.own)) for part, program in node.programs().items()}
    return PlasticRule(
        name,
        node,
        {part: s.body for part, s in split.items()},
        {part: s.derived for part, s in split.items()},
        {part: s.coefs for part, s in split.items()},
    )


class PreparedRule:
    """A rule made ready to run: how its parameters become coefficients."""

    def __init__(self, name: str, node: Plasticity) -> None:
        self.node = node
        self.rule = make_rule(name, node)
        self.step = {part: Interpreter(p) for part, p in self.rule.programs.items()}
        update = self.rule.programs["update"]
        read = {a for op in update.ops for a in op.args} | {a for _, a in update.outputs}
        #: the factors whose products the new weight depends on
        self.read = tuple(f for f in FACTORS if f in read)
        self._derived = {part: Interpreter(p, host=True) for part, p in self.rule.derived.items()}

    def bind(
        self, values: Mapping[str, Tensor], on_host: Mapping[str, Tensor], device: torch.device, differentiable: bool
    ) -> BoundRule:
        """The rule with parameter values for one sequence on ``device``.

        Args:
            values: parameter name -> tensor, as autograd knows it.
            on_host: parameter name -> its value on the CPU.
            device: where the sequence lives.
            differentiable: whether gradients flow through the update, and so to the parameters.
        """
        source = values if differentiable else on_host
        table = {role: source[p.name].float() for role, p in self.node.own.items()}
        at = device if differentiable else _CPU
        coefs: dict[str, dict[str, Tensor]] = {}
        for part, names in self.rule.coefs.items():
            known = {**table, **self._derived[part].named(table, at)}
            coefs[part] = move({c: known[c] for c in names}, device)
        return BoundRule(self, coefs)


@dataclass(frozen=True)
class BoundRule:
    """A prepared rule with the coefficients of one sequence.

    Attributes:
        prepared: the rule.
        coefs: program name -> coefficient -> ``()``.
    """

    prepared: PreparedRule
    coefs: Mapping[str, Mapping[str, Tensor]]

    def run(self, part: str, given: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
        """The results of program ``part`` at one step, each of the shape of ``like``.

        Args:
            part: a program's name.
            given: what it reads besides coefficients, by name.
            like: what it runs over.
        """
        results = self.prepared.step[part].named({**given, **self.coefs[part]}, like.device)
        return {name: value.expand(like.shape) for name, value in results.items()}
