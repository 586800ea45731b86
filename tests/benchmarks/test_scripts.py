"""The small benchmarks, as `make bench` runs them: each finds what it imports."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"

LOAD = """
import runpy, sys
for script in sys.argv[1:]:
    before = list(sys.path), set(sys.modules)
    sys.path[0] = script.rpartition("/")[0]
    runpy.run_path(script, run_name="benchmark")
    sys.path[:] = before[0]
    for name in set(sys.modules) - before[1]:  # the next one finds its own
        if name.startswith("benchmarks") or "/benchmarks/" in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]
"""


def test_every_script_loads(tmp_path):
    scripts = [str(p) for p in sorted(FOLDER.glob("*.py")) if "__main__" in p.read_text()]
    assert len(scripts) > 10
    told = subprocess.run(
        [sys.executable, "-c", LOAD, *scripts], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert told.returncode == 0, told.stderr
