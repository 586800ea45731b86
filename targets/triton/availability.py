"""Whether Triton kernels can run here, and what to do if not."""

from __future__ import annotations

import importlib.util
import os

from torch import Tensor

from snncompile.ir.errors import UnsupportedError


def interpreting() -> bool:
    """Whether TRITON_INTERPRET asks for Triton's interpreter (read at every call)."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


def availability() -> tuple[bool, str]:
    """Whether kernels run on this machine, and why or why not."""
    import torch

    if importlib.util.find_spec("triton") is None:
        return False, "the package triton is not installed"
    if interpreting():
        return True, "TRITON_INTERPRET=1: kernels run in Triton's interpreter, slowly, for testing"
    if not torch.cuda.is_available():
        return False, "torch finds no CUDA or ROCm device (kernels still compile ahead of time)"
    return True, torch.cuda.get_device_name()


def check_installed() -> None:
    """Raise :class:`UnsupportedError` if there is no Triton."""
    if importlib.util.find_spec("triton") is None:
        raise UnsupportedError('target "triton" needs the package triton, which is not installed. Use target="torch"')


def check_runnable(tensor: Tensor) -> None:
    """Raise :class:`UnsupportedError` unless a kernel can run on ``tensor``."""
    if tensor.is_cuda or interpreting():
        return
    raise UnsupportedError(
        f'target "triton" runs on a CUDA or ROCm device, but the data is on {tensor.device}. Move the network and its '
        'inputs to such a device, use target="torch", or set TRITON_INTERPRET=1 to run the kernels in Triton\'s '
        "interpreter (slow, for testing)"
    )
