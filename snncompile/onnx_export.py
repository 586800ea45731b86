"""From a network to a checked ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import torch

import snncompile
from snncompile.calibration import read_calibration
from snncompile.ir.errors import InterchangeError
from snncompile.passes.pipeline import Request as PassRequest
from snncompile.passes.pipeline import compile_graph
from snncompile.paths import as_path

if TYPE_CHECKING:
    from snncompile.network import Network
    from snncompile.targets.onnx.calibrating import Quantization


@dataclass(frozen=True)
class OnnxExport:
    """What was written.

    Attributes:
        path: the file; weights over 2 GB lie beside it in ``<path>.data``.
        form: ``"scan"``, ``"step"`` or ``"unrolled"``.
        opset: the operator set.
        bytes: size of the file, weights included.
        functions: names of the local functions; none where they were inlined.
        inputs: names of the inputs.
        outputs: names of the outputs.
        states: input that takes a state -> output that gives its new value.
        checks: pairs of who checked and what was found; none where the file was not checked.
        quantization: what quantising changed, on the calibration data; None for a file in float32.
    """

    path: Path
    form: str
    opset: int
    bytes: int
    functions: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: dict[str, str]
    checks: tuple[tuple[str, str], ...]
    quantization: Quantization | None = None

    def __str__(self) -> str:
        lines = [f"{self.path}: form {self.form}, opset {self.opset}, {self.bytes} bytes"]
        lines += [f"  {who}: {found}" for who, found in self.checks] or ["  not checked"]
        if self.quantization is not None:
            lines += [f"  {line}" for line in str(self.quantization).splitlines()]
        return "\n".join(lines)


def export_onnx(
    net: Network,
    path: str | Path,
    form: str = "scan",
    *,
    steps: int | None = None,
    inline: bool = False,
    opset: int | None = None,
    check: bool = True,
    quantize: str | None = None,
    calibrate: Any = None,
    say: Callable[[str], None] = lambda _: None,
) -> OnnxExport:
    """Write ``net``, as it is in evaluation, to an ONNX file; see :meth:`snncompile.Network.to_onnx`."""
    from snncompile.targets.onnx.opsets import checked_form, checked_opset
    from snncompile.targets.onnx.quantizing import checked_kind

    checked_form(form, steps)
    opset = checked_opset(opset)
    checked_kind(quantize, calibrate is not None)
    data = None if quantize is None else read_calibration(calibrate, net.graph, steps)
    path = as_path(path, InterchangeError)
    net.check_parameters()
    from snncompile.targets.onnx import calibrating, quantizing
    from snncompile.targets.onnx.assembling import assemble
    from snncompile.targets.onnx.export import build
    from snncompile.targets.onnx.parts import LATER, Built, Request
    from snncompile.targets.onnx.writing import replacing, save, written_size

    say("compiling")
    graph = compile_graph(net.graph, PassRequest())
    values = {name: net.value(name).detach().cpu() for name in net.graph.parameters()}
    for name, value in values.items():
        if value.dtype is not torch.float32:
            given = str(value.dtype).removeprefix("torch.")
            raise InterchangeError(f"{name} is {given}; networks compute in float32: convert it back, net.float()")
    request = Request(graph, net.graph, values, form, opset, steps)
    metadata = _metadata(net, form, steps, quantize)

    def make(request: Request) -> tuple[Any, Built]:
        built = build(request)
        doc = f"{net.graph.name}, one step is {net.graph.dt:g} s, written by snncompile in its {form} form"
        return assemble(built, net.graph.name, opset, metadata, doc, inline or form == "unrolled"), built

    model, built = make(request)
    checks: tuple[tuple[str, str], ...] = ()
    quantization: Quantization | None = None
    with replacing(path) as made:
        save(model, built.initializers, made)
        if data is not None:
            say("calibrating")
            before = written_size(made)
            seen = calibrating.look(request, data.inputs)
            request, stored = quantizing.quantize(request, seen.extents)
            model, built = make(request)
            save(model, built.initializers, made)
        if check:
            say("checking")
            from snncompile.targets.onnx.checking import check_file

            found = check_file(made, model, request, built, make)
            checks = tuple((f.runtime, f.text) for f in found)
        size = written_size(made)
        if data is not None:
            say("comparing")
            sizes = before, size
            quantization = calibrating.compare(
                model, request, built, seen, data.inputs, data.labels, sizes, stored, made.parent
            )
    states = {s.name: f"{s.name}{LATER}" for s in built.states}
    return OnnxExport(
        path, form, opset, size, tuple(f.name for f in model.functions), tuple(i.name for i in built.inputs),
        tuple(o.name for o in built.outputs if o.name not in states.values()), states, checks, quantization,
    )  # fmt: skip


def _metadata(net: Network, form: str, steps: int | None, quantize: str | None) -> dict[str, str]:
    graph = net.graph
    places = [w for name in graph.names if (w := graph.where(name)) is not None]
    source = f"{PurePath(places[0].file).name}:{graph.name}" if places else graph.name
    facts = {
        "dt": repr(graph.dt),
        "units": "dt in seconds; time constants in seconds",
        "source": source,
        "version": snncompile.__version__,
        "form": form,
        "layout": "(batch, *features)" if form == "step" else "(batch, time, *features)",
    }
    if quantize is not None:
        facts["quantization"] = "weights int8 per output channel; states and neurons float32"
    return facts | ({} if steps is None else {"steps": str(steps)})
