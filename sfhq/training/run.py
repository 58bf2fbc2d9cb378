"""Run a training: resume it, log JSON lines, save grids of samples, stop at a time limit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sfhq.errors import IntegrityError, UsageError
from sfhq.images import write_atomic, write_image
from sfhq.lock import folder_lock
from sfhq.parts.records import Json, canonical_json
from sfhq.tensors import to_pixels
from sfhq.training.state import INDEX, load_state, save_state


class Training(Protocol):
    """A training that runs one step at a time and whose state can be saved and restored."""

    images: int

    @property
    def total(self) -> int:
        """Images after which the training ends."""

    def step(self) -> dict[str, Tensor]:
        """One update; losses by name, without a dimension, on the device where they arose."""

    def grid(self) -> Tensor | None:
        """(rows, columns, 3, R, R) images in [-1, 1] for looking at, or None for none."""

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""


def run_training(
    training: Training,
    out: Path,
    settings: dict[str, Json],
    *,
    log_seconds: float = 30.0,
    save_seconds: float = 300.0,
    limit_seconds: float | None = None,
    may_change: frozenset[str] = frozenset(),
    say: Callable[[str], None] = print,
) -> bool:
    """Train to the end or to a time limit; start where an earlier run stopped.

    Writes to `out`: `settings.json`; the state, see `save_state`; `log.jsonl`, one JSON line a
    log step with images, seconds, images per second and averaged losses;
    `grid-<images>.png`.

    Args:
        training: what to run.
        out: folder of the run.
        settings: of this run; a folder with a run of other settings is refused.
        log_seconds: time between log lines.
        save_seconds: time between states and grids.
        limit_seconds: stop after this time; the run can be resumed. None for no limit.
        may_change: settings, such as the length, that may differ from those of the run in `out`;
            `settings.json` keeps the earlier ones under "before".
        say: takes each log line.

    Returns:
        Whether the training has ended.

    Raises:
        UsageError: the folder holds a run of other settings.
        SfhqError: another process is training there.
        IntegrityError: the state there cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    with folder_lock(out):
        _claim(out, settings, may_change)
        return _run(training, out, log_seconds, save_seconds, limit_seconds, say)


def _run(
    training: Training,
    out: Path,
    log_seconds: float,
    save_seconds: float,
    limit_seconds: float | None,
    say: Callable[[str], None],
) -> bool:
    state = load_state(out)
    if state is not None:
        try:
            training.load_state_dict(state)
        except Exception as error:
            raise IntegrityError(
                f"{out / INDEX}: cannot be resumed ({type(error).__name__}); delete it to start "
                "again"
            ) from None
    started = logged = saved = time.monotonic()
    before = training.images
    averages: dict[str, Tensor] = {}
    while training.images < training.total:
        for name, value in training.step().items():
            # On the device: reading a number back would make it wait for each step.
            averages[name] = torch.lerp(averages.get(name, value), value, 0.05)
        now = time.monotonic()
        out_of_time = limit_seconds is not None and now - started > limit_seconds
        ended = training.images >= training.total
        if now - logged >= log_seconds or ended or out_of_time:
            losses = {name: round(float(value), 4) for name, value in averages.items()}
            now = time.monotonic()  # the device has caught up
            line = {
                "images": training.images,
                "seconds": round(now - started, 1),
                "images_per_second": round((training.images - before) / max(now - logged, 1e-9), 2),
                **losses,
            }
            with open(out / "log.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")
            say(json.dumps(line))
            logged, before = now, training.images
        if now - saved >= save_seconds or ended or out_of_time:
            save_run(training, out)
            saved = now
        if out_of_time and not ended:
            return False
    return True


def save_run(training: Training, out: Path) -> None:
    """Write state and grid, if there is one."""
    save_state(training.state_dict(), training.images, out)
    with torch.inference_mode():
        grid = training.grid()
    if grid is None:
        return
    rows, columns, channels, height, width = grid.shape
    flat = grid.permute(2, 0, 3, 1, 4).reshape(1, channels, rows * height, columns * width)
    write_image(out / f"grid-{training.images:08d}.png", np.ascontiguousarray(to_pixels(flat)[0]))


def _claim(out: Path, settings: dict[str, Json], may_change: frozenset[str]) -> None:
    path = out / "settings.json"
    before: list[Json] = []
    if path.is_file():
        try:
            found = dict(json.loads(path.read_text()))
            before = list(found.pop("before", []))
        except (ValueError, TypeError) as error:
            raise IntegrityError(
                f"{path}: cannot be read ({type(error).__name__}); give another --out"
            ) from None
        wanted = json.loads(canonical_json(settings))
        if found == wanted:
            return
        others = sorted(k for k in found | wanted if found.get(k) != wanted.get(k))
        if not may_change.issuperset(others):
            raise UsageError(
                f"{out}: holds a run of other settings ({', '.join(others)}); give the same "
                "settings or another --out"
            )
        state = load_state(out)
        images = 0 if state is None else state["images"]
        before.append({"until": images, **{k: found.get(k) for k in others}})
    write_atomic(path, canonical_json(settings | ({"before": before} if before else {})).encode())
