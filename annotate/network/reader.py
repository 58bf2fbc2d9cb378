"""Reads labels off face crops with a trained label network, the same for a crop and its mirror."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from annotate.network.mend import mended
from sfhq.errors import IntegrityError
from sfhq.faces.classes import FLIPPED
from sfhq.networks.labels import YEARS, LabelConfig, LabelNetwork, Outputs
from sfhq.networks.names import (
    ATTRIBUTES,
    LEARNED,
    POINTS,
    TRACKED,
    UNTAUGHT,
    mirrored_points,
)
from sfhq.networks.prepared import PreparedLabels, preparable
from sfhq.parts.records import Pixels
from sfhq.tensors import to_tensor
from sfhq.weights.checkpoints import (
    build_network,
    pack_path,
    read_checkpoint,
    save_checkpoint,
)

KIND = "labels"
# Places are rounded to this share of a pixel, so that mirrored places are exact in float32.
FINEST = 1 / 1024
OUTER_EYES = (36, 45)  # points: the outer eye corners
REMEMBERED = 4  # readings of 6 MB each, for stages that run together
MIRRORED_SIGNS = {"pose": (-1.0, 1.0, -1.0), "gaze": (-1.0, 1.0)}


@dataclass(frozen=True, eq=False)
class Reading:
    """What was read off N crops of side S; all tensors are float32 on the CPU and do not change.

    Points are (x, y) pixels of the crop, pixel centres, origin at the centre of the top left pixel.

    Attributes:
        parsing: (N, 19, S, S) probabilities of the classes; they sum to 1.
        alpha: (N, S, S) share of hair in each pixel, 0 to 1.
        points: (N, 110, 2).
        sigma: (N, 110) expected error of each point in pixels of the crop.
        seen: (N, 110) probability that a point is visible.
        irises: (N, 2, 2) centres of the irises: the subject's right one, then the left one.
        pose: (N, 3) yaw, pitch and roll of the head in degrees: positive towards the subject's
            left, up, and towards the subject's right shoulder.
        gaze: (N, 2) yaw and pitch of the eyes relative to the head, degrees, with the same signs.
        attributes: (N, K) calibrated probabilities, in the order of `names.ATTRIBUTES`.
        years: (N,) apparent age.
        whole: (N, F) what is seen of the whole face, 0 or more; alike for faces that look alike.
    """

    parsing: Tensor
    alpha: Tensor
    points: Tensor
    sigma: Tensor
    seen: Tensor
    irises: Tensor
    pose: Tensor
    gaze: Tensor
    attributes: Tensor
    years: Tensor
    whole: Tensor

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Calibration:
    """What turns logits into probabilities that hold: p = sigmoid(scale * logit + bias).

    Attributes:
        scale, bias: (K,) of each attribute.
        spread: (110,) factor on the expected error of each point.
        rates: (K,) how often each attribute holds where it was calibrated. Who wants both kinds of
            errors to be equally rare says yes from there on, and not from 0.5 on.
    """

    scale: Tensor
    bias: Tensor
    spread: Tensor
    rates: Tensor

    @classmethod
    def plain(cls) -> Calibration:
        """A calibration that changes nothing."""
        count = len(ATTRIBUTES)
        half = torch.full((count,), 0.5)
        return cls(torch.ones(count), torch.zeros(count), torch.ones(POINTS), half)


_LAST: dict[tuple[str, bytes], Reading] = {}
_PREPARED: WeakValueDictionary[str, PreparedLabels] = WeakValueDictionary()
_LOCK = threading.Lock()


class LabelReader:
    """Reads crops, always together with their mirror image.

    Every result is the mean of a crop's and of its mirror image's, mirrored back, so that
    `read(flip(x)) == flip(read(x))` holds to the bit. Crops are read one after the other, so that a
    batch gives the same bits as single crops.

    Args:
        network: in eval mode.
        calibration: of its attributes and expected errors; None for none.
        digest: of both. Readers of one digest read a crop once that several of them are asked
            about in turn, and share a copy of the network that is prepared for reading. "" where
            they may change: then the network itself reads.
    """

    def __init__(
        self, network: LabelNetwork, calibration: Calibration | None = None, digest: str = ""
    ) -> None:
        self.network = network
        self.digest = digest
        self.calibration = calibration or Calibration.plain()
        self._points = torch.tensor(mirrored_points())
        self._prepared: PreparedLabels | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What goes to a worker, which prepares the network for its own processor."""
        return {**self.__dict__, "_prepared": None}

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return self.network.config.size

    def read(self, crops: Pixels) -> Reading:
        """Labels of crops.

        Args:
            crops: (N, S, S, 3) uint8 RGB in FFHQ's frame; S is `size`. N may be 0.

        Raises:
            ValueError: crops of another shape or type.
        """
        wanted = (self.size, self.size, 3)
        if crops.ndim != 4 or crops.shape[1:] != wanted or crops.dtype != np.uint8:
            raise ValueError(
                f"crops have shape {crops.shape} of {crops.dtype}; wanted (N, {wanted[0]}, "
                f"{wanted[1]}, 3) of uint8"
            )
        read = [self._known(crop) for crop in crops]
        if not read:
            return self._empty()
        if len(read) == 1:
            return read[0]  # the same object for who asks again
        return Reading(*(torch.cat([getattr(r, f.name) for r in read]) for f in fields(Reading)))

    def _empty(self) -> Reading:
        s, n = self.size, 0
        shapes = ((n, 19, s, s), (n, s, s), (n, POINTS, 2), (n, POINTS), (n, POINTS), (n, 2, 2))
        rest = ((n, 3), (n, 2), (n, len(ATTRIBUTES)), (n,), (n, self.network.config.hidden))
        return Reading(*(torch.zeros(shape) for shape in (*shapes, *rest)))

    def _known(self, crop: Pixels) -> Reading:
        """The reading of a crop, of those read last if it is there."""
        if not self.digest:
            return self._one(crop)
        key = (self.digest, hashlib.sha256(np.ascontiguousarray(crop).data).digest())
        with _LOCK:
            found = _LAST.get(key)
        if found is None:
            found = self._one(crop)
            with _LOCK:
                _LAST[key] = found
                for old in list(_LAST)[:-REMEMBERED]:
                    del _LAST[old]
        return found

    def _network(self) -> LabelNetwork | PreparedLabels:
        """What reads: prepared once for all readers of the digest, where that can be."""
        if self._prepared is None:
            if not self.digest or not preparable(self.network):
                return self.network
            with _LOCK:
                found = _PREPARED.get(self.digest)
                if found is None:
                    found = _PREPARED[self.digest] = PreparedLabels(self.network)
                self._prepared = found
        return self._prepared

    @torch.inference_mode()
    def _one(self, crop: Pixels) -> Reading:
        image, network = to_tensor(crop[None]), self._network()
        # Two calls of one crop each: where a crop lies in a batch may change its last bits.
        plain, here = network.said(image.contiguous(memory_format=torch.channels_last))
        other, there = network.said(image.flip(3).contiguous(memory_format=torch.channels_last))
        return self._joined(plain, other, _mean(here, there))

    def _joined(self, plain: Outputs, other: Outputs, whole: Tensor) -> Reading:
        half = self.size / 2
        here, there = plain.places * half, other.places[:, self._points] * half
        mean_x, mean_y = (here[..., 0] - there[..., 0]) / 2, (here[..., 1] + there[..., 1]) / 2
        centred = torch.stack([mean_x, mean_y], -1)
        places = (centred / FINEST).round() * FINEST + (half - 0.5)
        swapped = self._points[:POINTS]
        spread = _mean(plain.spread.exp()[:, :POINTS], other.spread.exp()[:, swapped])
        found = self.calibration
        raw = _mean(plain.attributes, other.attributes)
        worn = float(raw[0, ATTRIBUTES.index("Wearing_Hat")].sigmoid())
        logits = raw * found.scale + found.bias
        logits[:, [ATTRIBUTES.index(name) for name in UNTAUGHT]] = 0.0
        if float(logits[0, ATTRIBUTES.index("Headscarf")]) > 0:
            worn = 1.0  # a headscarf has the class of hats
        balanced = (found.spread + found.spread[swapped]) / 2
        parsing = _mirrored_mean(plain.classes[0].softmax(0), other.classes[0].softmax(0))
        eye = float((places[0, OUTER_EYES[0]] - places[0, OUTER_EYES[1]]).norm())
        return Reading(
            parsing=mended(parsing, worn, eye)[None],
            alpha=_mean(plain.hair.sigmoid(), other.hair.sigmoid().flip(2)),
            points=places[:, :POINTS],
            sigma=spread * balanced,
            seen=_mean(plain.seen.sigmoid(), other.seen.sigmoid()[:, swapped]),
            irises=places[:, POINTS:TRACKED],
            pose=_signed(plain.pose, other.pose, MIRRORED_SIGNS["pose"]),
            gaze=_signed(plain.gaze, other.gaze, MIRRORED_SIGNS["gaze"]),
            attributes=logits.sigmoid(),
            years=(_mean(plain.years, other.years) * 10 + YEARS).clamp(0, 110),
            whole=whole.float(),
        )


def _mean(a: Tensor, b: Tensor) -> Tensor:
    return (a + b) / 2


def _mirrored_mean(here: Tensor, there: Tensor) -> Tensor:
    """Mean of (19, S, S) planes of an image and of its mirror image, in the image's frame."""
    out = torch.empty_like(here)
    for plane, own, c in zip(out, here, FLIPPED, strict=True):  # one by one they fit the cache
        torch.add(own, there[c].flip(1), out=plane).mul_(0.5)
    return out


def _signed(a: Tensor, b: Tensor, signs: tuple[float, ...]) -> Tensor:
    """Mean of degrees of an image and of its mirror image; `signs` lead back from the mirror."""
    return (a + b * torch.tensor(signs)) / 2 * 10


def save_labels(
    path: Path,
    network: LabelNetwork,
    calibration: Calibration,
    notes: Mapping[str, str] | None = None,
    half: bool = False,
) -> None:
    """Write a folded network with its calibration.

    Args:
        path: the safetensors file.
        network: after `LabelNetwork.fold`.
        calibration: of its attributes and expected errors.
        notes: other facts for the header.
        half: store in float16, half the size.
    """
    state = dict(network.state_dict())
    for field in fields(Calibration):
        state[f"calibration.{field.name}"] = getattr(calibration, field.name)
    names = {"attributes": json.dumps(ATTRIBUTES)}
    save_checkpoint(
        path, KIND, network.config.to_dict(), state, {**names, **(notes or {})}, half=half
    )


def load_labels(path: Path | None = None) -> tuple[LabelReader, str]:
    """A reader and the sha256 of its weights.

    Args:
        path: a safetensors file that `sfhq train labels` wrote; None for the embedded pack.

    Raises:
        UsageError: there is no such file.
        IntegrityError: it is damaged, or of another kind, or predicts other attributes.
    """
    checkpoint = read_checkpoint(path or pack_path(KIND), KIND)
    state = dict(checkpoint.state)
    try:
        told = json.loads(checkpoint.notes.get("attributes", "[]"))
        if told not in (list(ATTRIBUTES), list(LEARNED)):
            raise ValueError("it predicts other attributes than this version; train it again")
        plain = Calibration.plain()
        state.setdefault("calibration.rates", plain.rates)  # 0.2.0 wrote none
        if told == list(LEARNED):
            for name in ("scale", "bias", "rates"):
                more = getattr(plain, name)[len(LEARNED) :]
                state[f"calibration.{name}"] = torch.cat([state[f"calibration.{name}"], more])
        found = {f.name: state.pop(f"calibration.{f.name}") for f in fields(Calibration)}
        for name, value in found.items():
            if value.shape != getattr(plain, name).shape:
                raise ValueError(f"calibration.{name} has shape {tuple(value.shape)}")
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"{checkpoint.path}: damaged: calibration and version disagree: {error}"
        ) from None
    network = build_network(
        checkpoint, lambda sizes: LabelNetwork(LabelConfig.from_dict(sizes)).fold(), state
    )
    network.to(memory_format=torch.channels_last)
    return LabelReader(network, Calibration(**found), checkpoint.digest), checkpoint.digest
