"""Everything here runs in Triton's interpreter, which has to be asked for before Triton is imported."""

import os
import sys

import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")
sys.path.insert(0, os.path.dirname(__file__))  # the helpers beside the tests


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    os.environ["SNNCOMPILE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
