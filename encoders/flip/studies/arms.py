"""Arms of an experiment: the same images, trained on in different ways, measured alike.

Each arm is trained once per seed, in a folder of its own that resumes and is never trained twice.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from encoders.flip.data import MOST_TEXT, TABLES, Captioned
from encoders.flip.evaluation import Gallery, ranks, see
from encoders.flip.network import Flip, load_flip, save_flip
from encoders.flip.recipe import FlipRecipe
from encoders.flip.tokens import Tokens
from encoders.flip.training import FlipTraining
from sfhq.errors import IntegrityError, UsageError
from sfhq.training.run import run_training
from sfhq.weights.checkpoints import file_digest

MIXED = "mixed"  # the arm of all texts together
Texts = Mapping[str, tuple[str, ...]]  # face or file name -> its captions
Floats = npt.NDArray[np.float64]


def read_texts(path: Path, column: str = "text", separator: str = "") -> dict[str, tuple[str, ...]]:
    """Texts of faces from a table.

    Args:
        path: a .csv or .tsv with `column` and, as the face's name, `face`, else `file`; a face may
            stand in several rows.
        column: the column of the texts.
        separator: what stands between several texts of one cell; empty for one text.

    Raises:
        UsageError: there is no such table, or it lacks a column, or holds no text.
        IntegrityError: it is not UTF-8.
    """
    if path.suffix.lower() not in TABLES or not path.is_file():
        raise UsageError(f"{path}: no such table; wanted a .csv or .tsv with face and {column}")
    csv.field_size_limit(MOST_TEXT)
    found: dict[str, list[str]] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=TABLES[path.suffix.lower()])
            names = {*(reader.fieldnames or ())}
            key = next((k for k in ("face", "file") if k in names), "")
            if not key or column not in names:
                raise UsageError(
                    f"{path}: has the columns {', '.join(reader.fieldnames or ()) or 'none'}; "
                    f"wanted face, or file, and {column}"
                )
            for row in reader:
                text = row[column] or ""
                several = text.split(separator) if separator else [text]
                tidy = [" ".join(t.split()) for t in several]
                found.setdefault(row[key] or "", []).extend(t for t in tidy if t)
    except (UnicodeDecodeError, csv.Error) as error:
        raise IntegrityError(
            f"{path}: cannot be read ({type(error).__name__}); wanted UTF-8 with face,{column}"
        ) from None
    texts = {face: tuple(dict.fromkeys(said)) for face, said in found.items() if face and said}
    if not texts:
        raise UsageError(f"{path}: holds no text; wanted rows with face and {column}")
    return texts


def with_texts(data: Captioned, texts: Texts) -> Captioned:
    """The images of which there are texts, with these instead of their own.

    An image goes by its name, else by its face's, with or without the folder before it and the
    suffix behind it.
    """
    short = {Path(name).stem: said for name, said in texts.items()}
    rows, told = [], []
    for i, names in enumerate(zip(data.names, data.faces, strict=True)):
        said = next((t for n in names if (t := _told(n, texts, short))), None)
        if said:
            rows.append(i)
            told.append(said)
    return replace(data.select(rows), texts=tuple(told))


def _told(face: str, texts: Texts, short: Texts) -> tuple[str, ...] | None:
    return texts.get(face) or texts.get(Path(face).name) or short.get(Path(face).stem)


def common(sets: Mapping[str, Captioned]) -> dict[str, Captioned]:
    """The images that all sets have, in one order, and the set of all their texts as `mixed`.

    Raises:
        UsageError: there are none, or a set has the name `mixed`.
    """
    if MIXED in sets:
        raise UsageError(f"{MIXED!r} is the name of the arm of all texts; name yours otherwise")
    names = set.intersection(*(set(s.names) for s in sets.values()))
    if not names:
        raise UsageError(
            f"no image has texts of all kinds ({', '.join(sets)}); give tables about the same faces"
        )
    order = sorted(names)
    found = {}
    for name, data in sets.items():
        place = {n: i for i, n in enumerate(data.names)}
        found[name] = data.select(place[n] for n in order)
    if len(found) > 1:
        found[MIXED] = together([*found.values()])
    return found


def together(sets: Sequence[Captioned]) -> Captioned:
    """Sets of the same images in the same order as one with all their texts."""
    several = zip(*(s.texts for s in sets), strict=True)
    every = tuple(tuple(dict.fromkeys(t for said in row for t in said)) for row in several)
    return replace(sets[0], texts=every)


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: of the arm.
        recipe: its settings but for the seed.
        data: images with captions to train on.
        start: weights to start from, or None for random ones.
        start_digest: sha256 of the file that `start` came from.
    """

    name: str
    recipe: FlipRecipe
    data: Captioned
    start: Flip | None = None
    start_digest: str = ""


def trained(
    arm: Arm,
    seed: int,
    tokens: Tokens,
    folder: Path,
    features: Tensor | None = None,
    say: Callable[[str], None] = print,
) -> Flip:
    """The network of an arm for one seed: trained, gone on with, or read where it is done.

    Args:
        arm: what to train.
        seed: of all its random numbers.
        tokens: the vocabulary.
        folder: of the experiment; the run lies in a folder of its own in it.
        features: of the arm's images, see `encoders.flip.training.stem_features`; None computes
            them where they are needed.
        say: takes log lines.

    Raises:
        UsageError: the folder holds a run of other settings.
    """
    recipe = replace(arm.recipe, seed=seed)
    run = folder / f"{arm.name}-{seed}"
    settings = {
        **asdict(recipe),
        "names": list(arm.data.names),
        "texts": [list(t) for t in arm.data.texts],
        "start": arm.start_digest,
    }
    training = FlipTraining(recipe, arm.data, tokens, start=arm.start, features=features)
    run_training(training, run, settings, say=say)
    weights = run / "flip.safetensors"
    save_flip(weights, training.chosen(), {"vocabulary": tokens.to_text()})
    return load_flip(weights).network


@dataclass(frozen=True, eq=False)
class Found:
    """How well texts find their images.

    Attributes:
        ranks: (M,) of each text's first hit; 1 is best.
        owners: (M,) the image that each text was written for.
        gallery: number of images.
    """

    ranks: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    gallery: int

    def by_image(self, best: int) -> Floats:
        """(N,) for each image the share of its texts that find it among the first `best`."""
        hits = (self.ranks <= best).astype(np.float64)
        sums = np.bincount(self.owners, hits, minlength=self.gallery)
        return sums / np.maximum(np.bincount(self.owners, minlength=self.gallery), 1)


def searched(
    network: Flip, tokens: Tokens, data: Captioned, features: Tensor | None = None
) -> Found:
    """Search images by each of their texts; equal texts and images of one face are hits.

    `features` as of `encoders.flip.evaluation.see`.
    """
    return found_in(see(network, tokens, data, features=features))


def found_in(gallery: Gallery) -> Found:
    """Search images by each of their texts; see `searched`."""
    count = len(gallery.images)
    hits = gallery.hits(0, count).T
    found = [
        ranks(t @ gallery.images.T, h)
        for t, h in zip(gallery.texts.split(256), hits.split(256), strict=True)
    ]
    return Found(torch.cat(found).numpy(), gallery.owners.numpy(), count)


def difference(
    a: Floats, b: Floats, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """The mean of a - b over images, and its 95 % interval by a paired bootstrap of the images.

    Args:
        a, b: (N,) scores of the same images.
        resamples: how many.
        seed: of the resamples.
    """
    apart = a - b
    rng = np.random.default_rng(seed)
    means = apart[rng.integers(len(apart), size=(resamples, len(apart)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(apart.mean()), float(low), float(high)


def interval(a: Floats, resamples: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """The mean of (N,) scores and its 95 % interval by a bootstrap of the images."""
    return difference(a, np.zeros_like(a), resamples, seed)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def digest_of(path: Path | None) -> str:
    """sha256 of a file; empty for None."""
    return "" if path is None else file_digest(path)
