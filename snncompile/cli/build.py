"""``snncompile build``: from a model to an artifact."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snncompile.cli.errors import DONE, UsageError, guarded, note
from snncompile.cli.output import AsJson, Settings, plural, print_fields, print_json, progress, size_text
from snncompile.paths import no_file

if TYPE_CHECKING:
    from snncompile.cli.source import Source
    from snncompile.ir.graph import Graph
    from snncompile.network import Network

EPILOG = (
    "Examples:\n\n"
    "  snncompile build digits.py --target triton --arch sm_90,gfx942\n\n"
    "  snncompile build nets.py:deep --set hidden=256 --weights trained.safetensors --out deep.snn"
)


@guarded
def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="MODEL.py, or MODEL.py:NAME.")],
    target: Annotated[str, typer.Option("--target", "-t", help="torch, triton, c or auto (by device).")] = "auto",
    arch: Annotated[
        list[str] | None,
        typer.Option("--arch", metavar="ARCH[,ARCH]", help="Compile kernels for these GPUs: sm_90, gfx942."),
    ] = None,
    settings: Settings = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", metavar="FILE.safetensors", help="Trained weights.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Initialise the weights with it (default: 0).")] = None,
    checkpoint: Annotated[
        int | None, typer.Option("--checkpoint", min=1, help="Training keeps the states of every so many steps.")
    ] = None,
    precision: Annotated[
        str,
        typer.Option("--precision", help="Of products in recurrent layers: auto, float32, split-fp16, tf32, fp16."),
    ] = "auto",
    calibrate: Annotated[
        Path | None,
        typer.Option("--calibrate", metavar="DATA.npz", help="Measure on it how sparse the products' inputs are."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="The artifact (default: MODEL-NAME.snn).")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Compile a model to an artifact: graph, weights, generated kernels and a report, in one directory."""
    start = time.perf_counter()
    if weights is not None and seed is not None:
        raise UsageError("--weights and --seed exclude each other: weights are read, or initialised")
    from snncompile.artifact.directory import check_replaceable
    from snncompile.artifact.kernels import check_archs
    from snncompile.targets.precision import checked_precision
    from snncompile.targets.registry import checked_name

    checked_name(target)
    checked_precision(precision)
    archs = check_archs([a.strip() for group in arch or () for a in group.split(",")], target)
    with progress(as_json) as say:
        say("reading the model")
        from snncompile.cli.source import open_source

        if Path(model).is_dir():
            raise UsageError(f"{model} is a directory; build takes MODEL.py[:NAME]")
        source = open_source(model, settings or ())
        path = out or Path(f"{source.name}.snn")
        check_replaceable(path)
        net, seed_used = make_network(source, target, checkpoint, weights, seed, precision)
        if calibrate is not None:
            say("calibrating")
            net = calibrated(net, calibrate)
        from snncompile.artifact.saving import save_network

        save_network(net, path, archs, seed=seed_used, progress=say)
    origin = f"read from {weights}" if weights is not None else f"initialised at random with seed {seed_used}"
    seconds = time.perf_counter() - start
    if as_json:
        print_json(_facts(net, path, archs, seed_used, weights, seconds))
        return DONE
    _show(net, path, archs, origin, seconds, calibrate)
    return DONE


def make_network(
    source: Source,
    target: str,
    checkpoint: int | None,
    weights: Path | None,
    seed: int | None,
    precision: str = "auto",
) -> tuple[Network, int | None]:
    """The network with its weights, and the seed that made them, if one did."""
    import torch

    from snncompile.artifact.weights import read_weights
    from snncompile.network import Network

    if weights is not None:
        check_weights_file(weights)
        values = read_weights(weights, source.graph.parameters())
        net = Network(source.graph, target, checkpoint=checkpoint, values=values, precision=precision)
        used = None
    else:
        used = 0 if seed is None else seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(used)
            net = Network(source.graph, target, checkpoint=checkpoint, precision=precision)
    net.check_parameters()
    return net, used


def calibrated(net: Network, data: Path) -> Network:
    """``net`` with the densities that its products' inputs have on ``data``."""
    from snncompile.cli.data import read_data
    from snncompile.densities import calibrate

    if not net.graph.input_types():
        raise UsageError("this network has no inputs, so there is nothing to calibrate with")
    if not data.is_file():
        raise UsageError(no_file(data))
    return calibrate(net, **read_data(data, net.graph.input_types()))


def check_weights_file(path: Path) -> None:
    """Raise :class:`UsageError` unless ``path`` can be a safetensors file."""
    if not path.is_file():
        raise UsageError(no_file(path))
    if path.suffix in (".pt", ".pth", ".pkl", ".bin", ".ckpt"):
        raise UsageError(
            f"{path} may hold pickled code; weights are read from .safetensors only. Convert it where you trust it:"
            " safetensors.torch.save_file(net.state_dict(), 'weights.safetensors')"
        )


def densities(graph: Graph) -> dict[str, float]:
    """Connection -> density, where the graph holds one."""
    from snncompile.ir.connection import Connection
    from snncompile.ir.density import density

    known = ((name, density(op)) for name, op in graph.of_type(Connection))
    return {name: value for name, value in known if value is not None}


def _facts(
    net: Network, path: Path, archs: tuple[str, ...], seed: int | None, weights: Path | None, seconds: float
) -> dict[str, Any]:
    from snncompile.artifact.format import LIMITS, MANIFEST, parse_manifest

    manifest = parse_manifest((path / MANIFEST).read_text()[: LIMITS[MANIFEST]], path / MANIFEST)
    return {
        "ok": True,
        "artifact": str(path),
        "model": net.graph.name,
        "target": net.target,
        "precision": net.precision,
        "archs": list(archs),
        "seed": seed,
        "weights": str(weights) if weights else None,
        "densities": densities(net.graph),
        "parameters": sum(v.numel() for v in net.state_dict().values()),
        "files": {name: info.bytes for name, info in manifest.files.items()},
        "seconds": round(seconds, 3),
    }


def _show(
    net: Network, path: Path, archs: tuple[str, ...], origin: str, seconds: float, calibrate: Path | None
) -> None:
    files = [p for p in path.rglob("*") if p.is_file()]
    sources = sum(p.suffix in (".py", ".c") for p in files)
    count = sum(v.numel() for v in net.state_dict().values())
    if net.target == "torch":
        kernels = "none: the torch reference needs no kernels"
    elif archs:
        kernels = f"{plural(sources, 'kernel')}, compiled for {', '.join(archs)}"
    else:
        kernels = f"{plural(sources, 'kernel')}, as source"
    known = ", ".join(f"{name} {value:g}" for name, value in densities(net.graph).items())
    print_fields([
        ("model", f"{net.graph.name}: {plural(len(net.graph.names), 'node')}, dt {net.graph.dt:g} s"),
        ("target", net.target),
        ("weights", f"{plural(count, 'value')}, {origin}"),
        ("kernels", kernels),
        *([("density", f"{known}, measured on {calibrate}")] if calibrate is not None else []),
        ("written", f"{path}/ ({plural(len(files), 'file')}, {size_text(sum(p.stat().st_size for p in files))})"
                    f" in {seconds:.1f} s"),
    ])  # fmt: skip
    if not archs and net.target != "torch":
        why = "" if net.target == "c" else "no --arch was named: "
        note(f"{why}kernels are compiled when they are first used")


__all__ = ["EPILOG", "command", "make_network"]
