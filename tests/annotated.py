"""A part of drawn heads with exact labels, and a part that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from reading import face_points
from test_masks import face_map
from tiny import finish, finish_about, tiny_pixels

from annotate.exchange.faces import labelled
from annotate.labels.sides import assign_sides
from sfhq.faces.points import ARRAY, COUNT
from sfhq.networks.names import ATTRIBUTES
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord

SIDE = 61


def exact_points() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(110, 3) of a drawn head: two hidden, one outside."""
    out = np.ones((COUNT, 3), np.float32) * 2
    out[:, :2] = face_points() * SIDE - 0.5
    out[[3, 4], 2], out[5, 2] = 1, 0
    return out


def heads(root: Path, count: int = 4) -> Part:
    """A part as `render` leaves it, of drawn heads."""
    part = Part.create(root)
    records = []
    for i, photo in enumerate(tiny_pixels(count, SIDE)):
        truth = assign_sides(face_map(SIDE))
        truth[: 2 * i] = 0  # no two alike
        known = {name: bool((i + k) % 2) for k, name in enumerate(ATTRIBUTES[:40])}
        known["Attractive"] = None  # type: ignore[assignment]
        details = {
            "yaw": 3.0 * i,
            "pitch": 0.0,
            "roll": 0.0,
            "years": 30.0,
            "male": i % 2,
            "ita": 40,
        }
        details |= {"gaze_yaw": 0.0, "gaze_pitch": 1.0}
        record = FaceRecord(
            f"head{i}",
            source_sha256=f"{i:064d}",
            params={"attributes": known, "details": details},
        )
        record = record.with_image("renders", photo).with_image("segmentations", truth)
        records.append(record.with_array("render_landmarks", exact_points()))
    finish(part, "render", [records])
    return part


def read_part(root: Path, truth: Part, wrong: int = 0) -> Part:
    """What stages would have read of those heads: the truth, in the first `wrong` moved by 3 px."""
    part = Part.create(root)
    rows: list[FaceRecord] = []
    said: list[FaceRecord] = []
    for i, face in enumerate(labelled(truth)):
        record = FaceRecord(f"read{i}", source_sha256=face.record.source_sha256)
        rows.append(record.with_image("aligned", face.photo))
        mask, points = face.mask, face.points
        assert mask is not None and points is not None
        points = points.copy()
        if i < wrong:
            mask = np.roll(mask, 3, 1)
            points[:, 0] += 3
        known = face.record.params["attributes"]
        told = np.array([0.9 if known.get(name) else 0.1 for name in ATTRIBUTES], np.float32)
        yaw = float(face.record.params["details"]["yaw"]) + 2
        about = FaceRecord(record.face_id).with_columns(
            parse_flags="", parse_certainty=1.0 - 0.1 * i, class_shares=[0.0] * 19
        )
        about = about.with_columns(yaw=yaw, pitch=0.0, roll=0.0, gaze_yaw=0.0, gaze_pitch=0.0)
        about = about.with_columns(
            years=33.0, landmark_flags="hat" if i else "", landmark_error=0.01
        )
        about = about.with_image("segmentations", mask).with_array(ARRAY, points.astype(np.float32))
        said.append(about.with_array("attribute_probabilities", told))
    finish(part, "align", [rows])
    kinds: dict[str, Any] = {"parse_certainty": "number", "class_shares": "numbers"}
    kinds |= dict.fromkeys(("parse_flags", "landmark_flags"), "text")
    kinds |= dict.fromkeys(("yaw", "pitch", "roll", "gaze_yaw", "gaze_pitch"), "number")
    finish_about(part, "parse", [said], kinds | {"years": "number", "landmark_error": "number"})
    return part
