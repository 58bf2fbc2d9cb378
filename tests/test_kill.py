"""kill -9 at random moments: the part ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from toy_stages import SHARD_SIZE, Sample, run_all, tree

ROOT = Path(__file__).parent.parent
KILLS = 20
SHARDS = -(-Sample().count // SHARD_SIZE)

# Runs in a process of its own that forks each victim, so that a kill costs no interpreter start.
# The delays are drawn so that all of them together are about as long as one whole run.
DRIVER = """
import os, pathlib, random, signal, sys, time
import numpy, pyarrow.parquet, PIL.PngImagePlugin
import toy_stages
root, log, kills, sleep = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), 0.004

def start(folder, log):
    pid = os.fork()
    if pid == 0:
        try:
            toy_stages.run_all(folder, log, sleep)
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(1)
        os._exit(0)
    return pid

began = time.monotonic()
assert os.waitpid(start(root / "whole", ""), 0)[1] == 0
whole = time.monotonic() - began
draw, killed = random.Random(0), 0
for number in range(kills):
    delay = draw.uniform(0, 0.01) if number % 4 == 0 else draw.uniform(0, 2 * whole / kills)
    pid = start(root / "part", log)
    time.sleep(delay)
    os.kill(pid, 9)
    status = os.waitpid(pid, 0)[1]
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, status
    killed += os.WIFSIGNALED(status)
assert os.waitpid(start(root / "part", log), 0)[1] == 0
print(killed)
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


def test_twenty_kills_leave_no_trace(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", DRIVER, str(tmp_path), str(log), str(KILLS)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    kills = int(done.stdout)
    assert kills >= KILLS // 2, "the runs ended before they could be killed"
    found, wanted = tree(tmp_path / "part"), tree(tmp_path / "whole")
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []
    assert json.loads(found["records/dedup.json"])["complete"]
    # A shard is begun once, and once more for each kill that met it; nothing else is redone.
    begun = [line.split()[:2] for line in log.read_text().splitlines()]
    times = Counter(stage for stage, _ in begun)
    redone = times["sample"] + times["invert"] - 2 * SHARDS
    assert redone >= 0
    assert redone + times["dedup"] - 1 <= kills
    assert {(stage, shard) for stage, shard in begun} == {
        ("dedup", "all"),
        *((stage, str(i)) for stage in ("sample", "invert") for i in range(SHARDS)),
    }


def is_running(pid: int) -> bool:
    """Neither gone nor a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_workers_die_with_the_run(tmp_path: Path) -> None:
    """A worker that lived on would write beside the run that comes after."""
    log = tmp_path / "log"
    code = (
        "import pathlib, sys, toy_stages\n"
        "if __name__ == '__main__':\n"
        "    toy_stages.run_all(pathlib.Path(sys.argv[1]), sys.argv[2], 0.5, workers=2)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "part"), str(log)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        end = time.monotonic() + 60
        while time.monotonic() < end and (not log.exists() or log.read_text().count("\n") < 2):
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
    workers = {int(line.split()[2]) for line in log.read_text().splitlines()}
    assert run.pid not in workers
    end = time.monotonic() + 20
    while time.monotonic() < end and any(is_running(pid) for pid in workers):
        time.sleep(0.02)
    assert not [pid for pid in workers if is_running(pid)]
    run_all(tmp_path / "part")
    run_all(tmp_path / "whole")
    assert tree(tmp_path / "part") == tree(tmp_path / "whole")
