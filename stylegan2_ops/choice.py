"""Choose between ways to compute the same by what measures fastest on this machine.

A choice is measured once and kept beside the compiled kernels, for this CPU model, number of
threads and version of torch. So later runs compute in the same way, and give the same bits. Where
it cannot be kept, the first way is taken without measuring, for the same reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from filelock import FileLock

from stylegan2_ops.build import build, cpu_features, cpu_model

Way = Callable[[], object]
RUNS = 3
LOCK_SECONDS = 60  # a measurement takes under a second

_chosen: dict[tuple[Path, str], str] = {}


def fastest(what: str, ways: Mapping[str, Callable[[], Way]]) -> str:
    """The name of the way that measured fastest here; measures if that is not known yet.

    Args:
        what: the work, with all sizes that change its speed. It names the choice.
        ways: by name, functions that get a way ready and return it. They are called only to
            measure.

    Raises:
        stylegan2_ops.build.BuildError: the kernels, beside which choices are kept, cannot be built.
    """
    path = choices_path()
    if _chosen.get((path, what)) not in ways:
        _chosen[path, what] = _known_or_measured(path, what, ways)
    return _chosen[path, what]


def choices_path() -> Path:
    """The file of this machine's choices.

    Raises:
        stylegan2_ops.build.BuildError: as `fastest`.
    """
    key = "\0".join((cpu_model(), cpu_features(), str(torch.get_num_threads()), torch.__version__))
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return build().parent / f"ways-{digest}.json"


def forget() -> None:
    """Forget the choices of this process; those in files stay."""
    _chosen.clear()


def _measure(ways: Mapping[str, Callable[[], Way]]) -> str:
    ready = {name: prepare() for name, prepare in ways.items()}
    taken = dict.fromkeys(ways, float("inf"))
    for turn in range(RUNS + 1):  # in turn, so that a change of the load affects all of them
        for name, way in ready.items():
            spent = seconds(way)
            if turn:
                taken[name] = min(taken[name], spent)
    return min(taken, key=lambda name: taken[name])


def seconds(way: Way) -> float:
    """Time of one call."""
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def _read(path: Path) -> dict[str, str]:
    """The choices in a file; none if it is missing or damaged."""
    try:
        ways = json.loads(path.read_text(encoding="utf-8"))["ways"]
        return {str(what): str(way) for what, way in ways.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _known_or_measured(path: Path, what: str, ways: Mapping[str, Callable[[], Way]]) -> str:
    """The choice in a file. If it has none, measure and write; one process at a time does so."""
    known = _read(path)
    if known.get(what) in ways:
        return known[what]
    lock = FileLock(
        path.with_suffix(".lock"), LOCK_SECONDS, preserve_lock_file=True, fallback_to_soft=False
    )
    try:
        with lock:
            held = _read(path)
            if held.get(what) not in ways:
                held[what] = _measure(ways)
                _write(path, held)
            return held[what]
    except OSError:  # a folder that only others may write, or a lock that is held for ever
        return next(iter(ways))


def _write(path: Path, ways: Mapping[str, str]) -> None:
    content = {
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "ways": dict(sorted(ways.items())),
    }
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(fresh, path)
