"""Measure what Ray costs beside worker processes of this machine, and compare every byte.

    python benchmarks/engines.py PART --stages detect embed dedup --workers 2

PART is copied with its images and the records of the stages that made its faces; the stages then
run on a copy by each engine, in turn. PART itself is only read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sfhq.parts.part import Part

PROOF = "audit/dedup.tiles.json"  # only a search by tiles writes one


def copy(part: Part, target: Path) -> None:
    """The faces of a part without what is said of them; images are linked."""
    made = [s for s in part.stages() if part.stage_info(s)["kind"] != "about"]
    names = {n for s in made for n in part.stage_info(s)["writes"]}
    for folder in [f"records/{s}" for s in made] + [*names] + [f"arrays/{n}" for n in names]:
        if (part.root / folder).is_dir():
            shutil.copytree(part.root / folder, target / folder, copy_function=os.link)
    for stage in made:
        shutil.copy(part.root / "records" / f"{stage}.json", target / "records")
    said = json.loads((part.root / "part.json").read_text())
    (target / "part.json").write_text(json.dumps({**said, "ended": made}))


def tree(root: Path) -> dict[str, str]:
    """Relative path -> digest of all files."""
    found = (p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def run(part: Path, stages: list[str], engine: str, workers: int) -> dict[str, float]:
    """Seconds of all stages in one process, the start of the engine included."""
    code = (
        "import json, sys, time\n"
        "from sfhq.console import engine_of\n"
        "from sfhq.pipeline.recipe import load_recipe\n"
        "from sfhq.pipeline.run import Pipeline\n"
        "part, engine, workers, *stages = sys.argv[1:]\n"
        "made = engine_of(int(workers), engine, None, ())\n"
        "said = {}\n"
        "for stage in stages:\n"
        "    began = time.perf_counter()\n"
        "    Pipeline.from_recipe(load_recipe(None), [stage]).run(part, engine=made)\n"
        "    said[stage] = time.perf_counter() - began\n"
        "print(json.dumps(said))\n"
    )
    command = [sys.executable, "-c", code, str(part), engine, str(workers), *stages]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", type=Path)
    parser.add_argument("--stages", nargs="+", default=["detect", "embed", "dedup"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="Where to write, on the disk of PART.")
    given = parser.parse_args()
    part = Part.open(given.part)
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            trees = {}
            engines = ["local", "ray"] if number % 2 == 0 else ["ray", "local"]
            for engine in engines:
                root = Path(folder) / engine / "part"
                root.mkdir(parents=True)
                copy(part, root)
                load, began = os.getloadavg()[0], time.perf_counter()
                said = run(root, given.stages, engine, given.workers)
                whole = time.perf_counter() - began
                each = ", ".join(f"{k} {v:.1f}" for k, v in said.items())
                print(f"{engine:<6} {whole:6.1f} s ({each}); load before {load:.1f}", flush=True)
                trees[engine] = tree(root)
                trees[engine].pop(PROOF, None)
                trees[engine].pop("part.json")
            same = trees["local"] == trees["ray"]
            print(f"{len(trees['ray'])} files, {'the same bytes' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
