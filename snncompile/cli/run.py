"""``snncompile run``: an artifact on an input."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snncompile.cli.errors import DONE, FAILED, UsageError, guarded, note, report
from snncompile.cli.output import AsJson, artifact_notes, print_fields, print_json, progress
from snncompile.paths import no_file

if TYPE_CHECKING:
    import torch

    from snncompile.network import Network

EPILOG = (
    "Examples:\n\n"
    "  snncompile run digits.snn test.npy --out result.npz --record lif.v --record lif.spikes:sum\n\n"
    "  snncompile run digits.snn next.npz --state state.npz --save-state state.npz"
)

_LEARNT = (
    "what {} learnt in this run is not kept, the artifact stays as it is: --save-state FILE writes it, --state FILE"
    " goes on from it"
)


@guarded
def command(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A directory that build wrote.")],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="INPUT",
            help="A .npz of inputs by name, or a .npy: (batch, time, features...) or (time, features...).",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT.npz", help="Write outputs and records.")
    ] = None,
    record: Annotated[
        list[str] | None, typer.Option("--record", "-r", help="Keep a signal or state, e.g. lif.v or lif.spikes:sum.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", "-t", help="Instead of the artifact's.")] = None,
    device: Annotated[str | None, typer.Option("--device", "-d", help="cpu, cuda, cuda:1, ...")] = None,
    state: Annotated[Path | None, typer.Option("--state", metavar="IN.npz", help="Start from this state.")] = None,
    save_state: Annotated[
        Path | None, typer.Option("--save-state", metavar="OUT.npz", help="Write the last state.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=0, help="Length, for a model without inputs.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Batch, for a model without inputs.")] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of the random numbers, for a model that draws some.")
    ] = 0,
    as_json: AsJson = False,
) -> int:
    """Run an artifact on an input and show, or write, what comes out."""
    from snncompile.cli.data import check_output_path, read_data, read_state, write_arrays

    for path in (out, save_state):
        check_output_path(path)
    if not artifact.exists():
        raise UsageError(f"there is no artifact {artifact}")
    if data is not None and not data.is_file():
        raise UsageError(no_file(data))
    with artifact_notes() as notes, progress(as_json) as say:
        say("loading")
        import torch

        from snncompile.artifact import load
        from snncompile.cli.placement import place

        net = load(artifact, target=target)
        net.check_parameters()
        placed = place(net, target, device)
        if not net.graph.input_types() and data is None and steps is None:
            raise UsageError("this model has no inputs: say how long it runs, e.g. --steps 100")
        inputs = read_data(data, net.graph.input_types())
        before = read_state(state, net.graph.states())
        say("running")
        net = net.to(placed.device).eval()
        given = {name: torch.from_numpy(x).to(placed.device) for name, x in inputs.items()}
        held = None if before is None else {n: torch.from_numpy(v).to(placed.device) for n, v in before.items()}
        torch.manual_seed(seed)
        with torch.no_grad():
            result, after, records = net.evolve(state=held, record=record, steps=steps, batch=batch, **given)
    kept = [] if save_state is not None or not net.layout.learned else [_LEARNT.format(", ".join(net.layout.learned))]
    for text in (*placed.notes, *kept):
        note(text)
    arrays = _arrays(result, records)
    bad = None
    if not _finite([*arrays.values(), *after.values()]):
        from snncompile.finite import first_non_finite

        torch.manual_seed(seed)  # the same random numbers again
        with torch.no_grad():
            bad = first_non_finite(net, given, held, steps, batch)
    if out is not None:
        write_arrays(out, {name: value.cpu().numpy() for name, value in arrays.items()})
    if save_state is not None:
        write_arrays(save_state, {name: value.cpu().numpy() for name, value in after.items()})
    facts = _facts(net, arrays, out, placed.target, str(placed.device), [*notes, *placed.notes, *kept], bad)
    if as_json:
        print_json(facts)
    else:
        _show(facts)
    if bad is not None and not as_json:
        report("result", str(bad), False)
    return DONE if bad is None else FAILED


def _arrays(result: Any, records: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if isinstance(result, dict):
        arrays = dict(result)
    elif isinstance(result, tuple):
        arrays = {f"out_{i}": y for i, y in enumerate(result)}
    else:
        arrays = {"out": result}
    for name, value in records.items():
        arrays[name if name not in arrays else f"record.{name}"] = value
    return arrays


def _finite(values: list[torch.Tensor]) -> bool:
    import torch

    return all(bool(torch.isfinite(v).all()) for v in values)


def _facts(
    net: Network,
    arrays: dict[str, torch.Tensor],
    out: Path | None,
    target: str,
    device: str,
    notes: list[str],
    bad: Any,
) -> dict[str, Any]:
    return {
        "ok": bad is None,
        "model": net.graph.name,
        "target": target,
        "device": device,
        "notes": notes,
        "out": str(out) if out else None,
        "arrays": {name: _summary(value) for name, value in arrays.items()},
        "non_finite": None if bad is None else bad.to_json(),
    }


def _summary(value: torch.Tensor) -> dict[str, Any]:
    shape = list(value.shape)
    if not value.numel():
        return {"shape": shape, "min": None, "mean": None, "max": None}
    low, mean, high = float(value.min()), float(value.double().mean()), float(value.max())
    finite = abs(low) < float("inf") and abs(high) < float("inf") and low == low
    return {"shape": shape} | (
        {"min": low, "mean": mean, "max": high} if finite else {"min": None, "mean": None, "max": None}
    )


def _show(facts: dict[str, Any]) -> None:
    fields = [("model", facts["model"]), ("ran on", f"target {facts['target']}, device {facts['device']}")]
    for name, s in facts["arrays"].items():
        nothing = "no finite range" if all(s["shape"]) else "empty"
        numbers = nothing if s["min"] is None else f"min {s['min']:g}, mean {s['mean']:g}, max {s['max']:g}"
        fields.append((name, f"{tuple(s['shape'])}  {numbers}"))
    if facts["out"]:
        fields.append(("written", facts["out"]))
    print_fields(fields)
