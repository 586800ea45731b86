"""What every test shares: thread counts, random numbers, the hypothesis profile, and skipping of GPU tests."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread per worker, or the workers fight over the cores. Set before torch and generated OpenMP code load.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["MKL_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)

# A run gives the same answer each time, here and in CI; HYPOTHESIS_PROFILE=explore looks for new examples instead.
settings.register_profile("default", deadline=None, derandomize=True, max_examples=40, print_blob=True)
settings.register_profile("explore", deadline=None, derandomize=False, max_examples=500, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """A test draws the same random numbers whichever tests ran before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def missing_gpu() -> str | None:
    """Why tests marked `gpu` cannot run here, or None when they can."""
    import torch

    if not torch.backends.cuda.is_built():
        return f"needs a CUDA device: torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "needs a CUDA device: torch finds none"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if "gpu" in item.keywords]
    if marked and (reason := missing_gpu()):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))
