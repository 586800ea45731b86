"""``snncompile check``: a network against the reference, on every target that runs here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from snncompile.cli.errors import DONE, FAILED, guarded
from snncompile.cli.output import AsJson, Settings, SourceArgument, print_json, progress

if TYPE_CHECKING:
    from snncompile.cli.source import Source
    from snncompile.network import Network

EPILOG = (
    "Examples:\n\n"
    "  snncompile check digits.py --set hidden=32\n\n"
    "  snncompile check digits.snn --target triton --steps 100"
)

_MARK = {"ok": ("ok", "green"), "failed": ("FAILED", "red"), "skipped": ("skipped", "yellow")}


@guarded
def command(
    source: SourceArgument,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="Check this target only; repeat for several.")
    ] = None,
    settings: Settings = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Length of the random input.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Its batch.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the input, and of a model's weights.")] = 0,
    as_json: AsJson = False,
) -> int:
    """Check parameters, passes, and every target against the reference on random input.

    Without a GPU, Triton's kernels run in its interpreter, on a small input.
    """
    with _interpreter_where_needed() as interpreted, progress(as_json) as say:
        say("loading")
        from snncompile.cli.source import open_source
        from snncompile.targets.registry import TARGETS, checked_name

        for name in target or ():
            checked_name(name)
        opened = open_source(source, settings or ())
        net = network(opened, seed)
        from snncompile.checks import check_network

        small = interpreted and (not target or "triton" in target)
        shape = {"steps": steps or (12 if small else 64), "batch": batch or 2}
        targets = [t for t in (target or TARGETS) if t != "auto"]
        checks = check_network(net, targets, **shape, seed=seed, say=say)
    failed = any(c.status == "failed" for c in checks)
    if as_json:
        facts = [{"name": c.name, "status": c.status, "detail": c.detail} for c in checks]
        print_json({"ok": not failed, "model": opened.name, **shape, "seed": seed, "checks": facts})
    else:
        width = max(len(c.name) for c in checks)
        for c in checks:
            word, color = _MARK[c.status]
            typer.echo(f"{typer.style(f'{word:<8}', fg=color)}{c.name:<{width}}  {c.detail}")
    return FAILED if failed else DONE


def network(source: Source, seed: int) -> Network:
    """The reference network of an artifact, with its weights, or of a model, with weights drawn from ``seed``.

    What loading an artifact has to say goes to stderr. The random state of the process stays as it was.

    Raises:
        ArtifactError: for weights that do not fit the artifact's graph.
        ModelError: for a parameter without a first value.
    """
    if source.artifact is not None:
        from snncompile.artifact.loading import build_network
        from snncompile.cli.errors import note

        for text in source.artifact.notes:
            note(text)
        return build_network(source.artifact, "torch")
    import torch

    from snncompile.network import Network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(source.graph, "torch")


@contextlib.contextmanager
def _interpreter_where_needed() -> Iterator[bool]:
    """Where there is no GPU, have Triton interpret kernels; it must know before it is imported."""
    before = os.environ.get("TRITON_INTERPRET")
    import torch

    if torch.cuda.is_available() or before is not None:
        yield before is not None
        return
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        yield True
    finally:
        del os.environ["TRITON_INTERPRET"]
