"""Fixtures that several test files share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Three libraries bring threads that spin while they wait; on busy cores tests crawl. Set before any
# of them is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")
# Test processes beside each other share the cores, and so do the processes that they start.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def small_numbers() -> Iterator[None]:
    """Training in a test's process rounds tiny numbers to 0; the next test has them again."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_flush_denormal(False)


@pytest.fixture
def shared_data() -> Path:
    """The development images beside the repo; tests that ask for it skip without them."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no development images at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of a tiny generator and a tiny e4e."""
    from tiny import write_networks

    return write_networks(tmp_path_factory.mktemp("networks"))
