"""Label Studio's JSON: a task a photo, with the 110 points as predictions a person can correct.

Places are in percent of the photo, counted from the outer edge of its first pixel. `CONFIG` is the
labelling interface that shows them.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import quoteattr

from annotate.exchange.faces import Labelled
from annotate.labels.names import NAMES
from sfhq.parts.records import Json

FROM, TO = "points", "image"
CONFIG = "\n".join(
    [
        "<View>",
        f'  <Image name="{TO}" value="$image" zoom="true"/>',
        f'  <KeyPointLabels name="{FROM}" toName="{TO}">',
        *(f"    <Label value={quoteattr(name)}/>" for name in NAMES),
        "  </KeyPointLabels>",
        "</View>",
        "",
    ]
)
WIDTH = 0.5  # percent; size of a point's mark


def to_tasks(faces: Iterable[Labelled], prefix: str = "images/") -> list[dict[str, Json]]:
    """The tasks of a part.

    Args:
        faces: with labels.
        prefix: what an image's address begins with; a folder, or an address such as
            "/data/local-files/?d=images/".
    """
    return [_task(face, prefix) for face in faces]


def _task(face: Labelled, prefix: str) -> dict[str, Json]:
    height, width = face.photo.shape[:2]
    results: list[dict[str, Json]] = []
    points = face.points
    for i, (x, y, flag, _, _) in enumerate([] if points is None else points.tolist()):
        if flag:
            value = {
                "x": round(100 * (x + 0.5) / width, 5),
                "y": round(100 * (y + 0.5) / height, 5),
                "width": WIDTH,
                "keypointlabels": [NAMES[i]],
            }
            results.append(
                {
                    "id": f"{face.name}-{i}",
                    "type": "keypointlabels",
                    "from_name": FROM,
                    "to_name": TO,
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "value": value,
                    "meta": {"text": ["visible" if flag == 2 else "hidden or inferred"]},
                }
            )
    return {
        "data": {"image": f"{prefix}{face.name}.png", "face_id": face.name},
        "predictions": [{"model_version": "sfhq", "result": results}] if results else [],
    }
