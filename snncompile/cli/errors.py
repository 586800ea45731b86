"""What a user sees when something goes wrong: one message, not a traceback."""

from __future__ import annotations

import errno
import functools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec

import typer

from snncompile.ir.errors import SnnError

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130

P = ParamSpec("P")


@dataclass
class Options:
    """Options that stand before the command."""

    debug: bool = False


options = Options()


class UsageError(SnnError):
    """The command line asks for something that cannot be."""

    kind = "usage"


def guarded(function: Callable[P, int | None]) -> Callable[P, None]:
    """A command: what it returns is the exit status; its errors are messages, and with ``--json`` JSON besides."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json"))
        try:
            status = function(*args, **kwargs)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            typer.echo("interrupted: nothing was left half-written", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except SnnError as err:
            _raise_if_debugging()
            report(err.kind, str(err), as_json, _details(err))
            raise typer.Exit(WRONG) from None
        except OSError as err:
            _raise_if_debugging()
            report("file", _os_error(err), as_json)
            raise typer.Exit(WRONG) from None
        except MemoryError:
            _raise_if_debugging()
            report("memory", "out of memory: use a smaller batch, fewer steps, or fewer records", as_json)
            raise typer.Exit(WRONG) from None
        except Exception as err:
            if "out of memory" in str(err):
                _raise_if_debugging()
                report("memory", "out of memory on the device: use a smaller batch or fewer records", as_json)
                raise typer.Exit(WRONG) from None
            _raise_if_debugging()
            said = f"{type(err).__name__}: {err}" if str(err) else type(err).__name__
            report("internal", f"{said}\nThis is a defect of snncompile: --debug shows where", as_json)
            raise typer.Exit(WRONG) from None
        if status:
            raise typer.Exit(status)

    return command


def report(kind: str, message: str, as_json: bool, details: dict[str, Any] | None = None) -> None:
    """Say that something is wrong, on stderr, and for a machine on stdout."""
    typer.secho("error: ", err=True, nl=False, fg="red")
    typer.echo(message, err=True)
    if as_json:
        typer.echo(json.dumps(error_facts(kind, message, details), indent=1))


def error_facts(kind: str, message: str, details: dict[str, Any] | None = None) -> dict[str, Any]:
    """An error as every command writes it with ``--json``."""
    return {"ok": False, "error": {"kind": kind, "message": message, **(details or {})}}


def note(message: str) -> None:
    """Say something on stderr that the user should know."""
    typer.secho("note: ", err=True, nl=False, fg="yellow")
    typer.echo(message, err=True)


def _details(err: SnnError) -> dict[str, Any]:
    return {"node": err.node, "where": str(err.where) if err.where else None}


def _raise_if_debugging() -> None:
    if options.debug:
        raise


def _os_error(err: OSError) -> str:
    name = f"{err.filename}: " if err.filename else ""
    advice = {
        errno.ENOSPC: "the disk is full; free some space",
        errno.EACCES: "permission denied",
        errno.EROFS: "the file system is read-only",
        errno.ENOENT: "there is no such file",
        errno.EISDIR: "it is a directory",
    }
    return f"{name}{advice.get(err.errno or 0, err.strerror or str(err))}"
