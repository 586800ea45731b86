"""The C target in a network: chosen by ``auto``, kept in artifacts, replaced where there is no compiler."""

import pytest
import torch

import snncompile as snn
from snncompile.cli.placement import place
from snncompile.explain import explain, explain_text
from snncompile.ir.errors import UnsupportedError
from snncompile.targets import registry
from snncompile.targets.c.target import CTarget


@snn.model
def model(x=snn.Spikes(4)):
    h = x >> snn.Linear(33, density=0.1) >> snn.ExpSyn()
    return h >> snn.recurrent(snn.LIF(threshold=0.3), via=snn.Linear(33)) >> snn.LI()


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    registry._has_compiler.cache_clear()
    yield
    registry._has_compiler.cache_clear()


def test_auto_on_the_cpu():
    net = snn.compile(model)
    assert net.resolve(torch.device("cpu")) == "c"
    assert net.resolve(torch.device("cuda")) == "triton"
    assert net.resolve(torch.device("meta")) == "torch"


def test_auto_without_a_compiler(no_compiler):
    net = snn.compile(model)
    assert net.resolve(torch.device("cpu")) == "torch"
    assert net(torch.ones(1, 3, 4)).shape == (1, 3, 33)


def test_artifact_holds_sources(tmp_path):
    torch.manual_seed(0)
    net = snn.compile(model, target="c")
    net.save(tmp_path / "n.snn")
    names = {p.name for p in (tmp_path / "n.snn" / "kernels").iterdir()}
    assert {"li_forward.c", "li_forward_save.c", "li_backward.c"} <= names
    assert {"li_forward_checkpoint.c", "li_backward_checkpoint.c"} <= names
    assert {"events_forward.c", "events_weight.c"} <= names
    assert {"add_lif_recurrent.c", "add_lif_recurrent_save.c", "add_lif_recurrent_backward.c"} <= names
    assert "/li_backward.c" in (tmp_path / "n.snn" / "report.txt").read_text()
    loaded = snn.load(tmp_path / "n.snn")
    x = (torch.rand(2, 9, 4) < 0.5).float()
    assert loaded.target == "c"
    assert torch.equal(loaded(x), net(x))


def test_artifact_without_a_compiler(no_compiler):
    net = snn.compile(model, target="c")
    placed = place(net, None, None)
    assert (placed.target, net.target) == ("torch", "torch")
    assert "no-such-compiler" in placed.notes[0]
    with pytest.raises(UnsupportedError, match='target "c" cannot run'):
        place(snn.compile(model, target="c"), "c", None)


def test_explain_says_how_a_cycle_runs():
    text = explain_text(explain(snn.compile(model, target="c").graph, "c"))
    assert "one function over all steps: the product of linear_1, event-driven, then" in text


@pytest.mark.parametrize(("steps", "every"), [(400, 1), (600, 32)])
def test_large_scans_save_some_states(monkeypatch, steps, every):
    """1 MiB of states, from 512 steps of 4 sequences of 128 neurons, is where it changes; the bits do not."""

    @snn.model
    def wide(x=snn.Current(128)):
        return x >> snn.LIF(threshold=0.4)

    asked = []
    plain = CTarget.forward
    monkeypatch.setattr(CTarget, "forward", lambda self, scan, c: asked.append(c.checkpoint) or plain(self, scan, c))
    x = torch.rand(4, steps, 128, generator=torch.Generator().manual_seed(0))
    grads = []
    for checkpoint in (None, 1, 300):
        net = snn.compile(wide, target="c", checkpoint=checkpoint)
        net(x).square().mean().backward()
        grads.append([p.grad for p in net.parameters()])
    assert asked == [every, 1, 300]
    assert all(torch.equal(a, b) for other in grads[1:] for a, b in zip(grads[0], other, strict=True))


def test_default_checkpoint_is_explained_and_kept(tmp_path):
    net = snn.compile(model, target="c")
    said = explain_text(explain(net.graph, "c"))
    assert "whose states take 1 MiB or more keeps those of every 32nd" in said
    net.save(tmp_path / "n.snn")
    assert snn.load(tmp_path / "n.snn").checkpoint is None


def test_a_cycle_is_said_to_keep_all_its_states():
    @snn.model
    def cycle(x=snn.Spikes(4)):
        return x >> snn.Linear(8) >> snn.recurrent(snn.LIF(), via=snn.Linear(8)) >> snn.LIF()

    lines = explain_text(explain(snn.compile(cycle).graph, "c")).split("\n")
    kept = [line for line in lines if "training  keeps" in line]
    assert kept[0].endswith("at every step") and kept[1].endswith("or at every 8th or 32nd")


def test_how_often_states_are_saved_by_size():
    """From 2 MiB also over few steps."""
    sizes = {(25, 16, 9216): 8, (17, 1, 2**20): 8, (16, 1, 2**20): 1, (25, 16, 100): 1, (65, 16, 9216): 32}
    assert {shape: CTarget.checkpoint(1, shape) for shape in sizes} == sizes
    assert CTarget.checkpoint(3, (25, 16, 9000)) == 8
