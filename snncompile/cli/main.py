"""The command ``snncompile``. Nothing heavy is imported here: the help answers at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

import typer

import snncompile
from snncompile.cli import bench, build, check, doctor, explain, export, import_, run, show
from snncompile.cli.errors import INTERRUPTED, error_facts, options
from snncompile.cli.output import print_json

app = typer.Typer(
    name="snncompile",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done, 1 a check failed, 2 the input was wrong, 130 interrupted.",
)
for module in (build, run, import_, export, show, explain, check, bench, doctor):
    name = module.__name__.rpartition(".")[2].rstrip("_")
    app.command(name=name, epilog=getattr(module, "EPILOG", None))(module.command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"snncompile {snncompile.__version__}")
        raise typer.Exit(0)


@app.callback()
def _root(
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks."),
    version: bool = typer.Option(
        False, "--version", help="Show the version and stop.", callback=_version, is_eager=True
    ),
) -> None:
    """Compile spiking networks: build artifacts, run them, look at what the compiler did, and check it."""
    options.debug = debug


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None takes those of the process.

    Returns:
        the exit status: 0 done, 1 a check failed, 2 the input was wrong, 130 interrupted.
    """
    options.debug = False
    restore = _end_on_terminate() if argv is None else None
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status: Any = app(words, prog_name="snncompile")
    except SystemExit as stop:
        status = stop.code
        message = getattr(stop.__context__, "format_message", None)  # typer refused an option, and has said so
        if message is not None and "--json" in words:
            print_json(error_facts("usage", message()))
    except KeyboardInterrupt:
        status = INTERRUPTED
    finally:
        if restore is not None:
            signal.signal(signal.SIGTERM, restore)
    return status if isinstance(status, int) else 0 if status is None else 2


def _end_on_terminate() -> Any:
    """On SIGTERM, end by an exception, so that half-written files are removed."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


if __name__ == "__main__":
    sys.exit(main())
