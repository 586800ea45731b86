"""Programs that share a layer's neurons, each with its rows of the weight: what they exchange, in every order of turns.

The interpreter runs them in turns; here turns come in any order, and what a program stores is seen by the others only
from its next release on.
"""

import re
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import pytest
import torch
from triton.runtime.errors import InterpreterError

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.triton import recurrent_launch, recurrent_sliced, turns
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.layer_kernels import LayerShape, layer_kernels
from snncompile.targets.triton.recurrent import RecurrentLayers
from snncompile.targets.triton.recurrent_design import Demand, check_together, choose_design
from snncompile.targets.triton.turns import Turns, WaitError

from ..recurrent_calls import KINDS, check_layer, close, loop_backward, loop_forward, make_calls, scan_of
from ..scan_calls import poisoned
from .apart import RELEASES, replacing

HOPPER = ARCHS["sm_90"]


class Counts(RecurrentLayers):
    """Layers whose source is a spike."""

    def forward(self, scan, call):
        return super().forward(scan, replace(call, most=1))


def layers(**options):
    return Counts(poisoned, form="together", **options)


def late_memory(seed):
    """Turns in any order, also between loads; a program's stores are seen by others from its next release on."""
    random = Random(seed)

    @contextmanager
    def switching(builder, running):
        stores, pending = builder.create_masked_store, {}
        load, atomic = builder.create_masked_load, builder.create_atomic_rmw
        running.following = lambda now, waiting: random.choice(waiting)

        def create_masked_store(*arguments):
            pending.setdefault(running.current, []).append(arguments)

        def create_masked_load(*arguments):
            if random.random() < 0.3:
                running.switch()
            return load(*arguments)

        def create_atomic_rmw(op, ptr, value, mask, sem, scope):
            if sem in RELEASES:
                for arguments in pending.pop(running.current, ()):
                    stores(*arguments)
            found = atomic(op, ptr, value, mask, sem, scope)
            running.switch(progress=bool(value.data.any()))
            return found

        try:
            with replacing(builder, create_masked_store, create_masked_load, create_atomic_rmw):
                yield
        finally:
            for late in pending.values():
                for arguments in late:
                    stores(*arguments)

    return switching


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_turns(monkeypatch, seed):
    """Forward and backward, rings of one step and of several, more sequences than a tile."""
    monkeypatch.setattr(turns, "_switching", late_memory(seed))
    kind, port, settings = KINDS[seed]
    for size in (19, 20):  # rows of 16 bytes or not
        check_layer(layers(), kind, port, settings, (5, 3, size))
    check_layer(layers(), kind, port, {**settings, "late": 2 + seed % 2}, (6, 9, 19))


@pytest.mark.parametrize(
    ("was", "instead"),
    [('sem="release"', 'sem="relaxed"'), ("while count < target:", "while count < target - 1:")],
)
def test_what_the_order_of_turns_finds(monkeypatch, was, instead):
    """An arrival that releases nothing, and a wait that ends one arrival too early."""
    assert was in recurrent_sliced.MEET
    monkeypatch.setattr(recurrent_sliced, "MEET", recurrent_sliced.MEET.replace(was, instead))
    monkeypatch.setattr(turns, "_switching", late_memory(0))
    with pytest.raises(AssertionError):
        for _ in range(3):
            check_layer(layers(), *KINDS[0], (5, 3, 19))


def test_a_wait_without_end_is_found(monkeypatch):
    monkeypatch.setattr(recurrent_sliced, "MEET", recurrent_sliced.MEET.replace("< target", "< target + 1"))
    monkeypatch.setattr(turns, "PATIENCE", 10)
    with pytest.raises(InterpreterError, match="programs wait for each other, and none of them goes on"):
        check_layer(layers(), *KINDS[0], (2, 1, 19))


def test_turns():
    seen = []
    running = Turns([(0,), (1,), (2,)], lambda *place: seen.append(place))

    def program():
        running.switch()
        running.switch()

    running.run(program)
    assert seen == [(0,), (1,), (2,)] * 3
    with pytest.raises(ZeroDivisionError):
        Turns([(0,), (1,)], lambda *place: None).run(lambda: 1 / 0)
    stuck = Turns([(0,), (1,)], lambda *place: None)
    with pytest.raises(WaitError):
        stuck.run(lambda: [stuck.switch(progress=False) for _ in range(turns.PATIENCE * 3)])


def test_more_tiles_than_run_at_once():
    """They are launched in lots; nothing of a lot is read by another."""
    scan, call, _ = make_calls("lif", "x", "spikes", (2, 75, 19))
    courses, *_ = loop_forward(scan, call)
    made = layers().forward(scan, call)
    assert recurrent_launch._INTERPRETED // 2 < -(-75 // 16)
    assert torch.equal(made.stored["spikes"], torch.stack(courses["spikes"]))
    assert torch.equal(made.stored["v"], torch.stack(courses["v"]))


@pytest.mark.parametrize("most", [1, 65536, None])
def test_chosen_from_129_to_256_neurons(most):
    """All sizes of what comes back; blocks of neurons that are not full."""
    scan, call, backward_call = make_calls("lif", "x", "spikes", (2, 3, 150))
    chosen = RecurrentLayers(poisoned)
    courses, *_ = loop_forward(scan, call)
    made = chosen.forward(scan, replace(call, most=most))
    assert torch.equal(made.stored["spikes"], torch.stack(courses["spikes"]))
    back = backward_call(made, ("spikes",))
    inputs, carry, start, sums = loop_backward(scan, back)
    got = chosen.backward(scan, back)
    assert close(got.product, torch.stack(inputs["x"]))
    assert close(got.start, start)
    assert close(got.states[0], carry["v"])
    assert all(close(total, sums[a]) for a, total in got.accumulators.items())
    assert {(d.form, d.kept) for d in chosen._designs.values()} == {("together", True)}


def test_operands_that_are_contiguous_and_others():
    scan, call, backward_call = make_calls("chain", "inh", "spikes", (3, 2, 20))
    apart = tuple(x if x is None else x.transpose(0, 2).contiguous().transpose(0, 2) for x in call.inputs)
    one, two = layers(), layers()
    made, again = one.forward(scan, call), two.forward(scan, replace(call, inputs=apart))
    assert all(torch.equal(a, again.stored[r]) for r, a in made.stored.items())
    back = backward_call(made, ("spikes",))
    strided = {r: g.transpose(0, 1).contiguous().transpose(0, 1) for r, g in back.grads.items()}
    got, same = one.backward(scan, back), two.backward(scan, replace(back, grads=strided))
    assert torch.equal(got.product, same.product)
    assert [v.dense for v, _ in one._kernels[scan]] == [True, True]
    assert [v.dense for v, _ in two._kernels[scan]] == [False, False]


def test_how_many_run_at_once():
    design = choose_design(Demand(256), HOPPER)
    assert (design.shares, design.rows, design.columns) == (2, 16, 128)
    assert check_together(16, design, 132) == 1
    assert check_together(5000, design, 132) == 66
    with pytest.raises(UnsupportedError, match="takes 2 programs that wait for each other, but this GPU runs 1"):
        check_together(5000, design, 1)


@pytest.mark.parametrize("arch", ["sm_80", "gfx942"])
def test_streamed_elsewhere(arch):
    assert choose_design(Demand(256), ARCHS[arch]).form == "streamed"
    if arch == "sm_80":
        asked = choose_design(Demand(256, form="together"), ARCHS[arch])
        assert (asked.form, asked.kept) == ("together", False)


#: Loads of 16 bytes that do not pass the L1 cache by: in these kernels those of the weight, and of courses of our own.
_WIDE = re.compile(r"ld\.global\.v4\.b32")


@pytest.mark.parametrize(("size", "kind"), [(256, "lif"), (256, "chain"), (200, "chain"), (129, "chain"), (160, "lif")])
def test_resident_without_spills_on_hopper(size, kind):
    """Both parts of the weight are loaded before the loop over time; states and spikes need no more registers."""
    scan = scan_of(kind)
    shape = LayerShape({"lif": "x", "chain": "inh"}[kind], "spikes", 65536, True, size)
    kernels = layer_kernels(scan, shape, ("spikes",), (), "auto", [HOPPER])
    roles = ("recurrent", "recurrent_save", "recurrent_backward")
    jobs = [Job(k.role, k.source, HOPPER, k.settings["sm_90"]) for k in kernels if k.role in roles]
    assert len(jobs) == 3
    for b in compile_jobs(jobs):
        design = b.settings
        assert design.sliced and design.precision == "split-fp16"
        part = 2 * design.columns * design.width
        assert 2 * part <= b.resources.shared <= HOPPER.shared
        assert b.resources.spills == 0, f"{b.role} {b.resources}"
        before, loop = b.assembly.split("ld.global.gpu.acquire", 1)  # the first wait, at the begin of a step
        loads = 2 * part // (16 * 32 * design.warps)
        assert len(_WIDE.findall(before)) >= loads
        assert len(_WIDE.findall(loop)) < loads // 2
        assert "ld.global.cg.v4" in loop
        for text in (before, loop):  # all threads' stores, a barrier, one thread's release
            sent = text[: text.index("atom.global.gpu.release")]
            assert sent.rindex("bar.sync") > sent.rfind("st.global")
        read = loop.index("ld.global.cg")  # one thread's acquire, a barrier, all threads' loads
        assert loop.rindex("bar.sync", 0, read) > loop.rindex("ld.global.gpu.acquire", 0, read)


def test_resident_without_spills_on_blackwell():
    kernels = layer_kernels(
        scan_of("chain"), LayerShape("inh", "spikes", 1, True, 256), ("spikes",), (), "auto", [ARCHS["sm_100"]]
    )
    for k in kernels:
        design = k.settings["sm_100"]
        if k.role in ("recurrent_save", "recurrent_backward"):
            (b,) = compile_jobs([Job(k.role, k.source, ARCHS["sm_100"], design)])
            assert design.sliced and b.resources.spills == 0, f"{b.role} {b.resources}"
