"""A part's living faces as a torch `Dataset`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from sfhq.parts.photos import read_mask, read_photo
from sfhq.parts.records import FaceRecord
from sfhq.tensors import to_tensor

if TYPE_CHECKING:
    from sfhq.parts.part import Part

MASK_FOLDER = "segmentations"


class FaceDataset(Dataset[dict[str, Any]]):
    """The faces that no stage refused, in the order of the records.

    An item is a dict: "face_id"; "image", (3, H, W) float32 in [-1, 1]; "mask", (H, W) int64 class
    ids; "record", the `FaceRecord`. A `DataLoader` can collate all but the record.

    Args:
        part: the part.
        images: read the photo of each face.
        masks: read its segmentation.
        records: put the record into the item.

    Raises:
        UsageError: nothing has run to its end.
        IntegrityError: damaged records; on reading an item a photo that is missing or was changed.
    """

    def __init__(
        self, part: Part, *, images: bool = True, masks: bool = False, records: bool = False
    ) -> None:
        self.part = part
        self.images = images
        self.masks = masks
        self.keeps_records = records
        self.faces: tuple[FaceRecord, ...] = tuple(part.faces())

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.faces[index]
        item: dict[str, Any] = {"face_id": record.face_id}
        if self.images:
            item["image"] = to_tensor(read_photo(self.part, record)[None])[0]
        if self.masks:
            mask = read_mask(self.part, record, MASK_FOLDER)
            item["mask"] = torch.from_numpy(mask.astype("int64"))
        if self.keeps_records:
            item["record"] = record
        return item
