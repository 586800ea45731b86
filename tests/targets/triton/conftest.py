"""Everything here runs in Triton's interpreter, which has to be asked for before Triton is imported."""

import os

import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    os.environ["SNNCOMPILE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _quiet():
    import numpy as np

    with np.errstate(all="ignore"):  # the interpreter computes with numpy, which remarks on every infinity
        yield


@pytest.fixture
def run_program():
    """Runs a program of any inputs through a generated kernel, as a stateless scan of one step."""
    import torch

    from snncompile.ir.program import Program
    from snncompile.targets.scan import ForwardCall, Scan
    from snncompile.targets.triton.target import TritonTarget

    def run(program, values):
        none = Program((), (), ())
        names = program.output_names
        scan = Scan("probe", (), program.inputs, names, (), (), none, program, (), none, none, (), none)
        size = next(iter(values.values())).numel()
        inputs = tuple(values[n].reshape(1, 1, size) for n in program.inputs)
        got = TritonTarget().forward(scan, ForwardCall(inputs, (), (), (1, 1, size), names))
        return {n: torch.flatten(v) for n, v in got.stored.items()}

    return run
