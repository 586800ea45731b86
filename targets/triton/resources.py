"""What a compiled kernel needs of the chip."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.triton.arch import Arch


@dataclass(frozen=True)
class Resources:
    """Resources of one kernel.

    Attributes:
        registers: vector registers per thread.
        spills: bytes per thread of memory that stands in for registers; 0 in a good kernel.
        shared: bytes of shared memory per program.
    """

    registers: int
    spills: int
    shared: int


def nvidia_resources(cubin: Path, shared: int) -> Resources:
    """Resources of a kernel, as ``cuobjdump`` of the triton package reads them from the binary."""
    import triton.backends.nvidia

    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
    text = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", text))
    return Resources(int(found["REG"]), int(found["STACK"]) + int(found["LOCAL"]), shared)


def amd_resources(assembly: str, shared: int) -> Resources:
    """Resources of a kernel, from the metadata in its assembly."""
    found = dict(re.findall(r"^\s*-?\s*\.(vgpr_count|agpr_count|private_segment_fixed_size):\s*(\d+)", assembly, re.M))
    return Resources(
        int(found["vgpr_count"]) + int(found.get("agpr_count", 0)), int(found["private_segment_fixed_size"]), shared
    )


def check_fits(kernel: str, resources: Resources, arch: Arch) -> None:
    """Raise :class:`UnsupportedError` if ``arch`` cannot hold the kernel: Triton's compiler does not check."""
    if resources.shared > arch.shared:
        raise UnsupportedError(
            f"{kernel} needs {resources.shared} bytes of shared memory, and {arch.name} has {arch.shared} for a program"
        )
