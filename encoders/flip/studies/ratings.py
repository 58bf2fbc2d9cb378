"""People judge pairs of images and captions: a page to rate on, and what the ratings say.

The page is one file that needs no server; answers stay in the browser until they are saved as a
table. Some pairs come twice, and some images come with the caption of another face: who does not
agree with himself, or finds that these fit, was not looking. Which ones they are only the key says.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import cohen_kappa_score

from encoders.flip.data import Captioned
from encoders.flip.studies.arms import interval, table
from encoders.flip.studies.facts import FaceFacts
from encoders.flip.studies.fairness import Value, share
from sfhq.errors import IntegrityError, UsageError
from sfhq.images import write_atomic
from sfhq.web.shell import jpeg_address, render

PAGE, KEY = "rate.html", "key.json"
QUESTIONS = ("natural", "grammar", "fits")  # 1 to 5 each
MISTAKES = "mistakes"  # column of what the rater ticked as wrong, separated by ";"
WRONG = ("sex or age", "hair", "face", "expression or gaze", "worn things", "something else")
COLUMNS = ("rater", "item", *QUESTIONS, MISTAKES)
FITTING = 3  # a caption of another face that is rated at least so was not looked at
FACTS = ((0, 4), (5, 8), (9, 99))  # facts of a caption: strata


@dataclass(frozen=True)
class Item:
    """A pair on the page.

    Attributes:
        item: its name on the page, which says nothing.
        face: whose image it is.
        text: the caption.
        stratum: what it was drawn from.
        repeats: the item that it repeats; empty for none.
        foreign: whether the caption is that of another face.
    """

    item: str
    face: str
    text: str
    stratum: str
    repeats: str = ""
    foreign: bool = False


def stratum_of(face: str, text: str, facts: FaceFacts | None, by: str = "") -> str:
    """How many words a caption has, and the face's group where one was asked for."""
    words = len(text.split())
    length = next(
        f"{low}-{high}" if high < 999 else f"{low}+"
        for low, high in ((1, 15), (16, 30), (31, 45), (46, 999))
        if low <= max(words, 1) <= high
    )
    group = ""
    if facts is not None and by and face in facts.faces:
        group = facts.faces[face].groups.get(by, "") or "unknown"
    return f"{length} words" + (f", {group}" if group else "")


def draw(
    data: Captioned,
    count: int,
    seed: int = 0,
    repeats: float = 0.05,
    foreign: float = 0.03,
    facts: FaceFacts | None = None,
    by: str = "",
) -> list[Item]:
    """Draw pairs, as many of each stratum as there is room for, in a random order.

    Args:
        data: images with captions.
        count: pairs, before repeats and captions of other faces are added.
        seed: of all choices.
        repeats, foreign: shares of the pairs that come twice, or with a foreign caption.
        facts, by: of the faces, and the kind of groups that are strata as well.

    Raises:
        UsageError: there are fewer pairs.
    """
    rng = random.Random(seed)
    pairs = [(i, t) for i, texts in enumerate(data.texts) for t in texts]
    if not 1 <= count <= len(pairs):
        raise UsageError(f"{count} pairs wanted; there are {len(pairs)}: give a smaller --count")
    strata: dict[str, list[tuple[int, str]]] = {}
    for i, text in pairs:
        strata.setdefault(stratum_of(data.names[i], text, facts, by), []).append((i, text))
    for members in strata.values():
        rng.shuffle(members)
    chosen: list[tuple[str, int, str]] = []
    while len(chosen) < count:  # in turn, so that rare strata are full
        for name in sorted(strata):
            if strata[name] and len(chosen) < count:
                chosen.append((name, *strata[name].pop()))
    order = list(range(len(chosen)))
    rng.shuffle(order)
    items = [
        Item(f"p{n:05d}", data.names[chosen[at][1]], chosen[at][2], chosen[at][0])
        for n, at in enumerate(order)
    ]
    again = rng.sample(items, round(repeats * count))
    faces = dict(zip(data.names, data.faces, strict=True))
    others = rng.sample(items, round(foreign * count))
    added = [Item("", o.face, o.text, o.stratum, repeats=o.item) for o in again]
    for item in others:
        foreign_texts = [
            i.text for i in items if faces[i.face] != faces[item.face] and i.text != item.text
        ]
        if foreign_texts:
            added.append(Item("", item.face, rng.choice(foreign_texts), item.stratum, foreign=True))
    for n, item in enumerate(added):
        # Far from the first time, if it is a repeat.
        at = rng.randrange(len(items) // 2, len(items) + 1) if len(items) > 1 else len(items)
        items.insert(at, Item(f"q{n:05d}", *list(asdict(item).values())[1:]))
    # Names must not tell which were added.
    names = {item.item: f"i{n:05d}" for n, item in enumerate(items)}
    return [
        Item(
            names[i.item],
            *(i.face, i.text, i.stratum),
            names[i.repeats] if i.repeats else "",
            i.foreign,
        )
        for i in items
    ]


def write_page(items: Sequence[Item], data: Captioned, folder: Path, title: str) -> None:
    """Write the page and its key.

    Args:
        items: of `draw`.
        data: that they were drawn from.
        folder: made if it is missing; a key in it is not replaced.
        title: of the page.

    Raises:
        UsageError: the folder holds a key already.
    """
    if (folder / KEY).exists():
        raise UsageError(f"{folder / KEY}: exists; ratings may belong to it: give another folder")
    place = {name: i for i, name in enumerate(data.names)}
    shown = []
    for item in items:
        buffer = io.BytesIO()
        pixels = data.picture(place[item.face])
        Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
        shown.append(
            {"item": item.item, "text": item.text, "image": jpeg_address(buffer.getvalue())}
        )
    page = render(
        "encoders.flip.studies", "rate.html", title=title, items=shown, wrong=WRONG, columns=COLUMNS
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / PAGE, page.encode())
    key = {"format": 1, "items": [asdict(item) for item in items]}
    write_atomic(folder / KEY, (json.dumps(key, indent=1) + "\n").encode())


def read_key(path: Path) -> list[Item]:
    """The items of a key.

    Raises:
        UsageError: there is none.
        IntegrityError: it is damaged.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such key; wanted the {KEY} beside the page")
    try:
        return [Item(**row) for row in json.loads(path.read_bytes())["items"]]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: damaged ({type(error).__name__}: {error})") from None


Ratings = Mapping[str, Mapping[str, Mapping[str, Any]]]  # rater -> item -> question -> answer


def read_ratings(paths: Sequence[Path], items: Sequence[Item]) -> dict[str, dict[str, Any]]:
    """Ratings of tables that the page saved; of a pair that was rated twice the last one counts.

    Raises:
        UsageError: a table is missing or lacks columns, names an unknown item, or holds an answer
            that is not 1 to 5.
    """
    known = {item.item for item in items}
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path}: no such table of ratings")
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not set(COLUMNS[:-1]) <= {*(reader.fieldnames or ())}:
                raise UsageError(
                    f"{path}: has the columns {', '.join(reader.fieldnames or ()) or 'none'}; "
                    f"wanted {', '.join(COLUMNS)}"
                )
            for number, row in enumerate(reader, 2):
                if row["item"] not in known:
                    raise UsageError(
                        f"{path}, line {number}: item {row['item']!r} is not in the key; is it "
                        "that of another page?"
                    )
                try:
                    answers: dict[str, Any] = {q: int(row[q]) for q in QUESTIONS}
                except (TypeError, ValueError):
                    answers = {}
                if not answers or not all(1 <= v <= 5 for v in answers.values()):
                    raise UsageError(
                        f"{path}, line {number}: wanted 1 to 5 for {', '.join(QUESTIONS)}"
                    )
                wrong = (row.get(MISTAKES) or "").split(";")
                answers[MISTAKES] = tuple(w.strip() for w in wrong if w.strip())
                found.setdefault(row["rater"] or path.stem, {})[row["item"]] = answers
    if not found:
        raise UsageError("no ratings; wanted tables that the page saved")
    return found


@dataclass(frozen=True)
class Score:
    """What ratings say.

    Attributes:
        means: question -> mean, 1 to 5, with its interval over pairs; repeats and captions of
            other faces left out.
        strata: stratum -> question -> the same.
        mistakes: what was ticked as wrong -> share of pairs for which somebody ticked it; "any".
        agreement: question -> quadratically weighted kappa of pairs of raters, mean; NaN with one.
        steadiness: question -> the same of a rater with himself, over repeats.
        noticed: share of foreign captions that were rated below `FITTING` for "fits".
        raters, pairs: how many.
    """

    means: Mapping[str, Value]
    strata: Mapping[str, Mapping[str, Value]]
    mistakes: Mapping[str, Value]
    agreement: Mapping[str, float]
    steadiness: Mapping[str, float]
    noticed: Value | None
    raters: int
    pairs: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def lines(self) -> str:
        """Tables in Markdown."""

        def mean(value: Value) -> str:
            return f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"

        def agreed(value: float) -> str:
            return f"{value:.2f}" if value == value else "-"  # NaN: nothing to compare

        rows = [
            [q, mean(self.means[q]), agreed(self.agreement[q]), agreed(self.steadiness[q])]
            for q in QUESTIONS
        ]
        whole = table(["question", "mean of 1 to 5", "kappa of raters", "kappa of repeats"], rows)
        strata = table(
            ["stratum", "pairs", *QUESTIONS],
            [
                [name, str(values[QUESTIONS[0]].count), *(mean(values[q]) for q in QUESTIONS)]
                for name, values in self.strata.items()
            ],
        )
        wrong = table(
            ["wrong", "pairs, %"],
            [
                [name, f"{100 * v.value:.1f} ({100 * v.low:.1f} to {100 * v.high:.1f})"]
                for name, v in self.mistakes.items()
            ],
        )
        looked = (
            "no caption of another face was rated"
            if self.noticed is None
            else f"captions of other faces that were noticed: {100 * self.noticed.value:.0f} % of "
            f"{self.noticed.count}"
        )
        head = f"{self.pairs} pairs, {self.raters} rater{'s' * (self.raters != 1)}; {looked}"
        return "\n\n".join([head, whole, strata, wrong])


def score(items: Sequence[Item], ratings: Mapping[str, Mapping[str, Any]]) -> Score:
    """What ratings say of the pairs.

    Args:
        items: of the key.
        ratings: of `read_ratings`.

    Raises:
        UsageError: nobody rated a pair that counts.
    """
    plain = [i for i in items if not i.repeats and not i.foreign]
    rated = [i for i in plain if any(i.item in r for r in ratings.values())]
    if not rated:
        raise UsageError("no pair that counts was rated; rate more of the page")

    def values(some: Sequence[Item], question: str) -> np.ndarray[Any, Any]:
        return np.array(
            [np.mean([r[i.item][question] for r in ratings.values() if i.item in r]) for i in some]
        )

    def of(some: Sequence[Item], question: str) -> Value:
        return Value(*interval(values(some, question)), len(some))

    strata: dict[str, list[Item]] = {}
    for item in rated:
        strata.setdefault(item.stratum, []).append(item)
    wrong = [
        {m for r in ratings.values() if i.item in r for m in r[i.item][MISTAKES]} for i in rated
    ]
    ticked = {"any": [bool(w) for w in wrong], **{n: [n in w for w in wrong] for n in WRONG}}
    foreign = [
        r[i.item]["fits"] < FITTING
        for i in items
        if i.foreign
        for r in ratings.values()
        if i.item in r
    ]
    return Score(
        means={q: of(rated, q) for q in QUESTIONS},
        strata={name: {q: of(some, q) for q in QUESTIONS} for name, some in sorted(strata.items())},
        mistakes={name: share(sum(v), len(v)) for name, v in ticked.items()},
        agreement={q: _agreement(plain, ratings, q) for q in QUESTIONS},
        steadiness={q: _steadiness(items, ratings, q) for q in QUESTIONS},
        noticed=share(sum(foreign), len(foreign)) if foreign else None,
        raters=len(ratings),
        pairs=len(rated),
    )


def kappa(a: Sequence[int], b: Sequence[int]) -> float:
    """Quadratically weighted kappa of answers 1 to 5; NaN with fewer than two, or only one value.

    Source: Cohen 1968, "Weighted kappa: nominal scale agreement with provision for scaled
    disagreement or partial credit".
    """
    if len(a) < 2 or len({*a, *b}) < 2:
        return float("nan")
    return float(cohen_kappa_score(a, b, labels=[1, 2, 3, 4, 5], weights="quadratic"))


def _agreement(
    items: Sequence[Item], ratings: Mapping[str, Mapping[str, Any]], question: str
) -> float:
    found = []
    for one, other in combinations(ratings.values(), 2):
        both = [i.item for i in items if i.item in one and i.item in other]
        found.append(kappa([one[i][question] for i in both], [other[i][question] for i in both]))
    known = [k for k in found if k == k]
    return float(np.mean(known)) if known else float("nan")


def _steadiness(
    items: Sequence[Item], ratings: Mapping[str, Mapping[str, Any]], question: str
) -> float:
    first, again = [], []
    for rater in ratings.values():
        for item in items:
            if item.repeats and item.item in rater and item.repeats in rater:
                first.append(rater[item.repeats][question])
                again.append(rater[item.item][question])
    return kappa(first, again)
