"""Tables and plots from results, written into docs/performance.md and README.md between two marks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- figures, written by `python -m benchmarks.workloads` -->", "<!-- figures: end -->"
WORKLOADS = ("W1", "W2", "W3", "W4", "W5", "W6", "W7")


def rows(table: Iterable[Iterable[str]]) -> list[str]:
    """A Markdown table; the first row is its head, the first column stands left."""
    cells = [list(r) for r in table]
    widths = [max(len(r[i]) for r in cells) for i in range(len(cells[0]))]
    lines = []
    for r in cells:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))]
        lines.append(f"| {' | '.join(padded)} |")
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return [lines[0], rule, *lines[1:]]


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def which(part: dict[str, Any]) -> str:
    """The figure that counts: forward with backward where the workload has it."""
    return "both" if any("both" in row for row in part["contenders"].values()) else "forward"


def best(part: dict[str, Any], group: str) -> tuple[str, float] | None:
    """The fastest contender of a group: its name and milliseconds."""
    key = which(part)
    found = [(n, r[key]["min"]) for n, r in part["contenders"].items() if r["group"] == group and key in r]
    return min(found, key=lambda f: f[1]) if found else None


def ratios(part: dict[str, Any]) -> dict[str, float]:
    """Of our fastest target: how many times faster than the best of each group, and its time over the floor's."""
    ours = best(part, "ours")
    if ours is None:
        return {}
    others = {group: best(part, group) for group in ("library", "compile", "loop", "floor")}
    return {
        group: ours[1] / other[1] if group == "floor" else other[1] / ours[1]
        for group, other in others.items()
        if other is not None
    }


def overview(parts: dict[str, Any]) -> list[str]:
    """One row a workload: ours against the best of each group."""
    head = ("", "network", "ours", "ms", "best library", "`torch.compile`", "plain loop", "over products alone")
    table: list[tuple[str, ...]] = [head]
    for name in WORKLOADS:
        part = parts.get(name)
        if part is None or "error" in part:
            continue
        ours, library = best(part, "ours"), best(part, "library")
        said = {k: number(v) + "x" for k, v in ratios(part).items()}
        against = f"{said['library']} ({library[0]})" if library and "library" in said else "-"
        others = (said.get("compile", "-"), said.get("loop", "-"), said.get("floor", "-"))
        mine = (ours[0].removeprefix("snncompile "), number(ours[1])) if ours else ("-", "-")
        table.append((name, part["title"], *mine, against, *others))
    return rows(table) if len(table) > 1 else []


def workload(part: dict[str, Any]) -> list[str]:
    """All contenders of one workload, the fastest first."""
    key = which(part)
    floor = best(part, "floor")
    table = [("", "forward ms", "forward + backward ms", "/ products alone", "compile s", "peak MiB")]
    measured = [n for n, r in part["contenders"].items() if key in r]
    for name in sorted(measured, key=lambda n: part["contenders"][n][key]["min"]):
        row = part["contenders"][name]
        over = number(row[key]["min"] / floor[1]) if floor else "-"
        compiling = f"{row['compile seconds']:.1f}" if "compile seconds" in row else "-"
        memory = number(row["memory"] / 2**20) if row.get("memory") is not None else "-"
        title = f"**{name}**" if row["group"] == "ours" else name
        table.append((title, _time(row.get("forward")), _time(row.get("both")), over, compiling, memory))
    lines = rows(table)
    missing = [(n, r) for n, r in part["contenders"].items() if key not in r]
    if missing:
        lines += ["", *(f"- {n}: {r.get('status', 'not run')}: {r.get('reason', '')}" for n, r in missing)]
    resets = {"zero": "reset to zero", "delayed": "reset in the next step"}
    other = [f"{n} {resets[r['reset']]}" for n, r in part["contenders"].items() if r.get("reset") in resets]
    if other:
        lines += ["", f"Other resets: {', '.join(other)}."]
    return lines


def _time(summary: dict[str, float] | None) -> str:
    return f"{number(summary['min'])} ({number(summary['median'])})" if summary else "-"


def stream(part: dict[str, Any]) -> list[str]:
    """Microseconds of a step."""
    table = [("", "microseconds a step")]
    found = part["microseconds a step"]
    table += [(n, _time(found[n])) for n in sorted(found, key=lambda n: found[n]["min"])]
    return rows(table)


def memory(part: dict[str, Any]) -> list[str]:
    """Peaks, over the memory of input and output."""
    base = part["input and output"]
    table = [("", "peak MiB", "/ input and output", "seconds")]
    for name, row in part["ways"].items():
        if row["status"] == "ok":
            table.append((name, number(row["bytes"] / 2**20), number(row["bytes"] / base), number(row["seconds"])))
        else:
            table.append((name, "failed", row["reason"], "-"))
    return rows(table)


def scaling(part: dict[str, Any]) -> list[str]:
    """One table an axis: milliseconds, forward and backward."""
    lines: list[str] = []
    for axis, found in part["axes"].items():
        values = list(next(iter(found.values())))
        table = [(axis, *values)]
        table += [(name, *(number(at[v]["min"]) if v in at else "-" for v in values)) for name, at in found.items()]
        lines += ["", *rows(table)]
    return lines[1:]


def on(machine: dict[str, Any]) -> str:
    """The machine in a sentence."""
    versions = ", ".join(f"{n} {v}" for n, v in machine["versions"].items())
    gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
    return (
        f"{machine['date']}: {gpu}{machine['processor']}, {machine['cores']} cores, {machine['memory GiB']} GiB,"
        f" {machine['threads']} threads; {machine['system']}, Python {machine['python']}; {versions}."
    )


def sections(results: dict[str, Any], title: str = "###") -> list[str]:
    """Everything, under headings."""
    parts = {n: p for n, p in results["parts"].items() if "error" not in p}
    lines: list[str] = []
    told: list[str] = []
    for part in parts.values():
        if "machine" in part and (said := on(part["machine"])) not in told:
            told.append(said)
    lines += [*told, ""]
    if any(n in parts for n in WORKLOADS):
        lines += [f"{title} Ours against the best of the others", "", *overview(parts), ""]
    for name in WORKLOADS:
        if name in parts:
            lines += [f"{title} {name}: {parts[name]['title']}", "", *workload(parts[name]), ""]
    others = {"stream": ("Streaming", stream), "memory": ("Memory", memory), "scaling": ("Scaling", scaling)}
    for name, (heading, table) in others.items():
        if name in parts:
            lines += [f"{title} {heading}: {parts[name]['title']}", "", *table(parts[name]), ""]
    lines += [f"- {n}: not measured: {p['error']}" for n, p in results["parts"].items() if "error" in p]
    return lines


def text(results: dict[str, Any]) -> str:
    """The tables, for a terminal."""
    return "\n".join(sections(results))


def plot(part: dict[str, Any], path: Path) -> None:
    """Time along each axis, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(part["axes"]), figsize=(3.2 * len(part["axes"]), 3.2), sharey=True)
    for ax, (axis, found) in zip(axes, part["axes"].items(), strict=True):
        for name, at in found.items():
            xs = [float(v) for v in at]
            dashed = "--" if name == "products alone" else "-"
            wide = 2.0 if name.startswith("snncompile") else 1.0
            ax.plot(xs, [s["min"] for s in at.values()], dashed, marker=".", linewidth=wide, label=name)
        ax.set(xscale="log", yscale="log", xlabel=axis)
        ax.grid(True, which="major", linewidth=0.3)
    axes[0].set_ylabel("ms, forward + backward")
    axes[-1].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=80, metadata={"Software": None})
    pyplot.close(figure)


def filled(text_: str, lines: list[str]) -> str:
    """A document with ``lines`` between its marks."""
    before, _, rest = text_.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError("the document lacks the marks between which the figures stand")
    return f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}"


def page(results: dict[str, Any]) -> list[str]:
    """What stands in docs/performance.md."""
    lines = sections(results)
    if "scaling" in results["parts"] and "error" not in results["parts"]["scaling"]:
        lines += ["![time against steps, batch, neurons and density](performance-scaling.png)"]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def summary(results: dict[str, Any]) -> list[str]:
    """What stands in README.md: the overview and the machine."""
    parts = {n: p for n, p in results["parts"].items() if "error" not in p}
    first = next((p["machine"] for n, p in parts.items() if n in WORKLOADS and "machine" in p), None)
    lines = overview(parts)
    if first is not None:
        gpu = f"{first['gpu']}, " if "gpu" in first else ""
        lines += ["", f"Measured {first['date']}: {gpu}{first['processor']}, {first['threads']} threads."]
    return lines


def documents(results: dict[str, Any]) -> dict[Path, str]:
    """The documents with the figures of ``results`` in them."""
    lines = {PAGE: page(results), README: summary(results)}
    return {path: filled(path.read_text(encoding="utf-8"), found) for path, found in lines.items()}


def write(path: Path) -> None:
    """Write the documents, and the picture beside the page, from the results at ``path``."""
    results = json.loads(path.read_text())
    for document, said in documents(results).items():
        document.write_text(said, encoding="utf-8")
    found = results["parts"].get("scaling")
    if found is not None and "error" not in found:
        plot(found, PAGE.with_name("performance-scaling.png"))


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "benchmarks" / "results" / "cpu.json")
