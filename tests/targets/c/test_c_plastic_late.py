"""Plastic layers in C that read delayed signals themselves: against the same calls with these signals made first."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snncompile.targets.c import plastic
from snncompile.targets.c.plastic_seen import make_form
from snncompile.targets.c.sources import plastic_sources
from snncompile.targets.plastic_call import Wiring

from ..late_plastic import HEARD, late_case
from ..plastic_calls import Convolution, PlainPlastic, assert_same, plastic_case
from ..scan_calls import poisoned

CONV = Convolution((2, 6, 5), 3, (3, 2), {"padding": (1, 0), "stride": (1, 2)})


def check(case, plain, threads=None):
    """What is late as the plain loop has it of what is made beforehand; that loop's result."""
    layers = plastic.PlasticLayers(threads, poisoned)
    assert layers.offsets
    with torch.no_grad():
        want = PlainPlastic().forward(case.scan, case.rule, plain)
        assert_same(layers.forward(case.scan, case.rule, case.call), want)
    return want


@pytest.mark.parametrize(
    ("name", "x", "pre", "neurons", "fixed"),
    [
        ("additive", "shared", None, "shared", ()),
        ("free", "each between", "decayed", "", ()),
        ("relu", "between", "replaced", "", ()),
        ("reward", "whole", "each", "each", ("mask",)),
        ("triplet", "", "whole", "one", ("sign",)),
        ("root", "both", "shared between", "", ("mask", "sign")),
    ],
)
def test_what_is_late_is_as_if_made_before(name, x, pre, neurons, fixed):
    shown = {side: kind for side, kind in (("x", x), ("pre", pre)) if kind}

    def run(steps, batch, outs, ins, strided, threads, seed):
        case = plastic_case(name, steps, batch, outs, ins, fixed=fixed, elsewhere=pre is not None, seed=seed)
        want = check(*late_case(case, shown, neurons, seed=seed, strided=strided), threads)
        assert steps < 33 or want.stored["lif_spikes"].sum() > 0

    for batch, threads in ((1, 1), (3, 2)):
        run(33, batch, 40, 90, False, threads, 0)
    shapes = given(
        steps=st.sampled_from([0, 1, 2, 9]),  # delays are longer than most
        batch=st.sampled_from([0, 1, 2, 5]),
        outs=st.integers(1, 70),
        ins=st.integers(1, 60).map(lambda k: 2 * k),
        strided=st.booleans(),
        threads=st.sampled_from([1, 2, 5]),
        seed=st.integers(0, 99),
    )
    settings(max_examples=12, deadline=None)(shapes(run))()


@pytest.mark.parametrize(
    ("name", "x", "pre", "neurons"),
    [
        ("reward", "shared between", "", "each"),
        ("root", "", "each between", "shared"),
    ],
)
def test_convolutions(name, x, pre, neurons):
    shown = {side: kind for side, kind in (("x", x), ("pre", pre)) if kind}
    for steps, batch, threads in ((9, 2, 2), (3, 1, 1), (14, 3, 3)):
        conv = replace(CONV, outs=19)  # on several threads
        case = plastic_case(name, steps, batch, conv=conv, elsewhere=True, fixed=("mask",), bias=True)
        check(*late_case(case, shown, neurons, strided=batch == 2), threads)


@pytest.mark.parametrize("kind", ["whole", "between", *HEARD])
def test_what_a_rule_hears(kind):
    for steps, batch, threads in ((9, 3, 2), (1, 2, 1), (0, 1, 1), (2, 0, 1), (12, 1, 1)):
        case = plastic_case("reward", steps, batch, 40, 20)
        check(*late_case(case, {"reward": kind}, strided=batch == 3), threads)
    if kind == "trained":
        conv = plastic_case("reward", 8, 2, conv=CONV)
        check(*late_case(conv, {"reward": kind, "x": "each"}, "one"), 2)


def test_a_whole_earlier_step_is_only_another_address(monkeypatch):
    monkeypatch.setattr(plastic, "function", lambda *a, **k: None)
    layers, case = plastic.PlasticLayers(), plastic_case("additive", 8, 1, 6, 20)
    texts = {}
    for kind in ("whole", "each"):
        late, _ = late_case(case, {"x": kind}, "one")
        texts[kind] = layers._kernel(case.scan, case.rule, late.call)[0].kernel.text
    assert "late_row(" in texts["each"] and "rows" in texts["each"]
    assert "late_row(" not in texts["whole"] and "input_rows" not in texts["whole"]


@pytest.mark.parametrize("kind", ["whole", "each", "each between"])
def test_printed_sources_are_those_that_run(monkeypatch, kind):
    monkeypatch.setattr(plastic, "function", lambda *a, **k: None)
    case, _ = late_case(plastic_case("additive", 8, 1, 6, 20, elsewhere=True, store=False), {"x": kind}, "each")
    scan, call = case.scan, case.call
    ran = plastic.PlasticLayers()._kernel(scan, case.rule, call)[0].kernel
    one = [c for c, value in zip(scan.coefs, call.coefs, strict=True) if not value.dim()]
    late = tuple("" if it is None else it.kind for it in call.late)
    wiring = Wiring(call.port, call.source, call.bias is not None, False, True)
    of_delay = call.seen["x"]
    form = make_form(of_delay.scan, tuple(it.kind for it in of_delay.late), tuple(not c.dim() for c in of_delay.coefs))
    assert plastic_sources(scan, case.rule, wiring, call.store, one, late, {"x": form})["plastic"] == ran


def test_names_of_delays_are_no_names_of_the_file():
    case = plastic_case("additive", 8, 2, 6, 20, elsewhere=True)
    case, plain = late_case(case, {"x": "each between", "pre": "each"}, "each")
    seen = {side: replace(one, scan=replace(one.scan, name="snn_late")) for side, one in case.call.seen.items()}
    check(replace(case, call=replace(case.call, seen=seen)), plain)
