"""Times of the explorer in headless Chromium on a synthetic part of many faces.

    python -m benchmarks.explore --rows 425000 --folder explore-bench

Makes the part once (records, captions, attributes, 256-number vectors as FLIP's, a few hundred
pictures that many faces share by hard links), starts `sfhq explore` on it and drives the page.
Words need FLIP's weights and tokens: those that are given are written down as the part's encoder;
without them the captions are searched. Prints one JSON object, with the load of the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from sfhq.parts.lineage import fingerprint
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord

SHARD, PICTURES, WIDTH = 5000, 300, 256
HAIR = ("black", "brown", "blond", "red", "grey", "white", "bald")
WORDS = ("smiling", "serious", "young", "old", "glasses", "beard", "earrings", "freckles")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NUMBERS = ("years", "male", "yaw", "pitch", "roll", "smile", "quality", "skin_ita", "eye_opening")
PACE = 700  # ms from what is shown to the next wish: nobody clicks faster
READY = "() => Number(document.body.dataset.ready ?? 0) > 0"


def make_part(root: Path, rows: int, digest: str) -> Part:
    """The synthetic part."""
    part, rng = Part.create(root), np.random.default_rng(0)
    data = []
    for _ in range(PICTURES):
        coarse = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        out = io.BytesIO()
        coarse.resize((256, 256), Image.Resampling.BICUBIC).save(out, "PNG")
        data.append(out.getvalue())
    hashes = [hashlib.sha256(d).hexdigest() for d in data]
    (root / "images").mkdir(exist_ok=True)
    for k, d in enumerate(data):
        (root / "images" / f"source{k}.png").write_bytes(d)
    centres = rng.standard_normal((40, WIDTH)).astype(np.float32)
    columns: dict[str, Any] = dict.fromkeys(NUMBERS, "number")
    columns |= {"hair_colour": "text", "glasses": "text", "caption": "text"}
    columns |= {"attributes_present": "text"}
    shards = range(0, rows, SHARD)
    for shard, first in enumerate(shards):
        count = min(SHARD, rows - first)
        vectors = centres[rng.integers(0, 40, count)] + rng.standard_normal((count, WIDTH))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        made, said, embedded = [], [], []
        for i in range(first, first + count):
            k, face = i % PICTURES, f"face{i:07d}"
            os.link(root / "images" / f"source{k}.png", root / "images" / f"{face}.png")
            record = FaceRecord(
                face, parent_id=f"p{i // 4:07d}", source=f"art/{i // 4}.jpg", candidate="strict"
            )
            words = [WORDS[w] for w in np.flatnonzero(rng.random(8) < 0.3)]
            hair = HAIR[int(rng.integers(0, 7))]
            numbers = {n: float(v) for n, v in zip(NUMBERS, rng.normal(50, 20, 9), strict=True)}
            caption = f"A photo of a person with {hair} hair, {', '.join(words)}, facing the camera"
            bare = record.with_columns(
                **numbers,
                hair_colour=hair,
                glasses="clear" if rng.random() < 0.2 else "none",
                caption=caption,
                attributes_present=", ".join(words),
            )
            made.append(FaceRecord(**{**vars(record), "hashes": {"images": hashes[k]}}))
            said.append(bare)
            embedded.append(record.with_array("embedding", vectors[i - first]))
        part.write_shard("synthesize", shard, made)
        part.write_about("attribute", shard, said, columns)
        part.write_about("embed", shard, embedded, {})
    counts = {"entered": rows, "alive": rows, "rejected": {}}
    plain = {"selected_by": {}, "complete": True, "shards": len(shards), "counts": counts}
    first_info = {"kind": "source", "settings": {}, "inputs": {}, "writes": ["images"]}
    part.write_stage_info("synthesize", {**plain, **first_info})
    inputs = {"synthesize": fingerprint(part, "synthesize")}
    told = {"encoder": "flip" if digest else "toy", "digest": digest or "0" * 64}
    for stage, settings, writes in (
        ("attribute", {}, [*columns]),
        ("embed", told, ["embedding"]),
    ):
        info = {"kind": "about", "settings": settings, "inputs": inputs, "writes": writes}
        part.write_stage_info(stage, {**plain, **info})
    return part


def milliseconds(values: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {"p50": round(float(np.percentile(values, 50)), 1),
            "p95": round(float(np.percentile(values, 95)), 1), "n": len(values)}  # fmt: skip


STEP = """async (set) => {
  const {state, change} = window.sfhq, begin = performance.now();
  Object.assign(state, {q: "", f: {}, r: {}, where: "", like: null, image: "", lasso: null,
    sort: "", down: true, seed: 0, mode: "grid", face: null}, set);
  const before = [...document.querySelectorAll(".tile")];
  const done = change(true);
  while (document.querySelector(".tile") === before[0])
    await new Promise(r => setTimeout(r, 2));
  const rows = performance.now() - begin;
  const image = document.querySelector(".tile img");
  while (!image.complete || !image.src) await new Promise(r => setTimeout(r, 2));
  const picture = performance.now() - begin;
  await done;
  return [rows, picture];
}"""

PAN = """async (seconds) => {
  const map = window.sfhqMap, times = [];
  const drawn = [];
  const end = performance.now() + seconds * 1000;
  let angle = 0, last = performance.now();
  while (performance.now() < end) {
    angle += 0.1;
    if ((angle * 10 | 0) % 40 < 20) map.move(6 * Math.cos(angle), 6 * Math.sin(angle));
    else map.zoom(1 + 0.02 * Math.sin(angle));
    await new Promise(r => requestAnimationFrame(r));
    const now = performance.now();
    times.push(now - last);
    drawn.push(map.drawn);
    last = now;
  }
  const begin = performance.now();
  map.moving = 0;
  map.paint();
  return [times, performance.now() - begin, drawn];
}"""


def drive(url: str, server: psutil.Process, rows: int, rounds: int) -> dict[str, Any]:
    """What the page takes, in milliseconds; the server's memory in bytes."""
    from playwright.sync_api import sync_playwright

    rng = np.random.default_rng(1)
    report: dict[str, Any] = {}
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(120_000)
        page.goto(url)
        page.wait_for_selector(".tile img[src]")
        page.wait_for_function(READY)
        page.wait_for_timeout(15_000)  # the first pictures and the network of words

        def steps(make: Any) -> dict[str, Any]:
            found = []
            for k in range(rounds):
                page.wait_for_timeout(PACE)
                found.append(page.evaluate(STEP, make(k)))
            return {
                "rows": milliseconds([f[0] for f in found]),
                "first_picture": milliseconds([f[1] for f in found]),
            }

        def filtered(k: int) -> dict[str, Any]:
            low = float(rng.uniform(20, 60))
            chosen = {"hair_colour": [HAIR[k % 7], HAIR[(k * 3 + 1) % 7]]}
            return {"f": chosen, "r": {NUMBERS[k % 9]: [low, low + 15]}}

        def near(k: int) -> dict[str, Any]:
            return {"like": [Path(url_part[0]).name, f"face{int(rng.integers(rows)):07d}"]}

        url_part = [page.text_content("#parts") or ""]
        report["filter"] = steps(filtered)
        report["similar"] = steps(near)
        first = [f"{a} person with {b}" for a in HAIR for b in WORDS]
        report["text"] = steps(lambda k: {"q": first[k % len(first)]})
        sql = steps(lambda k: {"where": f"{NUMBERS[k % 9]} > {float(rng.uniform(20, 60)):.3f}"})
        report["sql"] = sql
        page.evaluate("() => void Object.assign(window.sfhq.state, {q: '', where: ''})")
        begin = time.perf_counter()
        page.keyboard.press("m")
        page.wait_for_function("() => window.sfhqMap && window.sfhqMap.frames > 0")
        report["map_first_s"] = round(time.perf_counter() - begin, 2)
        times, full, drawn = page.evaluate(PAN, 8)
        report["map"] = {
            "frames_per_s": round(1000 * len(times) / sum(times), 1),
            "frame_p95_ms": round(float(np.percentile(times, 95)), 1),
            "all_dots_ms": round(full, 1),
            "dots_moving": int(np.median(drawn)),
        }
        browser.close()
    memory = server.memory_full_info()
    report["server_rss_gb"] = round(memory.rss / 2**30, 2)
    report["server_pss_gb"] = round(memory.pss / 2**30, 2)
    return report


def main() -> None:
    """Make the part, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=425_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--flip", type=Path, help="weights of FLIP with vectors of 256 numbers")
    told = parser.parse_args()
    digest = hashlib.sha256(told.flip.read_bytes()).hexdigest() if told.flip else ""
    if not (told.folder / "records" / "embed.json").exists():
        begin = time.perf_counter()
        make_part(told.folder, told.rows, digest)
        print(f"made in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    command = [sys.executable, "-m", "cli", "explore", str(told.folder), "--port", "0"]
    command += ["--encoder-weights", str(told.flip)] if told.flip else []
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        report: dict[str, Any] = {"rows": told.rows, "words": "flip" if told.flip else "captions"}
        report["start_s"] = round(time.perf_counter() - begin, 1)
        before = os.getloadavg()
        try:
            report |= drive(url, psutil.Process(process.pid), told.rows, told.rounds)
        finally:
            process.terminate()
    report["cpus"] = os.cpu_count()
    report["load_before_and_after"] = [round(v[0], 1) for v in (before, os.getloadavg())]
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
