"""Which form of kernel and which precision a recurrent layer gets, and that it fits the chip."""

import pytest
import torch

import snncompile as snn
from snncompile.ir.errors import UnsupportedError
from snncompile.targets.precision import PRECISIONS, checked_precision
from snncompile.targets.scan import make_scan
from snncompile.targets.triton.aot import Job, compile_jobs
from snncompile.targets.triton.arch import ARCHS, nearest
from snncompile.targets.triton.layer_kernels import LayerShape, layer_kernels
from snncompile.targets.triton.recurrent_design import Demand, check_together, choose_design
from snncompile.targets.triton.recurrent_product import product_of

from ..recurrent_calls import scan_of
from ..scans import build

HOPPER = ARCHS["sm_90"]


@pytest.mark.parametrize(
    ("size", "precision", "form", "used"),
    [
        (1, "auto", "resident", "split-fp16"),
        (128, "auto", "resident", "split-fp16"),
        (129, "auto", "together", "split-fp16"),
        (256, "auto", "together", "split-fp16"),
        (257, "auto", "streamed", "split-fp16"),
        (256, "fp16", "resident", "fp16"),
        (512, "split-fp16", "streamed", "split-fp16"),
        (512, "tf32", "streamed", "tf32"),
        (64, "float32", "streamed", "float32"),
        (513, "auto", "steps", "float32"),
        (2048, "fp16", "steps", "tf32"),
    ],
)
def test_choice_on_hopper(size, precision, form, used):
    design = choose_design(Demand(size, precision), HOPPER)
    assert (design.form, design.precision) == (form, used)
    assert used in design.why


def test_lower_precision_only_if_asked_for():
    for arch in ARCHS.values():
        for size in (3, 100, 256, 500, 3000):
            for backward in (False, True):
                asked = Demand(size, "auto", backward)
                assert choose_design(asked, arch).precision in ("float32", "split-fp16")


def test_one_step_spreads_over_many_programs():
    assert choose_design(Demand(128, steps=1), HOPPER).form == "steps"
    assert choose_design(Demand(128, "fp16", steps=1), HOPPER).form == "resident"  # the same numbers, step by step


def test_small_chips_stream():
    assert choose_design(Demand(128), ARCHS["gfx942"]).form == "streamed"
    assert choose_design(Demand(64), ARCHS["gfx942"]).form == "resident"
    assert choose_design(Demand(2048, "tf32"), ARCHS["gfx942"]).precision == "float32"


@pytest.mark.parametrize(
    ("precision", "most", "parts", "operand"),
    [
        ("float32", 1, 0, "real"),
        ("split-fp16", 1, 2, "whole"),
        ("split-fp16", 2048, 2, "whole"),
        ("split-fp16", 2049, 2, "counts"),
        ("split-fp16", 65536, 2, "counts"),
        ("split-fp16", 2**24, 2, "real"),
        ("split-fp16", None, 2, "real"),
        ("fp16", 1, 1, "whole"),
    ],
)
def test_parts_by_the_largest_count(precision, most, parts, operand):
    product = product_of(precision, most)
    assert (product.parts, product.operand) == (parts, operand)
    assert product.scale * (most or 1) <= 2**15 or operand != "counts"


def test_refusals():
    with pytest.raises(UnsupportedError, match=r"there is no precision 'half'; recurrent layers know auto, float32"):
        checked_precision("half")
    with pytest.raises(UnsupportedError, match="cannot stay on chip: the weight takes 262,144 bytes of shared"):
        choose_design(Demand(200, form="resident"), HOPPER)
    with pytest.raises(UnsupportedError, match="need an NVIDIA GPU, not gfx942"):
        choose_design(Demand(200, form="together"), ARCHS["gfx942"])
    design = choose_design(Demand(1024, form="together"), HOPPER)
    assert check_together(64, design, 132) == 4
    with pytest.raises(UnsupportedError, match="takes 160 programs that wait for each other, but this GPU runs 132"):
        check_together(80, design, 132)


def test_chips_that_are_not_listed():
    assert nearest("cuda", 9, 0) is HOPPER
    assert nearest("hip", 9, 4) is ARCHS["gfx942"]
    assert nearest("cuda", 8, 9).shared == nearest("cuda", 12, 0).shared == 101_376
    assert nearest("cuda", 10, 3).shared == 166_912
    assert choose_design(Demand(128), nearest("cuda", 8, 6)).form == "resident"


def _kernels(kind, port, size, precision, archs, most=65536):
    scan = scan_of(kind)
    shape = LayerShape(port, "spikes", most, True, size)
    return layer_kernels(scan, shape, ("spikes",), (), precision, archs)


def ten_states():
    """A chain of ten currents, the last of which fires."""
    names = tuple("abcdefghij")

    def step(*args):
        *states, x, bias, decay = args
        new, value = {}, x + bias
        for name, state in zip(names, states, strict=True):
            new[name] = state * decay + value
            value = new[name] * new[name] * 0.125 + value
        spikes = torch.where(new["j"] >= 1.0, 1.0, 0.0)
        return {**new, "j": torch.where(spikes > 0.0, 0.0, new["j"]), "spikes": spikes}

    return build("ten", step, names, ("x", "bias"), ("spikes",), ("decay",))


def _compiled(kernels, archs, roles=None):
    return compile_jobs(
        [
            Job(k.role, k.source, arch, k.settings[arch.name])
            for k in kernels
            for arch in archs
            if arch.name in k.settings and (roles is None or k.role in roles)
        ]
    )


@pytest.mark.parametrize(
    ("kind", "port", "size"), [("lif", "x", 128), ("chain", "inh", 128), ("chain", "inh", 256), ("chain", "inh", 512)]
)
def test_no_spills_on_hopper(kind, port, size):
    roles = ("recurrent_save", "recurrent_backward")
    for b in _compiled(_kernels(kind, port, size, "auto", [HOPPER]), [HOPPER], roles):
        assert b.resources.spills == 0, f"{b.role} {b.resources}"
        assert b.resources.shared <= HOPPER.shared
        if b.settings.rows >= 16:
            assert "wgmma" in b.assembly  # Hopper's own matrix instructions, which read the weight where it lies


@pytest.mark.parametrize(("neurons", "size"), [(snn.CubaLIF, 512), (snn.ALIF, 512), (snn.Izhikevich, 300)])
def test_library_neurons_stream_without_spills(neurons, size):
    """Each parameter with one value for each neuron, which takes more registers."""

    @snn.model
    def net(x=snn.Spikes(3)):
        return x >> snn.Linear(5) >> neurons(name="cell")

    op = net.build().op("cell")
    scan, (port,) = make_scan("cell", op), op.inputs
    shape = LayerShape(port, "spikes", 65536, True, size)
    kernels = layer_kernels(scan, shape, ("spikes",), scan.params, "auto", [HOPPER])
    made = _compiled(kernels, [HOPPER], ("recurrent", "recurrent_save", "recurrent_backward"))
    assert len(made) == 3
    for b in made:
        assert b.settings.form == "streamed"
        assert b.resources.spills == 0, f"{b.role} {b.resources}"
        assert "wgmma" in b.assembly


def test_neurons_that_hold_many_values_take_smaller_tiles():
    def tile(size, held, backward=False, real=False):
        design = choose_design(Demand(size, backward=backward, held=held, real=real), HOPPER)
        return design.columns, design.rows, design.warps

    assert [tile(512, held) for held in (8, 9)] == [(128, 16, 8), (64, 16, 8)]
    assert [tile(512, held, backward=True) for held in (11, 12)] == [(128, 16, 8), (64, 16, 8)]
    assert [tile(256, held) for held in (11, 12, 13)] == [(128, 16, 8), (64, 16, 8), (64, 8, 8)]
    assert [tile(256, held, real=True) for held in (11, 12)] == [(128, 16, 8), (64, 8, 8)]
    assert [tile(256, held, backward=True) for held in (11, 12)] == [(128, 16, 8), (64, 8, 8)]


@pytest.mark.parametrize(("kind", "port", "most"), [("chain", "inh", None), ("ten", "x", 1)])
def test_slices_of_many_states_without_spills(kind, port, most):
    """What comes back is no whole number, and addresses take registers, too; and a neuron of ten states."""
    scan = ten_states() if kind == "ten" else scan_of(kind)
    kernels = layer_kernels(scan, LayerShape(port, "spikes", most, True, 129), ("spikes",), (), "auto", [HOPPER])
    for b in _compiled(kernels, [HOPPER], ("recurrent", "recurrent_save")):
        assert b.settings.sliced and b.resources.spills == 0, f"{b.role} {b.resources}"


def test_compiles_for_every_chip():
    archs = list(ARCHS.values())
    kernels = _kernels("lif", "x", 100, "auto", archs)
    roles = {k.role for k in kernels}
    assert {"recurrent", "recurrent_save", "recurrent_backward", "recurrent_step", "recurrent_split"} <= roles
    assert "recurrent_backward_streamed" in roles  # on gfx942, whose LDS is small
    for b in _compiled(kernels, archs):
        assert b.resources.shared <= b.arch.shared, f"{b.role} {b.arch.name} {b.resources}"
        assert b.resources.spills == 0, f"{b.role} {b.arch.name} {b.resources}"


@pytest.mark.parametrize("precision", [p for p in PRECISIONS if p not in ("auto", "split-fp16")])
def test_every_precision_compiles(precision):
    archs = [HOPPER, ARCHS["gfx942"]]
    for b in _compiled(_kernels("lif", "x", 200, precision, archs, most=1), archs, ("recurrent", "recurrent_streamed")):
        assert b.resources.spills == 0, f"{b.role} {b.arch.name} {b.resources}"


def test_programs_that_wait_for_each_other():
    from snncompile.targets.triton.recurrent_kernel import RecurrentVariant, print_recurrent
    from snncompile.targets.variant import Layout

    scan = scan_of("lif")
    design = choose_design(Demand(1024, form="together"), HOPPER)
    one = Layout((True,), (True,) * len(scan.coefs))
    variant = RecurrentVariant(False, "x", "spikes", one, store=("spikes",), product=product_of("split-fp16", 1))
    (b,) = compile_jobs([Job("together", print_recurrent(scan, variant), HOPPER, design)])
    assert b.resources.spills == 0
    assert "atom.global.gpu.acq_rel" in b.assembly
    assert "global.gpu.acquire" in b.assembly  # the wait, after which the L1 cache holds nothing old
