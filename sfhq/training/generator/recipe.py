"""Settings of a generator's training."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from sfhq.errors import UsageError
from stylegan2_ops.generator import GeneratorConfig


@dataclass(frozen=True)
class GeneratorRecipe:
    """Settings of a training run.

    Attributes:
        config: the generator at its final resolution.
        phases: pairs of (resolution, images) in order; images counts reconstructed photos.
        batch: photos per step.
        drawn: random codes per step, once the adversarial loss has started.
        seed: seed of all random numbers.
        code_dim: dimensions of the photos' codes.
        jitter: noise on a photo's code, in standard deviations of the codes.
        pixel_weight, feature_weight, adversarial_weight: weights of the losses.
        adversarial_from: number of images after which the adversarial loss starts.
        adversarial_start: share of its weight with which it starts.
        adversarial_full: share of the run after which it has its full weight.
        lr, code_lr, discriminator_lr: Adam's learning rates.
        momentum: Adam's first beta for the generator.
        augmentation: strength of augmentation, 0 to 1.
        ema_images: half-life of the averaged generator, in images.
        mixing: probability of style mixing in random codes.
        pixel_sizes: input sizes of the discriminators on pixels.
        close_views: share of images of which the discriminator on features, and the distance of
            features, see a part at full size instead of the whole reduced; at resolutions of twice
            the size of the feature network's input or more.
        mirrored: whether mirror images of the photos have codes of their own, and are learned.
        precision: "fp32", or "bf16" to run the convolutions in bfloat16; weights stay float32.
    """

    config: GeneratorConfig
    phases: tuple[tuple[int, int], ...] = ((64, 60_000), (128, 30_000))
    batch: int = 16
    seed: int = 0
    code_dim: int = 128
    jitter: float = 0.15
    pixel_weight: float = 4.0
    feature_weight: float = 3.0
    adversarial_weight: float = 1.0
    adversarial_from: int = 4_000
    adversarial_start: float = 0.15
    adversarial_full: float = 0.8
    drawn: int = 8
    lr: float = 2e-3
    momentum: float = 0.8
    code_lr: float = 3e-2
    discriminator_lr: float = 2e-4
    augmentation: float = 1.0
    ema_images: int = 5_000
    mixing: float = 0.3
    pixel_sizes: tuple[int, ...] = field(default=(16, 64))
    close_views: float = 0.5
    mirrored: bool = True
    precision: str = "fp32"


def parse_phases(text: str, resolution: int) -> tuple[tuple[int, int], ...]:
    """Parse pairs of resolution and images, such as "32:16000,64:26000".

    Args:
        text: pairs separated by commas.
        resolution: resolution of the last pair.

    Raises:
        UsageError: the text has another form, or the resolutions do not double up to `resolution`.
    """
    try:
        phases = tuple((int(r), int(n)) for r, n in (p.split(":") for p in text.split(",")))
    except ValueError:
        raise UsageError(
            f"phases is {text!r}; wanted resolution:images pairs, such as 32:16000,64:26000"
        ) from None
    sizes = [r for r, _ in phases]
    doubling = all(b in (a, 2 * a) for a, b in pairwise(sizes))
    if not doubling or sizes[-1] != resolution or any(n < 1 for _, n in phases):
        raise UsageError(
            f"phases is {text!r}; wanted resolutions that double and end at {resolution}, and "
            "1 image or more for each"
        )
    return phases
