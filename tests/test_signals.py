"""Ctrl-C and SIGTERM: one line, a fixed code, and no worker that speaks or stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from toy_stages import run_all, tree

ROOT = Path(__file__).parent.parent
SFHQ = """
import pathlib, sys
import click
import toy_stages
from sfhq.console import Command

@click.group(cls=Command)
def main(): ...

@main.command()
@click.argument("part")
@click.argument("log")
@click.argument("workers", type=int)
def go(part, log, workers):
    toy_stages.run_all(pathlib.Path(part), log, 0.2, workers)

if __name__ == "__main__":
    main()
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("signals", "code", "says"),
    [
        ([signal.SIGINT], 130, "sfhq: interrupted; run the same command again to go on\n"),
        ([signal.SIGINT] * 3, 130, "sfhq: interrupted; run the same command again to go on\n"),
        (
            [signal.SIGTERM],
            143,
            "sfhq: terminated; what is finished is kept; run the same command again to go on\n",
        ),
    ],
    ids=["once", "three times", "terminated"],
)
def test_a_run_that_is_ended_says_so_once(
    tmp_path: Path, workers: int, signals: list[signal.Signals], code: int, says: str
) -> None:
    script, log, part = tmp_path / "sfhq_toy.py", tmp_path / "log", tmp_path / "part"
    script.write_text(SFHQ)
    command = [sys.executable, str(script), "go", str(part), str(log), str(workers)]
    with subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        end = time.monotonic() + 60
        while time.monotonic() < end and (
            not log.exists() or log.read_text().count("\n") < workers
        ):
            time.sleep(0.02)
        children = psutil.Process(run.pid).children(recursive=True)
        for number, each in enumerate(signals):
            # A terminal sends Ctrl-C to all processes of the group, `kill` to one.
            if each == signal.SIGINT:
                os.killpg(run.pid, each)
            else:
                run.send_signal(each)
            if number + 1 < len(signals):
                time.sleep(0.05)
        assert run.stdout is not None
        said = run.stdout.read()
        assert run.wait(60) == code
    assert said == says
    assert psutil.wait_procs(children, 30)[1] == []
    if workers == 2:
        run_all(part)
        run_all(tmp_path / "whole")
        assert tree(part) == tree(tmp_path / "whole")


def test_signals_that_others_handle_are_left_alone() -> None:
    from sfhq.console import ended_by_signals

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with ended_by_signals():
        inside = signal.getsignal(signal.SIGTERM)
        assert inside != before[0]
        with ended_by_signals():
            assert signal.getsignal(signal.SIGTERM) == inside
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
