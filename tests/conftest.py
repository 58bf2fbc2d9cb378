"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from encoders.e4e.network import E4e
    from sfhq.synthesis.candidates import CandidateMaker
    from sfhq.synthesis.latents import LatentPrior
    from stylegan2_ops.generator import Generator

# Three libraries bring threads that spin while they wait; on busy cores tests crawl. Set before any
# of them is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")
# Test processes beside each other share the cores, and so do the processes that they start.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

# In the background of a shell Ctrl-C is ignored, by what tests start as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(scope="module")
def generator() -> Generator:
    """A tiny one; files of tests that look at another have their own."""
    from tiny import tiny_generator

    return tiny_generator()


@pytest.fixture(scope="module")
def encoder() -> E4e:
    """A tiny e4e of `generator`."""
    from tiny import tiny_e4e

    return tiny_e4e()


@pytest.fixture(scope="module")
def prior(generator: Generator) -> LatentPrior:
    """That of `generator`."""
    from sfhq.synthesis.latents import LatentPrior

    return LatentPrior.of(generator, 1024)


@pytest.fixture(scope="module")
def maker(generator: Generator, encoder: E4e, prior: LatentPrior) -> CandidateMaker:
    """Makes candidates with both."""
    from sfhq.synthesis.candidates import CandidateMaker

    return CandidateMaker(generator, encoder, prior, seed=11)


@pytest.fixture(scope="module")
def nodes() -> Iterator[None]:
    """A Ray cluster of two nodes on this machine, with one core each."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    tests = Path(__file__).parent
    before, handler = {**os.environ}, signal.getsignal(signal.SIGTERM)
    os.environ.update(
        PYTHONPATH=f"{tests.parent}{os.pathsep}{tests}",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    )
    args: Any = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    made: Any = Cluster(initialize_head=True, head_node_args={**args, "include_dashboard": False})
    made.add_node(**args)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    made.shutdown()
    signal.signal(signal.SIGTERM, handler)  # Ray puts its own in place
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a page; tests that ask for it skip where there is none."""
    from browsing import launched

    yield from launched()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Opens the page of `sfhq curate` as a person, see `browsing.opened_pages`."""
    from browsing import opened_pages

    yield from opened_pages(browser)
