"""The program as a whole: help, versions, exit codes, signals."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import snncompile
from snncompile.cli import doctor

COMMAND = str(Path(sys.executable).with_name("snncompile"))
COMMANDS = ["build", "run", "import", "export", "show", "explain", "check", "doctor"]


def test_help(cli):
    done = cli("--help")
    assert done.status == 0
    assert all(name in done.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_examples(cli, name):
    done = cli(name, "--help")
    assert done.status == 0
    assert f"snncompile {name}" in done.out and "Example" in done.out


def test_no_command(cli):
    done = cli()
    assert done.status == 2 and "Usage" in done.out + done.err


def test_unknown_command_or_option(cli):
    done = cli("biuld")
    assert done.status == 2 and "build" in done.err
    assert cli("build", "--fast").status == 2
    assert cli("build").status == 2


def test_version(cli):
    done = cli("--version")
    assert (done.status, done.out) == (0, f"snncompile {snncompile.__version__}\n")


def test_a_defect_is_one_message(cli, built, monkeypatch):
    from snncompile.artifact import loading

    def broken(*_):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(loading, "_check_files", broken)
    done = cli("show", built)
    assert done.status == 2
    assert "ZeroDivisionError: oops" in done.err and "a defect of snncompile" in done.err
    assert "Traceback" not in done.err
    with pytest.raises(ZeroDivisionError):
        cli("--debug", "show", built)


def test_doctor(cli):
    done = cli("doctor")
    assert done.status == 0
    assert all(word in done.out for word in ("python", "torch", "triton", "GPU", "C compiler", "cache", "target torch"))
    assert all(word in done.out for word in ("onnxruntime", "nir", "h5py"))
    facts = cli("doctor", "--json").json
    assert facts["ok"] and facts["version"] == snncompile.__version__
    missing = [f for f in facts["findings"] if f["status"] == "missing"]
    assert all(f["advice"] for f in missing), "what is missing comes with how to get it"


def test_doctor_finds_a_broken_cache(cli, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SNNCOMPILE_CACHE", str(tmp_path / "file" / "cache"))
    done = cli("doctor")
    assert done.status == 1
    assert "BROKEN  cache" in done.out and "SNNCOMPILE_CACHE" in done.out


def test_doctor_finds_missing_packages(cli, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("triton", "safetensors", "nir") else "1.0")
    done = cli("doctor")
    assert done.status == 1
    assert "pip install safetensors" in done.out and "pip install triton" in done.out
    assert "pip install 'snncompile[nir]'" in done.out


def test_the_installed_command(model, tmp_path):
    done = subprocess.run([COMMAND, "show", "gone.py"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no file gone.py")
    assert done.stdout == ""


def test_a_closed_pipe_is_no_error(model, tmp_path):
    done = subprocess.run(f"{COMMAND} show net.py | head -1", shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith("graph net")
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_nothing(write, tmp_path, number, code):
    """A signal while the artifact is being written."""
    write("import snncompile as snn\n\n@snn.model\ndef net(x=snn.Spikes(2)):\n    return x >> snn.LIF()\n")
    program = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run where it is ignored
from snncompile.artifact import saving
def wait(*_):
    print("writing", flush=True)
    time.sleep(60)
saving.write_weights = wait
sys.argv = ["snncompile", "build", "net.py"]
from snncompile.cli.main import main
sys.exit(main())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "writing\n"
    assert any(name.startswith(".net.snn.tmp-") for name in os.listdir(tmp_path))
    time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert sorted(os.listdir(tmp_path)) == ["net.py"]


def test_file_errors_name_the_file(cli, model, monkeypatch):
    import snncompile.cli.show as show

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "g.txt")

    monkeypatch.setattr(show.Path, "write_text", refuse)
    done = cli("show", "net.py", "--out", "g.txt")
    assert done.status == 2 and "g.txt: permission denied" in done.err


@pytest.mark.slow
def test_help_is_quick(tmp_path):
    best = 10.0
    for _ in range(5):
        start = _time_of_children()
        subprocess.run([COMMAND, "--help"], check=True, capture_output=True, cwd=tmp_path)
        best = min(best, _time_of_children() - start)
    assert best < 0.6  # 0.25 s on an idle machine


def _time_of_children() -> float:
    """Seconds of the processor, which do not grow with what else the machine does, unlike those of the clock."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("build", "net.py", "--seed", "abc", "--json"), "Invalid value for '--seed'"),
        (("run", "net.snn", "--stepz", "3", "--json"), "No such option"),
    ],
)
def test_options_that_are_refused_as_json(cli, args, said):
    done = cli(*args)
    assert done.status == 2
    assert said in done.err
    assert done.json["ok"] is False
    assert done.json["error"]["kind"] == "usage"
    assert said in done.json["error"]["message"]


def test_doctor_says_that_cc_names_no_compiler(monkeypatch):
    monkeypatch.setenv("CC", "/no/such/cc -O1")
    assert doctor._compiler().status == "missing" and "'/no/such/cc -O1'" in doctor._compiler().found
    monkeypatch.setenv("CC", f"{sys.executable} -E")
    assert doctor._compiler().status == "ok"


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "snncompile", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == f"snncompile {snncompile.__version__}\n"
