"""How long the command line takes to start, as whole processes.

    python benchmarks/cli_startup.py [--runs 10] [--model examples/digits.py] [--target triton --arch sm_90]

Each row is the best and the median of N runs of a fresh process; `python -c pass` is the floor below all. With a
model, `snncompile build` is timed too: cold (an empty kernel cache, once) and warm (the same cache again).
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLI = [str(Path(sys.executable).with_name("snncompile"))]  # the command installed beside this interpreter


def seconds(command: list[str], cwd: str, env: dict[str, str] | None = None) -> float:
    """Wall-clock seconds of one process; ends this one, with its message, when it fails."""
    start = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit(f"{command[0]} is missing: install the package into this environment first")
    taken = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with exit status {done.returncode}:\n{done.stderr.strip()}")
    return taken


def row(name: str, times: list[float]) -> None:
    """Print the best and the median of ``times``, given in seconds, in milliseconds."""
    print(f"{name:34} {min(times) * 1e3:9.1f} {statistics.median(times) * 1e3:11.1f} {len(times):6}", flush=True)


def main() -> None:
    """Time every start and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="processes per row (default: 10)")
    parser.add_argument("--model", help="MODEL.py[:NAME] to build, cold and warm")
    parser.add_argument("--target", default="c", help="the target to build the model for (default: c)")
    parser.add_argument("--arch", help="compile kernels for these GPUs, too: sm_90,gfx942")
    args = parser.parse_args()

    print(f"{'':34} {'best ms':>9} {'median ms':>11} {'runs':>6}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:  # run elsewhere: what is installed, not what lies in the directory
        for name, command in [
            ("python -c pass", [sys.executable, "-c", "pass"]),
            ("python -c 'import snncompile'", [sys.executable, "-c", "import snncompile"]),
            ("snncompile --help", [*CLI, "--help"]),
        ]:
            seconds(command, scratch)  # once unmeasured, to write bytecode and fill the page cache
            row(name, [seconds(command, scratch) for _ in range(args.runs)])
        if args.model:
            # every cache that a build could find warm: ours and triton's
            env = {**os.environ, "SNNCOMPILE_CACHE": f"{scratch}/cache", "TRITON_CACHE_DIR": f"{scratch}/triton"}
            number = itertools.count()

            def build() -> float:
                model = os.path.abspath(args.model)
                command = [*CLI, "build", model, "--target", args.target, "--seed", "0", "--out", f"out{next(number)}"]
                return seconds([*command, *(["--arch", args.arch] if args.arch else [])], scratch, env)

            what = ", ".join(w for w in (args.target, args.arch) if w)
            row(f"snncompile build ({what}), cold", [build()])
            row(f"snncompile build ({what}), warm", [build() for _ in range(max(1, args.runs // 3))])


if __name__ == "__main__":
    main()
