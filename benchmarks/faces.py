"""How many faces are found, how evenly over groups of people, and in what time.

    python benchmarks/faces.py ../shared/data/t2i ../shared/data/t2i.csv

The csv names each image in the column `file`, what it shows in `queries`, separated by "; ", and
the collection it belongs to in `figure`. Prints Markdown; `--out` keeps what was found.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from sfhq.faces.detector import FaceDetector, best_face

Row = dict[str, Any]

ASIDE = "turned aside"
GROUPS = {
    "asian": r"asian",
    "african": r"african",
    "irish, scandinavian": r"irish|scandinavian",
    "native american": r"native american",
    "persian, middle eastern": r"persian|middle eastern",
    "south-american, hispanic": r"south-american|hispanic",
    "babies and toddlers": r"bab|toddler",
    "children": r"child",
    "teenagers": r"teenage",
    "adults": r"adult",
    "old age": r"old age|elderly|wrinkly",
    "beards": r"beard|goatee|mustache|sideburns|stubble",
    "hats": r"\bhat\b|fedora|beanie|baseball cap|bandana|crown",
    "glasses": r"glasses",
    "jewellery, headphones": r"earring|necklace|chain|diamond|headphones",
    "make-up": r"make ?up|lipstick|eyeliner",
    "expressions": r"surprised|tongue|grim|angry|smiling|sad|fear|happy|disgust|neutral",
    "coloured hair": r"(green|blue|purple|pink|red|orange) .*hair|red hair|pink hair",
    "fair and grey hair": r"blond|gr[ae]y hair|white or gray",
    "hair styles": r"bald|afro|curly|straight hair|bob-cut|high top",
    "backgrounds": r"background|landscape|cityscape",
    "light": r"light|golden hour|blue hour",
    "eye colours": r"eyes$",
    "gaze": r"looking",
    ASIDE: r"profile|sideways|three-quarter|tilted",
}
REFUSALS = ("landmarks disagree", "profile")


def look(path: Path) -> Row:
    """What both ways find in one image, and their CPU seconds: other work does not count."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    found: Row = {}
    for mode, detector in (("hog", FaceDetector(detector="hog")), ("auto", FaceDetector())):
        started = time.process_time()
        faces = detector.detect(image)
        found[f"{mode}_seconds"] = time.process_time() - started
        found[mode] = len(faces)
        face = best_face(faces)
        largest = max(faces, key=lambda d: d.area, default=None)
        found[f"{mode}_reason"] = "" if face else largest.flaw if largest else "no face"
        found[f"{mode}_by"] = largest.detector if largest else ""
    return found


def table(rows: list[Row], groups: dict[str, list[Row]], least: int) -> list[str]:
    """Markdown: one line a group, and the spread of the shares between groups."""
    lines = [
        "| group | images | HOG finds | auto finds | auto crops | landmarks disagree | profile |",
        "|---|---|---|---|---|---|---|",
    ]
    shares: dict[str, list[float]] = {"HOG finds": [], "auto finds": [], "auto crops": []}
    for name, members in [("all", rows), *groups.items()]:
        if len(members) < least:
            continue
        count = len(members)
        values = (
            sum(r["hog"] > 0 for r in members) / count,
            sum(r["auto"] > 0 for r in members) / count,
            sum(not r["auto_reason"] for r in members) / count,
        )
        refused = (sum(r["auto_reason"] == reason for r in members) for reason in REFUSALS)
        cells = [name, str(count), *(f"{100 * v:.1f} %" for v in values), *map(str, refused)]
        lines.append(f"| {' | '.join(cells)} |")
        if name not in ("all", ASIDE):
            for values_so_far, value in zip(shares.values(), values, strict=True):
                values_so_far.append(value)
    lines.append("")
    for name, share in shares.items():
        if share:
            points = 100 * (max(share) - min(share))
            lines.append(f"Spread between groups, {ASIDE} left out: {name} {points:.1f} points.")
    return lines


def main() -> None:
    """Look at every image of the folder that the csv names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--bad", default="2_bad things", help="figure of what is not to be found")
    parser.add_argument("--least", type=int, default=20, help="images that make a group")
    parser.add_argument("--every", type=int, default=1, help="look at each n-th image only")
    parser.add_argument("--out", type=Path, help="JSON lines, one an image")
    options = parser.parse_args()
    with open(options.queries, newline="") as file:
        rows: list[Row] = list(csv.DictReader(file))[:: options.every]
    for row in rows:
        row.update(look(options.folder / row["file"]))
        if options.out:
            with open(options.out, "a") as file:
                file.write(json.dumps(row) + "\n")
    good = [r for r in rows if r["figure"] != options.bad]
    groups = {
        name: [r for r in good if any(re.search(p, q) for q in r["queries"].split("; "))]
        for name, p in GROUPS.items()
    }
    print("\n".join(table(good, groups, options.least)))
    print(f"\n`{options.bad}`:\n\n| query | images | cropped | refused |\n|---|---|---|---|")
    bad = [r for r in rows if r["figure"] == options.bad]
    for query in sorted({q for r in bad for q in r["queries"].split("; ")}):
        members = [r for r in bad if query in r["queries"].split("; ")]
        refused = Counter(r["auto_reason"] for r in members if r["auto_reason"])
        told = ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
        print(f"| {query} | {len(members)} | {len(members) - refused.total()} | {told} |")
    print()
    for mode in ("hog", "auto"):
        seconds = [1000 * r[f"{mode}_seconds"] for r in rows]
        print(
            f"{mode}: median {statistics.median(seconds):.0f} ms, "
            f"mean {statistics.fmean(seconds):.0f} ms of CPU time a photo"
        )


if __name__ == "__main__":
    main()
