"""``snncompile bench``: time and memory of a network on every target, against the reference and the machine."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snncompile.cli.errors import DONE, FAILED, UsageError, guarded
from snncompile.cli.output import AsJson, Settings, SourceArgument, print_json, progress

if TYPE_CHECKING:
    import torch

    from snncompile.bench.comparing import Comparison, TargetFigures
    from snncompile.bench.timing import Timing

EPILOG = (
    "Examples:\n\n"
    "  snncompile bench digits.py --set hidden=256 --batch 32 --steps 200\n\n"
    "  snncompile bench digits.snn --target c --no-backward --json"
)


@guarded
def command(
    source: SourceArgument,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="This target only; repeat for several.")
    ] = None,
    settings: Settings = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Sequences.")] = 16,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Time steps.")] = 100,
    density: Annotated[
        float | None,
        typer.Option("--density", min=0.0, max=1.0, help="Share of the input that spikes; else as declared, or 0.05."),
    ] = None,
    backward: Annotated[bool, typer.Option("--backward/--no-backward", help="Also time the backward pass.")] = True,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; else cuda where there is one.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads on the CPU; else torch's.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="About how long to time each pass.")] = 2.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the input, and of a model's weights.")] = 0,
    as_json: AsJson = False,
) -> int:
    """Time each target against the torch reference, once it is known to compute the same, and tell the floor.

    Targets take turns in one process; the minimum and the median count, compiling does not. The floor is what the
    network's bytes and operations take at the machine's measured rates.
    """
    with progress(as_json) as say:
        say("loading")
        from snncompile.cli.check import network
        from snncompile.cli.source import open_source
        from snncompile.targets.registry import checked_name

        for name in target or ():
            checked_name(name)
        opened = open_source(source, settings or ())
        import torch

        place = _device(device)
        net = network(opened, seed)
        from snncompile.bench.comparing import Options, compare

        options = Options(steps, batch, density, backward, seconds, seed)
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            with _cold_caches():
                found = compare(net, _targets(target, place), options, place, say)
        finally:
            torch.set_num_threads(before)
    used = {"device": _title(place), "threads": threads or before}
    shape = {"steps": steps, "batch": batch, "density": density, "seed": seed}
    if as_json:
        from dataclasses import asdict

        print_json({"ok": not _failed(found), "model": opened.name, **shape, **used, **asdict(found)})
    else:
        for line in _lines(opened.name, shape, used, found):
            typer.echo(line)
    return FAILED if _failed(found) else DONE


def _failed(found: Comparison) -> bool:
    return any(t.status == "failed" for t in found.targets)


def _device(asked: str | None) -> torch.device:
    import torch

    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise UsageError(f"{asked!r} is no device; give cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"bench measures on cpu or cuda, not on {asked}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here (snncompile doctor says more); give --device cpu")
    return device


def _targets(asked: Sequence[str] | None, device: torch.device) -> dict[str, str | None]:
    """Targets to measure, each with the reason why it cannot run; what was asked for has to."""
    from snncompile.ir.errors import UnsupportedError
    from snncompile.targets.registry import automatic, availability

    fitting = ("triton", "torch") if device.type == "cuda" else ("c", "torch")
    if asked:
        names = list(dict.fromkeys(automatic(device.type) if n == "auto" else n for n in asked))
        for name in names:
            why = availability(name)
            if not why.ok or name not in fitting:
                reason = why.reason if not why.ok else f"it does not run on {device.type}"
                raise UnsupportedError(f'target "{name}" cannot be measured: {reason}')
        return dict.fromkeys(dict.fromkeys([*names, "torch"]))
    return {n: None if (why := availability(n)).ok else why.reason for n in fitting}


@contextlib.contextmanager
def _cold_caches() -> Iterator[None]:
    """Compile into an empty cache, so that compile times are what a first run takes."""
    names = {"SNNCOMPILE_CACHE": "kernels", "TRITON_CACHE_DIR": "triton"}
    held = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory(prefix="snncompile-bench-", ignore_cleanup_errors=True) as folder:
        for name, part in names.items():
            os.environ[name] = os.path.join(folder, part)
        try:
            yield
        finally:
            for name, value in held.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def _title(device: torch.device) -> str:
    if device.type != "cuda":
        return "cpu"
    import torch

    return torch.cuda.get_device_name(device)


def _lines(model: str, shape: dict[str, Any], used: dict[str, Any], found: Comparison) -> Iterator[str]:
    from snncompile.cli.output import size_text

    asked = "as declared, else 0.05" if shape["density"] is None else f"{shape['density']:g}"
    threads = f", {used['threads']} threads" if used["device"] == "cpu" else ""
    yield f"{model}: batch {shape['batch']}, {shape['steps']} steps, input density {asked}; {used['device']}{threads}"
    rates = found.rates
    yield (
        f"machine: copies {size_text(rates.copied)} at {rates.bandwidth / 1e9:.1f} GB/s,"
        f" multiplies at {rates.flops / 1e9:.0f} GFLOP/s"
    )
    yield ""
    timed = [t for t in found.targets if t.forward is not None]
    both = any(t.both is not None for t in timed)
    head = ["", "forward ms", "peak", *(["forward+backward ms", "peak"] if both else []), "compile s", "against torch"]
    rows = [head, *(_row(t, timed, both) for t in found.targets)]
    least = ["floor", f"{found.floor.forward:.3f}", "", *([f"{found.floor.both:.3f}", ""] if both else []), "", ""]
    rows.append(least)
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    for row in rows:
        yield "  ".join(c.ljust(w) if i in (0, len(head) - 1) else c.rjust(w)
                        for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()  # fmt: skip
    yield ""
    yield "minimum (median); the floor is the network's bytes and dense operations at the machine's rates"
    yield from found.notes
    for t in found.targets:
        if t.status != "ok":
            yield f"{t.target}: {t.status}: {t.detail}"


def _row(t: TargetFigures, timed: Sequence[TargetFigures], both: bool) -> list[str]:
    from snncompile.cli.output import size_text

    def peak(count: int | None) -> str:
        return "" if count is None else size_text(count)

    def times(timing: Timing | None) -> str:
        return "" if timing is None else f"{timing.min:.3f} ({timing.median:.3f})"

    reference = next((r for r in timed if r.target == "torch"), None)
    against = ""
    if reference is not None and t.forward is not None and reference.forward is not None:
        against = f"{reference.forward.min / t.forward.min:.2f}x"
        if t.both is not None and reference.both is not None:
            against += f", {reference.both.min / t.both.min:.2f}x"
    if t.forward is None:
        against = t.status
    middle = [times(t.both), peak(t.both_bytes)] if both else []
    compiled = "" if t.first_seconds is None else f"{t.first_seconds:.2f}"
    return [t.target, times(t.forward), peak(t.forward_bytes), *middle, compiled, against]
