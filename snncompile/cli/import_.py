"""``snncompile import``: a file of another format becomes an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snncompile.cli.errors import DONE, UsageError, guarded
from snncompile.cli.output import AsJson, plural, print_fields, print_json, progress

if TYPE_CHECKING:
    from snncompile.network import Network

EPILOG = (
    "Examples:\n\n"
    "  snncompile import net.nir --dt 1e-4 --out net.snn\n\n"
    "  snncompile import net.nir --dt 1e-3 --method euler --reset subtract"
)


@guarded
def command(
    file: Annotated[Path, typer.Argument(metavar="NET.nir", help="The NIR file.")],
    dt: Annotated[float | None, typer.Option("--dt", help="The time step in seconds; a NIR file names none.")] = None,
    method: Annotated[str, typer.Option("--method", help="exact or euler.")] = "exact",
    reset: Annotated[str, typer.Option("--reset", help="zero (to v_reset) or subtract.")] = "zero",
    current: Annotated[
        str, typer.Option("--current", help="The membrane sees the synaptic current after or before its update.")
    ] = "after",
    target: Annotated[str, typer.Option("--target", "-t", help="torch, triton, c or auto (by device).")] = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="The artifact (default: NET.snn).")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Read a NIR file into an artifact; what cannot be represented exactly is refused by name."""
    if file.is_dir():
        raise UsageError(f"{file} is a directory; import takes a NIR file")
    from snncompile.artifact.directory import check_replaceable

    path = out or Path(f"{file.stem}.snn")
    check_replaceable(path)
    with progress(as_json) as say:
        say("reading")
        from snncompile.artifact.saving import save_network
        from snncompile.interop.nir import from_nir

        net = from_nir(file, dt=dt, method=method, reset=reset, current=current, target=target)
        save_network(net, path, progress=say)
    if as_json:
        print_json(_facts(net, path))
        return DONE
    print_fields([
        ("model", f"{net.graph.name}: {plural(len(net.graph.names), 'node')}, dt {net.graph.dt:g} s"),
        ("read as", f"method {method}, reset {reset}, current {current}"),
        ("inputs", ", ".join(net.layout.inputs)),
        ("outputs", ", ".join(key for key, _ in net.graph.outputs)),
        ("target", net.target),
        ("written", f"{path}/"),
    ])  # fmt: skip
    return DONE


def _facts(net: Network, path: Path) -> dict[str, object]:
    return {
        "ok": True,
        "artifact": str(path),
        "model": net.graph.name,
        "target": net.target,
        "dt": net.graph.dt,
        "nodes": list(net.graph.names),
        "inputs": list(net.layout.inputs),
        "outputs": [key for key, _ in net.graph.outputs],
    }
