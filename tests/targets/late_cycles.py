"""Cycles, and regions that learn, whose signals from outside come late: against the same on the signals made late
beforehand, to the last bit; for every target."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

import snncompile as snn
from snncompile import ms
from snncompile.targets.cycle_call import CycleBackwardCall, CycleForwardCall
from snncompile.targets.cycle_plan import CyclePlan
from snncompile.targets.plastic_plan import Learn, PlasticPlan
from snncompile.targets.scan import Late

from .plastic_regions import drawn as some
from .scan_loop import same_bits

#: Steps and sequences.
SHAPES = [(9, 3), (0, 2), (1, 1), (2, 2), (14, 1), (5, 0)]

#: The most steps that signals are late, one after the other.
LONGEST = (4, 3, 6, 1)

#: What signals are: of each kind once, and in other orders.
KINDS = [("each", "one", "shared", ""), ("one", "shared", "", "each"), ("shared", "each", "each", "one")]


@snn.neuron(states={"v": 0.0, "w": 0.5}, outputs={"spikes": 4, "pull": "current"})
def Gated(v, w, a, b, back, *, gain=snn.Param(0.25)):
    """Its gradient reads what it reads."""
    v = v * 0.75 + a * b + back - w * gain
    s = snn.spike(v, 1.0)
    return {"v": v - s, "w": w * 0.5 + a * gain, "spikes": s, "pull": v * w}


@snn.model(dt=1 * ms)
def fed(x=snn.Spikes(3, max=1)):
    """Two populations that excite each other, each with two signals from outside."""
    back, down = snn.Feedback(6, delay=2 * ms), snn.Feedback(10)
    first = Gated(name="first")(a=x >> snn.Linear(6), b=x >> snn.Linear(6), back=down >> snn.Linear(6))
    second = Gated(name="second")(
        a=x >> snn.Linear(10), b=x >> snn.Linear(10), back=first >> snn.Dropout(0.3) >> snn.Linear(10)
    )
    back.close(first)
    down.close(second)
    return {"second": second, "pull": first["pull"], "w": second.state("w")}


def taken(model: snn.Model, target: str, runner: str, training: bool = True):
    """The plan of the one cycle or region of ``model``, and the calls that run it forward and backward."""
    torch.manual_seed(0)
    net = snn.compile(model, target=target).train(training)
    executor, found = net.executor(torch.device("cpu")), {}
    target_of = getattr(executor.runner, runner)

    def spied(way, run):
        def ran(plan, call):
            found[way] = plan, call
            return run(plan, call)

        return ran

    for way in ("forward", "backward"):
        if hasattr(target_of, way):
            setattr(target_of, way, spied(way, getattr(target_of, way)))
    x = {n: torch.rand(3, 4, *kind.shape) for n, kind in net.graph.input_types().items()}
    with torch.set_grad_enabled(hasattr(target_of, "backward")):
        out, _, _ = net.evolve(**x)
    out = out.values() if isinstance(out, dict) else [out]
    if "forward" in found and any(v.requires_grad for v in out):
        sum(v.sum() for v in out).backward()
    for way in found:
        delattr(target_of, way)
    return found


def drawn(g: torch.Generator, *shape: int) -> Tensor:
    """Random numbers."""
    return torch.rand(shape, generator=g) - 0.25


def resized(plan: CyclePlan, call: CycleForwardCall, shape: tuple[int, int], g: torch.Generator) -> CycleForwardCall:
    """Another call of so many steps and sequences."""
    batch = shape[1]
    return replace(
        call,
        shape=shape,
        inputs=tuple(drawn(g, *shape, size) for size in plan.sizes),
        starts={i: drawn(g, it.depth, batch, it.size) for i, it in enumerate(plan.lines) if it.depth},
        masks=tuple(2.0 * (drawn(g, batch, plan.lines[m.line].size) > 0) for m in plan.masks),
    )


def made_late(
    plan: CyclePlan, call: CycleForwardCall, kinds: tuple[str, ...], strided: bool, g: torch.Generator
) -> tuple[CycleForwardCall, CycleForwardCall]:
    """A call whose signals are late, and the same with signals made beforehand."""
    (steps, batch), lates, inputs, seen = call.shape, [], [], []
    for i, (kind, x) in enumerate(zip(kinds, call.inputs, strict=True)):
        size, longest = plan.sizes[i], LONGEST[i % len(LONGEST)]
        share = 2 if kind == "shared" and size % 2 == 0 else 1
        x = x[:, :, : size // share].contiguous()
        if strided:
            wide = drawn(g, batch, 2 * steps, x.shape[2] + 3)
            wide[:, ::2, 1:-2] = x.transpose(0, 1)
            x = wide[:, ::2, 1:-2].transpose(0, 1)
        past = drawn(g, longest, batch, size // share)
        each = torch.randint(0, longest + 1, (size,), generator=g, dtype=torch.int32)
        late = Late(past, longest if kind == "one" else each, share) if kind else None
        lates.append(late)
        inputs.append(x)
        seen.append(x if late is None else late.seen(x))
    return replace(call, inputs=tuple(inputs), late=tuple(lates)), replace(call, inputs=tuple(seen))


def late_plan(plan: CyclePlan, kinds: tuple[str, ...]) -> CyclePlan:
    """``plan`` reading its signals late."""
    return replace(plan, offsets=kinds, taps=(0,) * len(kinds))


def assert_same_lines(plan: CyclePlan, call: CycleForwardCall, got, want) -> None:
    """Lines that are kept, as far as they must be, and sums."""
    for i, (a, b) in enumerate(zip(got.lines, want.lines, strict=True)):
        assert (a is None) == (b is None), plan.lines[i].key
        assert a is None or same_bits(a, b), plan.lines[i].key
    assert all(torch.equal(a, b) for a, b in zip(got.sums, want.sums, strict=True))


def input_gradient(late: Late, seen: Tensor) -> Tensor:
    """What becomes of the gradient of what is seen: that of each neuron's past and signal, ``(L + T, B, N)``."""
    steps, batch, size = seen.shape
    past = torch.zeros(len(late.past), batch, size, requires_grad=True)
    x = torch.zeros(steps, batch, size, requires_grad=True)
    replace(late, past=past, share=1).seen(x).backward(seen)
    assert past.grad is not None and x.grad is not None
    return torch.cat([past.grad, x.grad])


class LateCycles:
    """The tests of a target of cycles; ``make`` makes one that runs on so many threads where it can, ``target`` is its
    name."""

    target = ""
    shapes = SHAPES

    def check(self, kinds: tuple[str, ...], shape: tuple[int, int], strided: bool = False, threads: int = 1) -> None:
        found = taken(fed, self.target, "cycles")
        (plan, call), (_, back) = found["forward"], found["backward"]
        g = torch.Generator().manual_seed(sum(shape) + len("".join(kinds)))
        call = replace(resized(plan, call, shape, g), sums=call.store[:1])
        late, seen = made_late(plan, call, kinds, strided, g)
        runner, there = self.make(threads), late_plan(plan, kinds)
        made, want = runner.forward(there, late), runner.forward(plan, seen)
        assert_same_lines(plan, call, made, want)
        few = [replace(c, keep=frozenset()) for c in (late, seen)]  # as without gradients
        assert_same_lines(plan, call, runner.forward(there, few[0]), runner.forward(plan, few[1]))
        self.check_backward(plan, there, replace(back, shape=shape, masks=call.masks), (late, seen), want, g)

    def check_backward(self, plan, there, back: CycleBackwardCall, calls, made, g) -> None:
        late, seen = calls
        (steps, batch), runner = back.shape, self.make(1)
        back = replace(
            back,
            lines=made.lines,
            grads=tuple((read, drawn(g, steps, batch, plan.lines[read.line].size)) for read in late.store),
            finals={i: drawn(g, *start.shape) for i, start in seen.starts.items()},
        )
        want = runner.backward(plan, replace(back, inputs=seen.inputs))
        got = runner.backward(there, replace(back, inputs=late.inputs, late=late.late))
        for a, b, one in zip(got.inputs, want.inputs, late.late, strict=True):
            assert torch.equal(a, b if one is None else input_gradient(one, b))
        for i, b in want.starts.items():
            assert torch.equal(got.starts[i], b), plan.lines[i].key
        for a, b in zip(got.products, want.products, strict=True):
            assert (a is None) == (b is None) and (a is None or torch.equal(a, b))
        for node, sums in want.accumulators.items():
            assert all(torch.equal(got.accumulators[node][n], v) for n, v in sums.items())
        if there.offsets == KINDS[0]:
            few = replace(back, need_inputs=(False, True, True, False), need_accumulators=())
            some = runner.backward(there, replace(few, inputs=late.inputs, late=late.late)).inputs
            assert [x is None for x in some] == [True, False, False, True]
            assert all(a is None or torch.equal(a, b) for a, b in zip(some, got.inputs, strict=True))

    def test_kinds_and_shapes(self):
        for kinds in KINDS[::2]:
            for i, shape in enumerate(self.shapes):
                self.check(kinds, shape, strided=i % 2 == 1, threads=1 + i % 2)


@snn.model(dt=1 * ms)
def heard(x=snn.Spikes(8, max=1), y=snn.Spikes(6, max=1), image=snn.Spikes((2, 5, 4), max=1), reward=snn.Current(1)):
    """Neurons hear two signals from outside; a Linear and a convolution that learn, their rules and a reward others."""
    learnt, field = snn.Linear(6, init=0.3 * some(6, 8)), snn.Conv2d(3, 3, init=0.4 * some(3, 2, 3, 3, seed=1))
    back = snn.Feedback(6)
    seen = image >> field >> snn.LIF(threshold=0.8, name="second")
    shown = (seen >> snn.Flatten() >> snn.Linear(6)) + (back >> snn.Linear(6, init=-0.1 * some(6, 6, seed=2)))
    first = Gated(name="first")(a=y >> snn.Linear(6), b=x >> snn.Linear(6), back=(x >> learnt) + shown)
    back.close(first)
    own = first >> snn.Linear(1, init=0.1 * torch.ones(1, 6), trainable=False) >> snn.LI(tau_mem=3 * ms)
    snn.learn(learnt, snn.MSTDPET(eta=0.3), pre=x >> snn.Linear(8), post=first, reward=reward)
    snn.learn(field, snn.MSTDPET(eta=0.3), post=seen, reward=own)
    return {"first": first, "seen": seen}


def fit(plan: PlasticPlan, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """``kinds``, one after the other for each signal, but what only neurons read late by steps of their own."""
    fed = set()
    for step in plan.order:
        if isinstance(step, Learn):
            fed |= {x for x in (step.pre, step.post, *step.signals) if isinstance(x, int)}
    fed |= {p.read for p in plan.plastic_products if isinstance(p.read, int)}
    given = [kinds[i % len(kinds)] for i in range(len(plan.outside))]
    return tuple("one" if i in fed and kind else kind for i, kind in enumerate(given))


class LateRegions:
    """The tests of a target of regions that learn, likewise."""

    target = ""
    shapes = SHAPES

    def test_kinds_and_shapes(self):
        plan, call = taken(heard, self.target, "_taught")["forward"]
        there = late_plan(plan, fit(plan, ("each", "shared")))
        assert len(plan.outside) == 6 and set(there.offsets) == {"each", "one", "shared"}
        for i, shape in enumerate(self.shapes):
            g = torch.Generator().manual_seed(i)
            taught = tuple(
                replace(t, synapses={n: drawn(g, shape[1], *s.shape[1:]) for n, s in t.synapses.items()})
                for t in call.taught
            )
            cycle = resized(plan, replace(call.cycle, sums=call.cycle.store[:1]), shape, g)
            cycle = replace(cycle, inputs=tuple((x > 0.3).float() for x in cycle.inputs))
            late, seen = made_late(plan, cycle, there.offsets, i % 2 == 1, g)
            runner = self.make(1 + i % 2)
            want = runner.forward(plan, replace(call, cycle=seen, taught=taught))
            got = runner.forward(there, replace(call, cycle=late, taught=taught))
            assert_same_lines(plan, cycle, got.cycle, want.cycle)
            assert all(torch.equal(a, b) for a, b in zip(got.weights, want.weights, strict=True))
            for a, b in zip(got.synapses, want.synapses, strict=True):
                assert all(torch.equal(a[n], v) for n, v in b.items())
            moved = [not torch.equal(a, t.weight) for a, t in zip(got.weights, taught, strict=True)]
            assert all(moved) or shape[0] < 5 or not shape[1]
