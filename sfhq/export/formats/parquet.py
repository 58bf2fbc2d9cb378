"""Hugging Face Parquet: shards that hold the photos, as `datasets` and the Hub's viewer read them.

data/<split>-<5 digits>.parquet has `image` and `mask` ({"bytes", "path"}, decoded by `datasets`),
`caption_text`, `landmarks`, `visibility`, and every column of the part's table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from sfhq.export.card import write_card
from sfhq.export.files import Written, writing
from sfhq.export.item import Item, label_types, labels_of
from sfhq.export.job import MEGABYTE, Entry, Format, Job, Piece
from sfhq.export.rows import point_types, points_of
from sfhq.parts.records import Json

GROUP = 16 * MEGABYTE  # of photos in a row group: what a reader and this writer hold at a time
MOST = 1000  # photos in a row group
IMAGES = ("image", "mask")


class Parquet(Format):
    """See the module."""

    name: ClassVar[str] = "parquet"
    summary: ClassVar[str] = "Hugging Face Parquet with photos inside"

    def piece(self, job: Job, split: str, number: int, items: Iterator[Item]) -> Piece:
        """One shard: photos until it is full."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = f"data/{split}-{number:05d}.parquet"
        schema = _schema(job)
        coded = [n for n in schema.names if n not in IMAGES]
        entries: list[Entry] = []
        rows: list[dict[str, Json]] = []
        held = 0
        with (
            writing(job.folder / path) as file,
            pq.ParquetWriter(
                file, schema, compression="snappy", use_dictionary=coded, write_page_index=True
            ) as out,
        ):
            for item in items:
                row, entry = _row(item, job, path)
                rows.append(row)
                entries.append(entry)
                held += entry.size + len((row["mask"] or {}).get("bytes", b""))
                full = file.size + held >= job.shard
                if full or held >= GROUP or len(rows) == MOST:
                    out.write_table(pa.Table.from_pylist(rows, schema=schema))
                    rows.clear()
                    held = 0
                if full:
                    break
            if rows:
                out.write_table(pa.Table.from_pylist(rows, schema=schema))
        return Piece(split, number, tuple(entries), {path: file.written()})

    def finish(self, job: Job, sums: Mapping[str, Written]) -> dict[str, Written]:
        """The card, which says which files are which split."""
        files = {name: f"data/{name}-*.parquet" for name in job.choice.names()}
        return write_card(job, "parquet", files, features(_types(job)))


def _types(job: Job) -> dict[str, Any]:
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    texts = dict.fromkeys(("key", "split", "part", "label", "caption_text"), pa.string())
    sizes = dict.fromkeys(("image_width", "image_height"), pa.int32())
    own = {"image": image, "mask": image, **texts, **sizes, **point_types()}
    return {**own, **label_types(job.choice)}


def _schema(job: Job) -> Any:
    import pyarrow as pa

    types = _types(job)
    about = {"info": {"features": features(types)}}
    return pa.schema(list(types.items()), metadata={"huggingface": json.dumps(about)})


def features(types: Mapping[str, Any]) -> dict[str, Json]:
    """Arrow types as the features of `datasets`; columns of {"bytes", "path"} are images."""
    import pyarrow as pa

    def feature(kind: Any) -> Json:
        if pa.types.is_struct(kind):
            return {"_type": "Image"}
        if pa.types.is_list(kind):  # "Sequence" is read by old and new versions of `datasets`
            return {"feature": feature(kind.value_type), "_type": "Sequence"}
        words = {"double": "float64", "float": "float32"}
        return {"dtype": words.get(str(kind), str(kind)), "_type": "Value"}

    return {name: feature(kind) for name, kind in types.items()}


def _row(item: Item, job: Job, path: str) -> tuple[dict[str, Json], Entry]:
    data, suffix, digest = item.photo
    face, mask = item.face, item.mask
    width, height = item.size
    row = {
        "image": {"bytes": data, "path": f"{face.key}.{suffix}"},
        "mask": None if mask is None else {"bytes": mask, "path": f"{face.key}.seg.png"},
        "key": face.key,
        "split": face.split,
        "part": face.part_name,
        "label": face.label,
        "caption_text": item.caption or None,
        "image_width": width,
        "image_height": height,
        **points_of(item),
        **labels_of(face, job.choice),
    }
    return row, Entry(face.key, path, len(data), digest, width, height)
