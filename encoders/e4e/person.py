"""An encoder that keeps the person: e4e, and a shift by what dlib's network sees.

e4e looks at the whole picture and has seen few people. dlib's recognition network has seen three
million photographs, and describes a painted face much as it describes the photograph. From its
vector of the picture, from what e4e found and from the picture reduced to a few pixels, a small
network says how far to go along the axes of w before the mapping's last activation, for coarse,
middle and fine layers. Nothing is rendered.

Neither e4e nor dlib's network is trained here, and dlib's weights are not in the file. On a CPU an
image is read alone, so that a batch does not change its bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.e4e.hybrid import CLAMP, used_axes
from encoders.e4e.inference import PreparedE4e
from encoders.e4e.network import E4e, E4eConfig
from sfhq.faces.identity import recognition
from sfhq.faces.recognition_file import EMBEDDING
from sfhq.synthesis.latents import activate, layer_ladder, unactivate
from stylegan2_ops.generator import Generator
from stylegan2_ops.inference import Precision

BANDS = 3  # coarse, middle and fine layers, as `layer_ladder` parts them
DROPPED = 0.1  # share of numbers that a step of the training does not see


@dataclass(frozen=True)
class PersonConfig:
    """Sizes of an encoder.

    Attributes:
        base: of its e4e.
        axes: coordinates that the shift has.
        input_size: height and width of the images that it wants; e4e reduces them to its own.
        reduced: side of the reduced picture in pixels.
        hidden: width of the layers between.
        photo: whether it knows how dlib's vectors of art and photograph differ.
    """

    base: E4eConfig = field(default_factory=E4eConfig)
    axes: int = 512
    input_size: int = 256
    reduced: int = 16
    hidden: int = 512
    photo: bool = False

    def __post_init__(self) -> None:
        for name in ("axes", "input_size", "reduced", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; wanted 1 or more")
        if self.axes > self.base.w_dim:
            raise ValueError(f"axes is {self.axes}; wanted at most w_dim, {self.base.w_dim}")

    @property
    def num_ws(self) -> int:
        """Number of w vectors of the generator."""
        return self.base.num_ws

    @property
    def w_dim(self) -> int:
        """Length of w."""
        return self.base.w_dim

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; `from_dict` leads back."""
        return {**asdict(self), "base": self.base.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PersonConfig:
        """Sizes that `to_dict` gave.

        Raises:
            TypeError, ValueError, KeyError: they are none.
        """
        return cls(**{**values, "base": E4eConfig.from_dict(values["base"])})


class PersonEncoder(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to w_plus (N, num_ws, w_dim).

    Untrained it gives what its e4e gives.

    Buffers:
        centre, spread: of the numbers that the small network reads.
        mean, axes: of w before its last activation; axes are scaled by their deviation, (K, w_dim).
        photo_weight, photo_bias: (128, 128) and (128,), see `as_photo`; only if `config.photo`.
    """

    reads_person: ClassVar[bool] = True
    centre: Tensor
    spread: Tensor
    mean: Tensor
    axes: Tensor
    photo_weight: Tensor
    photo_bias: Tensor
    band_of_layer: Tensor

    def __init__(self, config: PersonConfig) -> None:
        super().__init__()
        self.config = config
        self.base = E4e(config.base).requires_grad_(False)
        count = EMBEDDING + config.axes + 3 * config.reduced**2
        self.register_buffer("centre", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))
        self.register_buffer("mean", torch.zeros(config.w_dim))
        self.register_buffer("axes", torch.zeros(config.axes, config.w_dim))
        if config.photo:
            self.register_buffer("photo_weight", torch.zeros(EMBEDDING, EMBEDDING))
            self.register_buffer("photo_bias", torch.zeros(EMBEDDING))
        band_of_layer = layer_ladder(config.num_ws, *range(BANDS)).long()
        self.register_buffer("band_of_layer", band_of_layer, persistent=False)
        self.body = nn.Sequential(
            nn.Dropout(DROPPED),
            nn.Linear(count, config.hidden),
            nn.GELU(),
            nn.Dropout(DROPPED),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, BANDS * config.axes),
        )
        self.direct = nn.Linear(count, BANDS * config.axes)
        with torch.no_grad():
            for layer in (self.body[-1], self.direct):
                assert isinstance(layer, nn.Linear)
                layer.weight.zero_()
                layer.bias.zero_()

    @classmethod
    def on(
        cls, base: E4e, generator: Generator, input_size: int, hidden: int, photo: bool = False
    ) -> PersonEncoder:
        """An encoder on an e4e and the axes of its generator, which gives what the e4e gives."""
        mean, axes = used_axes(generator)
        config = PersonConfig(base.config, len(axes), input_size, hidden=hidden, photo=photo)
        network = cls(config)
        network.base.load_state_dict(base.state_dict())
        network.mean.copy_(mean)
        network.axes.copy_(axes)
        if photo:
            network.photo_weight.copy_(torch.eye(EMBEDDING))
        return network.eval()

    @classmethod
    def going_on(cls, base: E4e, other: PersonEncoder, photo: bool = False) -> PersonEncoder:
        """An encoder on an e4e with the shift of another one, along the axes of that one.

        Args:
            base: e4e of the same generator.
            other: was trained before.
            photo: whether it knows how vectors of art and photograph differ even if `other`, whose
                map it takes, does not.
        """
        config = replace(other.config, base=base.config, photo=photo or other.config.photo)
        network = cls(config)
        if config.photo:
            network.photo_weight.copy_(torch.eye(EMBEDDING))
        theirs = {k: v for k, v in other.state_dict().items() if not k.startswith("base.")}
        network.load_state_dict(network.state_dict() | theirs)
        network.base.load_state_dict(base.state_dict())
        return network.eval()

    @property
    def latent_avg(self) -> Tensor:
        """(num_ws, w_dim), the generator's mean latent."""
        return self.base.latent_avg

    def as_photo(self, vectors: Tensor) -> Tensor:
        """What dlib's network would see in photographs of the people of art.

        Art moves the vector of everybody alike to some degree; a linear map takes that back.

        Args:
            vectors: (N, 128) of art.
        """
        return vectors @ self.photo_weight + self.photo_bias if self.config.photo else vectors

    def toward(self, apart: Tensor) -> Tensor:
        """What the linear part of the shift does where dlib's vector is another one.

        Args:
            apart: (N, 128) by how much the vectors differ.

        Returns:
            (N, 3, w_dim) how far coarse, middle and fine layers go, before w's last activation.
        """
        weight = self.direct.weight[:, :EMBEDDING]
        shift = (apart / self.spread[:EMBEDDING]) @ weight.t()
        moved: Tensor = shift.unflatten(1, (BANDS, -1)) @ self.axes
        return moved

    def coordinates(self, w: Tensor) -> Tensor:
        """(N, K) coordinates of w (N, w_dim) along `axes`."""
        length = self.axes.square().sum(1).clamp(min=1e-12)
        return (unactivate(w) - self.mean) @ self.axes.t() / length

    def numbers(self, vectors: Tensor, w_plus: Tensor, images: Tensor) -> Tensor:
        """(N, R) that the small network reads.

        Args:
            vectors: (N, 128) of dlib's network.
            w_plus: (N, num_ws, w_dim) of e4e.
            images: (N, 3, H, W) in [-1, 1].
        """
        found = self.coordinates(activate(unactivate(w_plus).mean(1)))
        small = F.adaptive_avg_pool2d(images.float(), self.config.reduced)
        return torch.cat([vectors.float(), found, small.flatten(1)], 1)

    def shift(self, numbers: Tensor) -> Tensor:
        """(N, 3, K) how far each band goes along `axes`, in deviations, of `numbers` (N, R)."""
        x = ((numbers - self.centre) / self.spread).clamp(-CLAMP, CLAMP)
        out: Tensor = (self.body(x) + self.direct(x)).unflatten(1, (BANDS, -1))
        return out

    def shifted(self, w_plus: Tensor, shift: Tensor) -> Tensor:
        """w_plus (N, num_ws, w_dim) with its bands of layers moved by `shift` (N, 3, K)."""
        moved = shift @ self.axes  # (N, 3, w_dim)
        return activate(unactivate(w_plus) + moved[:, self.band_of_layer])

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return _encode(self, self.base, images)


class PreparedPerson:
    """A person encoder as stages call it, like `PreparedE4e`.

    Args:
        network: in eval mode.
        precision: of e4e's convolutions; the rest computes in fp32.
    """

    reads_person: ClassVar[bool] = True

    def __init__(self, network: PersonEncoder, precision: Precision = "fp32") -> None:
        self.network, self.precision = network, precision
        self.config = network.config
        self.base = PreparedE4e(network.base, precision)

    def __reduce__(self) -> tuple[type[PreparedPerson], tuple[PersonEncoder, Precision]]:
        """Pickle the network only; each worker process prepares it again."""
        return PreparedPerson, (self.network, self.precision)

    def as_photo(self, vectors: Tensor) -> Tensor:
        """As `PersonEncoder.as_photo`."""
        return self.network.as_photo(vectors)

    def toward(self, apart: Tensor) -> Tensor:
        """As `PersonEncoder.toward`."""
        return self.network.toward(apart)

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to w_plus (N, num_ws, w_dim)."""
        with torch.no_grad():
            out: Tensor = _encode(self.network, self.base, images)
        return out


def _encode(network: PersonEncoder, base: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    see = recognition(images.device)
    parts = []
    for lot in [images] if images.is_cuda else images.split(1):
        w_plus = base(lot).float()
        numbers = network.numbers(see(lot.float()), w_plus, lot)
        parts.append(network.shifted(w_plus, network.shift(numbers)))
    if not parts:
        return images.new_zeros(0, network.config.num_ws, network.config.w_dim)
    return torch.cat(parts)
