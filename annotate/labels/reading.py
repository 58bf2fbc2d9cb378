"""What the stages ask of networks that read faces."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from sfhq.parts.records import Pixels


class Reading(Protocol):
    """Labels of N crops of side S; `annotate.network.reader.Reading`, or a stand-in of a test.

    Points are (x, y) pixels of the crop, pixel centres.

    Attributes:
        parsing: (N, 19, S, S) probabilities of the classes.
        alpha: (N, S, S) share of hair in each pixel.
        points: (N, 110, 2).
        sigma: (N, 110) expected error of each point in pixels of the crop.
        seen: (N, 110) probability that a point is visible.
        irises: (N, 2, 2) centres of the irises: the subject's right one, the left one.
        pose: (N, 3) yaw, pitch, roll in degrees.
        gaze: (N, 2) yaw and pitch of the eyes in degrees.
        attributes: (N, K) probabilities in the order of `sfhq.networks.names.ATTRIBUTES`.
        years: (N,) apparent age.
        whole: (N, F) what is seen of the whole face, 0 or more; alike for faces that look alike.
    """

    @property
    def parsing(self) -> Tensor: ...  # noqa: D102
    @property
    def alpha(self) -> Tensor: ...  # noqa: D102
    @property
    def points(self) -> Tensor: ...  # noqa: D102
    @property
    def sigma(self) -> Tensor: ...  # noqa: D102
    @property
    def seen(self) -> Tensor: ...  # noqa: D102
    @property
    def irises(self) -> Tensor: ...  # noqa: D102
    @property
    def pose(self) -> Tensor: ...  # noqa: D102
    @property
    def gaze(self) -> Tensor: ...  # noqa: D102
    @property
    def attributes(self) -> Tensor: ...  # noqa: D102
    @property
    def years(self) -> Tensor: ...  # noqa: D102
    @property
    def whole(self) -> Tensor: ...  # noqa: D102


class Reader(Protocol):
    """A label network: `annotate.network.reader.LabelReader`, or a stand-in of a test."""

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""

    def read(self, crops: Pixels) -> Reading:
        """Labels of (N, size, size, 3) uint8 RGB crops in FFHQ's frame."""


class Parser(Protocol):
    """Reads classes only; `annotate.bisenet.reader.BisenetReader`, or `Classes`."""

    @property
    def name(self) -> str:
        """What it is, for the part's records."""

    @property
    def digest(self) -> str:
        """sha256 of its weights."""

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""

    @property
    def sided(self) -> bool:
        """Whether it tells left from right."""

    def soft(self, crops: Pixels) -> tuple[Tensor, Tensor]:
        """(N, 19, S, S) probabilities, and (N, S, S) share of hair, of crops."""
