"""Measures W1 to W7, streaming, memory and scaling, and writes the results and the tables and plots made of them.

    python -m benchmarks.workloads [W1 W2 ... stream memory scaling] [--threads 2] [--seconds 6]

Each part runs in a process of its own, one after the other, and stands in the results as soon as it is done; a part
that fails leaves the others be. `make workloads` installs the other libraries first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "results"
PARTS = ("W1", "W2", "W3", "W4", "W5", "W6", "W7", "stream", "memory", "scaling")


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workloads", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads (default: 2)")
    parser.add_argument("--seconds", type=float, default=6.0, help="time for each measurement, about (default: 6)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", help="these contenders, separated by commas")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes minutes")
    parser.add_argument("--cache", help="keep torch.compile's and our kernels here: compile times are not cold then")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes: whether all runs, not how fast")
    parser.add_argument("--resume", action="store_true", help="only parts that the results do not hold yet")
    parser.add_argument("--out", type=Path, help="results (default: benchmarks/results/DEVICE.json)")
    parser.add_argument("--no-report", action="store_true", help="leave docs/performance.md and its plots as they are")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the part that this process measures
    args = parser.parse_args(arguments)
    unknown = [p for p in args.parts if p not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    args.out = args.out or RESULTS / f"{args.device}.json"
    return args


def one(args: argparse.Namespace) -> dict[str, Any]:
    """Measure one part, in this process."""
    import torch

    from benchmarks.workloads import memory, scaling, stream
    from benchmarks.workloads.measure import measure
    from benchmarks.workloads.shapes import WORKLOADS

    torch.set_num_threads(args.threads)
    if args.one in ("stream", "memory", "scaling"):
        part = {"stream": stream, "memory": memory, "scaling": scaling}[args.one]
        return part.measure(tiny=args.tiny, seconds=args.seconds, device=args.device, say=say)
    w = WORKLOADS[args.one]
    names = tuple(n.strip() for n in args.only.split(",")) if args.only else ()
    return measure(
        w.tiny() if args.tiny else w, seconds=args.seconds, compiled=not args.no_compile, only=names,
        device=args.device, say=say,
    )  # fmt: skip


def say(what: str) -> None:
    """What is going on, on stderr."""
    print(f"[{time.strftime('%H:%M:%S')}] {what}", file=sys.stderr, flush=True)


def in_process(part: str, args: argparse.Namespace, cache: str) -> dict[str, Any]:
    """Measure one part in a process of its own."""
    words = ["--one", part, "--threads", str(args.threads), "--seconds", str(args.seconds), "--device", args.device]
    words += ["--only", args.only] if args.only else []
    words += [f"--{name}" for name in ("no-compile", "tiny") if getattr(args, name.replace("-", "_"))]
    env = {
        **os.environ, "OMP_NUM_THREADS": str(args.threads), "SNNCOMPILE_CACHE": f"{cache}/snncompile",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "TRITON_CACHE_DIR": f"{cache}/triton",
    }  # fmt: skip
    out = Path(cache) / f"{part}.json"
    command = [sys.executable, "-m", "benchmarks.workloads", *words, "--out", str(out)]
    done = subprocess.run(command, env=env, cwd=RESULTS.parent.parent)
    if done.returncode:
        return {"error": f"the process ended with status {done.returncode}"}
    return json.loads(out.read_text())


def main() -> int:
    """Measure all parts that are asked for."""
    args = options()
    if args.one:
        args.out.write_text(json.dumps(one(args)))
        return 0
    from benchmarks.workloads.machine import machine

    results: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    facts = machine(args.threads)
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for part in args.parts or PARTS:
            held = results.get("parts", {}).get(part)
            if args.resume and held is not None and "error" not in held:
                continue
            start = time.perf_counter()
            found = in_process(part, args, args.cache or scratch)
            found["machine"] = facts | {"seconds taken": round(time.perf_counter() - start)}
            results.setdefault("parts", {})[part] = found
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(results, indent=1) + "\n")
            failed += "error" in found
            from benchmarks.workloads.report import text

            print(text({"parts": {part: found}}), flush=True)
    if not args.no_report and not args.tiny:
        from benchmarks.workloads.report import write

        write(args.out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
