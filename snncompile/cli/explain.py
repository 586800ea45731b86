"""``snncompile explain``: what the compiler made of a network, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from snncompile.cli.errors import DONE, guarded
from snncompile.cli.output import AsJson, Settings, SourceArgument, print_json

EPILOG = "Examples:\n\n  snncompile explain digits.py --target triton\n\n  snncompile explain digits.snn --json"


@guarded
def command(
    source: SourceArgument,
    target: Annotated[str | None, typer.Option("--target", "-t", help="torch, triton, c or auto.")] = None,
    settings: Settings = None,
    training: Annotated[bool, typer.Option("--training", help="Compile as for training.")] = False,
    checkpoint: Annotated[
        int | None,
        typer.Option("--checkpoint", min=1, help="Training keeps the states of every so many steps."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="Of products in recurrent layers: auto, float32, split-fp16, tf32, fp16."),
    ] = None,
    arch: Annotated[
        list[str] | None, typer.Option("--arch", metavar="ARCH[,ARCH]", help="The GPUs to speak of (default: sm_90).")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show regions, kernels, bytes and FLOPs per step, and why each fusion was or was not made."""
    from snncompile.artifact.kernels import check_archs
    from snncompile.cli.source import open_source
    from snncompile.explain import explain, explain_text
    from snncompile.targets.precision import checked_precision
    from snncompile.targets.registry import checked_name

    if target is not None:
        checked_name(target)
    if precision is not None:
        checked_precision(precision)
    archs = check_archs([a.strip() for group in arch or () for a in group.split(",")], "triton")
    opened = open_source(source, settings or ())
    manifest = opened.artifact.manifest if opened.artifact else None
    explanation = explain(
        opened.graph,
        target or (manifest.target if manifest else "auto"),
        training=training,
        checkpoint=checkpoint or (manifest.checkpoint if manifest else None),
        precision=precision or (manifest.precision if manifest else "auto"),
        archs=archs or (manifest.archs if manifest else ()),
    )
    if as_json:
        print_json({"ok": True, **explanation.to_json()})
    else:
        typer.echo(explain_text(explanation))
    return DONE
