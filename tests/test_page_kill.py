"""Servers of the page beside each other, and kill -9 of one that people answer to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from curating import faces_to_judge, liked

from curation.labels.store import FILE, LabelStore
from sfhq.parts.part import Part
from sfhq.web.guard import TOKEN_HEADER


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return faces_to_judge(tmp_path / "part", 120)


SERVER = [sys.executable, "-m", "cli", "curate"]


def started(part: Path) -> tuple[subprocess.Popen[str], str]:
    run = subprocess.Popen(
        [*SERVER, str(part)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert run.stdout is not None
    return run, run.stdout.readline().strip()


def test_a_second_server_is_refused(part: Part) -> None:
    run, _ = started(part.root)
    try:
        again = subprocess.run(
            [*SERVER, str(part.root)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert again.returncode == 1
        assert "another sfhq" in again.stderr and again.stderr.count("\n") == 1
    finally:
        run.terminate()
        run.wait()
        assert run.stdout is not None
        run.stdout.close()


def kill_and_count(part: Part, kills: int, seed: int) -> tuple[int, int]:
    """Post labels to a server that is killed again and again: acknowledged, and lost."""
    import http.client
    import json

    rng = np.random.default_rng(seed)
    faces = sorted(liked(part))
    acknowledged: set[str] = set()
    number = 0
    for _ in range(kills):
        run, url = started(part.root)
        port, token = int(url.split(":")[2].split("/")[0]), url.partition("token=")[2]
        deadline = None
        try:
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                one = {"face": faces[number % len(faces)], "action": "keep", "client": f"c{number}"}
                try:
                    connection.request(
                        "POST",
                        "/api/labels",
                        json.dumps({"annotator": "ann", "answers": [one]}),
                        {
                            "Content-Type": "application/json",
                            TOKEN_HEADER: token,
                            "Sec-Fetch-Site": "same-origin",
                        },
                    )
                    if connection.getresponse().status == 200:
                        acknowledged.add(f"c{number}")
                    number += 1
                    if deadline is None:
                        pause = float(rng.uniform(0.0, 0.25))
                        deadline = pause
                        threading.Timer(pause, os.kill, (run.pid, signal.SIGKILL)).start()
                except (OSError, http.client.HTTPException):
                    if run.poll() is not None:
                        break
                    time.sleep(0.02)
                finally:
                    connection.close()
        finally:
            run.wait()
            assert run.stdout is not None
            run.stdout.close()
    with LabelStore(part.root / FILE, readonly=True) as store:
        stored = {s.event.client_id for s in store.events()}
    return len(acknowledged), len(acknowledged - stored)


def test_three_kills_of_the_server_lose_nothing(part: Part) -> None:
    acknowledged, lost = kill_and_count(part, 3, seed=0)
    assert acknowledged > 3 and lost == 0


@pytest.mark.long
def test_twenty_five_kills_of_the_server_lose_nothing(part: Part) -> None:
    acknowledged, lost = kill_and_count(part, 25, seed=1)
    assert acknowledged > 25 and lost == 0
