"""A page about the labels of a part: how many, of whom, which are doubtful, and how right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from annotate.exchange.faces import Labelled, labelled
from annotate.judge.figures import Figures
from annotate.judge.overlay import overlay
from sfhq.faces.classes import CLASSES
from sfhq.images import CLASS_COLOURS, COMPOSITE, encode_image
from sfhq.parts.part import Part
from sfhq.web.shell import jpeg_address, mark, render

SIDE = 220  # pixels of a picture
WIDTH, HEIGHT = 420, 150  # of a histogram
NUMBERS = (  # column -> title, and limits of its histogram
    ("quality", "Quality, 0 to 100", 0.0, 100.0),
    ("parse_certainty", "Certainty of the maps, 0 to 1", 0.0, 1.0),
    ("landmark_error", "Expected error of the 68, in eye distances", 0.0, 0.1),
    ("yaw", "Yaw in degrees", -60.0, 60.0),
    ("pitch", "Pitch in degrees", -40.0, 40.0),
    ("years", "Apparent age", 0.0, 90.0),
    ("skin_ita", "Skin: typology angle in degrees", -60.0, 80.0),
)
WORDS = (
    *("parse_flags", "landmark_flags", "hair_colour", "hair_length", "glasses", "hat"),
    *("facial_hair", "skin_tone", "attributes_present"),
)
BINS = 24


def report(part: Part, judged: Figures | None = None, examples: int = 24) -> str:
    """The page, as HTML that needs no other file.

    Args:
        part: with labels.
        judged: figures against the truth; None where it is unknown.
        examples: pictures of doubtful photos, and as many of the first ones.

    Raises:
        UsageError: no stage has labelled the part.
        IntegrityError: something in it is damaged.
    """
    faces = list(labelled(part))
    doubtful = sorted(faces, key=_certainty)[:examples]
    by_name = {face.name: face for face in faces}
    worst = [
        (by_name[name], f"{kind}: {100 * error:.1f} %")
        for name, kind, error in (judged.worst if judged else [])
        if name in by_name
    ]
    return render(
        "annotate.judge",
        "annotations.html",
        part=part.name,
        count=len(faces),
        masks=sum(face.mask is not None for face in faces),
        pointed=sum(face.points is not None for face in faces),
        width=WIDTH,
        height=HEIGHT,
        plots=_plots(faces),
        words=_words(faces),
        shares=_shares(faces),
        figures=judged,
        tables=[] if judged is None else tables(judged),
        groups=[
            (title, [(_picture(face), face.name, said) for face, said in group])
            for title, group in (
                ("Worst against the truth", worst[: 2 * examples]),
                ("Least certain", [(f, _flags(f)) for f in doubtful]),
                ("The first photos", [(f, _flags(f)) for f in faces[:examples]]),
            )
            if group
        ],
    )


def tables(judged: Figures) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, heads and rows of the tables of figures; also what the command prints."""
    found = []
    if judged.classes:
        keys = sorted({key for row in judged.classes.values() for key in row}, key=_order)
        rows = [
            [name, *(_number(row.get(key), 1 if key == "hd95" else 3) for key in keys)]
            for name, row in judged.classes.items()
        ]
        rows.append(["mean of classes", _number(judged.mean_f1), *[""] * (len(keys) - 1)])
        found.append(("Masks", ["class", *keys], rows))
    if judged.groups:
        rows = [
            [name, *(_percent(row[k]) for k in ("mean", "median", "p95"))]
            for name, row in judged.groups.items()
        ]
        found.append(("Points, in % of the eye distance", ["group", "mean", "median", "p95"], rows))
        rows = [
            ["faces: mean", _percent(judged.faces["mean"])],
            ["faces: failures above 8 %", _percent(judged.faces["failure_rate"])],
            ["faces: area under the curve to 8 %", _number(judged.faces["area"])],
            *(
                [f"{k}: median distance from the line", _percent(v)]
                for k, v in judged.curves.items()
            ),
            *(
                [f"flag {name}: {key}", _number(value)]
                for name, row in judged.flags.items()
                for key, value in row.items()
            ),
        ]
        found.append(("Faces, lines and flags", ["", ""], rows))
    rows = [[f"{name}, degrees", _number(v, 2)] for name, v in judged.angles.items()]
    rows += [["years", _number(judged.years, 1)]] if math.isfinite(judged.years) else []
    rows += [["soft hair", _number(judged.alpha)]] if math.isfinite(judged.alpha) else []
    if rows:
        found.append(("Mean absolute errors", ["", ""], rows))
    if judged.attributes:
        heads = ["attribute", "balanced accuracy", "auc", "calibration error", "worst group", ""]
        rows = [
            [
                name,
                *(_number(row[k]) for k in ("balanced_accuracy", "auc", "calibration")),
                row["worst_group"],
                _number(row["worst"]),
            ]
            for name, row in judged.attributes.items()
        ]
        means = [
            _number(_mean([row[k] for row in judged.attributes.values()]))
            for k in ("balanced_accuracy", "auc", "calibration")
        ]
        found.append(("Attributes", heads, [*rows, ["mean", *means, "", ""]]))
    return found


def _order(key: str) -> tuple[int, str]:
    return ("f1", "iou").index(key) if key in ("f1", "iou") else 2, key


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return float(np.mean(known)) if known else math.nan


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return "" if not math.isfinite(value) else f"{100 * value:.2f}"


def _certainty(face: Labelled) -> float:
    """How certain a photo's labels are; those without a face go first."""
    about = face.record.about
    sure = float(about.get("parse_certainty") or 0) if "parse_certainty" in about else 1.0
    error = about.get("landmark_error")
    return sure - 5 * float(error or 0)


def _flags(face: Labelled) -> str:
    about = face.record.about
    said = [str(about.get(name) or "") for name in ("parse_flags", "landmark_flags")]
    return ", ".join(sorted({word for text in said for word in text.split(", ") if word}))


def _picture(face: Labelled) -> str:
    image = overlay(face.photo, face.mask, face.points, SIDE)
    return jpeg_address(encode_image(np.asarray(image), "JPEG", COMPOSITE, 85))


def _plots(faces: list[Labelled]) -> list[dict[str, Any]]:
    plots = []
    for column, title, low, high in NUMBERS:
        values = [face.record.about.get(column) for face in faces]
        known = [float(v) for v in values if v is not None]
        if known:
            plots.append({"title": title, "marks": _histogram(known, low, high)})
    return plots


def _histogram(values: list[float], low: float, high: float) -> list[Any]:
    counts, _ = np.histogram(np.clip(values, low, high), BINS, (low, high))
    floor, top, step = HEIGHT - 18, max(int(counts.max()), 1), (WIDTH - 20) / BINS
    marks = [
        mark(
            "rect",
            class_="keep",
            x=10 + i * step,
            y=floor - (floor - 8) * int(n) / top,
            width=step - 1,
            height=(floor - 8) * int(n) / top,
        )
        for i, n in enumerate(counts)
        if n
    ]
    marks.append(mark("line", class_="axis", x1=10.0, x2=WIDTH - 10.0, y1=floor, y2=floor))
    beyond = {0.0: "≤ " if min(values) < low else "", 1.0: "≥ " if max(values) > high else ""}
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        text = f"{beyond.get(share, '')}{low + share * (high - low):g}"
        x = 10 + share * (WIDTH - 20)
        marks.append(mark("text", text, x=x, y=HEIGHT - 4.0, text_anchor=anchor))
    return marks


def _words(faces: list[Labelled]) -> list[tuple[str, list[tuple[str, int, str]]]]:
    found = []
    for column in WORDS:
        texts = [face.record.about.get(column) for face in faces]
        if any(text is not None for text in texts):
            counts = Counter(word for text in texts for word in str(text or "").split(", ") if word)
            rows = [(w, n, f"{100 * n / len(faces):.1f} %") for w, n in counts.most_common(24)]
            found.append((column.replace("_", " "), rows))
    return found


def _shares(faces: list[Labelled]) -> list[tuple[str, str, str, str]]:
    rows = [face.record.about.get("class_shares") for face in faces]
    known = np.array([row for row in rows if row])
    if not len(known):
        return []
    return [
        (
            name,
            "#{:02x}{:02x}{:02x}".format(*CLASS_COLOURS[i]),
            f"{100 * known[:, i].mean():.2f} %",
            f"{100 * (known[:, i] > 0).mean():.1f} %",
        )
        for i, name in enumerate(CLASSES)
    ]
