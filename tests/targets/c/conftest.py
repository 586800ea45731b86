"""Everything here builds into a cache of its own, and shares the scans and the plain loop of the Triton tests."""

import os
import shutil
import sys

import pytest

HERE = os.path.dirname(__file__)
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "triton")]


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    before = os.environ.get("SNNCOMPILE_CACHE")
    os.environ["SNNCOMPILE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["SNNCOMPILE_CACHE"]
    else:
        os.environ["SNNCOMPILE_CACHE"] = before


def pytest_collection_modifyitems(items):
    if shutil.which(os.environ.get("CC", "cc").split()[0]) is None:
        for item in items:
            if str(item.path).startswith(HERE):
                item.add_marker(pytest.mark.skip(reason="needs a C compiler"))
