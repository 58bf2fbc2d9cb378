"""Measure the labelling page in headless Chromium: time from key to next face, labels per hour.

python benchmarks/curate.py PART --presses 300

PART is any part with faces and an embedding. The benchmark labels a copy of it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PRESS = """
async (key) => {
  const { marks } = globalThis.sfhq;
  const before = marks.length;
  const press = new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true });
  document.body.dispatchEvent(press);
  const mark = marks[before];
  if (!mark) return null;
  while (mark.painted === undefined) await new Promise((r) => setTimeout(r, 0));
  return mark.painted - mark.pressed;
}
"""


def percentiles(values: list[float]) -> str:
    """Median, 95th percentile and largest value of milliseconds, as text."""
    low, high = np.percentile(values, [50, 95])
    return f"p50 {low:.1f} ms, p95 {high:.1f} ms, worst {max(values):.1f} ms of {len(values)}"


def presses(page: Any, count: int) -> list[float]:
    """Milliseconds from each key press to the next face on the screen."""
    times: list[float] = []
    for i in range(count):
        found = page.evaluate(PRESS, "a" if i % 3 else "x")
        if found is None:
            page.wait_for_selector("#photo img")
            continue
        times.append(float(found))
    return times


def labels(part: Path) -> int:
    """Number of events in a part's labels."""
    from curation.labels.store import FILE, LabelStore

    with LabelStore(part / FILE, readonly=True) as store:
        return len(store.events())


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", type=Path)
    parser.add_argument("--presses", type=int, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        part = Path(folder) / "part"
        shutil.copytree(given.part, part, ignore=shutil.ignore_patterns("labels.sqlite*"))
        for title, retrain in (("no training", 10**6), ("training all the time", 5)):
            (part / "labels.sqlite").unlink(missing_ok=True)
            command = [sys.executable, "-m", "cli", "curate", str(part), "--retrain", str(retrain)]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=FLAGS
            )
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.goto(url)
            page.fill("#name", "bench")
            page.press("#name", "Enter")
            page.wait_for_selector("#photo img")
            page.wait_for_timeout(500)
            start = time.perf_counter()
            times = presses(page, given.presses)
            took = time.perf_counter() - start
            page.evaluate("sfhq.drained()")
            lost = len(times) - labels(part)
            print(f"single, {title}: {percentiles(times)}; {lost} lost", flush=True)
            print(f"  {3600 * len(times) / took:,.0f} labels per hour", flush=True)
            if retrain > 1000:
                grid(page, part)
            browser.close()
            server.terminate()
            server.wait()


def grid(page: Any, part: Path) -> None:
    """Label three pages of the grid, 6 by 6 faces each, and print labels per hour."""
    before = labels(part)
    page.keyboard.press("g")
    page.wait_for_selector("#grid button img")
    start = time.perf_counter()
    for _ in range(3):
        face = page.evaluate("sfhq.state.page[0]?.face")
        page.keyboard.press("Enter")
        for _ in range(500):
            if page.evaluate("sfhq.state.page[0]?.face") != face:
                break
            page.wait_for_timeout(2)
    took = time.perf_counter() - start
    page.evaluate("sfhq.drained()")
    done = labels(part) - before
    print(f"grid: {3600 * done / took:,.0f} labels per hour ({done} in {took:.2f} s)", flush=True)


if __name__ == "__main__":
    main()
