"""``snncompile doctor``: what works on this machine, and how to get the rest."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import typer

import snncompile
from snncompile.cli.errors import DONE, FAILED, guarded
from snncompile.cli.output import AsJson, print_json

EPILOG = "Example:\n\n  snncompile doctor --json"

_MARK = {"ok": ("ok", "green"), "missing": ("missing", "yellow"), "broken": ("BROKEN", "red")}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        status: ``"ok"``, ``"missing"`` (something optional) or ``"broken"`` (something needed).
        found: what is there.
        advice: what to do about it, or "".
    """

    name: str
    status: str
    found: str
    advice: str = ""


@guarded
def command(as_json: AsJson = False) -> int:
    """Show what works on this machine, and what is missing for the rest and how to get it.

    The exit status is 1 where something needed does not work.
    """
    findings = list(examine())
    broken = any(f.status == "broken" for f in findings)
    if as_json:
        print_json({"ok": not broken, "version": snncompile.__version__, "findings": [asdict(f) for f in findings]})
        return FAILED if broken else DONE
    width = max(len(f.name) for f in findings)
    typer.echo(f"snncompile {snncompile.__version__}")
    for f in findings:
        word, color = _MARK[f.status]
        typer.echo(f"{typer.style(f'{word:<8}', fg=color)}{f.name:<{width}}  {f.found}")
        if f.advice:
            typer.echo(f"{'':<{width + 10}}{f.advice}")
    return FAILED if broken else DONE


def examine() -> Iterator[Finding]:
    """Look at everything."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _packages()
    yield from _targets()
    yield _compiler()
    yield _cache()
    yield from _extras()


def _packages() -> Iterator[Finding]:
    for name in ("torch", "numpy", "networkx", "safetensors", "typer", "rich"):
        version = _version(name)
        if version is None:
            yield Finding(name, "broken", "not installed", f"pip install {name}")
        elif name == "torch":
            yield _torch(version)
        else:
            yield Finding(name, "ok", version)
    version = _version("triton")
    if version is None:
        yield Finding("triton", "missing", "not installed", "for target triton: pip install triton (Linux)")
    else:
        yield _triton(version)


def _torch(version: str) -> Finding:
    try:
        import torch

        return Finding("torch", "ok", f"{version}, {torch.get_num_threads()} threads")
    except Exception as err:
        return Finding("torch", "broken", f"{version}, but does not import: {err}", "install it again")


def _triton(version: str) -> Finding:
    try:
        import triton  # noqa: F401

        return Finding("triton", "ok", version)
    except Exception as err:
        return Finding("triton", "broken", f"{version}, but does not import: {err}", "install it again")


def _targets() -> Iterator[Finding]:
    try:
        from snncompile.targets.registry import TARGETS, availability
    except Exception as err:
        yield Finding("targets", "broken", f"{type(err).__name__}: {err}")
        return
    yield _device()
    for name in TARGETS:
        usable = availability(name)
        status, advice = ("ok", "") if usable.ok else ("missing", _ADVICE[name])
        yield Finding(f"target {name}", status, usable.reason, advice)
    if _version("triton") is not None:
        from snncompile.targets.triton.arch import ARCHS

        yield Finding("compiling ahead", "ok", f"for {', '.join(ARCHS)}, no GPU needed")


_ADVICE = {
    "triton": "models run on the CPU meanwhile; build --arch compiles for a GPU elsewhere; TRITON_INTERPRET=1 runs the"
    " kernels on the CPU, slowly",
    "c": "models run on the torch reference meanwhile, much slower",
}


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        kind = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
        return Finding("GPU", "ok", f"{names} ({kind})")
    if torch.version.cuda is None and torch.version.hip is None:
        advice = "with a GPU in the machine, install a torch built for it: https://pytorch.org/get-started"
        return Finding("GPU", "missing", "this torch is built without CUDA and ROCm", advice)
    return Finding("GPU", "missing", "torch finds no device", "check the driver: nvidia-smi or rocm-smi")


def _compiler() -> Finding:
    asked = os.environ.get("CC")
    for name in (asked,) if asked else ("cc", "gcc", "clang"):
        path = shutil.which((shlex.split(name) or [""])[0])
        if path:
            return Finding("C compiler", "ok", path)
    if asked:
        return Finding("C compiler", "missing", f"no command {asked!r}, which CC names", "correct CC, or unset it")
    return Finding(
        "C compiler",
        "missing",
        "none found",
        "target c needs one, and Triton's launcher: apt install gcc libc6-dev, or set CC",
    )


def _cache() -> Finding:
    from snncompile.ir.errors import SnnError

    try:
        from snncompile.targets.triton.store import directory

        folder = directory("sources")
        with tempfile.TemporaryFile(dir=folder):
            return Finding("cache", "ok", str(folder.parent))
    except SnnError as err:
        return Finding("cache", "broken", str(err))
    except OSError as err:
        return Finding("cache", "broken", f"cannot be written: {err}", "set SNNCOMPILE_CACHE to a writable directory")


def _extras() -> Iterator[Finding]:
    for name, use, advice in (
        ("onnx", "export --to onnx", "pip install onnx"),
        ("onnxruntime", "export --to onnx runs the file in it", "pip install 'snncompile[onnx]'"),
        ("nir", "import, and export --to nir", "pip install 'snncompile[nir]'"),
        ("h5py", "import, and export --to nir", "pip install 'snncompile[nir]'"),
        ("matplotlib", "show --format png", "pip install 'snncompile[plots]'"),
        ("sklearn", "the examples", "pip install 'snncompile[examples]'"),
    ):
        version = _version({"sklearn": "scikit-learn"}.get(name, name))
        found = f"{version} ({use})" if version else f"not installed ({use})"
        yield Finding(name, "ok" if version else "missing", found, "" if version else advice)


def _version(package: str) -> str | None:
    import importlib.metadata  # not with the others: it slows --help down

    if importlib.util.find_spec({"scikit-learn": "sklearn"}.get(package, package)) is None:
        return None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
