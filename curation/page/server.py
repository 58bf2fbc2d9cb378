"""The labelling page's own routes; the guard and all that servers share is in `sfhq.web`."""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from threading import Lock

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from curation.labels.events import person
from curation.page.deciding import Reused
from curation.page.figures import conflicts, figures
from curation.page.people import People
from curation.page.session import Session
from sfhq.errors import UsageError
from sfhq.parts.records import Json
from sfhq.web.application import guarded, json_object, package_files
from sfhq.web.guard import JsonResponse, new_token, page_address
from sfhq.web.serving import free_port, place_of, port_of, serve_application
from sfhq.web.shell import render

__all__ = ["application", "free_port", "new_token", "page_address", "port_of", "serve"]

MOST_CARDS = 200
PREVIEWS = 256  # kept in memory
SIZES = (256, 512, 1024)
PUBLIC = ("/", "/web/")  # the page without anything in it, its scripts and style sheet

Endpoint = Callable[[Request], Awaitable[Response]]


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    plain = text.isascii() and text.isdigit() and len(text) < 10
    if not plain or not 1 <= int(text) <= most:
        raise UsageError(f"{name} is {text[:40]!r}; wanted a number, 1 to {most}")
    return int(text)


def _text(body: dict[str, Json], name: str, default: str = "") -> str:
    text = body.get(name, default)
    if not isinstance(text, str):
        raise UsageError(f"{name}: wanted a text")
    return text


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
        root = session.faces.part.root
        self.place = place_of(root)
        self.people = People(root / "curation" / "people.json")
        self._previews: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def routes(self) -> list[Route]:
        """Every route of the page, its scripts and style sheet apart."""
        table: list[tuple[str, Endpoint, str]] = [
            ("/", self.page, "GET"),
            ("/image/{face}", self.image, "GET"),
            ("/mask/{face}", self.mask, "GET"),
            ("/api/people", self.names, "GET"),
            ("/api/start", self.start, "POST"),
            ("/api/leave", self.leave, "POST"),
            ("/api/keys", self.keys, "POST"),
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
        """The page itself, with nothing of the part in it."""
        return HTMLResponse(render("curation.page", "curate.html", place=self.place))

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
        return Response(data, media_type="image/jpeg")

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
        return JsonResponse(
            {"points": await run_in_threadpool(self.session.faces.landmarks, index)}
        )

    async def names(self, request: Request) -> Response:
        """Everybody who has labels or keys of their own here."""
        found = await run_in_threadpool(self.session.store.annotators)
        return JsonResponse({"people": sorted({*found, *self.people.names()})})

    async def start(self, request: Request) -> Response:
        """A person opens the page: part, name and own keys."""
        body = await json_object(request)
        name = person(body.get("annotator"))
        await run_in_threadpool(self.session.sit_down, name, _text(body, "tab"))
        return JsonResponse(
            {
                "part": self.session.faces.part.name,
                "annotator": name,
                "faces": len(self.session.faces),
                "learns": bool(self.session.blocks),
                "blind": self.blind,
                "keys": self.people.keys(name),
            }
        )

    async def leave(self, request: Request) -> Response:
        """A page is closed: its faces are free."""
        body = await json_object(request)
        name, tab = person(body.get("annotator")), _text(body, "tab")
        await run_in_threadpool(self.session.leave, name, tab)
        return JsonResponse({})

    async def keys(self, request: Request) -> Response:
        """Keep the keys that a person chose; none for those of the page."""
        body = await json_object(request)
        name, keys = person(body.get("annotator")), body.get("keys")
        await run_in_threadpool(self.people.set_keys, name, keys)
        return JsonResponse({"keys": self.people.keys(name)})

    async def cards(self, request: Request) -> Response:
        """The next faces."""
        who = request.query_params.get("annotator", "")
        count = _number(request, "count", 8, MOST_CARDS)
        mode = request.query_params.get("mode", "single")
        if mode not in ("single", "grid"):
            raise UsageError(f"mode is {mode[:40]!r}; wanted single or grid")
        tab = request.query_params.get("tab", "")
        cards = await run_in_threadpool(self.session.deal, who, count, _band(request), mode, tab)
        return JsonResponse({"cards": [c.to_dict(self.blind) for c in cards]})

    async def labels(self, request: Request) -> Response:
        """Store decisions; when the answer comes, they are on the disk. It says of each what
        became of it, and has the status 207 if one of them was refused.
        """
        body = await json_object(request)
        answers = body.get("answers")
        if (
            not isinstance(answers, list)
            or not 0 < len(answers) <= MOST_CARDS
            or not all(isinstance(a, dict) for a in answers)
        ):
            raise UsageError(f"answers: wanted a list of 1 to {MOST_CARDS} objects")
        who, tab = person(body.get("annotator")), _text(body, "tab")
        done = await run_in_threadpool(self.session.answer, who, answers, tab)
        refused = any("refused" in one for one in done["results"])
        return JsonResponse(done, 207 if refused else 200)

    async def undo(self, request: Request) -> Response:
        """Undo the last decision, or the last page of the grid."""
        body = await json_object(request)
        who, client, tab = person(body.get("annotator")), _text(body, "client"), _text(body, "tab")
        try:
            cards = await run_in_threadpool(self.session.undo, who, client, tab)
        except Reused as error:
            raise HTTPException(409, str(error)) from None
        return JsonResponse({"cards": [c.to_dict(self.blind) for c in cards]})

    async def figures(self, request: Request) -> Response:
        """Counts, histograms, accuracy, agreement."""
        who = request.query_params.get("annotator", "")
        tab = request.query_params.get("tab", "")
        return JsonResponse(await run_in_threadpool(figures, self.session, who, tab))

    async def conflicts(self, request: Request) -> Response:
        """Faces on which people disagree."""
        return JsonResponse({"conflicts": await run_in_threadpool(conflicts, self.session)})

    async def train(self, request: Request) -> Response:
        """Start a training now, or say why not."""
        await json_object(request)

        def begin() -> dict[str, Json]:
            with self.session.at_rest():
                began = self.session.train()
                return {"began": began, "why": "" if began else self.session.hindrance()}

        return JsonResponse(await run_in_threadpool(begin))


def application(session: Session, token: str, blind: bool = False) -> ASGIApp:
    """The guarded application.

    Args:
        session: the session that the page shows.
        token: as `sfhq.web.guard.Guard`.
        blind: never tell the page a score.
    """
    routes = [*Pages(session, blind).routes(), package_files("/web", "curation.page", "web")]
    return guarded(routes, token, PUBLIC)


def serve(session: Session, sock: socket.socket, token: str, blind: bool = False) -> None:
    """Serve a session until SIGINT or SIGTERM. To be called in the main thread."""
    serve_application(application(session, token, blind), sock)
