"""The server lets its own page in and nobody else, and serves images by id alone."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from curating import TOKEN, Client, faces_to_judge, serving

import curation.page
from curation.page.server import free_port
from curation.page.session import Session

Served = tuple[Client, Session, str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    part = faces_to_judge(tmp_path_factory.mktemp("server") / "part", 30)
    with serving(part) as found:
        yield found


def test_the_address_gives_the_cookie_and_the_page(served: Served) -> None:
    client, _, _ = served
    status, _, headers = client.ask("GET", f"/?token={TOKEN}", plain=True)
    assert status == 303 and headers["location"] == "/"
    cookie = headers["set-cookie"].lower()
    assert cookie.startswith(f"sfhq-{client.port}=")
    assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
    status, page, headers = client.ask("GET", "/")
    assert status == 200 and b"<title>sfhq curate</title>" in page
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


HOSTS = ("own", "localhost", "evil.example", "127.0.0.1", "127.0.0.1.evil.example", "[::1]", "")
ORIGINS = (None, "own", "http://evil.example", "null", "https://127.0.0.1")
SITES = (None, "same-origin", "none", "cross-site", "same-site")
WAYS = (
    ("GET", "/api/figures?annotator=ann"),
    ("POST", "/api/start"),
    ("POST", "/api/labels"),
)


def test_four_hundred_and_more_requests_that_are_and_are_not_ours(served: Served) -> None:
    client, session, _ = served
    before = len(session.store.events())
    tried = wrong = 0
    for (method, path), host, origin, site, cookie in itertools.product(
        WAYS, HOSTS, ORIGINS, SITES, (True, False)
    ):
        own = f"127.0.0.1:{client.port}"
        sent_host = {"own": own, "localhost": f"localhost:{client.port}"}.get(host, host)
        headers = {"Host": sent_host}
        if origin is not None:
            headers["Origin"] = f"http://{own}" if origin == "own" else origin
        if site is not None:
            headers["Sec-Fetch-Site"] = site
        if cookie:
            headers |= client.cookie()
        body = None
        if method == "POST":
            headers["Content-Type"] = "application/json"
            body = {"annotator": "ann", "answers": []}
        status, _, _ = client.ask(method, path, body, headers, plain=True)
        allowed = (
            host in ("own", "localhost")
            and origin in (None, "own")
            and site in (None, "same-origin", "none")
            and cookie
            and (method == "GET" or origin is not None or site is not None)
        )
        tried += 1
        if allowed:
            wrong += status not in (200, 400)  # an empty list of answers is a 400
        else:
            wrong += status not in (400, 401, 403)
            wrong += status == 400 and host != ""
    assert tried >= 1000
    assert wrong == 0
    assert len(session.store.events()) == before


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "POST"])
@pytest.mark.parametrize("path", ["/", "/web/app.js", "/image/f0000", "/api/cards", "/api/figures"])
def test_other_methods_are_refused(served: Served, method: str, path: str) -> None:
    body: object = {} if method == "POST" else None
    status, _, _ = served[0].ask(method, path, body)
    assert status in (400, 405) or (method == "HEAD" and status == 200)


SPELLINGS = [
    prefix + body
    for prefix in ("/image/", "/web/", "/mask/", "/api/points/")
    for dots in ("..", "%2e%2e", "%252e%252e", "..%00", "%c0%ae%c0%ae", "....", ". .", "\\..")
    for slash in ("/", "%2f", "%5c", "%252f", "//", "\\")
    for body in (f"{dots}{slash}part.json", f"{dots}{slash}{dots}{slash}etc{slash}passwd")
] + [
    "/image//etc/passwd",
    "/image/%2fetc%2fpasswd",
    "/web/index.html",
    "/web/app.js%00",
    "/web/APP.JS",
    "/labels.sqlite",
    "/image/f0000.png",
    "/image/images%2ff0000.png",
    "/image/f0000%00.png",
    "/image/f0000/",
    "//evil.example/image/f0000",
    "/image/C:%5cWindows",
]


def test_scripts_and_style_come_with_their_types(served: Served) -> None:
    for name, kind in (("app.js", "text/javascript"), ("style.css", "text/css")):
        status, data, headers = served[0].ask("GET", f"/web/{name}")
        assert status == 200 and headers["content-type"] == f"{kind}; charset=utf-8"
        assert data == (Path(curation.page.__path__[0]) / "web" / name).read_bytes()
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert served[0].ask("GET", f"/web/{name}", plain=True)[0] == 401


def test_hundreds_of_spellings_reach_no_file(served: Served) -> None:
    assert len(SPELLINGS) >= 200
    for path in SPELLINGS:
        status, answer, _ = served[0].ask("GET", path.replace(" ", "%20"))
        assert status in (307, 400, 404), path
        text = answer if isinstance(answer, bytes) else str(answer).encode()
        assert b"root:" not in text and b'"format"' not in text and b"SQLite" not in text


def test_images_come_by_id(served: Served) -> None:
    status, data, headers = served[0].ask("GET", "/image/f0007?size=256")
    assert status == 200 and headers["content-type"] == "image/jpeg"
    assert data[:2] == b"\xff\xd8"
    for query in ("size=0", "size=9999", "size=x", "size=-1", "size=%D9%A3", "size=" + "9" * 5000):
        assert served[0].ask("GET", f"/image/f0007?{query}")[0] == 400


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": "multipart/form-data"}, 415),
        (b"{}", {"Content-Length": "99999999"}, 413),
        (b'{"annotator": "ann", "answers": "x"}', {}, 400),
        (b'{"annotator": "ann", "answers": [1]}', {}, 400),
        (b'{"annotator": "", "answers": [{}]}', {}, 400),
    ],
)
def test_bodies_that_cannot_be(
    served: Served, body: bytes, headers: dict[str, str], status: int
) -> None:
    found, answer, _ = served[0].ask("POST", "/api/labels", body, headers)
    assert found == status
    assert "\n" not in answer["error"]


def test_wrong_tokens(served: Served) -> None:
    for token in ("", "t", TOKEN[:-1], TOKEN + "t", "%00"):
        assert served[0].ask("GET", f"/?token={token}", plain=True)[0] == 401
        cookie = served[0].cookie(token)
        assert served[0].ask("GET", "/api/cards", headers=cookie, plain=True)[0] == 401
    assert served[0].ask("GET", "/", plain=True)[0] == 401


def test_a_label_is_stored_before_it_is_acknowledged(served: Served) -> None:
    client, session, _ = served
    one = {"face": "f0003", "action": "keep", "client": "c-1", "reaction": 120}
    status, answer, _ = client.ask("POST", "/api/labels", {"annotator": "ann", "answers": [one]})
    assert status == 200
    stored = [s for s in session.store.events() if s.number == answer["numbers"][0]]
    assert stored[0].event.face_id == "f0003"
    assert stored[0].event.image_hash == session.faces.hash_of(3)


def test_a_lost_image_is_said_and_labels_go_on(tmp_path: Path) -> None:
    part = faces_to_judge(tmp_path / "part", 12)
    with serving(part) as (client, session, _):
        part.image_path("images", "f0001").unlink()
        status, answer, _ = client.ask("GET", "/image/f0001")
        assert status == 409 and "lost" in answer["error"]
        one = {"face": "f0001", "action": "reject", "client": "c"}
        assert client.ask("POST", "/api/labels", {"annotator": "a", "answers": [one]})[0] == 200
        assert session.store.labels() == {"f0001": False}


def test_blind_pages_get_no_scores(tmp_path: Path) -> None:
    part = faces_to_judge(tmp_path / "part", 12)
    with serving(part, blind=True) as (client, _, _):
        _, answer, _ = client.ask("GET", "/api/cards?annotator=ann&count=5")
        assert len(answer["cards"]) == 5
        assert all(card["score"] is None for card in answer["cards"])


def test_a_page_opened_at_once_waits_for_the_server() -> None:
    with free_port() as sock:
        socket.create_connection(sock.getsockname(), timeout=5).close()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_a_server(tmp_path: Path, end: signal.Signals) -> None:
    part = faces_to_judge(tmp_path / "part", 40)
    run = subprocess.Popen(
        [sys.executable, "-m", "cli", "curate", str(part.root), "--retrain", "20"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert run.stdout is not None and run.stderr is not None
    children: list[psutil.Process] = []
    try:
        found = re.fullmatch(r"(http\S+):(\d+)/\?token=(\S+)\n", run.stdout.readline())
        assert found is not None
        client = Client(int(found[2]))
        answers = [
            {"face": f"f{i:04d}", "action": ("keep", "reject")[i % 2], "client": f"c{i}"}
            for i in range(24)
        ]
        given = {"annotator": "ann", "answers": answers}
        assert client.ask("POST", "/api/labels", given, client.cookie(found[3]))[0] == 200
        while len(children) < 2:  # the worker, and what multiprocessing tracks it with
            children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(end)
        run.wait(30)
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
    _, alive = psutil.wait_procs(children, 30)
    assert alive == []
    with run.stderr:
        said = run.stderr.read().splitlines()
    assert said.pop(0) == "40 faces; stop with Ctrl-C, nothing is lost"
    if end != signal.SIGKILL:  # of that, multiprocessing's tracker speaks
        interrupted = ["sfhq: interrupted; run the same command again to go on"]
        assert said == (interrupted if end == signal.SIGINT else [])
    assert run.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(end, -end)
