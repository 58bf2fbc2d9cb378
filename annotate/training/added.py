"""Teaches a finished label network one more attribute, and changes nothing else that it says.

A logistic model on what the network reads its numbers from (pooled features at four scales, places,
areas) becomes a layer of its own beside them. Rendered heads give both answers in equal measure;
photos, of which few are known by their words, count as much as they do together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from annotate.network.reader import Calibration, LabelReader
from annotate.training.calibration import platt
from annotate.training.heads import known_attributes
from annotate.training.samples import part_of
from annotate.training.words import attributes_of, read_words
from sfhq.errors import UsageError
from sfhq.faces.alignment import align_crop
from sfhq.networks.labels import LabelNetwork
from sfhq.networks.names import ADDED, ATTRIBUTES
from sfhq.parts.folders import ART_FOLDER, RENDER_FOLDER
from sfhq.parts.part import Part
from sfhq.parts.photos import read_pixels
from sfhq.parts.records import Pixels
from sfhq.tensors import to_tensor
from sfhq.training.photos import load_photos

Floats = npt.NDArray[np.float64]
LEAST = 10  # samples of each answer to learn from
FOLDS = 4
STRENGTH = 0.01  # inverse of the regularisation, on standardised numbers


@dataclass(frozen=True, eq=False)
class Known:
    """Crops of which it is known whether they have an attribute.

    Attributes:
        crops: (N, S, S, 3) uint8 RGB in FFHQ's frame.
        answers: (N,) 0 or 1.
        rendered: (N,) bool.
        names: N names, by which some are held out.
    """

    crops: Pixels
    answers: Floats
    rendered: npt.NDArray[np.bool_]
    names: tuple[str, ...]


def gather_known(
    name: str, heads: tuple[Path, ...], photos: tuple[Path, ...], words: tuple[Path, ...], size: int
) -> Known:
    """Rendered heads and photos of which it is known whether they have an attribute.

    Args:
        name: of the attribute.
        heads: parts of `sfhq render`; pictures in styles count as well.
        photos: folders of aligned photos.
        words: tables about them, see `annotate.training.words`.
        size: side of the crops.

    Raises:
        UsageError: a folder or table is missing, or fewer than `LEAST` crops have it, or lack it.
    """
    column = ATTRIBUTES.index(name)
    crops: list[Pixels] = []
    answers: list[float] = []
    names: list[str] = []
    for folder in heads:
        part = Part.open(folder)
        for record in part.records("render"):
            if not record.alive:
                continue
            points = part.row("render_landmarks", record)[:68, :2].astype(np.float64)
            for shown in (RENDER_FOLDER, ART_FOLDER):
                if shown == ART_FOLDER and "art" not in record.hashes:
                    continue
                image = Image.fromarray(read_pixels(part, record, shown))
                crops.append(np.asarray(align_crop(image, points, size).image))
                answers.append(float(known_attributes(record.params)[column]))
                names.append(record.face_id)
    count = len(crops)
    told = {file: text for table in words for file, text in read_words(table).items()}
    if photos:
        loaded = load_photos(photos, size)
        for row, path in enumerate(loaded.names):
            file = Path(path).name
            answer = float(attributes_of(told.get(file, ""))[column])
            if not np.isnan(answer):
                crops.append(loaded.pixels[row].permute(1, 2, 0).numpy())
                answers.append(answer)
                names.append(file)
    truth = np.array(answers)
    for answer, word in ((1, "have"), (0, "lack")):
        found = int((truth == answer).sum())
        if found < LEAST:
            raise UsageError(f"{found} crops {word} {name}; wanted {LEAST} or more to learn from")
    rendered = np.arange(len(crops)) < count
    return Known(np.stack(crops), truth, rendered, tuple(names))


@torch.inference_mode()
def read_numbers(network: LabelNetwork, crops: Pixels) -> Floats:
    """(N, R) what a network reads its numbers from: the mean of each crop and its mirror image."""
    rows = []
    for crop in crops:
        image = to_tensor(crop[None]).contiguous(memory_format=torch.channels_last)
        rows.append((network.read(image) + network.read(image.flip(3))) / 2)
    out: Floats = torch.cat(rows).double().numpy()
    return out


def fit_added(
    numbers: Floats, answers: Floats, rendered: npt.NDArray[np.bool_]
) -> tuple[Floats, float]:
    """Weights (R,) and bias of a logistic model.

    Args:
        numbers: (N, R) of `read_numbers`.
        answers: (N,) 0 or 1.
        rendered: (N,) bool.
    """
    from sklearn.linear_model import LogisticRegression

    mean, spread = numbers.mean(0), numbers.std(0) + 1e-6
    weights = np.ones(len(answers))
    for kind in (rendered, ~rendered):
        for answer in (0, 1):
            group = kind & (answers == answer)
            if group.any():
                weights[group] = 1 / group.sum()
    weights *= len(answers) / weights.sum()
    model = LogisticRegression(C=STRENGTH, max_iter=2000)
    model.fit((numbers - mean) / spread, answers, sample_weight=weights)
    slope = model.coef_[0] / spread
    return slope, float(model.intercept_[0] - mean @ slope)


def teach_added(reader: LabelReader, name: str, known: Known) -> tuple[LabelReader, Floats]:
    """A reader that says one more attribute; the numbers of its network stay to the bit.

    A tenth of the names is not learned from and another tenth calibrates, by `part_of`. Where
    enough photos are known, they calibrate, each by a model that has not seen it.

    Args:
        reader: is not changed.
        name: one of `names.ADDED`; those before it must have been taught.
        known: crops with answers.

    Returns:
        The reader, and (N,) probabilities of all crops.

    Raises:
        UsageError: an attribute before it was not taught.
    """
    old, at = reader.network, ADDED.index(name)
    if at > old.config.added:
        raise UsageError(f"the network was not taught {ADDED[old.config.added]}; teach that first")
    numbers = read_numbers(old, known.crops)
    parts = np.array([part_of(n) for n in known.names])
    used = parts == "train"
    slope, bias = fit_added(numbers[used], known.answers[used], known.rendered[used])
    count = max(old.config.added, at + 1)
    network = LabelNetwork(replace(old.config, added=count)).fold()
    state = dict(old.state_dict())
    layer = network.added
    assert layer is not None
    with torch.no_grad():
        if old.added is not None:
            layer.weight[: old.config.added] = old.added.weight
            layer.bias[: old.config.added] = old.added.bias
        layer.weight[at] = torch.from_numpy(slope).float()
        layer.bias[at] = bias
    network.load_state_dict(state | {"added.weight": layer.weight, "added.bias": layer.bias})
    logits = numbers @ slope + bias
    column = ATTRIBUTES.index(name)
    found = Calibration(*(v.clone() for v in vars(reader.calibration).values()))
    tuned, apart = parts == "calibration", logits
    photos = ~known.rendered & (parts != "test")
    if _both(known.answers[photos]) >= LEAST / 2:  # photos say what photos are like
        tuned, apart = photos, _apart(numbers, known, parts != "test", photos)
    if _both(known.answers[tuned]) >= LEAST / 2:
        scale, shift = platt(apart[tuned], known.answers[tuned])
        found.scale[column], found.bias[column] = scale, shift
        found.rates[column] = float(known.answers[tuned].mean())
    network.to(memory_format=torch.channels_last)
    logits = logits * float(found.scale[column]) + float(found.bias[column])
    return LabelReader(network, found), 1 / (1 + np.exp(-logits))


def _both(answers: Floats) -> int:
    """How many samples the rarer answer has."""
    return int(min(answers.sum(), len(answers) - answers.sum()))


def _apart(
    numbers: Floats, known: Known, used: npt.NDArray[np.bool_], photos: npt.NDArray[np.bool_]
) -> Floats:
    """(N,) logits of photos by models that learned from all `used` crops but a quarter of them."""
    out = np.zeros(len(numbers))
    for answer in (0, 1):
        rows = np.flatnonzero(photos & (known.answers == answer))
        out[rows] = np.arange(len(rows)) % FOLDS
    folds = out.copy()
    for fold in range(FOLDS):
        left = photos & (folds == fold)
        rest = used & ~left
        slope, bias = fit_added(numbers[rest], known.answers[rest], known.rendered[rest])
        out[left] = numbers[left] @ slope + bias
    return out
