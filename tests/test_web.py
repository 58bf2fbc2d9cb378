"""What servers share: errors become answers by their class, files have kinds, pages are escaped."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import starlette.responses
from jinja2 import UndefinedError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sfhq.errors import DiskFull, IntegrityError, MissingExtra, SfhqError, UsageError
from sfhq.web.application import guarded, json_object, package_files
from sfhq.web.guard import MOST_BODY, TOKEN_HEADER, new_token
from sfhq.web.serving import FIRST_PORT, PORTS, free_port, port_of
from sfhq.web.shell import mark, points, render

PORT, TOKEN = 4711, new_token()
Answer = tuple[int, bytes, dict[str, str]]


def ask(
    app: Any,
    path: str,
    method: str = "GET",
    body: bytes = b"",
    sent_with: dict[str, str] | None = None,
    whole: bool = True,
) -> Answer:
    """Status, body and headers of one request, without a network."""
    headers = {"host": f"127.0.0.1:{PORT}", TOKEN_HEADER: TOKEN, "sec-fetch-site": "same-origin"}
    headers |= {"content-type": "application/json", "content-length": str(len(body))}
    headers |= sent_with or {}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }
    sent: list[dict[str, Any]] = []

    requests = [{"type": "http.request", "body": body, "more_body": not whole}]
    if not whole:
        requests.insert(0, {"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        while not requests:
            await asyncio.sleep(3600)  # nobody hangs up
        return requests.pop()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def run() -> None:
        with contextlib.suppress(ZeroDivisionError):  # raised again, for the terminal
            await app(scope, receive, send)

    asyncio.run(run())
    found = {k.decode().lower(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:]), found


def failing(error: Exception) -> Any:
    async def fail(request: Request) -> Response:
        raise error

    return guarded([Route("/fail", fail)], TOKEN)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("disk is full"), 400),  # the class decides, whatever the words are
        (IntegrityError("disk is full"), 409),
        (SfhqError("disk is full"), 500),
        (DiskFull("nothing fits"), 507),
        (MissingExtra("this", "that", "extra"), 500),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "labels"), 507),
        (OSError(errno.EDQUOT, "over quota", "labels"), 507),
        (OSError(errno.EIO, "disk is full", "labels"), 500),
        (ZeroDivisionError("secret"), 500),
    ],
)
def test_the_class_of_an_error_gives_the_status(error: Exception, status: int) -> None:
    found, body, headers = ask(failing(error), "/fail")
    assert found == status
    said = json.loads(body)["error"]
    assert said and "\n" not in said and "secret" not in said
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]


def test_an_unknown_path_and_method_are_json_as_well() -> None:
    app = failing(SfhqError("never"))
    for method, path, status in (("GET", "/none", 404), ("PUT", "/fail", 405)):
        found, body, _ = ask(app, path, method)
        assert found == status and json.loads(body)["error"]


def test_a_token_in_a_cookie_or_in_the_address_lets_nobody_in() -> None:
    app = failing(UsageError("in"))
    assert ask(app, "/fail")[0] == 400
    for token in ("", TOKEN[:-1], TOKEN + "t", "\xe9"):
        sent = {TOKEN_HEADER: token, "cookie": f"sfhq-{PORT}={TOKEN}; token={TOKEN}"}
        assert ask(app, "/fail", sent_with=sent)[0] == 401


def test_only_what_is_public_is_read_without_a_token() -> None:
    async def fine(request: Request) -> Response:
        return Response("fine")

    routes = [
        Route(path, fine, methods=["GET", "POST"])
        for path in ("/", "/open/file", "/open", "/openly", "/api")
    ]
    app = guarded(routes, TOKEN, public=("/", "/open/"))
    nobody = {TOKEN_HEADER: ""}
    found = {
        path: ask(app, path, sent_with=nobody)[0]
        for path in ("/", "/open/file", "/open", "/openly", "/api")
    }
    assert found == {"/": 200, "/open/file": 200, "/open": 401, "/openly": 401, "/api": 401}
    assert ask(app, "/", "POST", b"{}", sent_with=nobody)[0] == 401
    assert ask(app, "/", "POST", b"{}")[0] == 200


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:9", None, 400),
        ("LOCALHOST:9", "http://localhost:9", 400),
        ("[::1]:9", "http://[::1]:9", 400),
        ("localhost", "http://localhost", 400),
        ("localhost:9", "http://localhost:8", 403),
        ("localhost:9", "http://127.0.0.1:9", 403),
        ("localhost:9", "https://localhost:9", 403),
        ("localhost:9", "null", 403),
        ("localhost:9", "http://localhost:9/", 403),
        ("evil.example:9", "http://evil.example:9", 403),
        ("localhost.evil.example:9", None, 403),
        ("localhost.:9", None, 403),
        ("127.0.0.1.nip.io:9", None, 403),
        ("127.0.0.2:9", None, 403),
        ("127.1:9", None, 403),
        ("0.0.0.0:9", None, 403),
        ("[::ffff:127.0.0.1]:9", None, 403),
        ("user@localhost:9", None, 403),
        ("localhost:9\n", None, 403),
        ("localhost:\u0663", None, 403),
        ("localhost:", None, 403),
        ("", None, 403),
    ],
)
def test_loopback_names_on_any_port_and_the_origin_as_the_host(
    host: str, origin: str | None, status: int
) -> None:
    sent = {"host": host} | ({"origin": origin} if origin else {})
    assert ask(failing(UsageError("in")), "/fail", sent_with=sent)[0] == status


def test_no_length_hides_a_body_that_is_too_long() -> None:
    async def echo(request: Request) -> Response:
        return Response(str(len(await json_object(request))))

    app = guarded([Route("/echo", echo, methods=["POST"])], TOKEN)
    long = b'{"a": "' + b"a" * MOST_BODY + b'"}'
    lies: tuple[dict[str, str], ...] = (
        {"content-length": "2", "transfer-encoding": "chunked"},
        {"content-length": "9" * 5000},
        {"content-length": "-2"},
        {"content-length": "\u0662"},
        {"content-length": ""},
        {"content-length": "2"},  # what a broken server in between would let through
    )
    for lie in lies:
        assert ask(app, "/echo", "POST", long, lie)[0] == 413, lie
    assert ask(app, "/echo", "POST", b'{"a": 1}')[:2] == (200, b"1")


def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_defect() -> None:
    async def echo(request: Request) -> Response:
        return Response(str(len(await json_object(request))))

    app = guarded([Route("/echo", echo, methods=["POST"])], TOKEN)
    status, body, _ = ask(app, "/echo", "POST", b'{"a"', whole=False)
    assert status == 400 and "ended before" in json.loads(body)["error"]


def test_any_text_can_be_an_answer() -> None:
    _, body, _ = ask(failing(UsageError("face \ud800 \u200d")), "/fail")
    assert json.loads(body) == {"error": "face \ud800 \u200d"}


def test_files_have_the_type_of_their_kind_whatever_the_system_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(starlette.responses, "guess_type", lambda *_, **__: ("text/plain", None))
    app = guarded([package_files("/web", "curation.page", "web")], TOKEN)
    assert ask(app, "/web/app.js")[2]["content-type"] == "text/javascript; charset=utf-8"
    assert ask(app, "/web/style.css")[2]["content-type"] == "text/css; charset=utf-8"


def test_files_of_other_kinds_are_not_served() -> None:
    app = guarded([package_files("/web", "sfhq", "models")], TOKEN)
    assert ask(app, "/web/identity.png")[0] == 200
    for name in ("README.md", "generator.safetensors", "../errors.py", "/etc/passwd", ""):
        assert ask(app, f"/web/{name}")[0] == 404


def test_a_body_that_is_no_object_is_refused() -> None:
    async def echo(request: Request) -> Response:
        return Response(json.dumps(await json_object(request)))

    app = guarded([Route("/echo", echo, methods=["POST"])], TOKEN)
    assert ask(app, "/echo", "POST", b'{"a": 1}')[:2] == (200, b'{"a": 1}')
    for body in (b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000):
        assert ask(app, "/echo", "POST", body)[0] == 400


def test_values_are_escaped_and_never_missing() -> None:
    values = {"kept": 1, "rejected": 2, "rows": [], "plots": [], "faces": []}
    page = render("curation.taste", "taste.html", part="<b>&", width=1, height=1, **values)
    assert "<title>Taste of &lt;b&gt;&amp;</title>" in page and "<b>" not in page
    with pytest.raises(UndefinedError, match="part"):
        render("curation.taste", "taste.html", width=1, height=1, **values)


def test_marks() -> None:
    found = mark("text", "words", class_="x", text_anchor="end", x=1.25, y=2)
    assert found.attributes == {"class": "x", "text-anchor": "end", "x": "1.2", "y": "2.0"}
    assert points([(1, 2), (3.25, 4)]) == "1.0,2.0 3.2,4.0"


def test_a_port_that_cannot_be_had_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port}: .*give another --port"):
            free_port(port)
    with pytest.raises(UsageError, match=r"port 70000: .*give another --port"):
        free_port(70000)


def test_a_folder_has_a_port_of_its_own_or_the_next_free_one(tmp_path: Path) -> None:
    with port_of(tmp_path / "part") as first:
        port = first.getsockname()[1]
        assert FIRST_PORT <= port < FIRST_PORT + PORTS
        with port_of(tmp_path / "part") as second:
            assert second.getsockname()[1] != port
    (tmp_path / "link").symlink_to(tmp_path / "part")
    for same in ("part", "part/../part", "link"):
        with port_of(tmp_path / same) as again:
            assert again.getsockname()[1] == port
    ports = set()
    for i in range(20):
        with port_of(tmp_path / str(i)) as other:
            ports.add(other.getsockname()[1])
    assert len(ports) > 15
