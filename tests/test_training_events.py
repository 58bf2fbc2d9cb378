"""A training's log as TensorBoard's events."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from sfhq.errors import IntegrityError, UsageError
from sfhq.training.events import write_events

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_events_read_back_and_go_on(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "events"
    run.mkdir()
    rows = [{"images": 64 * i, "loss": 1.0 / i, "seconds": float(i)} for i in range(1, 4)]
    log = run / "log.jsonl"
    log.write_text("".join(json.dumps(r) + "\n" for r in rows[:2]) + '{"images": 192')
    result = CliRunner().invoke(main, ["train", "events", str(run), str(out)])
    assert result.exit_code == 0, result.output
    done = log.read_bytes().rfind(b"\n") + 1
    assert f"up to byte {done}" in result.output
    log.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert write_events(run, out, done) == len(log.read_bytes())
    assert write_events(run, out, len(log.read_bytes())) == len(log.read_bytes())
    read = accumulator.EventAccumulator(str(out))
    read.Reload()
    found = [(e.step, round(e.value, 4)) for e in read.Scalars("loss")]
    assert found == [(64, 1.0), (128, 0.5), (192, 0.3333)]
    again = CliRunner().invoke(main, ["train", "events", str(run), str(out)])
    assert again.exit_code == 2 and "not empty" in again.output


def test_what_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such log"):
        write_events(tmp_path, tmp_path / "out")
    (tmp_path / "log.jsonl").write_text("hello\n")
    with pytest.raises(IntegrityError, match="damaged at b'hello'"):
        write_events(tmp_path, tmp_path / "out")
