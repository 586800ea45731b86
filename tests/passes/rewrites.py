"""What the tests of passes share: running one pass, its golden text, and the reference on both graphs."""

from __future__ import annotations

import torch
from torch import Tensor

from snncompile.ir.graph import Graph
from snncompile.ir.text_form import to_text
from snncompile.network import Network
from snncompile.passes.base import Pass, run_passes
from snncompile.targets.executor import Executor
from snncompile.targets.torch.loop import LoopTarget

from ..compare import Outcome, assert_close_gradients, assert_same_bits, outcome
from ..golden_files import assert_golden


def assert_golden_rewrite(name: str, before: Graph, after: Graph) -> None:
    """Both graphs' text is what ``tests/golden/passes/<name>.txt`` holds."""
    texts = (to_text(graph, places=False) for graph in (before, after))
    assert_golden(f"passes/{name}.txt", "== before\n\n{}\n== after\n\n{}".format(*texts))


def rewritten(graph: Graph, *passes: Pass) -> Graph:
    """``graph`` after ``passes``; that they change no graph they are given is checked."""
    text = to_text(graph)
    after = run_passes(graph, passes)
    assert to_text(graph) == text
    return after


def reasons(graph: Graph, by: str) -> dict[str, str]:
    """Node -> what the pass ``by`` has to say about it."""
    return {note.node: note.text for note in graph.notes if note.by == by}


def data(graph: Graph, steps: int = 9, batch: int = 2) -> Tensor:
    """Counts from 0 to 2 for the one input of ``graph``."""
    (type_,) = graph.input_types().values()
    drawn = torch.rand(batch, steps, *type_.shape, generator=torch.Generator().manual_seed(5))
    return (drawn * 2.6).floor()


def seeded(graph: Graph, training: bool = False) -> Network:
    """A network with random weights, and statistics of BatchNorm that do something."""
    torch.manual_seed(3)
    net = Network(graph, "torch").train(training)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith(("running_mean", "running_var")) or "batch_norm" in name:
                value.copy_(torch.rand_like(value) + 0.3)
    return net


def both(before: Graph, after: Graph, training: bool = False, record: tuple[str, ...] = ()) -> tuple[Outcome, Outcome]:
    """What the reference gives on each graph, on equal data: values and gradients."""
    x, found = data(before), []
    for graph in (before, after):
        torch.manual_seed(7)  # for masks of Dropout
        net = seeded(before, training)
        torch.manual_seed(8)
        found.append(outcome(net, x, list(record), Executor(graph, LoopTarget())))
    return found[0], found[1]


def assert_same_meaning(before: Graph, after: Graph, training: bool = False, record: tuple[str, ...] = ()) -> None:
    """Outputs, states and records equal to the last bit, gradients within 1e-5 of their norm."""
    want, got = both(before, after, training, record)
    assert want.gradients
    assert_same_bits(want, got)
    assert_close_gradients(want, got)


def assert_close_meaning(before: Graph, after: Graph) -> None:
    """The same, where products are rounded differently."""
    want, got = both(before, after)
    assert want.gradients
    for name, value in want.values.items():
        torch.testing.assert_close(got.values[name], value, rtol=1e-5, atol=1e-5)
    assert_close_gradients(want, got, 1e-4)
