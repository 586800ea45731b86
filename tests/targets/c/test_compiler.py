"""The host's compiler: found, missing, failing; what it built is kept, whole, for this user alone."""

import contextlib
import ctypes
import os
import shutil
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from snncompile.ir.errors import UnsupportedError
from snncompile.targets.c import compiler
from snncompile.targets.c.availability import availability
from snncompile.targets.c.target import CTarget

from ..scan_calls import check, make_calls, scan_of

SOURCE = "int answer(void) { return 42; }\n"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and nothing loaded."""
    monkeypatch.setenv("SNNCOMPILE_CACHE", str(tmp_path / "cache"))
    for cached in (compiler.function, compiler.flags):
        cached.cache_clear()
    yield tmp_path / "cache"
    for cached in (compiler.function, compiler.flags):
        cached.cache_clear()


def script(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_built_once(cache, monkeypatch):
    scan = scan_of("integrator")
    call, _ = make_calls(scan, (3, 1, 4))
    CTarget().forward(scan, call)
    built = {p.name for p in (cache / "c").iterdir()}
    assert sum(name.endswith(".so") for name in built) == 2  # the trial and the scan
    assert not any(name.startswith(".tmp") for name in built)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    compiler.function.cache_clear()
    compiler.flags.cache_clear()
    monkeypatch.setattr(compiler, "build", lambda *_: pytest.fail("built again"))
    CTarget().forward(scan, call)
    assert {p.name for p in (cache / "c").iterdir()} == built


def test_source_lies_beside_the_library(cache):
    compiler.library("answer", SOURCE, compiler.command(), ("-shared", "-fPIC"))
    (source,) = (cache / "c").glob("answer_*.c")
    assert source.read_text() == SOURCE
    assert source.with_suffix(".so").exists()


def test_damaged_library_is_built_again(cache):
    command, flags = compiler.command(), ("-shared", "-fPIC")
    source = compiler.directory("c") / "answer.c"
    source.write_text(SOURCE)
    key = compiler.digest(*command, compiler.version(command), compiler.processor(), *flags, SOURCE)
    (cache / "c" / f"answer_{key}.so").write_bytes(b"\x7fELF torn")
    assert compiler.library("answer", SOURCE, command, flags).answer() == 42


def test_several_processes_at_once(cache):
    text = (
        "from snncompile.targets.c import compiler as c\n"
        "command = c.command()\n"
        f"assert c.library('answer', {SOURCE!r}, command, c.flags(command)).answer() == 42\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", text]) for _ in range(4)]
    assert [p.wait(60) for p in running] == [0, 0, 0, 0]
    names = [p.name for p in (cache / "c").iterdir()]
    assert len(names) == 4, names  # source and library of the trial and of this
    assert not any(name.startswith(".tmp") for name in names)


def test_missing_compiler(cache, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    ok, reason = availability()
    assert not ok
    for part in ("'no-such-compiler'", "environment variable CC", "apt install gcc", 'target="torch"'):
        assert part in reason
    scan = scan_of("integrator")
    call, _ = make_calls(scan, (3, 1, 4))
    with pytest.raises(UnsupportedError, match="no-such-compiler"):
        CTarget().forward(scan, call)


def test_no_compiler_on_the_path(cache, monkeypatch, tmp_path):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    ok, reason = availability()
    assert not ok
    assert "there is no command 'cc'. Install one" in reason


def test_failing_compiler_is_quoted(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", script(tmp_path / "broken", 'echo "math.h: No such file" >&2; exit 3'))
    ok, reason = availability()
    assert not ok
    assert "status 3" in reason
    assert "math.h: No such file" in reason


def test_command_that_does_not_run(cache, monkeypatch, tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(b"\0\1\2")
    path.chmod(0o755)
    monkeypatch.setenv("CC", str(path))
    ok, reason = availability()
    assert not ok
    assert "does not run" in reason


def test_without_openmp(cache, monkeypatch, tmp_path):
    real = shutil.which("cc")
    refuse = 'for a in "$@"; do [ "$a" = -fopenmp ] && { echo "no OpenMP" >&2; exit 1; }; done'
    monkeypatch.setenv("CC", script(tmp_path / "cc", f'{refuse}\nexec {real} "$@"'))
    ok, reason = availability()
    assert ok
    assert "without OpenMP" in reason
    check(CTarget(2), scan_of("lif"), (9, 2, 150), checkpoint=4, layout="batch_first")


def test_command_with_arguments(cache, monkeypatch):
    monkeypatch.setenv("CC", "cc -O0")
    assert compiler.command() == (shutil.which("cc"), "-O0")
    assert availability()[0]


def test_cache_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SNNCOMPILE_CACHE", str(tmp_path / "file" / "cache"))
    compiler.flags.cache_clear()
    ok, reason = availability()
    compiler.flags.cache_clear()
    assert not ok
    assert "Set SNNCOMPILE_CACHE" in reason


def test_cache_that_cannot_be_written(cache, monkeypatch):
    """It is there, and holds what was built before; but its disk is full, or read-only."""
    scan = scan_of("integrator")
    call, _ = make_calls(scan, (3, 1, 4))
    assert availability()[0]

    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(UnsupportedError, match=r"cannot be used \(No space left on device\). Set SNNCOMPILE_CACHE to"):
        CTarget().forward(scan, call)


def test_cache_that_is_removed_meanwhile(cache):
    scan = scan_of("integrator")
    call, _ = make_calls(scan, (3, 1, 4))
    compiler.directory("c")
    shutil.rmtree(cache)
    CTarget().forward(scan, call)
    assert list(cache.glob("c/*.so"))


def test_variable_that_is_no_command(cache, monkeypatch):
    monkeypatch.setenv("CC", "cc 'open")
    ok, reason = availability()
    assert not ok
    assert "the environment variable CC is no command: \"cc 'open\" (No closing quotation)" in reason


def test_compiler_that_makes_nothing(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", script(tmp_path / "idle", "exit 0"))
    ok, reason = availability()
    assert not ok
    assert "idle made no library that this machine loads" in reason
    assert "apt install gcc" in reason


def test_loops_are_vectorised(cache):
    """The step's loop, with its exponentials, is one that gcc turns into vector instructions."""
    command = compiler.command()
    if "Free Software" not in subprocess.run([*command, "--version"], capture_output=True, text=True).stdout:
        pytest.skip("needs gcc, which reports what it vectorised")
    scan = scan_of("awkward")
    call, backward_call = make_calls(scan, (3, 1, 4), checkpoint=2)
    CTarget().backward(scan, backward_call(CTarget().forward(scan, call).saved))
    loops = 0
    for source in (cache / "c").glob("awkward_*.c"):
        words = [*command, *compiler.FLAGS, "-fopt-info-vec-optimized", str(source), "-o", os.devnull]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stderr
        done = {int(line.split(":")[1]) for line in told.splitlines() if "loop vectorized" in line}
        lines = source.read_text().split("\n")
        for number, line in enumerate(lines, 1):
            if "pragma omp simd" in line:
                length = next(i for i, below in enumerate(lines[number:]) if below == line.split("#")[0] + "}")
                assert done & set(range(number, number + length + 2)), f"{source.name}:{number}"
                loops += 1
    assert loops == 3  # forward, its replay, backward


def slow(monkeypatch):
    """How often something is built, each time taking a while."""
    built, plain = [], compiler.build

    def build(source, *more):
        built.append(source.name)
        time.sleep(0.2)
        plain(source, *more)

    monkeypatch.setattr(compiler, "build", build)
    return built


def test_begun_ahead_is_built_once(cache, monkeypatch):
    compiler.flags(compiler.command())
    built = slow(monkeypatch)
    text = "int snn_soon(int x) { return x + 1; }\n"
    for _ in range(3):
        compiler.ahead("snn_soon", text)
    assert compiler.function("snn_soon", text, "i") is compiler.function("snn_soon", text, "i")
    with ThreadPoolExecutor(3) as pool:
        words = (compiler.command(), compiler.flags(compiler.command()))
        list(pool.map(lambda _: compiler.library("snn_late", "int snn_late;\n", *words), range(3)))
    assert sorted(name.rsplit("_", 1)[0] for name in built) == ["snn_late", "snn_soon"]


def test_what_fails_ahead_is_said_when_it_is_needed(cache):
    text = "int snn_broken(int x) { return y; }\n"
    compiler.ahead("snn_broken", text)
    with pytest.raises(UnsupportedError, match="failed on generated code"):
        compiler.function("snn_broken", text, "i")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_while_something_is_built(cache, monkeypatch):
    compiler.flags(compiler.command())
    slow(monkeypatch)
    text = "int snn_forked(int x) { return x; }\n"
    compiler.ahead("snn_forked", text)
    time.sleep(0.05)
    pid = os.fork()
    if not pid:
        status = 1
        with contextlib.suppress(BaseException):
            compiler.function("snn_forked", text, "i")
            status = 0
        os._exit(status)
    for _ in range(100):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(pid, 9)
        pytest.fail("the child waits for ever")
    assert status == 0


def test_what_cannot_begin_ahead_is_built_when_it_is_needed(cache, monkeypatch):
    ended = ThreadPoolExecutor(1)
    ended.shutdown()
    monkeypatch.setattr(compiler, "_pool", lambda: ended)
    text = "void snn_at_exit(int *x) { *x = 7; }\n"
    compiler.ahead("snn_at_exit", text)
    written = ctypes.c_int(0)
    compiler.function("snn_at_exit", text, "p")(ctypes.addressof(written))
    assert written.value == 7
