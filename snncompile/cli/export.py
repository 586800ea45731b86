"""``snncompile export``: a model or an artifact as a file of another format."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snncompile.cli.errors import DONE, FAILED, UsageError, guarded, note, report
from snncompile.cli.output import AsJson, Settings, SourceArgument, print_fields, print_json, progress, size_text

if TYPE_CHECKING:
    from snncompile.network import Network
    from snncompile.onnx_export import OnnxExport

FORMATS = ("onnx", "nir")

EPILOG = (
    "Examples:\n\n"
    "  snncompile export digits.snn --to onnx --out digits.onnx\n\n"
    "  snncompile export digits.py --to onnx --form step --weights trained.safetensors\n\n"
    "  snncompile export digits.snn --to onnx --form unrolled --steps 25 --opset 13\n\n"
    "  snncompile export digits.snn --to onnx --quantize int8 --calibrate sample.npz\n\n"
    "  snncompile export net.snn --to nir --out net.nir"
)


@guarded
def command(
    source: SourceArgument,
    to: Annotated[str, typer.Option("--to", help="The format: onnx or nir.")] = "onnx",
    form: Annotated[str, typer.Option("--form", help="scan (any length), step (one step) or unrolled.")] = "scan",
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="The length of the unrolled form.")] = None,
    opset: Annotated[int | None, typer.Option("--opset", help="The operator set (default: 17).")] = None,
    inline: Annotated[bool, typer.Option("--inline", help="Write no local functions.")] = False,
    settings: Settings = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", metavar="FILE.safetensors", help="Trained weights of a model.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Initialise the weights with it (default: 0).")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The file (default: MODEL-NAME.onnx or .nir).")
    ] = None,
    lossy: Annotated[bool, typer.Option("--lossy", help="nir: write without what NIR cannot say.")] = False,
    method: Annotated[str | None, typer.Option("--method", help="nir: euler, for readers that step so.")] = None,
    dt: Annotated[float | None, typer.Option("--dt", help="nir: the reader's time step in seconds.")] = None,
    cycles: Annotated[str, typer.Option("--cycles", help="nir: delay or bare, how cycles wait one step.")] = "delay",
    check: Annotated[bool, typer.Option(help="Run the file against the reference before it is kept.")] = True,
    quantize: Annotated[str | None, typer.Option("--quantize", help="onnx: int8, weights per output channel.")] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option("--calibrate", metavar="DATA.npz", help="Inputs to quantise by, and perhaps labels to compare."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Write a network, as it is in evaluation, as an ONNX or NIR file, checked against the reference."""
    if to not in FORMATS:
        raise UsageError(f"there is no format {to!r} to export to; the formats are {', '.join(FORMATS)}")
    if to == "nir":
        if (form, steps, opset, inline, check, quantize, calibrate) != ("scan", None, None, False, True, None, None):
            raise UsageError(
                "--form, --steps, --opset, --inline, --no-check, --quantize and --calibrate are for --to onnx"
            )
        writing = {"lossy": lossy, "method": method, "dt": dt, "cycles": cycles}
        return _nir(source, settings or (), weights, seed, out, writing, as_json)
    if (lossy, method, dt, cycles) != (False, None, None, "delay"):
        raise UsageError("--lossy, --method, --dt and --cycles are for --to nir")
    from snncompile.targets.onnx.opsets import checked_form, checked_opset
    from snncompile.targets.onnx.quantizing import checked_kind

    checked_form(form, steps)
    checked_opset(opset)
    checked_kind(quantize, calibrate is not None)
    with progress(as_json) as say:
        say("reading")
        net, origin = _network(source, settings or (), weights, seed)
        from snncompile.onnx_export import export_onnx

        path = out or Path(f"{net.graph.name}.onnx")
        from snncompile.targets.onnx.checking import MismatchError

        try:
            made = export_onnx(
                net, path, form, steps=steps, inline=inline, opset=opset, check=check, quantize=quantize,
                calibrate=calibrate, say=say,
            )  # fmt: skip
        except MismatchError as err:
            report(err.kind, str(err), as_json)
            return FAILED
    if as_json:
        print_json(_facts(made, net, origin))
    else:
        _show(made, net, origin)
    return DONE


def _nir(
    source: str,
    settings: list[str] | tuple[str, ...],
    weights: Path | None,
    seed: int | None,
    out: Path | None,
    writing: dict[str, Any],
    as_json: bool,
) -> int:
    with progress(as_json) as say:
        say("reading")
        net, origin = _network(source, settings, weights, seed)
        from snncompile.interop.nir.exporting import export_nir

        made = export_nir(net, out or Path(f"{net.graph.name}.nir"), **writing)
    if as_json:
        facts = {"file": str(made.path), "read_with": made.read_with, "lost": list(made.lost),
                 "rounded": list(made.rounded), "weights": origin}  # fmt: skip
        print_json({"ok": True, "model": net.graph.name, **facts})
        return DONE
    print_fields([
        ("model", f"{net.graph.name}, dt {net.graph.dt:g} s, weights {origin}"),
        ("read with", ", ".join(f"{option} {value}" for option, value in made.read_with.items())),
        ("lost", "\n".join(made.lost) or "nothing: read back, it gives the same outputs"),
        *([("rounded", f"the decay of {', '.join(made.rounded)}, as another method gives it")] if made.rounded else []),
        ("written", str(made.path)),
    ])  # fmt: skip
    return DONE


def _network(
    text: str, settings: list[str] | tuple[str, ...], weights: Path | None, seed: int | None
) -> tuple[Network, str]:
    """The network, and where its weights come from."""
    from snncompile.cli.source import open_source

    source = open_source(text, settings)
    if source.artifact is not None:
        if weights is not None or seed is not None:
            raise UsageError(f"{text} is an artifact and has its weights: --weights and --seed go with MODEL.py")
        from snncompile.artifact.loading import build_network

        for said in source.artifact.notes:
            note(said)
        return build_network(source.artifact, "torch"), "of the artifact"
    if weights is not None and seed is not None:
        raise UsageError("--weights and --seed exclude each other: weights are read, or initialised")
    from snncompile.cli.build import make_network

    net, used = make_network(source, "torch", 1, weights, seed)
    return net, f"read from {weights}" if weights is not None else f"initialised at random with seed {used}"


def _facts(made: OnnxExport, net: Network, origin: str) -> dict[str, object]:
    return {
        "ok": True,
        "file": str(made.path),
        "model": net.graph.name,
        "form": made.form,
        "opset": made.opset,
        "bytes": made.bytes,
        "weights": origin,
        "inputs": list(made.inputs),
        "outputs": list(made.outputs),
        "states": made.states,
        "functions": list(made.functions),
        "checks": [{"by": by, "found": found} for by, found in made.checks],
        "quantization": None if made.quantization is None else asdict(made.quantization),
    }


def _show(made: OnnxExport, net: Network, origin: str) -> None:
    states = [f"{before} -> {after}" for before, after in made.states.items()]
    print_fields([
        ("model", f"{net.graph.name}, dt {net.graph.dt:g} s, weights {origin}"),
        ("form", f"{made.form}, opset {made.opset}"),
        ("inputs", ", ".join(made.inputs)),
        ("outputs", ", ".join(made.outputs)),
        ("states", "\n".join(states) or "none"),
        ("functions", ", ".join(made.functions) or "none: operators only"),
        ("written", f"{made.path} ({size_text(made.bytes)})"),
        ("checked", "\n".join(f"{by}: {found}" for by, found in made.checks) or "no: --no-check was given"),
        *([("quantised", str(made.quantization))] if made.quantization is not None else []),
    ])  # fmt: skip
    if made.form == "scan":
        note("never feed a sequence of no steps: the file refuses it, since ONNX Runtime cannot run a Scan on one")
