"""The shape of the repository: where packages lie, who may import whom, what a wheel holds, how light a start is."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).resolve().parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
PACKAGE_DIRS: dict[str, str] = SETUPTOOLS["package-dir"]
NOT_OURS = {"build", "dist", "demo-out", "node_modules", "site-packages", "__pycache__"}
MOVED = {"ir", "targets"}  # directories at the top that are imported as snncompile.<name>
HEAVY = ["torch", "triton", "onnx", "onnxruntime", "matplotlib", "scipy", "sympy"]
LONGEST_FILE = 600


def python_files(top: Path = ROOT) -> Iterator[Path]:
    """The repository's own python files: nothing hidden, built, or installed in a virtual environment."""
    for path in sorted(top.iterdir()):
        if path.is_dir() and not path.is_symlink():
            ours = path.name not in NOT_OURS and not path.name.startswith(".")
            if ours and not (path / "pyvenv.cfg").exists():
                yield from python_files(path)
        elif path.suffix == ".py" and not path.name.startswith("."):
            yield path


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str | None:
    """The dotted name that a file of the package is imported by; None for tests, examples, tools."""
    for package, directory in sorted(PACKAGE_DIRS.items(), reverse=True):  # snncompile.ir before snncompile
        if path.is_relative_to(ROOT / directory):
            inside = path.relative_to(ROOT / directory).with_suffix("")
            return ".".join(part for part in (package, *inside.parts) if part != "__init__")
    return None


FILES = list(python_files())
MODULES = {name: path for path in FILES if (name := module_name(path))}


@dataclass(frozen=True)
class Import:
    """One imported name; `deferred` when importing the file does not execute it."""

    module: str
    line: int
    deferred: bool


def imports(path: Path) -> Iterator[Import]:
    """Every import in a file, absolute; `from package import submodule` counts as the submodule."""
    name = module_name(path) or relative(path).removesuffix(".py").replace("/", ".")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def visit(node: ast.AST, deferred: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, deferred)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                yield Import(submodule if submodule in MODULES else base, node.lineno, deferred)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.body:
                yield from visit(child, True)
            for child in node.orelse:
                yield from visit(child, deferred)
        else:
            inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside)

    yield from visit(ast.parse(path.read_text(encoding="utf-8"), str(path)), False)


def part(module: str) -> str:
    """The part of the package a module belongs to: `snncompile.ir`, `snncompile.dsl`, `snncompile.<file>`."""
    return ".".join(module.split(".")[:2])


def layer(module: str) -> int:
    """Imports go from a higher layer to the same or a lower one."""
    return {"snncompile.ir": 0, "snncompile.targets": 1}.get(part(module), 2)


def cycles(edges: set[tuple[str, str]]) -> list[str]:
    graph = nx.DiGraph(sorted(edges))
    return [" -> ".join([*cycle, cycle[0]]) for cycle in nx.simple_cycles(graph)]


def test_the_files_are_found() -> None:
    assert "snncompile" in MODULES and "snncompile.ir" in MODULES and "snncompile.targets" in MODULES
    assert Path(__file__).resolve() in FILES


def test_no_bare_import() -> None:
    """A bare `import ir` finds the directory when run from the repository, and loads a second copy of everything."""
    bad = [
        f"{relative(path)}:{i.line}: import {i.module}"
        for path in FILES
        for i in imports(path)
        if i.module.split(".")[0] in MOVED
    ]
    assert not bad, "write snncompile.ir, snncompile.targets"


def test_no_file_is_too_long() -> None:
    lines = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {name: n for name, n in lines.items() if n > LONGEST_FILE}, f"split these: {LONGEST_FILE} lines at most"


def test_imports_point_one_way() -> None:
    """snncompile (dsl, passes, cli, ...) -> targets -> ir; imports inside functions count too."""
    wrong = [
        f"{relative(path)}:{i.line}: {name} imports {i.module}"
        for name, path in MODULES.items()
        for i in imports(path)
        if i.module.split(".")[0] == "snncompile" and layer(i.module) > layer(name)
    ]
    assert not wrong


def test_no_import_cycles() -> None:
    """Neither between modules nor between parts, among the imports that run when a module is imported."""
    edges = {
        (name, i.module)
        for name, path in MODULES.items()
        for i in imports(path)
        if i.module in MODULES and not i.deferred
    }
    assert not cycles(edges)
    assert not cycles({(part(a), part(b)) for a, b in edges if part(a) != part(b)})


def test_packages_are_listed() -> None:
    """setuptools installs what pyproject.toml lists, so a forgotten package is missing from the wheel alone."""
    found = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert found == set(SETUPTOOLS["packages"])
    homeless = {relative(path) for path in MODULES.values() if not (path.parent / "__init__.py").exists()}
    assert not homeless, "no __init__.py beside these"


def build_wheel(tmp: Path) -> tuple[set[str], set[str]]:
    """The names in a wheel, and the modules it should hold; built from a copy, to write nothing into the tree."""
    source, out = tmp / "source", tmp / "wheel"
    source.mkdir()
    for name in {"pyproject.toml", "README.md", "LICENSE", *PACKAGE_DIRS.values()}:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out), "."]
    built = subprocess.run(pip, cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = out.glob("*.whl")
    modules = {
        f"{package.replace('.', '/')}/{path.relative_to(source / directory).as_posix()}"
        for package, directory in PACKAGE_DIRS.items()
        for path in (source / directory).rglob("*.py")
    }
    return set(zipfile.ZipFile(file).namelist()), modules


def test_wheel(tmp_path: Path) -> None:
    """It holds every module under its installed name, the licence and py.typed, and no other top-level name."""
    wheel, modules = build_wheel(tmp_path)
    assert {"snncompile/ir/__init__.py", "snncompile/targets/__init__.py"} <= modules
    assert {name for name in wheel if name.endswith(".py")} == modules
    assert "snncompile/py.typed" in wheel
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)
    top = {name.split("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"snncompile"}


def loaded_by(code: str, cwd: Path) -> list[str]:
    """The heavy modules that are loaded once `code` has run in a fresh interpreter."""
    report = f"import sys; print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("LOADED")[-1].split()


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    assert loaded_by("import snncompile", tmp_path) == []


def test_help_is_light(tmp_path: Path) -> None:
    run = """
import sys
from snncompile.cli.main import main
sys.argv = ["snncompile", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert loaded_by(run, tmp_path) == []
