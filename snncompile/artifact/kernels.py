"""The kernels of a network: generated source to read, and binaries compiled ahead of time."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from snncompile.artifact.format import KERNELS, SOURCE
from snncompile.ir.errors import SnnError, UnsupportedError
from snncompile.ir.graph import Graph
from snncompile.passes.pipeline import Request, compile_graph

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
        sources: node and kernel -> path of the source.
        reports: one per compiled kernel.
        toolchain: versions of the compilers.
        notes: what could not be done.
    """

    files: dict[str, bytes]
    sources: dict[tuple[str, str], str]
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
    graph: Graph, target: str, archs: Sequence[str], checkpoint: int = 1, progress: Progress = lambda _: None
) -> Kernels:
    """The kernels of ``graph`` (as written) for inference and training.

    Args:
        graph: the network as written.
        target: the target it is built for; only Triton has kernels.
        archs: architectures to compile for; none leaves the sources alone.
        checkpoint: every how many steps training keeps the states: it decides which kernels training uses.
        progress: told what is being done.

    Raises:
        UnsupportedError: where binaries are asked for, but Triton is not installed.
    """
    if target not in ("triton", "auto"):
        return Kernels({}, {})
    if archs and importlib.util.find_spec("triton") is None:
        raise UnsupportedError("compiling for an architecture needs the package triton: pip install triton")
    from snncompile.targets.triton.aot import compile_scans

    progress("printing kernels")
    printed = _printed(graph, checkpoint > 1)
    files = {p.path: p.source.text.encode() for p in printed}
    sources = {(p.scan.name, p.stem): p.path for p in printed}
    if not archs:
        return Kernels(files, sources)
    from snncompile.targets.triton.arch import parse_arch
    from snncompile.targets.triton.store import triton_version

    count = len(printed) * len(archs)
    progress(f"compiling {count} kernel{'s' if count != 1 else ''} for {', '.join(archs)}")
    reports = []
    wanted = [{p.stem: p.source} for p in printed]
    owner = {p.stem: p.scan.name for p in printed}
    try:
        binaries = compile_scans(wanted, [parse_arch(a) for a in archs])
    except SnnError:
        raise
    except Exception as err:  # Triton, its compilers and assemblers have no common kind
        raise UnsupportedError(
            f"Triton {triton_version()} cannot compile the kernels for {', '.join(archs)}: {type(err).__name__}: {err}."
            " Build without --arch, or see snncompile doctor"
        ) from err
    for b in binaries:
        files[f"{KERNELS}/{b.role}.{b.arch.name}.{b.arch.binary}"] = b.code
        files[f"{KERNELS}/{b.role}.{b.arch.name}.{b.arch.assembly}"] = b.assembly.encode()
        r = b.resources
        reports.append(KernelReport(owner[b.role], b.role, b.arch.name, r.registers, r.spills, r.shared))
    return Kernels(files, sources, tuple(reports), (("triton", triton_version()),))


@dataclass(frozen=True)
class _Printed:
    """One kernel: its scan, the stem of its files, its source."""

    scan: Any
    stem: str
    source: Any

    @property
    def path(self) -> str:
        return f"{KERNELS}/{self.stem}{SOURCE}"


#: Kernels that training uses where it keeps the states of every step, and where it keeps those of some.
_SAVE_ALL, _SAVE_SOME = (
    frozenset({"forward_save", "backward"}),
    frozenset({"forward_checkpoint", "backward_checkpoint"}),
)


def _printed(graph: Graph, save_some: bool) -> list[_Printed]:
    """Kernels of the graph after all passes, for inference, and those that training needs besides."""
    from snncompile.ir.elementwise import Elementwise
    from snncompile.targets.scan import make_scan
    from snncompile.targets.triton.aot import scan_kernels

    printed: dict[str, _Printed] = {}
    for training in (False, True):
        compiled = compile_graph(graph, Request(training))
        for name, op in compiled.of_type(Elementwise):
            scan = make_scan(name, op)
            per_neuron = [role for role, p in op.params.items() if p.shape != ()]
            for role, source in scan_kernels(scan, _read(compiled, name, scan.results), per_neuron).items():
                stem = f"{name}_{role}"
                if scan.states and role in (_SAVE_ALL if save_some else _SAVE_SOME):
                    continue
                if stem in printed and printed[stem].source.text == source.text:
                    continue
                stem = f"{stem}_training" if training else stem
                printed[stem] = _Printed(scan, stem, source)
    return list(printed.values())


def _read(graph: Graph, name: str, results: Sequence[str]) -> list[str]:
    """Results of node ``name`` that another node or an output reads."""
    ports = {edge.source.port for _, _, edge in graph.consumers(name)}
    ports |= {ref.port for _, ref in graph.outputs if ref.node == name}
    return [r for r in results if r in ports]
