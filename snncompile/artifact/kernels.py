"""The kernels of a network: generated source to read, and binaries compiled ahead of time."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from snncompile.artifact.format import KERNELS
from snncompile.artifact.printed import Printed, printed_kernels
from snncompile.ir.errors import SnnError, UnsupportedError
from snncompile.ir.graph import Graph

if TYPE_CHECKING:
    from snncompile.targets.triton.aot import Binary
    from snncompile.targets.triton.kernel import KernelSource

Progress = Callable[[str], None]
"""Called with what is being done."""


@dataclass(frozen=True)
class KernelReport:
    """What a reader is told about one compiled kernel."""

    node: str
    kernel: str
    arch: str
    registers: int
    spills: int
    shared: int


@dataclass(frozen=True)
class Kernels:
    """Files of ``kernels/`` and what is to be said about them.

    Attributes:
        files: path inside the artifact -> contents.
        sources: path of each source -> the node it runs.
        reports: one per compiled kernel.
        toolchain: versions of the compilers.
        notes: what could not be done.
    """

    files: dict[str, bytes]
    sources: dict[str, str]
    reports: tuple[KernelReport, ...] = ()
    toolchain: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def check_archs(archs: Sequence[str], target: str) -> tuple[str, ...]:
    """The architectures by name, each once.

    Raises:
        UnsupportedError: where one is unknown, or the target compiles nothing.
    """
    if not archs:
        return ()
    if target not in ("triton", "auto"):
        raise UnsupportedError(
            f'target "{target}" compiles no kernels, so it takes no architecture; target "triton" does'
        )
    from snncompile.targets.triton.arch import parse_arch

    return tuple(dict.fromkeys(parse_arch(name).name for name in archs))


def make_kernels(
    graph: Graph,
    target: str,
    archs: Sequence[str],
    checkpoint: int | None = None,
    progress: Progress = lambda _: None,
    precision: str = "auto",
) -> Kernels:
    """The kernels of ``graph`` (as written) for inference and training.

    Args:
        graph: the network as written.
        target: the target it is built for; the reference has no kernels.
        archs: architectures to compile for; none leaves the sources alone.
        checkpoint: every how many steps training keeps the states: it decides which kernels training uses.
        progress: told what is being done.
        precision: of the products inside recurrent layers, on Triton.

    Raises:
        UnsupportedError: where binaries are asked for, but Triton is not installed.
    """
    some = None if checkpoint is None else checkpoint > 1
    if target == "c":
        progress("printing kernels")
        printed = printed_kernels(graph, some, "c")
        return Kernels({p.path: p.source.text.encode() for p in printed}, {p.path: p.node for p in printed})
    if target not in ("triton", "auto"):
        return Kernels({}, {})
    if archs and importlib.util.find_spec("triton") is None:
        raise UnsupportedError("compiling for an architecture needs the package triton: pip install triton")
    progress("printing kernels")
    printed = printed_kernels(graph, some, precision=precision, archs=archs)
    in_c = printed_kernels(graph, some, "c") if target == "auto" else []
    shown = [*printed, *in_c]
    files = {p.path: p.source.text.encode() for p in shown}
    sources = {p.path: p.node for p in shown}
    if not archs:
        return Kernels(files, sources)
    count = sum(len(archs) if p.settings is None else len(p.settings) for p in printed)
    progress(f"compiling {count} kernel{'s' if count != 1 else ''} for {', '.join(archs)}")
    reports = []
    owner = {p.stem: p.node for p in printed}
    for b in _compiled(printed, archs):
        files[f"{KERNELS}/{b.role}.{b.arch.name}.{b.arch.binary}"] = b.code
        files[f"{KERNELS}/{b.role}.{b.arch.name}.{b.arch.assembly}"] = b.assembly.encode()
        r = b.resources
        reports.append(KernelReport(owner[b.role], b.role, b.arch.name, r.registers, r.spills, r.shared))
    from snncompile.targets.triton.store import triton_version

    return Kernels(files, sources, tuple(reports), (("triton", triton_version()),))


def _compiled(printed: Sequence[Printed], archs: Sequence[str]) -> list[Binary]:
    from snncompile.targets.triton import aot
    from snncompile.targets.triton.arch import parse_arch
    from snncompile.targets.triton.store import triton_version

    chips = [parse_arch(name) for name in archs]
    try:
        scans = [{p.stem: cast("KernelSource", p.source)} for p in printed if p.settings is None]
        layers = [
            aot.Job(p.stem, cast("KernelSource", p.source), chip, p.settings[chip.name])
            for p in printed
            if p.settings is not None
            for chip in chips
            if chip.name in p.settings
        ]
        return aot.compile_scans(scans, chips) + aot.compile_jobs(layers)
    except SnnError:
        raise
    except Exception as err:  # Triton, its compilers and assemblers have no common kind
        raise UnsupportedError(
            f"Triton {triton_version()} cannot compile the kernels for {', '.join(archs)}: {type(err).__name__}: {err}."
            " Build without --arch, or see snncompile doctor"
        ) from err
