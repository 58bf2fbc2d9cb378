"""The labelling page's own routes; the guard and all that servers share is in `sfhq.web`."""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from threading import Lock

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from curation.page.figures import conflicts, figures
from curation.page.session import Session
from sfhq.errors import UsageError
from sfhq.parts.records import Json
from sfhq.web.application import guarded, json_object, package_files
from sfhq.web.guard import new_token
from sfhq.web.serving import free_port, serve_application
from sfhq.web.shell import render

__all__ = ["application", "free_port", "new_token", "serve"]

MOST_CARDS = 200
PREVIEWS = 256  # kept in memory
SIZES = (256, 512, 1024)

Endpoint = Callable[[Request], Awaitable[Response]]


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    plain = text.isascii() and text.isdigit() and len(text) < 10
    if not plain or not 1 <= int(text) <= most:
        raise UsageError(f"{name} is {text[:40]!r}; wanted a number, 1 to {most}")
    return int(text)


def _band(request: Request) -> tuple[float, float] | None:
    text = request.query_params.get("band")
    if not text:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
        if not 0 <= low <= high <= 1:
            raise ValueError
    except ValueError:
        raise UsageError(f"band is {text[:40]!r}; wanted two scores, such as 0.3,0.7") from None
    return low, high


class Pages:
    """The routes of one session.

    Args:
        session: the session that the page shows.
        blind: never tell the page a score.
    """

    def __init__(self, session: Session, blind: bool = False) -> None:
        self.session, self.blind = session, blind
        self._previews: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def routes(self) -> list[Route]:
        """Every route of the page, its scripts and style sheet apart."""
        table: list[tuple[str, Endpoint, str]] = [
            ("/", self.page, "GET"),
            ("/image/{face}", self.image, "GET"),
            ("/mask/{face}", self.mask, "GET"),
            ("/api/start", self.start, "POST"),
            ("/api/cards", self.cards, "GET"),
            ("/api/labels", self.labels, "POST"),
            ("/api/undo", self.undo, "POST"),
            ("/api/figures", self.figures, "GET"),
            ("/api/conflicts", self.conflicts, "GET"),
            ("/api/train", self.train, "POST"),
            ("/api/points/{face}", self.points, "GET"),
        ]
        return [Route(path, work, methods=[method]) for path, work, method in table]

    async def page(self, request: Request) -> Response:
        """The page itself."""
        return HTMLResponse(render("curation.page", "curate.html"))

    def _index(self, request: Request) -> int:
        face = request.path_params["face"]
        index = self.session.index.get(face)
        if index is None:
            raise UsageError("no such face in this part")
        return index

    async def image(self, request: Request) -> Response:
        """A face as JPEG, `size` pixels at most."""
        index, size = self._index(request), _number(request, "size", 512, max(SIZES))
        size = next(s for s in SIZES if s >= size)
        data = await run_in_threadpool(self._preview, index, size)
        return Response(
            data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"}
        )

    def _preview(self, index: int, size: int) -> bytes:
        key = (self.session.faces.hash_of(index), size)
        with self._lock:
            if key in self._previews:
                self._previews.move_to_end(key)
                return self._previews[key]
        data = self.session.faces.preview(index, size)
        with self._lock:
            self._previews[key] = data
            while len(self._previews) > PREVIEWS:
                self._previews.popitem(last=False)
        return data

    async def mask(self, request: Request) -> Response:
        """The segmentation, where there is one."""
        data = await run_in_threadpool(self.session.faces.mask, self._index(request))
        if data is None:
            raise HTTPException(404, "this face has no segmentation; run: sfhq parse")
        return Response(data, media_type="image/png")

    async def points(self, request: Request) -> Response:
        """Landmarks as shares of the image's size."""
        index = self._index(request)
        return JSONResponse(
            {"points": await run_in_threadpool(self.session.faces.landmarks, index)}
        )

    async def start(self, request: Request) -> Response:
        """A person opens the page: part and name, as the page shows them."""
        body = await json_object(request)
        name = str(body.get("annotator", ""))
        await run_in_threadpool(self.session.sit_down, name)
        return JSONResponse(
            {
                "part": self.session.faces.part.name,
                "annotator": name.strip(),
                "faces": len(self.session.faces),
                "learns": bool(self.session.blocks),
                "blind": self.blind,
            }
        )

    async def cards(self, request: Request) -> Response:
        """The next faces."""
        who = request.query_params.get("annotator", "")
        count = _number(request, "count", 8, MOST_CARDS)
        mode = request.query_params.get("mode", "single")
        if mode not in ("single", "grid"):
            raise UsageError(f"mode is {mode[:40]!r}; wanted single or grid")
        cards = await run_in_threadpool(self.session.deal, who, count, _band(request), mode)
        return JSONResponse({"cards": [c.to_dict(self.blind) for c in cards]})

    async def labels(self, request: Request) -> Response:
        """Store decisions; when the answer comes, they are on the disk."""
        body = await json_object(request)
        answers = body.get("answers")
        if (
            not isinstance(answers, list)
            or not 0 < len(answers) <= MOST_CARDS
            or not all(isinstance(a, dict) for a in answers)
        ):
            raise UsageError(f"answers: wanted a list of 1 to {MOST_CARDS} objects")
        who = str(body.get("annotator", ""))
        done = await run_in_threadpool(self.session.answer, who, answers)
        return JSONResponse(done)

    async def undo(self, request: Request) -> Response:
        """Undo the last decision, or the last page of the grid."""
        body = await json_object(request)
        who, client = str(body.get("annotator", "")), str(body.get("client", ""))
        if not 1 <= len(client) <= 80:
            raise UsageError("an undo without a client id of 1 to 80 letters")
        cards = await run_in_threadpool(self.session.undo, who, client)
        return JSONResponse({"cards": [c.to_dict(self.blind) for c in cards]})

    async def figures(self, request: Request) -> Response:
        """Counts, histograms, accuracy, agreement."""
        who = request.query_params.get("annotator", "")
        return JSONResponse(await run_in_threadpool(figures, self.session, who))

    async def conflicts(self, request: Request) -> Response:
        """Faces on which people disagree."""
        return JSONResponse({"conflicts": await run_in_threadpool(conflicts, self.session)})

    async def train(self, request: Request) -> Response:
        """Start a training now, or say why not."""
        await json_object(request)

        def begin() -> dict[str, Json]:
            with self.session.at_rest():
                began = self.session.train()
                return {"began": began, "why": "" if began else self.session.hindrance()}

        return JSONResponse(await run_in_threadpool(begin))


def application(session: Session, port: int, token: str, blind: bool = False) -> ASGIApp:
    """The guarded application.

    Args:
        session: the session that the page shows.
        port, token: as `sfhq.web.guard.Guard`.
        blind: never tell the page a score.
    """
    routes = [*Pages(session, blind).routes(), package_files("/web", "curation.page", "web")]
    return guarded(routes, port, token)


def serve(session: Session, sock: socket.socket, token: str, blind: bool = False) -> None:
    """Serve a session until SIGINT or SIGTERM. To be called in the main thread."""
    port = sock.getsockname()[1]
    serve_application(application(session, port, token, blind), sock)
