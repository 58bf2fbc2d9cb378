"""A small part to explore, and a server of it in a thread."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import uvicorn
from curating import TOKEN, Client
from tiny import embedded_part, finish_about, tiny_pixels, unit

from curation.explore.collection import Collection
from curation.explore.explorer import Explorer
from curation.explore.server import application
from sfhq.parts.part import Part
from sfhq.parts.records import ColumnType, FaceRecord
from sfhq.web.guard import page_address
from sfhq.web.serving import free_port

HAIR = ("black", "blond", "brown")
COUNT = 24
PAYLOAD = "<img src=x onerror=alert(1)>"


def faces_to_see(root: Path, count: int = COUNT, embedded: bool = True, said: bool = True) -> Part:
    """Faces with looks, captions and masks; face i is i years old, hair goes round."""
    vectors = unit(np.random.default_rng(5).standard_normal((count, 8)))
    part = embedded_part(root, vectors, images=True, shard_size=10)
    if not embedded:
        (root / "records" / "embed.json").unlink()
    if said:
        columns: dict[str, ColumnType] = {
            "years": "number",
            "hair_colour": "text",
            "attributes_present": "text",
            "caption": "text",
        }
        rows = [_looks(r.face_id, i) for i, r in enumerate(part.records("synthesize"))]
        finish_about(part, "attribute", [rows[k : k + 10] for k in range(0, count, 10)], columns)
        pixels = tiny_pixels(1)[0]
        masks = np.zeros(pixels.shape[:2], np.uint8)
        masks[:16] = 17
        marked = [FaceRecord(r.face_id).with_image("segmentations", masks) for r in rows]
        finish_about(part, "parse", [marked[k : k + 10] for k in range(0, count, 10)])
    return part


def _looks(face_id: str, i: int) -> FaceRecord:
    woman = "woman" if i % 2 else "man"
    caption = f"A {woman} with {HAIR[i % 3]} hair" + (" and glasses" if i % 4 == 0 else "")
    return FaceRecord(face_id).with_columns(
        years=float(i),
        hair_colour=HAIR[i % 3],
        attributes_present="Smiling, Young" if i % 2 else "Young",
        caption=caption if i != 5 else PAYLOAD,
    )


def explorer_of(*parts: Part, weights: Path | None = None) -> Explorer:
    return Explorer(Collection(parts), weights)


@contextmanager
def exploring(explorer: Explorer, new_parts: Path | None = None) -> Iterator[tuple[Client, str]]:
    """A client, and the page's address."""
    with free_port() as sock:
        port = sock.getsockname()[1]
        config = uvicorn.Config(application(explorer, TOKEN, new_parts), log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Client(port), page_address(port, TOKEN)
        finally:
            server.should_exit = True
            thread.join(60)


def told(view: dict[str, Any]) -> str:
    return quote(json.dumps(view))


def numbers(faces: Sequence[dict[str, Any]]) -> list[int]:
    return [f["i"] for f in faces]
