"""The guard of a server on the loopback address: only its own page may ask it anything.

The address that a command prints carries a token behind its "#", the part of an address that
browsers keep to themselves. The page sends it in a header with everything it asks for, images
included. There is no cookie: browsers send cookies by host and not by port, so every other server
on this machine would receive one. What anybody may see, such as the page's empty frame, its
scripts and its style sheet, needs no token.

A port may be forwarded (`ssh -L`), so the guard does not know the port that a browser sees. It
holds to the names: only a loopback name may be asked for, which keeps out a site that lets its own
name point at this machine, and an origin must be exactly the host that is asked for.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

MOST_BODY = 1 << 20  # bytes
TOKEN_HEADER = "x-sfhq-token"
LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
LENGTH = re.compile(r"[0-9]{1,12}", re.ASCII)
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


def new_token() -> str:
    """A random token of 32 letters that nobody can guess."""
    return secrets.token_urlsafe(24)


def page_address(port: int, token: str) -> str:
    """The address to open: of the page on a port, with the token where no server sees it."""
    return f"http://127.0.0.1:{port}/#token={token}"


class JsonResponse(Response):
    """A value as JSON in ASCII: any text goes through, also what is no valid Unicode."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def problem(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as JSON: `{"error": text}`, with the security headers."""
    return JsonResponse({"error": text}, status, headers={**HEADERS, **(headers or {})})


class Guard:
    """Checks each request before the application sees it: host, origin, fetch metadata, token,
    type and size. Adds the security headers to each answer.

    Args:
        app: the application that is guarded.
        token: the secret that the address of the page carries.
        public: what may be read without the token: paths, and folders, which end with "/".
    """

    def __init__(self, app: ASGIApp, token: str, public: Sequence[str] = ()) -> None:
        self.app, self.token = app, token
        self.files = frozenset(public)
        self.folders = tuple(p for p in public if p.endswith("/") and p != "/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with the reason why not."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        answer = self.answer(Request(scope))
        if answer is not None:
            await answer(scope, receive, send)
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

    def answer(self, request: Request) -> Response | None:
        """The guard's refusal; None for a request that may pass."""
        headers, path = request.headers, request.scope["path"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not LOOPBACK.fullmatch(hosts[0]):
            return problem(403, "host: this server answers only on its own loopback address")
        origins = headers.getlist("origin")
        if any(o.lower() != f"http://{hosts[0].lower()}" for o in origins):
            return problem(403, "origin: another site may not ask this server")
        reading = request.method in ("GET", "HEAD")
        entering = path == "/" and request.method == "GET"
        allowed = {"same-origin", "none"} | ({"cross-site", "same-site"} if entering else set())
        if any(site not in allowed for site in headers.getlist("sec-fetch-site")):
            return problem(403, "sec-fetch-site: another site may not ask this server")
        public = path in self.files or path.startswith(self.folders)
        if not (reading and public) and not self._known(headers.getlist(TOKEN_HEADER)):
            return problem(401, "token: open the address that the command printed")
        if request.method == "POST":
            return self._refuse_change(request)
        return None

    def _refuse_change(self, request: Request) -> Response | None:
        """The refusal of a request that changes something, or None."""
        headers = request.headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return problem(415, "content-type: wanted application/json")
        lengths = headers.getlist("content-length")
        plain = len(lengths) == 1 and LENGTH.fullmatch(lengths[0])
        # With a transfer encoding the body may be longer than the length says.
        if not plain or "transfer-encoding" in headers or int(lengths[0]) > MOST_BODY:
            return problem(413, f"content-length: wanted a number up to {MOST_BODY}, and no chunks")
        if "origin" not in headers and "sec-fetch-site" not in headers:
            return problem(403, "origin: a request that changes something must name one")
        return None

    def _known(self, tokens: Sequence[str]) -> bool:
        """Whether the one token is the right one; takes as long for a nearly right one."""
        given = tokens[0] if len(tokens) == 1 else ""
        return hmac.compare_digest(given.encode(), self.token.encode())
