"""Run mypy on the installed layout of the package.

`ir/` and `targets/` stand at the top of the repository and are installed as `snncompile.ir` and `snncompile.targets`.
Type checkers read paths, not installed metadata, so this builds `build/typecheck/snncompile/` out of symbolic links,
following `[tool.setuptools.package-dir]` in pyproject.toml, and checks that. Messages name the files of the repository.

    python tools/typecheck.py [further mypy options]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYOUT = ROOT / "build" / "typecheck"


def package_dirs() -> dict[str, str]:
    """Dotted package name -> directory of the repository, outermost packages first."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(sorted(config["tool"]["setuptools"]["package-dir"].items()))


def link_layout() -> list[tuple[str, str]]:
    """Build the layout; return (its directory, the repository's directory) pairs, the most specific first."""
    shutil.rmtree(LAYOUT, ignore_errors=True)
    moved = []
    for package, directory in package_dirs().items():
        place = LAYOUT.joinpath(*package.split("."))
        if place.parent == LAYOUT:  # a real directory, so that other packages can be linked into it
            place.mkdir(parents=True)
            for entry in sorted((ROOT / directory).iterdir()):
                if entry.name != "__pycache__":
                    (place / entry.name).symlink_to(entry)
        else:
            place.symlink_to(ROOT / directory)
        moved.append((place.relative_to(ROOT).as_posix(), directory))
    return sorted(moved, key=lambda pair: len(pair[0]), reverse=True)


def main() -> int:
    """Check every package as it is installed; print mypy's findings at their places here and return its status."""
    moved = link_layout()
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary"]
    for package in sorted({name.split(".")[0] for name in package_dirs()}):
        command += ["--package", package]
    found = subprocess.run(
        [*command, *sys.argv[1:]],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(LAYOUT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    for line in found.stdout.splitlines():
        for place, directory in moved:
            if line.startswith(f"{place}/"):
                line = directory + line[len(place) :]
                break
        print(line)
    errors = sum(": error:" in line for line in found.stdout.splitlines())
    print(f"mypy: {errors} errors" if found.returncode else "mypy: no errors")
    return found.returncode


if __name__ == "__main__":
    sys.exit(main())
