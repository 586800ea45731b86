"""``--set hidden=256``: hyperparameters, typed by their defaults."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from snncompile.cli.errors import UsageError

if TYPE_CHECKING:
    from snncompile.dsl.model import Model

_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def read_settings(model: Model, settings: Sequence[str]) -> dict[str, Any]:
    """Values for the model's hyperparameters.

    Args:
        model: the model.
        settings: texts ``name=value``.

    Raises:
        UsageError: for an unknown name or a value of the wrong type, listing the hyperparameters.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip()
        if not equals:
            raise UsageError(f"--set takes name=value, not {setting!r}. {describe(model)}")
        if name not in model.hyperparameters:
            raise UsageError(f"model {model.name!r} has no hyperparameter {name!r}. {describe(model)}")
        if name in values:
            raise UsageError(f"--set gives {name!r} twice")
        values[name] = _value(model, name, text.strip())
    needed = [n for n, d in model.hyperparameters.items() if d is inspect.Parameter.empty and n not in values]
    if needed:
        raise UsageError(f"model {model.name!r} needs a value for {', '.join(needed)}: --set {needed[0]}=...")
    return values


def describe(model: Model) -> str:
    """The hyperparameters and their defaults, in words."""
    if not model.hyperparameters:
        return "It has none: they are the keyword-only arguments of its function"
    shown = [n if d is inspect.Parameter.empty else f"{n}={d!r}" for n, d in model.hyperparameters.items()]
    return f"Its hyperparameters: {', '.join(shown)}"


def _value(model: Model, name: str, text: str) -> Any:
    default = model.hyperparameters[name]
    kind = _annotated(model, name) if default is inspect.Parameter.empty else type(default)
    try:
        return _typed(text, kind)
    except (ValueError, SyntaxError):
        expected = _WORDS.get(kind, f"a value like {default!r}")
        raise UsageError(f"--set {name}={text}: {name} is {expected}. {describe(model)}") from None


def _annotated(model: Model, name: str) -> Any:
    said = inspect.signature(model.function).parameters[name].annotation
    table = {"int": int, "float": float, "bool": bool, "str": str}
    return table.get(said) if isinstance(said, str) else said if said in table.values() else None


def _typed(text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in _TRUTH:
            raise ValueError(text)
        return _TRUTH[text.lower()]
    if kind is int:
        return int(text)
    if kind is float:
        return float(text)
    if kind is str:
        return text
    if kind in (tuple, list):
        value = ast.literal_eval(text if text[:1] in "([" else f"({text},)")
        if not isinstance(value, (tuple, list)):
            raise ValueError(text)
        return kind(value)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
