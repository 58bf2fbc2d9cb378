"""Time several jobs in turn, so that a change of the machine's load affects all of them."""

from __future__ import annotations

import time
from collections.abc import Callable

Job = Callable[[], object]


def measure(jobs: dict[str, Job], runs: int) -> dict[str, list[float]]:
    """Seconds of each job by name, one value per round.

    Args:
        jobs: jobs by name; each round runs all of them in turn.
        runs: number of rounds, after one more to warm up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(runs + 1):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds
