"""The explorer's routes; the guard is that of all pages (`sfhq.web`).

All of them only read, but for the one that makes a new part in a folder that the user has named.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from curation.explore.boards import board
from curation.explore.explorer import Explorer
from curation.explore.export import KINDS, export, new_part
from curation.explore.faces import details
from curation.explore.facets import BINS
from curation.explore.pictures import AT_ONCE, SIDES, SIZES, Pictures
from curation.explore.turns import Turns
from curation.explore.views import View, read_view
from sfhq.errors import SfhqError, UsageError
from sfhq.images import BadImage, read_image
from sfhq.parts.records import Array, Json, Pixels
from sfhq.web.application import guarded, json_object, package_files
from sfhq.web.guard import JsonResponse
from sfhq.web.serving import place_of, serve_application
from sfhq.web.shell import render

PUBLIC = ("/", "/web/")
MOST_PAGE, MOST_SMALL, MOST_COLUMNS = 200, 48, 200
MOST_PIXELS = 16_000_000  # of an uploaded picture; the page sends small ones

Endpoint = Callable[[Request], Awaitable[Response]]
Answer = TypeVar("Answer")


class Pages:
    """The routes of one explorer.

    Args:
        explorer: what is shown.
        new_parts: the one folder that may be written to: selections become parts there. None for
            no such folder.
    """

    def __init__(self, explorer: Explorer, new_parts: Path | None = None) -> None:
        self.explorer, self.faces, self.new_parts = explorer, explorer.faces, new_parts
        self.turns = Turns(AT_ONCE)
        self.pictures = Pictures(explorer.faces, self.turns)
        self.place = place_of(explorer.faces.parts[0].root)

    def routes(self) -> list[Route]:
        """Every route, scripts and style sheet apart."""
        table: list[tuple[str, Endpoint, str]] = [
            ("/", self.page, "GET"),
            ("/api/about", self.about, "GET"),
            ("/api/faces", self.found, "GET"),
            ("/api/facets", self.facets, "GET"),
            ("/api/board", self.board, "GET"),
            ("/api/face/{i}", self.face, "GET"),
            ("/api/find", self.find, "GET"),
            ("/api/map", self.points, "GET"),
            ("/api/map/shown", self.shown, "GET"),
            ("/api/map/codes", self.codes, "GET"),
            ("/small", self.small, "GET"),
            ("/photo/{i}", self.photo, "GET"),
            ("/api/export", self.export, "POST"),
            ("/api/part", self.part, "POST"),
            ("/api/upload", self.upload, "POST"),
        ]
        return [Route(path, work, methods=[method]) for path, work, method in table]

    async def page(self, request: Request) -> Response:
        """The page itself, with nothing of the parts in it."""
        return HTMLResponse(render("curation.explore", "explore.html", place=self.place))

    async def about(self, request: Request) -> Response:
        """What there is: parts, columns, ways to search."""
        vectors = self.faces.vectors
        maps = [f.name for f in self.explorer.facets.values() if f.kind == "number"]
        notes = list(vectors.notes)
        return JsonResponse(
            {
                "parts": list(self.faces.names),
                "total": self.faces.count,
                "facets": [f.told() for f in self.explorer.facets.values()],
                "columns": list(self.faces.types),
                "words": self.explorer.how_words(),
                "encoder": vectors.encoder if vectors else "",
                "numbers": maps,
                "notes": notes,
                "new_parts": self.new_parts is not None,
            }
        )

    async def _search(self, work: Callable[[], Answer]) -> Answer:
        """Do something before any picture, if the parts are still what was read.

        Raises:
            IntegrityError: a part has changed since.
        """

        def checked() -> Answer:
            self.faces.require_unchanged()
            with self.turns.searching():
                return work()

        return await run_in_threadpool(checked)

    async def _answer(self, work: Callable[[], Json]) -> Response:
        return JsonResponse(await self._search(work))

    async def found(self, request: Request) -> Response:
        """A page of a view."""
        view, offset = _view(request), _number(request, "offset", 0, 0, 10**9)
        limit = _number(request, "limit", 60, 1, MOST_PAGE)
        return await self._answer(lambda: self.explorer.page(view, offset, limit))

    async def facets(self, request: Request) -> Response:
        """Facets of some columns with counts."""
        view, columns = _view(request), _columns(request)
        return await self._answer(lambda: self.explorer.counts(view, columns))

    async def board(self, request: Request) -> Response:
        """Sample faces for each value of a column."""
        view, column = _view(request), request.query_params.get("column", "")
        across = _number(request, "across", 8, 1, 24)
        return await self._answer(lambda: board(self.explorer, view, column, across))

    async def face(self, request: Request) -> Response:
        """All that is known of a face."""
        i = _face(request)
        return await self._answer(lambda: details(self.explorer, self.pictures, i))

    async def find(self, request: Request) -> Response:
        """Number of a face by its part and id."""
        part, face = (request.query_params.get(n, "") for n in ("part", "face"))
        return await self._answer(lambda: {"i": self.faces.find(part, face)})

    async def points(self, request: Request) -> Response:
        """Places of all faces on a map: little-endian uint16, all x and then all y."""
        x, y = (request.query_params.get(n, "") for n in ("x", "y"))
        made = await self._search(lambda: self.explorer.maps.points(x, y))
        return _binary(np.ascontiguousarray(made.T).astype("<u2"))

    async def shown(self, request: Request) -> Response:
        """Which faces a view shows: a byte each, 0 or 1."""
        view = _view(request)

        def work() -> Array:
            mask = np.zeros(self.faces.count, np.uint8)
            mask[self.explorer.order(view)] = 1
            return mask

        return _binary(await self._search(work))

    async def codes(self, request: Request) -> Response:
        """A byte a face: the place of its value, or its bin of 40; 255 where it has none."""
        name = request.query_params.get("column", "")
        facet = self.explorer.facets.get(name)
        if facet is None or facet.kind == "tags":
            raise UsageError(f"map: no column {name[:80]!r} to colour by")
        codes = facet.codes

        def work() -> Array:
            if facet.kind == "number":
                return np.where(codes == BINS, np.uint8(255), codes)
            return codes

        return _binary(await self._search(work))

    async def small(self, request: Request) -> Response:
        """Small pictures: for each face four bytes with the length, little-endian, and a JPEG."""
        text = request.query_params.get("i", "")
        numbers = [int(t) for t in text.split(",") if t.isascii() and t.isdigit() and len(t) < 10]
        if not numbers or len(numbers) > MOST_SMALL or len(numbers) != text.count(",") + 1:
            raise UsageError(f"i: wanted 1 to {MOST_SMALL} numbers of faces")
        size = _number(request, "size", 160, 1, SIZES[-1])

        for i in numbers:
            self.faces.require(i)
        await run_in_threadpool(self.faces.require_unchanged)
        made = []
        for i in numbers:
            if await request.is_disconnected():  # the page shows something else by now
                break
            made.append(await run_in_threadpool(self.pictures.small, i, size))
        data = b"".join(struct.pack("<I", len(one)) + one for one in made)
        return Response(data, media_type="application/octet-stream")

    async def photo(self, request: Request) -> Response:
        """A photo, or a layer of it, as JPEG."""
        i, layer = _face(request), request.query_params.get("layer", "photo")
        size = _number(request, "size", 512, 1, SIDES[-1])
        await run_in_threadpool(self.faces.require_unchanged)
        data = await run_in_threadpool(self.pictures.photo, i, layer, size)
        return Response(data, media_type="image/jpeg")

    async def export(self, request: Request) -> Response:
        """The faces of a view as a file."""
        body = await json_object(request)
        view, kind = read_view(body.get("view", {})), str(body.get("kind", "csv"))
        data = await self._search(lambda: export(self.explorer, view, kind))
        return Response(data, media_type=KINDS[kind])

    async def part(self, request: Request) -> Response:
        """Write the faces of a view as a part of their own."""
        body = await json_object(request)
        view, name, folder = read_view(body.get("view", {})), body.get("name"), self.new_parts
        if folder is None:
            raise UsageError("new part: start the server with --new-parts FOLDER")
        if not isinstance(name, str) or not name:
            raise UsageError("new part: wanted a name")

        def work() -> Json:
            self.faces.require_unchanged()
            return new_part(self.explorer, view, folder, name)

        return JsonResponse(await run_in_threadpool(work))

    async def upload(self, request: Request) -> Response:
        """Keep the vector of a picture; nothing is written."""
        body = await json_object(request)
        text = body.get("image")
        try:
            data = base64.b64decode(text if isinstance(text, str) else "?", validate=True)
        except ValueError:
            raise UsageError("image: wanted a JPEG, PNG or WebP file in base64") from None
        key = hashlib.sha256(data).hexdigest()[:16]

        def work() -> Json:
            return {"image": self.explorer.upload(key, _pixels(data))}

        return await self._answer(work)


def _view(request: Request) -> View:
    text = request.query_params.get("view", "{}")
    try:
        told: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError("view: not JSON") from None
    return read_view(told)


def _columns(request: Request) -> list[str]:
    text = request.query_params.get("columns", "")
    columns = [c for c in text.split(",") if c]
    if len(columns) > MOST_COLUMNS:
        raise UsageError(f"columns: {len(columns)}; wanted {MOST_COLUMNS} at most")
    return columns


def _face(request: Request) -> int:
    text = request.path_params["i"]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"face {text[:20]!r}: wanted its number")
    return int(text)


def _pixels(data: bytes) -> Pixels:
    """(H, W, 3) uint8 of an uploaded picture.

    Raises:
        UsageError: it is none, is damaged, or has too many pixels to be decoded here.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UsageError("image: not a picture; wanted a JPEG, PNG or WebP file") from None
    if width * height > MOST_PIXELS:
        raise UsageError(
            f"image: {width} x {height} pixels; wanted {MOST_PIXELS:,} at most: reduce it first"
        )
    try:
        return np.asarray(read_image(data).convert("RGB"))
    except BadImage as error:
        raise UsageError(f"image: {error}") from None


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    plain = text.isascii() and text.isdigit() and len(text) < 11
    if not plain or not least <= int(text) <= most:
        raise UsageError(f"{name} is {text[:40]!r}; wanted a number, {least} to {most}")
    return int(text)


def _binary(values: Array) -> Response:
    return Response(values.tobytes(), media_type="application/octet-stream")


def application(explorer: Explorer, token: str, new_parts: Path | None = None) -> ASGIApp:
    """The guarded application.

    Args:
        explorer: what it shows.
        token: as `sfhq.web.guard.Guard`.
        new_parts: folder for selections that become parts; None for none.
    """
    routes = [
        *Pages(explorer, new_parts).routes(),
        package_files("/web", "curation.explore", "web"),
    ]
    return guarded(routes, token, PUBLIC)


def serve(
    explorer: Explorer, sock: socket.socket, token: str, new_parts: Path | None = None
) -> None:
    """Serve until SIGINT or SIGTERM. To be called in the main thread.

    The network that reads words is loaded meanwhile, so that the first search need not wait; where
    it cannot be had, the search says so.
    """

    def warm() -> None:
        with suppress(SfhqError):
            explorer.text_vector("a face")

    if explorer.knows_words:
        threading.Thread(target=warm, daemon=True).start()
    serve_application(application(explorer, token, new_parts), sock)
