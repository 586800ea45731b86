"""Everything here builds into a cache of its own."""

import os
import shutil

import pytest

HERE = os.path.dirname(__file__)


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
