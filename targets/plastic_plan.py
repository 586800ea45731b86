"""What a plastic region of any form is to a target that runs it as one function.

It is a cycle (``targets/cycle_plan.py``) in which weights change: besides the steps of a cycle it has products with
such weights, and rules that change them. All products, and sums over windows, have an order
(:mod:`snncompile.ir.ordered`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import NamedTuple

from snncompile.targets.cycle_plan import CyclePlan, Read, Step
from snncompile.targets.plastic_rule import PlasticRule
from snncompile.targets.sliding import Sliding


class PlasticProduct(NamedTuple):
    """A dense product or convolution with a weight that changes: at every step as it is before any rule has changed it.

    Attributes:
        name: the connection.
        rule: the rule that changes its weight, by its place among the plan's.
        read: what it reads; an outside signal by its position.
        line: what it makes.
        sliding: of a convolution, which input meets which output.
    """

    name: str
    rule: int
    read: Read | int
    line: int
    sliding: Sliding | None = None


class Learn(NamedTuple):
    """A rule at work: in its place in a step the traces and factors of either side, at the end of the step the weight.

    Traces of neurons are lines, as states of neurons are: read one step ago, written at this one.

    Attributes:
        name: the plasticity node.
        pre: the input's spikes; an outside signal by its position.
        post: the output's.
        signals: what it hears besides, in the order of its ports, one value for each sequence.
        pre_traces: lines of the traces of side ``"pre"``, in the rule's order.
        post_traces: of side ``"post"``.
    """

    name: str
    pre: Read | int
    post: Read | int
    signals: tuple[Read | int, ...]
    pre_traces: tuple[int, ...]
    post_traces: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class PlasticPlan(CyclePlan):
    """A plastic region, ready to be printed; ``steps`` are those of a cycle.

    Attributes:
        order: everything that is done at each step, in order: steps, products with weights that change, and rules.
        rules: plasticity node -> its rule.
    """

    order: tuple[Step | PlasticProduct | Learn, ...] = ()
    rules: Mapping[str, PlasticRule] = field(default_factory=dict)

    @cached_property
    def learns(self) -> tuple[Learn, ...]:
        """Its rules, in order."""
        return tuple(s for s in self.order if isinstance(s, Learn))

    @cached_property
    def plastic_products(self) -> tuple[PlasticProduct, ...]:
        """Its products with weights that change, in order."""
        return tuple(s for s in self.order if isinstance(s, PlasticProduct))

    def products_of(self, product: PlasticProduct) -> int:
        """Multiply-adds of such a product at a step of one sequence."""
        s = product.sliding
        if s is None:
            return self.lines[product.line].size * self.size_read(product.read)
        return prod(s.outputs) * s.inputs[0] * s.taps

    def size_read(self, source: Read | int) -> int:
        """Values of a step of one sequence of a signal; one from outside by its position."""
        return self.lines[source.line].size if isinstance(source, Read) else self.sizes[source]

    @cached_property
    def reads(self) -> frozenset[Read]:
        """Everything that a step reads, but for states and traces by themselves."""
        found = [x for n in self.learns for x in (n.pre, n.post, *n.signals)] + [p.read for p in self.plastic_products]
        return super().reads | {x for x in found if isinstance(x, Read)}
