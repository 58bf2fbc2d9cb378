"""Measure the time to fit a taste, and how many labels the active order saves.

python benchmarks/taste.py
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import numpy.typing as npt

from curation.page.order import next_faces
from curation.taste.judge import auc_with_interval
from curation.taste.model import TasteSettings, fit_taste

QUICK = TasteSettings(folds=3, strengths=(0.003, 0.03), rounds=30)
GOAL = 0.95
STEP = 25


def annotator(
    count: int, seed: int, width: int = 768
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Random faces (count, width), a hidden rule that keeps a tenth of them, and a person's labels.

    The rule is linear with a quadratic term, in all coordinates. 1.5 % of the labels are wrong, so
    two labels of the same face agree in 97 % of cases.
    """
    rng = np.random.default_rng(seed)
    spectrum = (np.arange(1, width + 1) ** -0.4).astype(np.float32)
    x = rng.standard_normal((count, width), dtype=np.float32) * spectrum
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    weights = rng.standard_normal(width) * spectrum
    bent = rng.standard_normal(width) * spectrum
    line, curve = x @ weights, (x @ bent) ** 2
    value = line / line.std() + 0.3 * curve / curve.std()
    rule = value > np.quantile(value, 0.9)
    slips = rng.random(count) < 0.015
    return x.astype(np.float32), rule, rule ^ slips


def labels_needed(seed: int, active: bool, most: int) -> int:
    """Number of labels until the AUC on unseen faces, with the rule as truth, reaches the goal."""
    x, rule, said = annotator(12_000, seed)
    test, pool = np.arange(4000), np.arange(4000, 12_000)
    rng = np.random.default_rng(seed + 100)
    known = rng.choice(pool, 50, replace=False).tolist()
    while len(known) < most:
        rows = np.array(known)
        if min(int(said[rows].sum()), int((~said[rows]).sum())) >= 8:
            model = fit_taste({"x": x[rows]}, said[rows], settings=QUICK)
            if auc_with_interval(model.score({"x": x[test]}), rule[test])[0] >= GOAL:
                return len(known)
        free = np.setdiff1d(pool, rows)
        if active and min(int(said[rows].sum()), int((~said[rows]).sum())) >= 8:
            scores, spread = (np.zeros(len(x)), np.zeros(len(x)))
            scores[free], spread[free] = model.judge({"x": x[free]})
            chosen = next_faces(scores, spread, x, free, STEP - 2, rng)
            chosen += rng.choice(np.setdiff1d(free, chosen), 2, replace=False).tolist()
        else:
            chosen = rng.choice(free, STEP, replace=False).tolist()
        known += chosen
    return most


def main() -> None:
    """Run the benchmark and print its figures."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5000, 768)).astype(np.float32)
    y = x @ rng.standard_normal(768) + 8 * rng.standard_normal(5000) > 0
    times = []
    for _ in range(3):
        start = time.perf_counter()
        fit_taste({"x": x}, y)
        times.append(time.perf_counter() - start)
    print(f"fit and cross-validate 5,000 x 768: {statistics.median(times):.1f} s", flush=True)
    ratios = []
    for seed in range(5):
        random = labels_needed(seed, active=False, most=3000)
        active = labels_needed(seed, active=True, most=3000)
        ratios.append(active / random)
        print(f"AUC {GOAL}: {random} labels in random order, {active} in active order", flush=True)
    print(f"active / random, median of {len(ratios)} runs: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
