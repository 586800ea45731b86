"""``MODEL.py[:NAME]``: which model is meant, and what is said about a file that has none."""

from __future__ import annotations

import subprocess
import sys

TWO = """\
import snncompile as snn
from snncompile import ms

@snn.model(dt=1 * ms)
def small(x=snn.Spikes(2)):
    return x >> snn.LIF()

@snn.model(dt=1 * ms)
def large(x=snn.Spikes(3)):
    return x >> snn.LIF()

alias = small
number = 3
"""


def refused(cli, *words: str, args: tuple = ("net.py",)) -> str:
    done = cli("show", *args)
    assert done.status == 2
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err, done.err
    return done.err


def test_two_models(cli, write):
    write(TWO)
    refused(cli, "net.py has 2 models; name one of them: net.py:small, net.py:large")
    assert "graph large" in cli("show", "net.py:large").out
    assert "graph small" in cli("show", "net.py:alias").out
    refused(cli, "there is no 'medium' in net.py; it has net.py:small, net.py:large", args=("net.py:medium",))
    refused(cli, "'number' in net.py is no model", args=("net.py:number",))


def test_an_imported_model_is_no_candidate(cli, write):
    write(TWO, "parts.py")
    write(
        "import snncompile as snn\nfrom parts import small\n\n@snn.model(dt=1e-3)\n"
        "def whole(x=snn.Spikes(2)):\n    return small(x) >> snn.LIF()\n"
    )
    before = list(sys.path)
    assert "graph whole" in cli("show", "net.py").out
    assert sys.path == before
    sys.modules.pop("parts", None)


def test_no_model(cli, write):
    write("x = 1\n")
    refused(cli, "net.py has no model: decorate a function with @snn.model")


def test_no_file(cli, write):
    write(TWO, "nets.py")
    refused(cli, "there is no file net.py. Python files there: nets.py")
    refused(cli, "there is no file gone/net.py", args=("gone/net.py:small",))
    write("x", "net.txt")
    refused(cli, "net.txt is no Python file", args=("net.txt",))


def test_syntax_error(cli, write):
    write("def f(:\n    pass\n")
    refused(cli, "net.py:1: SyntaxError", "def f(:")


def test_error_on_import(cli, write):
    write("import math\n\ndef f():\n    return math.nothing\n\nf()\n")
    message = refused(cli, "net.py:4: AttributeError: module 'math' has no attribute 'nothing'", "return math.nothing")
    assert "--debug shows the traceback" in message


def test_missing_module(cli, write):
    write("import not_installed_anywhere\n")
    refused(cli, "net.py:1: ModuleNotFoundError: No module named 'not_installed_anywhere'")


def test_a_file_beside_it_called_like_a_module_of_torch_does_no_harm(cli, write, tmp_path):
    (tmp_path / "queue.py").write_text("")
    write(TWO)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "snncompile.cli.main", "show", "net.py:small"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_error_in_a_module_beside_it(cli, write):
    write("boom = 1 / 0\n", "helper_that_fails.py")
    write("import helper_that_fails\n")
    refused(cli, "net.py:1: ZeroDivisionError")


def test_file_that_exits(cli, write):
    write("import sys\nsys.exit(3)\n")
    refused(cli, "net.py ends the program (exit 3) when it is imported")


def test_file_that_is_no_text(cli, tmp_path):
    (tmp_path / "net.py").write_bytes(b"\x00\x01\xff")
    refused(cli, "net.py")


def test_error_in_the_model_function(cli, write):
    write("import snncompile as snn\n\n@snn.model\ndef f(x=snn.Spikes(2)):\n    y = {}['gone']\n    return x\n")
    refused(cli, "net.py:5: KeyError: 'gone'", "y = {}['gone']")


def test_model_error_has_its_line(cli, write):
    write("import snncompile as snn\n\n@snn.model\ndef f(x=snn.Spikes(2)):\n    return x >> snn.LIF(tau_mem=-1.0)\n")
    refused(cli, "node 'lif' at", "net.py:5", "tau_mem must be greater than 0")


def test_debug_shows_the_traceback(cli, write):
    import pytest

    write("boom = 1 / 0\n")
    with pytest.raises(Exception, match="ZeroDivisionError"):
        cli("--debug", "show", "net.py")


def test_no_bytecode_is_left(cli, write, tmp_path):
    write(TWO)
    cli("show", "net.py:small")
    assert not (tmp_path / "__pycache__").exists()


def test_dataclasses_in_the_file(cli, write):
    write(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport snncompile as snn\n\n"
        "@dataclass\nclass Sizes:\n    n: int = 2\n\n"
        "@snn.model\ndef f(x=snn.Spikes(Sizes().n)):\n    return x >> snn.LIF()\n"
    )
    assert cli("show", "net.py").status == 0


def test_a_value_that_is_needed(cli, write):
    write("import snncompile as snn\n\n@snn.model\ndef f(x=snn.Spikes(2), *, n: int):\n    return x >> snn.Linear(n)\n")
    refused(cli, "model 'f' needs a value for n: --set n=...")
    assert "current[4]" in cli("show", "net.py", "--set", "n=4").out


def test_set_on_an_artifact(cli, built):
    done = cli("show", built, "--set", "hidden=3")
    assert done.status == 2 and "its hyperparameters are fixed" in done.err


def test_a_time_step_in_another_unit_is_noted(cli, tmp_path):
    (tmp_path / "seconds.py").write_text(
        "import snncompile as snn\n@snn.model(dt=1)\ndef net(x=snn.Spikes(3)):\n    return x >> snn.LIF()\n"
    )
    done = cli("show", "seconds.py")
    assert done.status == 0
    assert "note: lif.tau_mem is 0.02 s, far less than the time step of 1 s" in done.err
