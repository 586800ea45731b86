"""The documents say what is so: every example in them runs, in order, in one namespace per document.

A fenced block's first line says what becomes of it:

- ```` ```python ```` runs.
- ```` ```python error ```` must raise a SnnError; the ```` ```text ```` block that follows holds its message, in which
  ``...`` stands for anything.
- ```` ```python file=NAME ```` is written to a file.
- ```` ```console ```` : lines that begin with ``$ `` run in a shell, in the directory of those files.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import snncompile as snn

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<info>[^\n`]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A fenced block: its first line, its text, and where the text begins."""

    info: str
    body: str
    line: int


def examples(path: Path) -> list[Example]:
    text = path.read_text(encoding="utf-8")
    return [
        Example(m["info"].strip(), m["body"], text.count("\n", 0, m.start("body")) + 1) for m in FENCE.finditer(text)
    ]


def run_python(path: Path, example: Example, namespace: dict[str, Any]) -> None:
    """Run a block so that a traceback points into the document."""
    code = compile("\n" * (example.line - 1) + example.body, str(path), "exec")
    exec(code, namespace)


def run_console(example: Example, folder: Path) -> None:
    here = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    for line in example.body.splitlines():
        if line.startswith("$ "):
            done = subprocess.run(line[2:], shell=True, cwd=folder, env={**os.environ, **here}, capture_output=True)
            said = (done.stdout + done.stderr).decode()
            assert done.returncode == 0, f"{line}\n{said}"


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = types.ModuleType("example")  # a real one: dataclasses look theirs up
    monkeypatch.setitem(sys.modules, "example", module)
    namespace = vars(module)
    expected: str | None = None
    for example in examples(path):
        kind, _, rest = example.info.partition(" ")
        if expected is not None:
            assert kind == "text", f"{path.name}:{example.line}: a message must follow an example that raises"
            pattern = re.escape(words(example.body)).replace(re.escape("..."), ".*")
            assert re.fullmatch(pattern, words(expected)), f"{path.name}:{example.line}: {expected}"
            expected = None
        elif kind == "python" and rest.startswith("file="):
            (tmp_path / rest.removeprefix("file=")).write_text(example.body, encoding="utf-8")
        elif kind == "python" and rest == "error":
            with pytest.raises(snn.SnnError) as raised:
                run_python(path, example, namespace)
            expected = raised.value.message
        elif kind == "python":
            run_python(path, example, namespace)
        elif kind == "console":
            run_console(example, tmp_path)
    assert expected is None, f"{path.name}: no message follows the last example that raises"


def test_links_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
