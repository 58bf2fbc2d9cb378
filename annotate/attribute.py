"""Stage: looks and quality of every photo, as numbers and words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from sfhq.errors import UsageError
from sfhq.faces.found import POINTS
from sfhq.parts.part import Part
from sfhq.parts.photos import read_photo, require_photos
from sfhq.parts.records import ColumnType, FaceRecord, Json, Pixels
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Stage

if TYPE_CHECKING:
    from annotate.labels.reading import Reader
    from annotate.labels.views import View
    from sfhq.pipeline.recipe import Recipe

ATTRIBUTES = "attribute_probabilities"
REVISION = 2  # raised when the same reading gives other columns
QUALITY = "quality_"  # begins the names of the components' columns
# The components by ISO/IEC 29794-5's names; `annotate.labels.quality` measures them.
COMPONENTS = (
    *("background_uniformity", "illumination_uniformity", "luminance_mean", "luminance_variance"),
    *("under_exposure_prevention", "over_exposure_prevention", "dynamic_range", "sharpness"),
    *("natural_colour", "single_face_present", "eyes_open", "mouth_closed", "eyes_visible"),
    *("mouth_occlusion_prevention", "face_occlusion_prevention", "inter_eye_distance"),
    *("head_size", "leftward_crop", "rightward_crop", "margin_above", "margin_below"),
    *("pose_yaw", "pose_pitch", "pose_roll", "expression_neutrality", "no_head_coverings"),
)
LOOKS: dict[str, ColumnType] = {
    "attributes_present": "text",  # names, separated by ", "
    "attributes_absent": "text",
    "attributes_valid": "flag",  # whether there are enough of them for a caption
    "years": "number",
    "male": "number",  # probability
    "yaw": "number",  # degrees, towards the subject's left
    "pitch": "number",  # degrees, up
    "roll": "number",  # degrees, towards the subject's right shoulder
    "gaze_yaw": "number",
    "gaze_pitch": "number",
    "smile": "number",  # probability
    "mouth_opening": "number",  # in shares of the distance between the outer eye corners
    "eye_opening": "number",  # of the less open eye
    "glasses": "text",
    "hat": "text",
    "earrings": "number",  # probability
    "facial_hair": "text",
    "skin_ita": "number",  # degrees
    "skin_tone": "text",
    "skin_lab": "numbers",
    "hair_colour": "text",
    "hair_length": "text",
    "hair_lab": "numbers",
}


@dataclass(frozen=True)
class AttributeSettings:
    """See `Attribute`."""

    threshold: Annotated[
        float, option("Probability above which an attribute counts.", least=0.5, most=1)
    ] = 0.85
    least: Annotated[int, option("Fewest attributes for a caption.", least=0, most=40)] = 5
    two_sided: Annotated[
        bool, option("Attributes that are surely absent count as well, below 1 - threshold.")
    ] = False
    weights: Annotated[
        Path | None, option("Weights of the label network.", default="the embedded pack's")
    ] = None


@dataclass(frozen=True)
class Attribute(Stage[AttributeSettings]):
    """Writes columns of looks and quality, and the array `attribute_probabilities`, (K,) float32.

    The array is in the order of `sfhq.networks.names.ATTRIBUTES`, CelebA's 40 first. A photo in
    which no face was found has NaN there, and quality 0 among empty columns; none is rejected.

    Attributes:
        reader: the label network.
        digest: sha256 of its file.
        names: of the attributes, in the order of the network's probabilities.
        threshold, least, two_sided: FaceCaption's rule, see `annotate.labels.looks.valid_labels`.
    """

    name: ClassVar[str] = "attribute"
    wants: ClassVar[tuple[str, ...]] = (POINTS,)
    asks: ClassVar[str] = "label reader"
    columns: ClassVar[Mapping[str, ColumnType]] = {
        **LOOKS,
        "quality": "number",  # geometric mean of the components, 0 to 100
        **{f"{QUALITY}{name}": "number" for name in COMPONENTS},
    }
    arrays: ClassVar[tuple[str, ...]] = (ATTRIBUTES,)
    Settings: ClassVar[type[Any]] = AttributeSettings
    about: ClassVar[str] = (
        "What it says are predicted looks of synthetic faces, not facts about people: age, sex and "
        "skin tone are how a picture looks to a network. The rule for captions is "
        "FaceCaption-15M's. Quality components carry the names of ISO/IEC 29794-5; the measures "
        "are our own."
    )
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq attribute part-05",
        "sfhq table part-05 --columns face_id,hair_colour,yaw,quality --where 'quality > 60'",
    )

    reader: Reader
    digest: str
    names: tuple[str, ...]
    threshold: float = 0.85
    least: int = 5
    two_sided: bool = False

    def __post_init__(self) -> None:
        if not 0.5 <= self.threshold <= 1:
            raise UsageError(f"threshold is {self.threshold}; wanted 0.5 to 1")

    @classmethod
    def build(cls, settings: AttributeSettings, recipe: Recipe, part: Path) -> Attribute:
        """The stage that a recipe describes, with its network."""
        from sfhq import stages
        from sfhq.networks.names import ATTRIBUTES as NAMES

        reader, digest = stages.network("label reader")(settings.weights)
        return cls(reader, digest, NAMES, settings.threshold, settings.least, settings.two_sided)

    def check(self, part: Part) -> None:
        """Refuse photos that are not there, or whose faces nobody has looked for."""
        from annotate.labels.views import require_faces

        require_photos(part)
        require_faces(part, self.name)

    def settings(self) -> dict[str, Json]:
        """The network and the rule."""
        return {
            "digest": self.digest,
            "threshold": self.threshold,
            "least": self.least,
            "two_sided": self.two_sided,
            "revision": REVISION,
        }

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Read the photo of every face."""
        from annotate.labels.views import views

        for record in records:
            photo = read_photo(part, record)
            found = views(part, record, photo, self.reader.size)
            if not found:
                nothing = {name: _nothing(kind) for name, kind in LOOKS.items()}
                said = record.with_columns(**nothing, quality=0.0)
                said = said.with_columns(**{f"{QUALITY}{name}": None for name in COMPONENTS})
                unknown = np.full(len(self.names), np.nan, np.float32)
                yield said.with_array(ATTRIBUTES, unknown)
                continue
            columns, probabilities = self.read(photo, found)
            yield record.with_columns(**columns).with_array(ATTRIBUTES, probabilities)

    def read(
        self, photo: Pixels, found: list[View]
    ) -> tuple[dict[str, Json], np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        """Columns and probabilities of a photo's first view.

        Args:
            photo: (H, W, 3) uint8 RGB.
            found: its faces, at least one.
        """
        from annotate.labels.describe import described
        from annotate.labels.landmarks import in_photo, network_points
        from annotate.labels.masks import first_map

        view = found[0]
        reading = self.reader.read(view.crop[None])
        probabilities = reading.attributes[0].numpy()
        by_name = dict(zip(self.names, probabilities.tolist(), strict=True))
        second = max(((v.frame.scale / view.frame.scale) ** 2 for v in found[1:]), default=0.0)
        columns = described(
            photo,
            reading,
            by_name,
            first_map(reading.parsing, view.frame),
            in_photo(network_points(reading), view.frame),
            second=min(second, 1.0),
            threshold=self.threshold,
            least=self.least,
            two_sided=self.two_sided,
        )
        return columns, probabilities.astype(np.float32)


def _nothing(kind: ColumnType) -> Json:
    return {"text": "", "flag": False, "numbers": []}.get(kind)
