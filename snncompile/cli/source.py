"""``MODEL.py[:NAME]``: from a file of the user's to a model."""

from __future__ import annotations

import contextlib
import linecache
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from snncompile.cli.errors import UsageError, note, options
from snncompile.cli.hyper import read_settings
from snncompile.ir.errors import SnnError

if TYPE_CHECKING:
    from snncompile.artifact.loading import Artifact
    from snncompile.dsl.model import Model
    from snncompile.ir.graph import Graph


@dataclass(frozen=True)
class Source:
    """What a command works on: a model, built, or an artifact.

    Attributes:
        name: the model's name.
        graph: the network as written.
        artifact: where it came from, if from an artifact.
    """

    name: str
    graph: Graph
    artifact: Artifact | None = None


def open_source(text: str, settings: Sequence[str] = ()) -> Source:
    """The model or artifact that ``text`` names.

    Args:
        text: ``MODEL.py``, ``MODEL.py:NAME`` or an artifact's directory.
        settings: ``name=value`` for the model's hyperparameters.

    Raises:
        UsageError: where it names neither, or several models.
    """
    path = Path(text)
    if path.is_dir():
        if settings:
            raise UsageError(f"{path} is an artifact: its hyperparameters are fixed. --set goes with MODEL.py")
        from snncompile.artifact.loading import open_artifact

        artifact = open_artifact(path)
        return Source(artifact.graph.name, artifact.graph, artifact)
    file, name = split(text)
    import torch  # noqa: F401  # first: a file beside the model may be called like one that torch imports

    with importable(file):
        model = find_model(load_file(file), file, name)
        values = read_settings(model, settings)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                graph = model.build(**values)
        except SnnError:
            raise
        except Exception as err:
            raise _user_error(err, file) from err
    from snncompile.units import doubtful_times

    doubt = doubtful_times(graph)
    if doubt is not None:
        note(doubt)
    return Source(model.name, graph)


def split(text: str) -> tuple[Path, str | None]:
    """``MODEL.py:NAME`` as path and name.

    Raises:
        UsageError: where there is no such file.
    """
    path, name = Path(text), None
    if not path.exists() and ":" in text:
        head, _, name = text.rpartition(":")
        path = Path(head)
    if not path.exists():
        others = sorted(p.name for p in path.parent.glob("*.py"))[:8] if path.parent.is_dir() else []
        hint = f". Python files there: {', '.join(others)}" if others else ""
        raise UsageError(f"there is no file {path}{hint}")
    if path.is_dir():
        raise UsageError(f"{path} is a directory; give a file MODEL.py")
    if path.suffix != ".py":
        raise UsageError(f"{path} is no Python file: a model is given as MODEL.py or MODEL.py:NAME")
    return path, name


@contextlib.contextmanager
def importable(file: Path) -> Iterator[None]:
    """While it lasts, modules beside ``file`` can be imported."""
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def load_file(file: Path) -> ModuleType:
    """Run a Python file of the user's; what it prints goes to stderr.

    Raises:
        UsageError: where it cannot be read or fails, with the line.
    """
    module = ModuleType(f"snncompile_model_{file.stem}")
    module.__file__ = str(file)
    try:
        code = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except SyntaxError as err:
        shown = f"\n    {err.text.strip()}" if err.text else ""
        raise UsageError(f"{file}:{err.lineno}: {type(err).__name__}: {err.msg}{shown}") from err
    except ValueError as err:
        raise UsageError(f"{file} is no Python source: {err}") from err
    linecache.checkcache(str(file))
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(code, module.__dict__)
    except SnnError:
        raise
    except SystemExit as err:
        raise UsageError(f"{file} ends the program (exit {err.code!r}) when it is imported") from err
    except Exception as err:
        raise _user_error(err, file) from err
    return module


def _user_error(err: Exception, file: Path) -> UsageError:
    """An exception in the user's code, with the line of it that is to blame."""
    frames = traceback.extract_tb(err.__traceback__)
    folder = str(file.resolve().parent)
    own = [f for f in frames if f.filename == str(file)] or [f for f in frames if f.filename.startswith(folder)]
    at = f"{own[-1].filename}:{own[-1].lineno}: " if own else f"{file}: "
    shown = f"\n    {own[-1].line}" if own and own[-1].line else ""
    more = "" if options.debug else "\n(--debug shows the traceback)"
    return UsageError(f"{at}{type(err).__name__}: {err}{shown}{more}")


def find_model(module: ModuleType, file: Path, name: str | None) -> Model:
    """The model called ``name`` in a module, or the only one there is.

    Raises:
        UsageError: where there is none or more than one, listing them.
    """
    from snncompile.dsl.model import Model

    models = {key: value for key, value in vars(module).items() if isinstance(value, Model)}
    listed = ", ".join(f"{file}:{key}" for key in models)
    if name is not None:
        found: Any = vars(module).get(name)
        if isinstance(found, Model):
            return found
        has = f"it has {listed}" if models else "it has no model: decorate a function with @snn.model(dt=1 * ms)"
        what = f"{name!r} in {file} is no model" if name in vars(module) else f"there is no {name!r} in {file}"
        raise UsageError(f"{what}; {has}")
    own = {id(m): key for key, m in models.items() if m.where is not None and m.where.file == str(file)}
    distinct = own or {id(m): key for key, m in models.items()}
    if len(distinct) == 1:
        return models[next(iter(distinct.values()))]
    if not models:
        raise UsageError(f"{file} has no model: decorate a function with @snn.model(dt=1 * ms)")
    raise UsageError(f"{file} has {len(distinct)} models; name one of them: {listed}")
