"""Recurrent layers that read inputs some steps late: an offset in the loads of every form, gradients in their rows."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snncompile.targets.scan import Late
from snncompile.targets.triton import turns
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS
from snncompile.targets.triton.layer_kernels import LayerShape, layer_kernels
from snncompile.targets.triton.recurrent import RecurrentLayers
from snncompile.targets.triton.recurrent_launch import Launcher
from snncompile.targets.triton.target import TritonTarget

from ..late_layer_networks import check_layer_network
from ..recurrent_calls import scan_of
from ..recurrent_late_calls import GATED, LATE_KINDS, at_hand, check_late_layer, late_calls
from ..scan_calls import poisoned, same_bits
from .apart import own_caches

FORMS = ["steps", "resident", "streamed", "together"]
#: T, B, N, L, and how the signals lie in memory.
CALLS = [
    ((4, 3, 20), 3, "flat"),
    ((2, 2, 6), 7, "by sequence"),
    ((3, 17, 9), 2, "some"),
    ((1, 1, 1), 1, "some"),
    ((0, 2, 4), 3, "flat"),
    ((3, 0, 4), 2, "flat"),
]


class Counts(RecurrentLayers):
    """Layers whose source is a spike."""

    def forward(self, scan, call):
        return super().forward(scan, replace(call, most=1))


@pytest.mark.parametrize("form", ["steps", "resident", "together"])
@pytest.mark.parametrize(("shape", "reach", "layout"), CALLS)
def test_as_if_made_late_first(form, shape, reach, layout):
    for k, kinds in enumerate(LATE_KINDS):
        if k % 2 == reach % 2:
            given = {"layout": layout, "full": k > 1, "late": 1 + k // 2}
            check_late_layer(Counts(poisoned, form=form), kinds, shape, reach, **given)


@settings(max_examples=4, deadline=None)
@given(
    kinds=st.tuples(*[st.sampled_from(["", "one", "each", "shared"])] * 3),
    reach=st.integers(0, 9),
    shape=st.tuples(st.integers(0, 9), st.integers(1, 3), st.integers(1, 40)),
    layout=st.sampled_from(["flat", "by sequence", "some"]),
    form=st.sampled_from(FORMS),
)
def test_any_shape(kinds, reach, shape, layout, form):
    check_late_layer(Counts(poisoned, form=form), kinds, shape, reach, layout=layout)


@pytest.mark.parametrize("form", FORMS)
def test_inference_and_gradients_that_nobody_wants(form):
    layers = Counts(poisoned, form=form)
    needs = (True, False, True, False)
    scan, call, _ = check_late_layer(layers, ("each", "one", "shared"), (2, 2, 6), 2, needs=needs)
    inference = replace(call, train=False, store=())
    got, wanted = layers.forward(scan, inference), layers.forward(scan, at_hand(inference))
    assert got.stored.keys() == {"spikes"} and same_bits(got.stored["spikes"], wanted.stored["spikes"])
    assert all(same_bits(a, b) for a, b in zip(got.finals, wanted.finals, strict=True))


@pytest.mark.parametrize("kinds", LATE_KINDS[:2])
def test_programs_side_by_side(monkeypatch, kinds):
    """Turns in any order, memory in its worst case."""
    monkeypatch.setattr(turns, "_switching", own_caches(0))
    check_late_layer(Counts(poisoned, form="together"), kinds, (3, 3, 20), 2)


def test_contiguous_courses_take_no_strides():
    for layout, strides in (("flat", set()), ("by sequence", {"places_t", "places_b"})):
        scan, call, _ = late_calls(("one", "each", ""), (3, 2, 20), 2, layout)
        layers = Counts(poisoned, form="together")
        layers.forward(scan, call)
        (((variant, _), (source, _)),) = layers._kernels[scan].items()
        assert variant.dense == (not strides)
        assert {"places_t", "places_b"} & {p.name for p in source.params} == strides


class Elsewhere(Launcher):
    """Runs kernels on memory of its own, as a CUDA graph does: what they do not say that they read is not there."""

    def run(self, kernel, a, *more):
        values = [v.clone() if isinstance(v, torch.Tensor) else v for v in a.values]
        for k in a.fresh:
            values[k].fill_(float("nan"))
        super().run(kernel, replace(a, values=values), *more)
        for k in a.written:
            a.values[k].copy_(values[k])


@pytest.mark.parametrize("kinds", LATE_KINDS)
def test_on_memory_of_a_graph(kinds):
    """Rows that no step writes are zeros there, too."""
    layers = Counts(poisoned, form="steps")
    layers._launcher = Elsewhere()
    check_late_layer(layers, kinds, (4, 2, 6), 3)


def test_another_lateness_compiles_nothing():
    scan, call, _ = late_calls(("one", "", ""), (3, 2, 5), 1)
    layers = Counts(poisoned, form="resident")
    for longest in (1, 2, 5):
        late = Late(torch.rand(longest, 2, 5), longest)
        layers.forward(scan, replace(call, offsets=(None, late, None, None)))
    assert len(layers._kernels[scan]) == 1


def _compiled(scan, port, size, kind, archs, roles=("recurrent_save", "recurrent_backward")):
    late = tuple("" if x == port else kind for x in scan.inputs)
    kernels = layer_kernels(scan, LayerShape(port, "spikes", 65536, True, size), ("spikes",), (), "auto", archs, late)
    jobs = [
        Job(k.role, k.source, arch, k.settings[arch.name])
        for k in kernels
        for arch in archs
        if arch.name in k.settings and k.role in roles
    ]
    assert jobs and all("snn_seen" in j.source.text or "snn_store_late" in j.source.text or kind == "one" for j in jobs)
    return compile_jobs(jobs)


@pytest.mark.parametrize(("kind", "size"), [("one", 128), ("each", 256), ("shared", 256)])
def test_no_spills_on_hopper(kind, size):
    for b in _compiled(scan_of("chain"), "inh", size, kind, [ARCHS["sm_90"]]):
        assert b.resources.spills == 0, f"{b.role} {b.resources}"
        assert b.resources.shared <= b.arch.shared


@pytest.mark.parametrize(("kind", "role"), [("each", "recurrent_save"), ("shared", "recurrent_backward")])
def test_compiles_for_every_chip(kind, role):
    for b in _compiled(GATED, "x", 20, kind, list(ARCHS.values()), (role,)):
        assert b.resources.spills == 0, f"{b.role} {b.arch.name} {b.resources}"
        assert b.resources.shared <= b.arch.shared


@pytest.mark.parametrize(
    ("kinds", "want", "behind"),
    [
        (("one", "each"), ["each", "one"], 1),
        (("several", "between"), ["each", "each", "shared"], 1),
        (("all between", "trained"), ["each", "each", "one", "one"], 2),
        (("several between", "too far"), ["each", "shared"], 1),
    ],
)
def test_networks(kinds, want, behind):
    """All kinds of delays before a layer; runs that are too short for any."""
    check_layer_network(kinds, [(2, 7), (1, 2)], TritonTarget(), want, behind)
