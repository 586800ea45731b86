"""Reading and writing the IR's dataclasses as plain JSON values, strictly and by their own type annotations.

Every field is written; nothing but the fields declared is read. A value's place is a path, ``("nodes", 3, "shape")``,
which an error names. Arrays (fields that do not take part in comparison) are left out: weights travel beside.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from snncompile.ir.errors import ArtifactError, ModelError

#: Longest text in a file (a note, the reason for a region).
MAX_TEXT = 4000

Path = tuple[str | int, ...]
Hook = Callable[[Any, Path], Any]


class Malformed(Exception):
    """A value that cannot be read: where it stands, and why.

    Attributes:
        path: keys and indices that lead to it.
        reason: what is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


def shown(path: Path) -> str:
    """``nodes[3].shape``."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return text.removeprefix(".") or "the top level"


def parse_json(text: str | bytes) -> Any:
    """JSON that means one thing: no key twice, no NaN or Infinity literal.

    Raises:
        ArtifactError: where it is no such JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except ArtifactError:
        raise
    except (ValueError, RecursionError) as err:
        raise ArtifactError(f"this is not valid JSON: {err}") from None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        keys = [k for k, _ in pairs]
        raise ArtifactError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} stands twice in one object")
    return table


def _no_constant(name: str) -> Any:
    raise ArtifactError(f"{name} is no JSON number")


# -- writing -------------------------------------------------------------------------------------------------------


def plain(value: Any, hooks: Mapping[type, Callable[[Any], Any]]) -> Any:
    """``value`` as JSON; an object whose class has a hook is what the hook gives."""
    hook = hooks.get(type(value))
    if hook is not None:
        return hook(value)
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name), hooks) for f in dataclasses.fields(value) if _written(f)}
    if isinstance(value, Mapping):
        return {k: plain(v, hooks) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(v, hooks) for v in value]
    if isinstance(value, str):
        return printable(value)
    return number(value) if isinstance(value, float) else value


def printable(value: str) -> str:
    """``value`` on one line of a reasonable length."""
    return "".join(c if c.isprintable() else " " for c in value[:MAX_TEXT])


def number(value: float) -> Any:
    """A float; JSON has no NaN and no infinity, so those are ``{"float": "nan"}``."""
    return value if math.isfinite(value) else {"float": str(value)}


def _written(field: dataclasses.Field) -> bool:
    return field.compare or field.name not in ("value", "sign")


# -- reading -------------------------------------------------------------------------------------------------------


def read(hint: Any, data: Any, path: Path, hooks: Mapping[type, Hook]) -> Any:
    """The value of type ``hint`` that ``data`` stands for.

    Raises:
        Malformed: where it stands for none.
    """
    if hint in hooks:
        return hooks[hint](data, path)
    if dataclasses.is_dataclass(hint):
        return _read_object(hint, data, path, hooks)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):  # X | None is the only union there is
        (inner,) = (a for a in args if a is not type(None))
        return None if data is None else read(inner, data, path, hooks)
    if origin is tuple:
        items = listed(data, path)
        if args[-1] is ...:
            return tuple(read(args[0], item, (*path, i), hooks) for i, item in enumerate(items))
        if len(items) != len(args):
            raise Malformed(path, f"holds {len(args)} values, not {len(items)}")
        return tuple(read(a, item, (*path, i), hooks) for i, (a, item) in enumerate(zip(args, items, strict=True)))
    if origin is not None:  # Mapping[str, X]
        table = mapping(data, path)
        return {text(k, path): read(args[1], v, (*path, k), hooks) for k, v in table.items()}
    return _SCALARS[hint](data, path)


def _read_object(cls: Any, data: Any, path: Path, hooks: Mapping[type, Hook]) -> Any:
    hints = _hints(cls)
    exact_keys(mapping(data, path), hints, path)
    values = {name: read(hint, data[name], (*path, name), hooks) for name, hint in hints.items()}
    try:
        return cls(**values)
    except ModelError as err:
        raise Malformed(path, err.message) from None


@cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if _written(f)}


def exact_keys(data: Mapping[str, Any], expected: Any, path: Path) -> None:
    """Raise :class:`Malformed` unless ``data`` has exactly the keys ``expected``."""
    for key in data:
        if key not in expected:
            raise Malformed(path, f"unknown key {str(key)[:80]!r}")
    for key in expected:
        if key not in data:
            raise Malformed(path, f"the key {key!r} is missing")


def mapping(data: Any, path: Path) -> dict[str, Any]:
    """``data`` if it is an object."""
    if not isinstance(data, dict) or not all(isinstance(k, str) for k in data):
        raise Malformed(path, f"must be an object, not {_said(data)}")
    return data


def listed(data: Any, path: Path, limit: int = 100_000) -> list[Any]:
    """``data`` if it is a list of at most ``limit`` values."""
    if not isinstance(data, (list, tuple)):
        raise Malformed(path, f"must be a list, not {_said(data)}")
    if len(data) > limit:
        raise Malformed(path, f"holds {len(data)} values, more than the limit of {limit}")
    return list(data)


def text(data: Any, path: Path) -> str:
    """``data`` if it is printable text of a reasonable length."""
    if not isinstance(data, str):
        raise Malformed(path, f"must be text, not {_said(data)}")
    if len(data) > MAX_TEXT:
        raise Malformed(path, f"is text of {len(data)} characters, more than the limit of {MAX_TEXT}")
    if not data.isprintable():
        raise Malformed(path, f"holds a character that cannot be printed: {data[:80]!r}")
    return data


def whole(data: Any, path: Path) -> int:
    """``data`` if it is a whole number of a reasonable size."""
    if isinstance(data, bool) or not isinstance(data, int):
        raise Malformed(path, f"must be a whole number, not {_said(data)}")
    if abs(data) >= 2**63:
        raise Malformed(path, "is too large a number")
    return data


def real(data: Any, path: Path) -> float:
    """``data`` if it is a number, or ``{"float": "nan" | "inf" | "-inf"}``."""
    if isinstance(data, float) and math.isfinite(data):
        return data
    if isinstance(data, int) and not isinstance(data, bool):
        return float(whole(data, path))
    if isinstance(data, dict) and set(data) == {"float"} and data["float"] in ("nan", "inf", "-inf"):
        return float(data["float"])
    raise Malformed(path, f"must be a number, not {_said(data)}")


def truth(data: Any, path: Path) -> bool:
    """``data`` if it is true or false."""
    if not isinstance(data, bool):
        raise Malformed(path, f"must be true or false, not {_said(data)}")
    return data


def setting(data: Any, path: Path) -> Any:
    """A setting of a node: text, a number, true or false, or a list of them (a tuple)."""
    if isinstance(data, (list, tuple)):
        return tuple(setting(item, (*path, i)) for i, item in enumerate(data) if _flat(item, (*path, i)))
    if isinstance(data, bool):
        return data
    if isinstance(data, int):
        return whole(data, path)
    return text(data, path) if isinstance(data, str) else real(data, path)


def _flat(item: Any, path: Path) -> bool:
    if isinstance(item, (list, tuple)):
        raise Malformed(path, "a list within a list is no setting")
    return True


def _said(data: Any) -> str:
    names = {dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(data)) or repr(data)[:80]


_SCALARS: Mapping[Any, Callable[[Any, Path], Any]] = {
    str: text,
    int: whole,
    float: real,
    bool: truth,
    Any: setting,
}
