"""Takes out of a trained network what the weights of small classes made too large.

A class that counts more in the loss than its pixels do is told where it is less likely than
another. An offset on its logit takes that back; which offset, exact labels of people that were not
trained on decide: the one with which the mean F1 of all classes is best.

Source: Menon et al. 2021, "Long-tail learning via logit adjustment", for offsets on logits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from annotate.metrics.parsing import class_f1, confusion
from annotate.network.reader import LabelReader
from annotate.training.samples import Samples
from sfhq.faces.classes import CLASSES, SIDED
from sfhq.networks.labels import LabelNetwork

Floats = npt.NDArray[np.float32]
OFFSETS = np.arange(-1.75, 1.01, 0.25, dtype=np.float32)
ROUNDS = 2
EVERY = 2  # of the pixels in both directions that are looked at


def balance_classes(network: LabelNetwork, samples: Samples) -> Tensor:
    """Offset the logits of a folded network so that the mean F1 of exact samples is best.

    Args:
        network: in eval mode; its last biases are changed.
        samples: that it was not trained on; those with inexact labels are left out.

    Returns:
        (19,) the offsets; zeros where no sample has exact labels.
    """
    rows = samples.exact.nonzero()[:, 0]
    if not len(rows):
        return torch.zeros(len(CLASSES))
    reader, logs, truth = LabelReader(network), [], []
    for row in rows.tolist():
        pixels = samples.pixels[row : row + 1].permute(0, 2, 3, 1).contiguous().numpy()
        told = reader.read(pixels).parsing[0, :, ::EVERY, ::EVERY]
        logs.append(told.clamp(min=1e-9).log().flatten(1).half().numpy())
        # Of an exact sample one bit is set.
        bits = samples.bits[row, ::EVERY, ::EVERY].flatten().double()
        truth.append(bits.log2().round().to(torch.uint8).numpy())
    offsets = best_offsets(np.concatenate(logs, 1), np.concatenate(truth))
    found = torch.from_numpy(offsets)
    bias = network.pixels.bias
    assert bias is not None
    with torch.no_grad():  # a class has a channel for each of the four pixels of a cell
        bias[: 4 * len(CLASSES)] += found.repeat_interleave(4)
    return found


def best_offsets(logs: npt.NDArray[np.floating], truth: npt.NDArray[np.uint8]) -> Floats:
    """Offsets of classes with which the mean F1 is best, one class after the other.

    Left and right have the same offset. A class that `truth` lacks, and one that no offset
    improves, keeps 0.

    Args:
        logs: (19, M) logarithms of probabilities.
        truth: (M,) ids.
    """
    count = len(CLASSES)
    other = {b: a for a, b in SIDED}
    groups = [[c, *(b for a, b in SIDED if a == c)] for c in range(count) if c not in other]
    present = np.isin(np.arange(count), truth)
    offsets = np.zeros(count, np.float32)
    for _ in range(ROUNDS):
        for group in groups:
            if not present[group].any():
                continue
            rest = logs + offsets[:, None].astype(logs.dtype)
            rest[group] = -np.inf
            winner, height = rest.argmax(0).astype(np.uint8), rest.max(0)
            own = logs[group].argmax(0)
            mine, best = logs[group].max(0), np.array(group, np.uint8)[own]
            scores = []
            for offset in OFFSETS:
                told = np.where(mine + offset > height, best, winner)
                scores.append(np.nanmean(class_f1(confusion(told, truth))))
            here = float(offsets[group[0]])
            before = scores[int(np.abs(OFFSETS - here).argmin())]
            if max(scores) > before:
                offsets[group] = OFFSETS[int(np.argmax(scores))]
    return offsets
