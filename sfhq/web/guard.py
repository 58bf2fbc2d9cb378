"""The guard of a server on the loopback address: only its own page may ask it anything.

The address that a command prints carries a token once. The guard turns it into a cookie, so that
images, scripts and style sheets are guarded as well as what `fetch` asks for. Browsers keep
cookies by host and not by port, so the cookie's name ends with the port: two servers work in one
browser, and neither takes the other's cookie away. Scripts cannot read the cookie (HttpOnly), and
other sites cannot send it (SameSite=Strict). Another server on this machine gets to see it if the
browser visits that server too: the token keeps out other sites and other users of this machine,
but not a server that the same user opens in the same browser.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

MOST_BODY = 1 << 20  # bytes
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


def cookie_name(port: int) -> str:
    """Name of the cookie that holds the token of the server on a port."""
    return f"sfhq-{port}"


def problem(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as JSON: `{"error": text}`, with the security headers."""
    return JSONResponse({"error": text}, status, headers={**HEADERS, **(headers or {})})


class Guard:
    """Checks each request before the application sees it: host, origin, fetch metadata, token,
    type and size. Adds the security headers to each answer.

    Args:
        app: the application that is guarded.
        port: the server's port; the only one that requests may name.
        token: the secret that the address of the page carries.
    """

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self.app, self.port, self.token = app, port, token
        self.cookie = cookie_name(port)
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

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
        """What the guard itself answers: a refusal, or the cookie for the token.

        Returns:
            None for a request that may pass.
        """
        headers = request.headers
        if len(headers.getlist("host")) != 1 or headers["host"].lower() not in self.hosts:
            return problem(403, "host: this server answers only on its own loopback address")
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{h}" for h in self.hosts}:
            return problem(403, "origin: another site may not ask this server")
        site = headers.get("sec-fetch-site")
        entering = request.url.path == "/" and request.method == "GET"
        allowed = {"same-origin", "none"} | ({"cross-site", "same-site"} if entering else set())
        if site is not None and site not in allowed:
            return problem(403, "sec-fetch-site: another site may not ask this server")
        if entering and "token" in request.query_params:
            return self._enter(request.query_params["token"])
        if not self._known(request.cookies.get(self.cookie, "")):
            return problem(401, "token: open the address that the command printed")
        if request.method == "POST":
            return self._refuse_change(request)
        return None

    def _enter(self, token: str) -> Response:
        """The way in: a right token becomes the cookie, and leaves the address bar."""
        if not self._known(token):
            return problem(401, "token: open the address that the command printed")
        answer = RedirectResponse("/", 303, headers=HEADERS)
        answer.set_cookie(self.cookie, token, httponly=True, samesite="strict", path="/")
        return answer

    def _refuse_change(self, request: Request) -> Response | None:
        """The refusal of a request that changes something, or None."""
        headers = request.headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return problem(415, "content-type: wanted application/json")
        length = headers.get("content-length", "")
        if not length.isascii() or not length.isdigit() or int(length) > MOST_BODY:
            return problem(413, f"content-length: wanted a number up to {MOST_BODY}")
        if "origin" not in headers and "sec-fetch-site" not in headers:
            return problem(403, "origin: a request that changes something must name one")
        return None

    def _known(self, token: str) -> bool:
        """Whether a token is the right one; takes as long for a nearly right one."""
        return hmac.compare_digest(token.encode(), self.token.encode())
