"""The Ray engine: the bytes of the local one, whoever is killed."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_together import Say, SayMore
from toy_stages import SHARD_SIZE, Dedup, Invert, Sample, note, run_all, tree

from cli import main
from sfhq.errors import MissingExtra, SfhqError, UsageError
from sfhq.parts.part import Part
from sfhq.pipeline import cluster
from sfhq.pipeline.cluster import Ray, Share, shares_of
from sfhq.pipeline.engine import run_stage, run_together
from sfhq.pipeline.workers import Batch

ROOT = Path(__file__).parent.parent
PATHS = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"


def run(root: Path, log: str = "", sleep: float = 0.0, engine: Ray | None = None) -> Part:
    part = Part.create(root, "toy")
    for stage in (Sample(log=log, sleep=sleep), Invert(log=log, sleep=sleep), Dedup(log, sleep)):
        run_stage(stage, part, engine=engine or Ray(2), shard_size=SHARD_SIZE)
    return part


def wait_for(ready: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


def processes(log: Path) -> list[int]:
    """The processes that began shards, in their order."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [int(line.split()[2]) for line in lines]


def test_two_nodes_write_the_bytes_of_one_process(nodes: None, tmp_path: Path) -> None:
    log = tmp_path / "log"
    run(tmp_path / "ray", str(log), 0.05)
    run_all(tmp_path / "local")
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    begun = [line.split() for line in log.read_text().splitlines()]
    by_sample = {pid for stage, _, pid in begun if stage == "sample"}
    assert len(by_sample) == 2
    assert str(os.getpid()) not in by_sample


KILLER = """
import os, sys, time
log, end = sys.argv[1], time.monotonic() + 60
while time.monotonic() < end:
    if os.path.exists(log):
        lines = open(log).read().splitlines()
        if len(lines) >= 3:
            os.kill(int(lines[2].split()[2]), 9)
            break
    time.sleep(0.01)
"""


@pytest.mark.long
def test_a_killed_worker_is_replaced(nodes: None, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", KILLER, str(log)]) as killer:
        run(tmp_path / "ray", str(log), 0.1)
        assert killer.wait() == 0
    run_all(tmp_path / "local")
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    begun = [" ".join(line.split()[:2]) for line in log.read_text().splitlines()]
    assert len(begun) == len({*begun}) + 1  # one shard was begun twice


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """Its cluster ends with it; the next run ends with the same bytes."""
    pytest.importorskip("ray")
    log, part = tmp_path / "log", tmp_path / "part"
    code = (
        "import sys, pathlib, test_ray\ntest_ray.run(pathlib.Path(sys.argv[1]), sys.argv[2], 0.3)\n"
    )
    environment = {**os.environ, "PYTHONPATH": PATHS}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(part), str(log)], env=environment
    ) as driver:
        wait_for(lambda: len(processes(log)) >= 2)
        driver.send_signal(signal.SIGKILL)
    workers = {*processes(log)}
    assert driver.pid not in workers
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    run_all(part)
    run_all(tmp_path / "local")
    assert tree(part) == tree(tmp_path / "local")


def test_an_error_of_a_stage_is_the_stage_s_own(nodes: None, tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    run_stage(Sample(), part, engine=Ray(1), shard_size=SHARD_SIZE)
    path = next((part.root / "records" / "sample").glob("*.parquet"))
    path.write_bytes(b"no parquet")
    with pytest.raises(Exception, match=path.name):
        run_stage(Invert(), part, engine=Ray(1))


def test_a_share_larger_than_the_cluster_is_refused(nodes: None, tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    engine = Ray(1, shares={"sample": Share(1, 1)})
    with pytest.raises(
        UsageError, match="a worker of sample wants 1 GPU, no machine of the Ray cluster has more"
    ):
        run_stage(Sample(), part, engine=engine)
    with pytest.raises(UsageError, match=r"wants 2 CPU, no machine .* has more than 1"):
        run_stage(Sample(), part, engine=Ray(1, shares={"sample": Share(2)}))  # two have one each
    assert part.shards("sample") == []


def test_stages_that_run_together_take_the_largest_share(nodes: None, tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    run_stage(Sample(6), part, shard_size=SHARD_SIZE)
    row = [Say(), SayMore()]
    with pytest.raises(UsageError, match=r"a worker of parse\+landmark wants 2 CPU, no machine"):
        run_together(row, part, engine=Ray(1, shares={"landmark": Share(2)}))
    run_together(row, part, engine=Ray(2))
    other = Part.create(tmp_path / "other" / "part")
    run_stage(Sample(6), other, shard_size=SHARD_SIZE)
    run_together(row, other)
    assert tree(part.root) == tree(other.root)


@dataclass(frozen=True)
class Stall:
    """Does numbers; one of them takes for ever at the first try."""

    folder: Path

    def __call__(self, number: int) -> int:
        note(str(self.folder / "log"), number, os.getpid())
        if number == 1 and not (self.folder / "begun").exists():
            (self.folder / "begun").touch()
            time.sleep(600)
        return number


@pytest.mark.long
def test_what_a_stalled_worker_was_in_is_done_by_another(nodes: None, tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "dedup.json").write_text("{}")
    done: list[int] = []
    batch = Batch(Stall(tmp_path), range(6), done.append, tmp_path, "dedup")
    Ray(2, slow_seconds=1.0).each(batch)
    assert sorted(done) == list(range(6))
    by = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines() if line[0] == "1"]
    assert len(by) == len({*by}) == 2


def test_shares_are_read() -> None:
    known = ("align", "invert")
    assert shares_of(["align=0.5", "invert=2:0.25"], known) == {
        "align": Share(0.5, 0),
        "invert": Share(2, 0.25),
    }
    for text in ("align", "align=", "align=-1", "align=nan", "parse=1", "align=0", "align=1.5"):
        with pytest.raises(UsageError, match="--share is"):
            shares_of([text], known)


def test_without_ray_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"--engine ray needs ray.*pip install 'sfhq\[ray\]'"):
        cluster.connect_module()


def test_options_of_ray_are_refused_without_it(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["dedup", str(tmp_path), "--address", "auto"])
    assert done.exit_code == 2
    assert "--address belongs to --engine ray" in done.output


@pytest.mark.long
def test_a_run_on_ray_prints_nothing_of_ray_s_own(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "cli", "ingest", str(ROOT / "sfhq" / "samples")]
    command += [str(tmp_path / "part"), "--engine", "ray"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert done.stderr == "sfhq: 2 files passed over: 1 .md, 1 no suffix\n"


class Unimportable:
    """Work of a module that the workers do not have."""

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, ("no_such_module",)


def test_a_machine_without_a_module_is_named(nodes: None, tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "dedup.json").write_text("{}")
    work: Any = Unimportable()
    with pytest.raises(SfhqError, match="has no module no_such_module; install the same sfhq"):
        Ray(1).each(Batch(work, range(2), print, tmp_path, "dedup"))


@pytest.mark.parametrize(
    ("address", "said", "code"),
    [
        ("127.0.0.1:1", "127.0.0.1:1: no Ray cluster answers", 1),
        ("here", "--address is here; wanted host:port", 2),
        ("host:0", "--address is host:0; wanted host:port", 2),
        ("ray://host:10001", "--address is ray://host:10001; wanted host:port", 2),
    ],
)
def test_an_address_without_a_cluster_is_one_line(
    tmp_path: Path, address: str, said: str, code: int
) -> None:
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "cli", "ingest", str(ROOT / "sfhq" / "samples")]
    command += [str(tmp_path / "part"), "--engine", "ray", "--address", address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == code
    assert done.stderr.startswith(f"sfhq: {said}")
    assert done.stderr.count("\n") == 1
