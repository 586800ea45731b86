"""How commands talk: tables for people, JSON for machines, progress on a terminal."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer

from snncompile.cli.errors import note

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a machine to read.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter of the model; repeat for several."),
]
SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="A model, MODEL.py or MODEL.py:NAME, or an artifact's directory.")
]


def print_json(data: Any) -> None:
    """Print ``data`` as JSON on stdout."""
    typer.echo(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False, default=str))


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values, aligned."""
    width = max((len(name) for name, _ in fields), default=0)
    for name, value in fields:
        first, *rest = value.split("\n")
        typer.echo(f"{name:<{width}}  {first}")
        for line in rest:
            typer.echo(f"{'':<{width}}  {line}")


@contextlib.contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Where long work says what it is doing: a spinner on stderr if that is a terminal, else nowhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(escape(text))


@contextlib.contextmanager
def artifact_notes() -> Iterator[list[str]]:
    """Collects what loading an artifact has to say, and says it on stderr in the end."""
    from snncompile.artifact.loading import ArtifactNote

    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ArtifactNote)
        yield notes
    for warning in caught:
        if issubclass(warning.category, ArtifactNote):
            notes.append(str(warning.message))
            note(notes[-1])
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def plural(count: int, what: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size_text(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
