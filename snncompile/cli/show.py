"""``snncompile show``: the graph, as written or after any pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snncompile.cli.errors import DONE, UsageError, guarded
from snncompile.cli.output import Settings, SourceArgument

if TYPE_CHECKING:
    from snncompile.ir.graph import Graph

FORMATS = ("text", "json", "dot", "png")

EPILOG = (
    "Examples:\n\n"
    "  snncompile show digits.py\n\n"
    "  snncompile show digits.snn --after fuse-chains\n\n"
    "  snncompile show digits.py --after all --format dot | dot -Tsvg > digits.svg"
)


@guarded
def command(
    source: SourceArgument,
    after: Annotated[
        str | None, typer.Option("--after", metavar="PASS", help="Run the passes up to this one; 'all' runs every one.")
    ] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="text, json, dot or png.")] = "text",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file.")] = None,
    settings: Settings = None,
    training: Annotated[bool, typer.Option("--training", help="With --after: passes as for training.")] = False,
) -> int:
    """Show a network's graph, as written or after a pass."""
    if format not in FORMATS:
        raise UsageError(f"there is no format {format!r}; the formats are {', '.join(FORMATS)}")
    if format == "png" and out is None:
        raise UsageError("a picture needs a file: --out graph.png")
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"there is no directory {out.parent}")
    from snncompile.cli.source import open_source

    graph = open_source(source, settings or ()).graph
    if after is not None:
        graph = after_pass(graph, after, training)
    if format == "png" and out is not None:
        _picture(graph, out)
        return DONE
    text = _text(graph, format)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
    return DONE


def after_pass(graph: Graph, name: str, training: bool) -> Graph:
    """``graph`` after the passes up to ``name``.

    Raises:
        UsageError: where there is no such pass, listing those there are.
    """
    from snncompile.passes.pipeline import Request, compile_graph, pass_names

    if name != "all" and name not in pass_names():
        raise UsageError(f"there is no pass {name!r}; the passes, in order: {', '.join(pass_names())}; or all")
    return compile_graph(graph, Request(training), None if name == "all" else name)


def _text(graph: Graph, format: str) -> str:
    if format == "json":
        from snncompile.ir.json_form import graph_to_json

        return json.dumps(graph_to_json(graph), indent=1) + "\n"
    if format == "dot":
        from snncompile.ir.dot import to_dot

        text = to_dot(graph)
    else:
        from snncompile.ir.text_form import to_text

        text = to_text(graph)
    return text if text.endswith("\n") else f"{text}\n"


def _picture(graph: Graph, out: Path) -> None:
    from snncompile.ir.dot import draw_png

    try:
        draw_png(graph, out)
    except ImportError as err:
        raise UsageError(f"a picture needs {err.name or 'matplotlib'}: pip install 'snncompile[plots]'") from None
    typer.echo(f"written  {out}")
