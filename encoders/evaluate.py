"""Evaluate generators and encoders with dlib's recognition network.

No generator is trained with it. An encoder trained with `--identity` is: it is judged by people
whom it has not seen, but by what it was taught to keep.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from encoders.e4e.loading import Encoder
from encoders.features.recognition import describe_faces
from sfhq.errors import MissingExtra, UsageError
from sfhq.parts.records import Array, Pixels
from sfhq.tensors import to_pixels
from sfhq.training.features import load_feature_pyramid
from sfhq.training.metrics import audit_copies, frechet_distance, precision_recall
from sfhq.training.photos import Photos
from stylegan2_ops.generator import Generator, seed_to_z

SIDE = 240
JUDGED_AT = 64  # pixels; images are reduced to it first, so that sharpness does not count
FIRST_SEED = 1_000_000  # far from the seeds that people look at


@dataclass(frozen=True)
class Judgement:
    """The result of `judge_generator`; distances are between dlib's vectors.

    Attributes:
        count: number of samples, and of photos to compare with.
        psi: truncation of the samples.
        frechet: Fréchet distance between samples and training photos.
        precision, recall: of the samples, with k = 3, against the same photos.
        frechet_held_out: Fréchet distance between samples and all held-out photos.
        frechet_halves, precision_halves, recall_halves: the same between two sets of training
            photos, the best values that can be expected.
        faces_found: share of samples in which dlib finds a face.
        copies_recognition, copies_features: share of near-copies of training photos, in the
            features of dlib and in those of EfficientNet-lite0. A near-copy is nearer to a training
            photo than 99 % of the held-out photos.
    """

    count: int
    psi: float
    frechet: float
    precision: float
    recall: float
    frechet_held_out: float
    frechet_halves: float
    precision_halves: float
    recall_halves: float
    faces_found: float
    copies_recognition: float
    copies_features: float

    def to_dict(self) -> dict[str, Any]:
        """All values by name, rounded to 4 digits, ready for JSON."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def samples(generator: Generator, count: int, psi: float, first_seed: int = FIRST_SEED) -> Pixels:
    """(count, R, R, 3) uint8 RGB images of consecutive seeds."""
    made = []
    with torch.inference_mode():
        for start in range(first_seed, first_seed + count, 16):
            seeds = range(start, min(start + 16, first_seed + count))
            z = torch.cat([seed_to_z(seed, generator.config.z_dim) for seed in seeds])
            made.append(to_pixels(generator(z, psi=psi)))
    return np.concatenate(made)


def judge_generator(
    generator: Generator, photos: Photos, psi: float = 1.0, count: int = SIDE
) -> Judgement:
    """Compare samples of a generator with photos.

    Args:
        generator: the generator, in eval mode.
        photos: all photos; `Photos.split` separates training photos and held-out photos.
        psi: truncation of the samples.
        count: number of samples, and of photos to compare with; at most half of the training
            photos.

    Raises:
        UsageError: there are too few photos.
    """
    train, held_out = photos.split()
    if len(train) < 2 * count or len(held_out) < 10:
        raise UsageError(
            f"found {len(train)} training photos and {len(held_out)} held-out photos; wanted at "
            f"least {2 * count} and 10; give more folders or a lower --count"
        )
    trained, unseen = _photo_pixels(train), _photo_pixels(held_out)
    fake = list(samples(generator, count, psi))
    real_features, _ = describe_faces(_reduced(trained))
    unseen_features, _ = describe_faces(_reduced(unseen))
    fake_features, found = describe_faces(_reduced(fake))
    order = np.random.RandomState(0).permutation(len(trained))
    first, second = real_features[order[:count]], real_features[order[count : 2 * count]]
    precision, recall = precision_recall(first, fake_features)
    best_precision, best_recall = precision_recall(first, second)
    pooled = [_pooled(images) for images in (fake, trained, unseen)]
    return Judgement(
        count=count,
        psi=psi,
        frechet=frechet_distance(first, fake_features),
        precision=precision,
        recall=recall,
        frechet_held_out=frechet_distance(unseen_features, fake_features),
        frechet_halves=frechet_distance(first, second),
        precision_halves=best_precision,
        recall_halves=best_recall,
        faces_found=float(found.mean()),
        copies_recognition=audit_copies(fake_features, real_features, unseen_features).copies,
        copies_features=audit_copies(*pooled).copies,
    )


def _photo_pixels(photos: Photos) -> list[Pixels]:
    return list(photos.pixels.permute(0, 2, 3, 1).numpy())


def _reduced(images: list[Pixels]) -> list[Pixels]:
    size = (JUDGED_AT, JUDGED_AT)
    return [np.asarray(Image.fromarray(i).resize(size, Image.Resampling.LANCZOS)) for i in images]


def _pooled(images: list[Pixels]) -> Array:
    """(N, 320) unit vectors: the last feature map of EfficientNet-lite0, averaged per image."""
    pyramid = load_feature_pyramid()
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(images), 32):
            chunk = torch.from_numpy(np.stack(images[start : start + 32]))
            batch = chunk.permute(0, 3, 1, 2).float() / 127.5 - 1.0
            vectors.append(pyramid(batch)[-1].mean(dim=(2, 3)).numpy())
    pooled = np.concatenate(vectors)
    result: Array = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    return result


@dataclass(frozen=True)
class Identity:
    """Cosines that show how well inversion keeps identity, on held-out photos by dlib's vectors.

    Attributes:
        same: (N,) cosine between each inverted photo and its original.
        others: (N * (N - 1),) cosine between each inverted photo and every other original.
    """

    same: Array
    others: Array

    @property
    def separation(self) -> float:
        """The AUC: probability that an inverted photo is nearer to its original than to another."""
        below = np.searchsorted(np.sort(self.others), self.same)
        return float(below.mean() / len(self.others))

    def to_dict(self) -> dict[str, Any]:
        """Number of photos, mean cosines and AUC, rounded to 4 digits, ready for JSON."""
        return {
            "photos": len(self.same),
            "identity_same": round(float(self.same.mean()), 4),
            "identity_others": round(float(self.others.mean()), 4),
            "identity_auc": round(self.separation, 4),
        }


def judge_inversion(generator: Generator, encoder: Encoder, photos: Photos) -> Identity:
    """Invert the held-out photos and compare the results with all originals.

    Args:
        generator, encoder: the networks, in eval mode.
        photos: all photos; only the held-out ones are used.
    """
    _, held_out = photos.split()
    with torch.inference_mode():
        chunks = torch.arange(len(held_out)).split(16)
        images = [generator.synthesis(encoder(held_out.batch(c))) for c in chunks]
    inverted, _ = describe_faces(list(np.concatenate([to_pixels(i) for i in images])))
    originals, _ = describe_faces(_photo_pixels(held_out))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (inverted, originals))
    cosines = a @ b.T
    self_pairs = np.eye(len(a), dtype=bool)
    return Identity(cosines[self_pairs], cosines[~self_pairs])


def plot_identity(identity: Identity, path: Path) -> None:
    """Draw histograms of the cosines with the originals and with other people.

    Args:
        identity: the cosines.
        path: image file to write.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("the plot", "matplotlib", "train") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    bins = np.linspace(min(identity.others.min(), identity.same.min()), 1.0, 40)
    for values, label, colour in (
        (identity.others, "another person", "#9a9aa0"),
        (identity.same, "the original", "#1f77b4"),
    ):
        axes.hist(values, bins.tolist(), density=True, alpha=0.65, label=label, color=colour)
    axes.set_xlabel("cosine of the inverted photo with ... (dlib recognition)")
    axes.set_ylabel("density")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
