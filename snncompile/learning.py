"""Networks that learn while they run: committing weights, running without learning, keeping weights in bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from snncompile.eager import eager
from snncompile.ir.connection import Connection
from snncompile.ir.errors import InputError, Location, ModelError
from snncompile.ir.graph import Graph
from snncompile.ir.plasticity import Plasticity
from snncompile.signals_io import as_state, read_inputs

if TYPE_CHECKING:
    from snncompile.network import Network


class LearningNetwork:
    """What a compiled network has for learning. Its weights that learn belong to the state of a run."""

    @eager
    def learn(
        self: Any,
        *inputs: Any,
        state: Mapping[str, Tensor] | None = None,
        keep: Sequence[str] = (),
        record: bool | str | Sequence[str] | None = None,
        steps: int | None = None,
        batch: int | None = None,
        differentiable: bool = False,
        **named: Any,
    ) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
        """Run, and take over the weights that were learnt: :meth:`evolve`, then :meth:`commit`.

        Without ``differentiable`` no gradient is recorded.

        Args:
            *inputs: as for a call.
            state: the state to go on from, weights included; None starts from the module's weights.
            keep: names of states, e.g. ``["exc.theta"]``, that go on from ``state`` while everything else starts anew,
                the weights from the module: an example of its own, with what neurons keep from one to the next.
            record: as for :meth:`evolve`.
            steps: as for a call.
            batch: as for a call.
            differentiable: as for :meth:`evolve`.

        Returns:
            the output, the new state and the record, as :meth:`evolve`.

        Raises:
            ModelError: where nothing in the network learns.
            InputError: as :meth:`evolve`.
        """
        self._must_learn("learn")
        if not isinstance(keep, Iterable):
            raise InputError(f"keep takes names of states, e.g. [{next(iter(self.layout.states))!r}], not {keep!r}")
        names = [keep] if isinstance(keep, str) else list(keep)
        if state is not None and not isinstance(state, Mapping):
            raise InputError(f"a state is a dict of tensors by name, not a {type(state).__name__}")
        for name in names:
            if name not in self.layout.states or (state is not None and name not in state):
                known = ", ".join(self.layout.states)
                raise InputError(f"keep names {name!r}, which is no state; states: {known}")
        if names and state is not None:
            data = read_inputs(self.layout.inputs, inputs, named, steps=steps, batch=batch, device=self._device())
            state = self.initial_state(data.batch, carry={name: state[name] for name in names})
        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            found = self.evolve(
                *inputs,
                state=state,
                record=record,
                steps=steps,
                batch=batch,
                differentiable=differentiable,
                **named,
            )
        self.commit(found[1])
        return found

    @torch.no_grad()
    def commit(self: Any, state: Mapping[str, Tensor]) -> Network:
        """Make the weights that ``state`` holds the module's own, in place.

        Args:
            state: from :meth:`evolve` or :meth:`step`.

        Raises:
            ModelError: where nothing in the network learns, and where a rule needs weights within bounds that these are
                not within.
            InputError: where ``state`` lacks a weight that learns, or has one of another shape or dtype, or one that is
                not finite. The module is then as it was.
        """
        self._must_learn("commit")
        if not isinstance(state, Mapping):
            raise InputError(f"commit takes the state that evolve or step returned, not a {type(state).__name__}")
        learnt = {}
        for name in self.layout.learned:
            own = self.value(name)
            if name not in state:
                raise InputError(f"this state has no {name!r}: commit takes a state that evolve or step returned")
            value = learnt[name] = as_state(name, state[name], self.layout.states[name])
            if value.shape != own.shape:
                raise InputError(f"{name!r} has shape {tuple(value.shape)} in this state, not {tuple(own.shape)}")
            if not bool(torch.isfinite(value).all()):
                raise InputError(
                    f"{name!r} is not finite any more in this state: learning ran away, or an input was not finite. The"
                    " module keeps the weights it had; lower the rates of the rule, or bound it"
                )
        self._check_within_bounds(learnt)
        for name, value in learnt.items():
            self.value(name).copy_(value)
        return self

    def frozen(self: Any) -> Network:
        """The same network without learning, for plain calls and training by gradient. It shares all parameters: what
        one learns, the other has."""
        from snncompile.network import Network

        twin = Network(
            without_learning(self.graph), self.target, checkpoint=self.checkpoint, precision=self.precision
        )
        for name in twin.layout.values:
            node, role = name.split(".")
            held = twin._modules[node]
            table = held._parameters if role in held._parameters else held._buffers
            table[role] = self.value(name)
        return twin.train(self.training)

    @torch.no_grad()
    def normalize_(self: Any, name: str, total: float, dim: int | Sequence[int] | None = None) -> Network:
        """Scale a weight, in place, so that it sums to ``total`` for each output; a sum of 0 stays.

        That is what arrives at a neuron, or all a kernel of a convolution holds. What a ``mask=`` takes away does not
        count, and stays as it is. Call it between examples.

        Args:
            name: e.g. ``"linear.weight"``.
            total: the sum.
            dim: the axis, or axes, summed over; None is all but the first. 0 scales what leaves each input.

        Raises:
            InputError: where there is no such parameter or axis, or sums have another sign than ``total``.
        """
        if name not in self.layout.values:
            raise InputError(f"there is no parameter {name!r}; parameters: {', '.join(self.layout.values)}")
        weight = self.value(name)
        given: Any = range(1, weight.dim()) if dim is None else dim
        axes = tuple(given) if isinstance(given, Sequence) else (given,)
        there = all(isinstance(axis, Integral) and -weight.dim() <= axis < weight.dim() for axis in axes)
        if not axes or not there or len({axis % weight.dim() for axis in axes}) < len(axes):
            raise InputError(f"{name} has shape {tuple(weight.shape)}: there is no axis {dim} to sum over")
        goal: Any = total
        number = isinstance(goal, Real) or (isinstance(goal, Tensor) and goal.dim() == 0)
        if not number or not math.isfinite(goal) or goal == 0:
            raise InputError(f"{name} cannot be scaled to sum to {total!r}: it takes a finite number other than 0")
        node, role = name.split(".")
        mask = self.value(f"{node}.mask") if role == "weight" and f"{node}.mask" in self.layout.values else None
        sums = (weight if mask is None else weight * mask).sum(axes, keepdim=True)
        if bool((sums * total < 0).any()):
            found = sums.flatten()[(sums * total < 0).flatten()][0]
            raise InputError(
                f"{name} cannot be scaled to sum to {total}: a sum there is {float(found):.6g}, and every weight would"
                " change its sign. Normalisation is for weights of one sign (init=, and bounds of the rule)"
            )
        scale = torch.where(sums == 0, 1.0, total / sums)
        weight.mul_(scale if mask is None else torch.where(mask == 0, 1.0, scale))
        return self

    def refuse_plain_call(self: Any) -> None:
        """Raise :class:`ModelError`: a plain call would throw away what is learnt, or learn unseen."""
        raise ModelError(
            f"this network learns ({', '.join(self.layout.learned)}), and a plain call keeps no state: use net.learn(x)"
            " to run and take the new weights over, net.evolve(x) to get them in the state (net.commit(state) takes"
            " them over), or net.frozen() for the same network without learning"
        )

    def check_learning(self: Any, state: Mapping[str, Tensor], device: torch.device, differentiable: bool) -> None:
        """Raise where this run of a network that learns cannot mean anything.

        Raises:
            InputError: for ``differentiable`` on a target other than torch.
            ModelError: where a rule needs weights within bounds, and they are not.
        """
        if differentiable and self.resolve(device) != "torch":
            raise InputError(
                f'differentiable=True needs target "torch"; this network runs on "{self.resolve(device)}":'
                ' compile it with target="torch"'
            )
        self._check_within_bounds(state)

    def _check_within_bounds(self: Any, weights: Mapping[str, Tensor]) -> None:
        """Raise :class:`ModelError` where a rule needs weights within bounds, and one of ``weights`` is not."""
        for name, rule in self.graph.of_type(Plasticity):
            if rule.bounded:
                own = {p.name: self.value(p.name) for p in rule.own.values()}
                values = {**own, rule.weight.name: weights[rule.weight.name]}
                arrays = {n: v.detach().cpu().numpy() for n, v in values.items()}
                check_bounds(rule, name, arrays, self.graph.where(name))

    def _must_learn(self: Any, what: str) -> None:
        if not self.layout.learned:
            raise ModelError(f"nothing in this network learns, so net.{what} has no meaning: see snn.learn")


def without_learning(graph: Graph) -> Graph:
    """``graph`` as it would be had nothing in it been told to learn."""
    graph = graph.copy()
    for name, op in list(graph.of_type(Connection)):
        if op.plastic:
            graph.nx.nodes[name]["op"] = _fixed(op)
    graph.nx.remove_nodes_from([name for name, _ in list(graph.of_type(Plasticity))])
    graph.regions = ()
    return graph


def _fixed(op: Connection) -> Connection:
    return replace(op, attrs={k: v for k, v in op.attrs.items() if k != "plastic"})


def check_bounds(rule: Plasticity, name: str, values: Mapping[str, np.ndarray], where: Location | None) -> None:
    """Raise :class:`ModelError` where ``rule`` needs weights within its bounds and they are not."""
    if not rule.bounded:
        return
    low, high = (values[rule.own[role].name] for role in rule.bounded)
    weight = values[rule.weight.name]
    if np.any(weight < low) or np.any(weight > high):
        raise ModelError(
            f"{rule.weight.name} lies from {float(weight.min()):g} to {float(weight.max()):g}, but this rule needs it"
            f" within {rule.bounded[0]}={float(low):g} and {rule.bounded[1]}={float(high):g}: a power of a negative"
            " number is NaN. Start within them, Linear(..., init=...)",
            node=name,
            where=where,
        )
