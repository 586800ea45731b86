"""Kernels compiled ahead of time, for chips that need not be present.

For a scan these are the kernels a usual caller needs: inference, the training forward that saves every state, its
backward, and the pair that saves a state every K steps only. Other combinations are compiled when first launched.
"""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from snncompile.targets.scan import Scan, one_number
from snncompile.targets.triton.arch import Arch
from snncompile.targets.triton.availability import check_installed
from snncompile.targets.triton.backward import print_backward
from snncompile.targets.triton.config import FULL, Config, choose
from snncompile.targets.triton.cycle_design import CycleSettings
from snncompile.targets.triton.forward import print_forward
from snncompile.targets.triton.kernel import CODEGEN, KernelSource
from snncompile.targets.triton.plastic_conv_plan import ConvPlan
from snncompile.targets.triton.plastic_plan import PlasticPlan
from snncompile.targets.triton.recurrent_design import Design
from snncompile.targets.triton.resources import Resources, check_fits
from snncompile.targets.triton.sparse_kernel import SparseSettings
from snncompile.targets.triton.split_kernel import SplitTile
from snncompile.targets.triton.store import digest, directory, triton_version, write_whole
from snncompile.targets.variant import BackwardVariant, ForwardVariant, Layout

#: Launch settings of a kernel, by its kind.
Settings = Config | CycleSettings | Design | PlasticPlan | ConvPlan | SplitTile | SparseSettings


@dataclass(frozen=True)
class Binary:
    """One kernel for one chip.

    Attributes:
        role: ``"forward"``, ``"forward_save"``, ``"forward_checkpoint"``, ``"backward"``, ``"backward_checkpoint"``.
        source: the printed kernel.
        arch: the chip.
        settings: launch settings it was compiled with.
        code: the machine code (cubin or hsaco).
        assembly: its readable form (PTX or AMD GCN).
        resources: what it needs of the chip.
    """

    role: str
    source: KernelSource
    arch: Arch
    settings: Settings
    code: bytes
    assembly: str
    resources: Resources


def scan_kernels(
    scan: Scan,
    outputs: Collection[str] | None = None,
    per_neuron: Collection[str] = (),
    late: tuple[str, ...] = (),
    panels: bool = False,
) -> dict[str, KernelSource]:
    """Role -> kernel, for contiguous operands.

    Args:
        scan: the scan.
        outputs: results whose course is wanted; if not given, those that are no states, or all.
        per_neuron: parameters that have one value for each neuron (the others are one number).
        late: per input how late it is read, as in :class:`~snncompile.targets.variant.Layout`; empty where none is.
        panels: whether gradients of late inputs also go where the caller says (``targets/late_panels.py``).
    """
    if outputs is None:
        outputs = [r for r in scan.results if r not in scan.states] or scan.results
    store = tuple(r for r in scan.results if r in outputs)
    inputs = (True,) * len(scan.inputs)
    one = one_number(scan, per_neuron)
    layout = Layout(inputs, tuple(c in one for c in scan.coefs), late)
    kernels = {"forward": print_forward(scan, ForwardVariant(layout, store, (), "none"))}
    if scan.states:
        kernels["forward_save"] = print_forward(scan, ForwardVariant(layout, store, (), "all"))
        kernels["forward_checkpoint"] = print_forward(scan, ForwardVariant(layout, store, (), "some"))
    one = one_number(scan, per_neuron, reverse=True)
    layout = Layout(inputs, tuple(c in one for c in scan.reverse_coefs), late)
    grads = tuple((r, True) for r in store)
    accumulate = bool(scan.accumulators)
    save_all = BackwardVariant(layout, (), False, grads, (), scan.inputs, accumulate)
    kernels["backward"] = print_backward(scan, save_all)
    for i, x in enumerate(scan.inputs if panels else ()):
        room, add = ((x,) if late[i] else ()), len(scan.inputs) > 1 or "shared" in late
        one_of_them = save_all._replace(need_inputs=(x,), need_accumulators=accumulate and i == 0, room=room, add=add)
        kernels[f"backward_{x}"] = print_backward(scan, one_of_them)
    if scan.states:
        one = one_number(scan, per_neuron)
        forward_coefs = tuple(c in one for c in scan.coefs)
        replay = BackwardVariant(layout, forward_coefs, True, grads, (), scan.inputs, accumulate)
        kernels["backward_checkpoint"] = print_backward(scan, replay)
    return kernels


@dataclass(frozen=True)
class Job:
    """One kernel to compile for one chip; attributes as in :class:`Binary`."""

    role: str
    source: KernelSource
    arch: Arch
    settings: Settings


def compile_scans(kernels: Iterable[dict[str, KernelSource]], archs: Sequence[Arch]) -> list[Binary]:
    """Compile the kernels of several scans for every chip.

    Args:
        kernels: for each scan, the kernels wanted, as :func:`scan_kernels` gives them.
        archs: the chips.

    Returns:
        In the order of scans, roles and chips.
    """
    return compile_jobs(
        [
            Job(role, source, arch, choose(FULL, source.streams, source.work, warp=arch.warp))
            for roles in kernels
            for role, source in roles.items()
            for arch in archs
        ]
    )


def compile_jobs(jobs: Sequence[Job], threads: int | None = None) -> list[Binary]:
    """Compile every job, or take it from the cache.

    Args:
        jobs: what to compile.
        threads: kernels compiled at the same time (the number of processors, if not given).
    """
    found = [_cached(job) for job in jobs]
    missing = [job for job, binary in zip(jobs, found, strict=True) if binary is None]
    if not missing:
        return [binary for binary in found if binary]
    check_installed()
    from concurrent.futures import ThreadPoolExecutor

    from triton import knobs

    from snncompile.targets.triton.load import load

    functions = [load(job.source, interpret=False) for job in missing]  # not in threads: it sets a global switch
    for function in functions:
        _parse_one_at_a_time(function)
    with knobs.compilation.scope(), ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        knobs.compilation.disable_line_info = True  # it would put this machine's paths into the binaries
        made = iter(list(pool.map(_compile, missing, functions)))
    return [binary or next(made) for binary in found]


_parsing = threading.Lock()


def _parse_one_at_a_time(function: Any) -> None:
    """Have Triton parse ``function``, and what it calls, in one thread at a time.

    CPython 3.11 miscounts its recursion depth, and raises SystemError, where several threads build syntax trees.
    """
    from triton.runtime.jit import JITFunction

    for called in function.fn.__globals__.values():
        if isinstance(called, JITFunction) and "parse" not in vars(called):
            called.parse = functools.partial(_locked, called.parse)


def _locked(parse: Callable[[], Any]) -> Any:
    with _parsing:
        return parse()


def _files(job: Job) -> tuple[Path, Path, Path]:
    arch = job.arch
    key = digest(job.source.text, job.source.name, arch.name, repr(job.settings), str(CODEGEN), triton_version())
    folder = directory("binaries")
    return folder / f"{key}.json", folder / f"{key}.{arch.binary}", folder / f"{key}.{arch.assembly}"


def _cached(job: Job) -> Binary | None:
    report, code_file, assembly_file = _files(job)
    try:
        facts = json.loads(report.read_bytes())
        code, assembly = code_file.read_bytes(), assembly_file.read_bytes()
        if facts.pop("digest") != digest(code, assembly):
            return None
        return _binary(job, code, assembly.decode(), Resources(**facts))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: compiled again


def _compile(job: Job, function: Any) -> Binary:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from snncompile.targets.triton.resources import amd_resources, nvidia_resources

    arch, settings = job.arch, job.settings
    constants = settings.constants
    signature = {p.name: p.type for p in job.source.params} | dict.fromkeys(constants, "constexpr")
    aligned = {(i,): [["tt.divisibility", 16]] for i, p in enumerate(job.source.params) if p.aligned}
    options: dict[str, Any] = {"num_warps": settings.warps, "enable_fp_fusion": False}
    if not isinstance(settings, Config):
        options["num_stages"] = settings.stages
    if isinstance(settings, Design) and settings.together:
        options["launch_cooperative_grid"] = True
    if isinstance(settings, PlasticPlan | ConvPlan | CycleSettings):
        options |= settings.more(arch.backend == "cuda")
    compiled = triton.compile(
        ASTSource(function, signature, constants, aligned),
        target=GPUTarget(arch.backend, arch.chip, arch.warp),
        options=options,
    )
    code, assembly = compiled.asm[arch.binary], compiled.asm[arch.assembly]
    report, code_file, assembly_file = _files(job)
    write_whole(code_file, code)
    write_whole(assembly_file, assembly.encode())
    shared = compiled.metadata.shared
    resources = nvidia_resources(code_file, shared) if arch.backend == "cuda" else amd_resources(assembly, shared)
    check_fits(job.source.name, resources, arch)
    facts = {**asdict(resources), "digest": digest(code, assembly)}
    write_whole(report, json.dumps(facts, sort_keys=True).encode())  # last: its presence says that all is there
    return _binary(job, code, assembly, resources)


def _binary(job: Job, code: bytes, assembly: str, resources: Resources) -> Binary:
    return Binary(job.role, job.source, job.arch, job.settings, code, assembly, resources)
