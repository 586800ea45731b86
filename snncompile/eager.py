"""Keeps ``torch.compile`` out of a method."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., Any])


def eager(method: F) -> F:
    """``method``, which ``torch.compile`` of a module around it calls as it is, in one graph break.

    Traced through, a scan would be unrolled over time (minutes of compilation) and fused into arithmetic of other bits.
    The wrapper does not import torch's compiler, which takes a second: it acts once somebody else has.
    """
    outside: list[Callable[..., Any]] = []

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return method(*args, **kwargs)
        if not outside:
            outside.append(torch.compiler.disable(method))
        return outside[0](*args, **kwargs)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]  # what torch.compiler.disable leaves on a function
    return cast(F, call)
