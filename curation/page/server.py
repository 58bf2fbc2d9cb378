"""The labelling page's server: loopback only, one token, JSON only, images by id."""

from __future__ import annotations

import hmac
import json
import secrets
import signal
import socket
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Lock
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from curation.page.figures import conflicts, figures
from curation.page.session import Session
from sfhq.errors import IntegrityError, SfhqError, UsageError
from sfhq.parts.records import Json

WEB = Path(__file__).parent / "web"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
FILES = ("app.js", "keys.js", "net.js", "charts.js", "style.css")
COOKIE = "sfhq"
MOST_BODY = 1 << 20
MOST_CARDS = 200
PREVIEWS = 256  # kept in memory
SIZES = (256, 512, 1024)
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Lets only the page itself in: host, origin, fetch metadata, token, size, type.

    Args:
        app: what is guarded.
        port: the only one that requests may name.
        token: what the page's address carries once, and its cookie from then on.
    """

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self.app, self.port, self.token = app, port, token
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with a reason."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        request = Request(scope)
        refused = self.refuse(request)
        if refused is not None:
            await refused(scope, receive, send)
            return

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                known = {k.lower() for k, _ in message["headers"]}
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [
                    *message["headers"],
                    *((k, v) for k, v in extra if k not in known),
                ]
            await send(message)

        await self.app(scope, receive, sending)

    def refuse(self, request: Request) -> Response | None:
        """The refusal, or None for a request that may pass."""
        headers = request.headers
        if len(headers.getlist("host")) != 1 or headers["host"].lower() not in self.hosts:
            return _problem(403, "host: this server answers only on its own loopback address")
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{h}" for h in self.hosts}:
            return _problem(403, "origin: another site may not ask this server")
        site = headers.get("sec-fetch-site")
        entering = request.url.path == "/" and request.method == "GET"
        allowed = {"same-origin", "none"} | ({"cross-site", "same-site"} if entering else set())
        if site is not None and site not in allowed:
            return _problem(403, "sec-fetch-site: another site may not ask this server")
        if entering and "token" in request.query_params:
            return None  # the page's own address; `enter` looks at the token
        if not self.known(request.cookies.get(COOKIE, "")):
            return _problem(401, "token: open the address that sfhq curate printed")
        if request.method == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return _problem(415, "content-type: wanted application/json")
            length = headers.get("content-length", "")
            if not length.isascii() or not length.isdigit() or int(length) > MOST_BODY:
                return _problem(413, f"content-length: wanted a number up to {MOST_BODY}")
            if origin is None and site is None:
                return _problem(403, "origin: a request that changes something must name one")
        return None

    def known(self, token: str) -> bool:
        """Whether a token is ours; takes as long for a nearly right one."""
        return hmac.compare_digest(token.encode(), self.token.encode())


def _problem(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status, headers=HEADERS)


Endpoint = Callable[[Request], Awaitable[Response]]


def _careful(work: Endpoint) -> Endpoint:
    """Errors a user can mend become an answer; the labels stay where they are."""

    async def answer(request: Request) -> Response:
        try:
            return await work(request)
        except UsageError as error:
            return _problem(400, str(error))
        except IntegrityError as error:
            return _problem(409, str(error))
        except SfhqError as error:
            return _problem(507 if "disk is full" in str(error) else 500, str(error))
        except OSError as error:
            return _problem(500, f"{error.filename}: {error.strerror}; nothing was lost")

    return answer


async def _body(request: Request) -> dict[str, Json]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise UsageError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise UsageError("the body is not a JSON object")
    return body


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
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
        session: what is served.
        guard_token: as `Guard`.
        blind: never tell the page a score.
    """

    def __init__(self, session: Session, guard_token: str, blind: bool = False) -> None:
        self.session, self.token, self.blind = session, guard_token, blind
        self._previews: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def routes(self) -> list[Route]:
        """All there is."""
        table: list[tuple[str, Endpoint, str]] = [
            ("/", self.enter, "GET"),
            ("/web/{name}", self.file, "GET"),
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
        return [Route(path, _careful(work), methods=[method]) for path, work, method in table]

    async def enter(self, request: Request) -> Response:
        """The page; its first address carries the token, which becomes a cookie."""
        token = request.query_params.get("token")
        if token is not None:
            if not hmac.compare_digest(token.encode(), self.token.encode()):
                return _problem(401, "token: open the address that sfhq curate printed")
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
            return answer
        return Response((WEB / "index.html").read_bytes(), media_type=KINDS[".html"])

    async def file(self, request: Request) -> Response:
        """A module or the style sheet, by its exact name."""
        name = request.path_params["name"]
        if name not in FILES:
            return _problem(404, "no such file")
        path = WEB / name
        return Response(path.read_bytes(), media_type=KINDS[path.suffix])

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
        path = self.session.faces.mask(self._index(request))
        if path is None:
            return _problem(404, "this face has no segmentation; run: sfhq parse")
        return Response(path.read_bytes(), media_type="image/png")

    async def points(self, request: Request) -> Response:
        """Landmarks as shares of the image's size."""
        index = self._index(request)
        return JSONResponse(
            {"points": await run_in_threadpool(self.session.faces.landmarks, index)}
        )

    async def start(self, request: Request) -> Response:
        """A person opens the page."""
        body = await _body(request)
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
        """Store decisions; the answer says that they are on the disk."""
        body = await _body(request)
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
        """Take back the last decision, or the last page of a grid."""
        body = await _body(request)
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
        """Begin a training now, or say why not."""
        await _body(request)

        def begin() -> dict[str, Json]:
            with self.session.at_rest():
                began = self.session.train()
                return {"began": began, "why": "" if began else self.session.hindrance()}

        return JSONResponse(await run_in_threadpool(begin))


def application(session: Session, port: int, token: str, blind: bool = False) -> ASGIApp:
    """The guarded application."""
    inner = Starlette(routes=Pages(session, token, blind).routes())
    return Guard(inner, port, token)


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def free_port(wanted: int = 0) -> socket.socket:
    """A socket that listens on the loopback address.

    Raises:
        UsageError: the port is taken.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", wanted))
        sock.listen(128)  # who comes before the server is up waits, and is not turned away
    except OSError as error:
        sock.close()
        raise UsageError(
            f"port {wanted}: {(error.strerror or 'taken').lower()}; give another --port"
        ) from None
    return sock


def serve(session: Session, sock: socket.socket, token: str, blind: bool = False) -> None:
    """Serve until interrupted or told to end. In the main thread alone."""
    import uvicorn

    # Raised again by uvicorn at its end, it would kill before labels and worker are closed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

    port = sock.getsockname()[1]
    config = uvicorn.Config(
        application(session, port, token, blind),
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[sock])
