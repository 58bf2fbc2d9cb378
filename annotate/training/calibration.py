"""Makes probabilities hold, on samples that were not trained on.

Words about photos name what is there: glasses, never their absence. A network that saw photos only
with glasses, where it was told at all, thinks that photos have glasses. So photos whose words are
silent count as photos without, where they look less like it than nearly all that were told.

Sources: Liu et al. 2003, "Building Text Classifiers Using Positive and Unlabeled Examples", for
reliable negatives; Platt 1999, "Probabilistic Outputs for Support Vector Machines", with his
smoothed targets.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from annotate.network.reader import Calibration, LabelReader
from annotate.training.samples import Samples
from sfhq.faces.alignment import FloatArray
from sfhq.faces.points import MIRROR
from sfhq.networks.labels import LabelNetwork
from sfhq.networks.names import ATTRIBUTES, POINTS

LEAST = 5  # samples of each answer without which an attribute keeps its raw probability
PRIOR = 2.0  # strength with which the map is held at the identity
STEPS = 60
SELDOM_DENIED = 0.2  # absences for each presence among photos, below which their words only affirm
NEAR = 0.1  # share of the told whose logit is so low that it does not speak for the others
MOST_LIKE = 0.25  # of the silent photos that look like the told: more say that it cannot be seen
LEAST_KNOWN = 20  # exact points from which the expected error is scaled


def platt(logits: FloatArray, truth: FloatArray) -> tuple[float, float]:
    """Scale and bias that make sigmoid(scale * logit + bias) the best probability.

    Few samples move the map little: it is held near scale 1 and bias 0. The scale stays positive.

    Args:
        logits: (N,).
        truth: (N,) 0 or 1.
    """
    positive = float(truth.sum())
    negative = len(truth) - positive
    high, low = (positive + 1) / (positive + 2), 1 / (negative + 2)
    target = np.where(truth > 0.5, high, low)
    at = np.array([1.0, 0.0])
    inputs = np.stack([logits, np.ones_like(logits)], 1)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(inputs @ at, -30, 30)))
        slope = inputs.T @ (p - target) + PRIOR * (at - np.array([1.0, 0.0]))
        bend = (inputs * (p * (1 - p))[:, None]).T @ inputs + PRIOR * np.eye(2)
        step = np.linalg.solve(bend, slope)
        at = at - step * min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-9))
        if np.abs(step).max() < 1e-7:
            break
    return max(float(at[0]), 0.05), float(at[1])


def with_absences(
    logits: FloatArray, truth: FloatArray, exact: npt.NDArray[np.bool_]
) -> FloatArray:
    """What is known of one attribute, with the absences that photos' words do not mention.

    Args:
        logits: (N,) what a network says.
        truth: (N,) 1, 0, or NaN where nothing is known.
        exact: (N,) whether a sample was rendered; the others are photos.

    Returns:
        (N,) as `truth`. Changed only where the words of photos affirm the attribute at least
        `LEAST` times and hardly deny it, and photos that they affirm it of stand out: silent photos
        below nearly all of these become 0, those among them stay NaN.
    """
    told = ~exact & (truth == 1)
    silent = ~exact & np.isnan(truth)
    denied = int((~exact & (truth == 0)).sum())
    if told.sum() < LEAST or denied >= SELDOM_DENIED * told.sum() or not silent.any():
        return truth
    low = silent & (logits < np.quantile(logits[told], NEAR))
    if low.sum() < (1 - MOST_LIKE) * silent.sum():
        return truth
    return np.where(low, 0.0, truth)


def calibrate(network: LabelNetwork, samples: Samples) -> Calibration:
    """The calibration of a folded network on samples that it was not trained on.

    Args:
        network: in eval mode.
        samples: may be empty: then nothing is changed.
    """
    found = Calibration.plain()
    if not len(samples):
        return found
    reader = LabelReader(network)
    logits, apart, sigma = [], [], []
    for start in range(0, len(samples), 16):
        pixels = samples.pixels[start : start + 16].permute(0, 2, 3, 1).contiguous().numpy()
        reading = reader.read(pixels)
        logits.append(torch.logit(reading.attributes, 1e-6))
        wanted = samples.points[start : start + 16, :POINTS]
        apart.append((reading.points - wanted).norm(dim=-1))
        sigma.append(reading.sigma)
    given, truth = torch.cat(logits).double().numpy(), samples.attributes.double().numpy()
    for column in range(len(ATTRIBUTES)):
        whole = with_absences(given[:, column], truth[:, column], samples.exact.numpy())
        known = ~np.isnan(whole)
        answers = whole[known]
        if min(answers.sum(), len(answers) - answers.sum()) >= LEAST:
            scale, bias = platt(given[known, column], answers)
            found.scale[column], found.bias[column] = scale, bias
            found.rates[column] = float(answers.mean())
    counted = (samples.exact[:, None] & (samples.weights[:, :POINTS] > 0)).float()
    counted = counted + counted[:, list(MIRROR)]
    error, told = torch.cat(apart), torch.cat(sigma)
    error, told = error + error[:, list(MIRROR)], told + told[:, list(MIRROR)]
    enough = counted.sum(0) >= LEAST_KNOWN
    both = counted == 2  # the point and its mirror are known
    ratio = (error * both).sum(0) / (told * both).sum(0).clamp(min=1e-6)
    found.spread[enough] = ratio[enough].clamp(0.2, 5.0)
    return found
