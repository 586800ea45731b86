"""The errors a user can meet: what is wrong, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Location:
    """A place in the user's source: where a node was applied or a step function's line stands."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class SnnError(Exception):
    """Base of every error that snncompile raises for a user's mistake.

    Args:
        message: what is wrong, and what to do about it.
        node: name of the node concerned, if one is.
        where: file and line of the model, if known.
    """

    kind = "error"

    def __init__(self, message: str, *, node: str | None = None, where: Location | None = None) -> None:
        self.message = message
        self.node = node
        self.where = where
        super().__init__(message)

    def __str__(self) -> str:
        parts = []
        if self.node is not None:
            parts.append(f"node '{self.node}'")
        if self.where is not None:
            parts.append(f"at {self.where}")
        place = " ".join(parts)
        return f"{place}: {self.message}" if place else self.message

    def __reduce__(self) -> tuple[Any, ...]:  # keyword-only arguments need help to survive pickling (worker processes)
        return _rebuild, (type(self), self.message, self.node, self.where)


def _rebuild(cls: type[SnnError], message: str, node: str | None, where: Location | None) -> SnnError:
    return cls(message, node=node, where=where)


class ModelError(SnnError):
    """The model as written cannot mean anything: shapes, names, parameters, cycles."""

    kind = "model"


class VerificationError(SnnError):
    """A graph breaks a rule of the IR. After a pass this is a defect of that pass."""

    kind = "verification"


class UnsupportedError(SnnError):
    """The model is fine, but this target or this machine cannot run it."""

    kind = "unsupported"


class ArtifactError(SnnError):
    """A file written by snncompile is missing, damaged, or from a newer format."""

    kind = "artifact"


class InputError(SnnError):
    """Data handed to a network has the wrong shape, dtype, or values."""

    kind = "input"


class InterchangeError(SnnError):
    """A file of another format (NIR, ONNX) cannot be read or written exactly."""

    kind = "interchange"
