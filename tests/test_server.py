"""The server lets its own page in and nobody else, and serves images by id alone."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
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
from curating import TOKEN, Client, ask_as_others, faces_to_judge, forwarding, serving

import curation.page
from curation.page.server import free_port
from curation.page.session import Session
from sfhq.web.guard import TOKEN_HEADER

Served = tuple[Client, Session, str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    part = faces_to_judge(tmp_path_factory.mktemp("server") / "secret", 30)
    with serving(part) as found:
        yield found


def test_the_page_comes_without_a_token_and_has_nothing_in_it(served: Served) -> None:
    client, session, url = served
    assert url == f"http://127.0.0.1:{client.port}/#token={TOKEN}"
    status, page, headers = client.ask("GET", "/", plain=True)
    assert status == 200 and b"<title>sfhq curate</title>" in page
    assert "set-cookie" not in headers
    assert TOKEN.encode() not in page and session.faces.part.name.encode() not in page
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    for path in (
        "/image/f0000",
        "/mask/f0000",
        "/api/points/f0000",
        "/api/cards?annotator=ann",
        "/api/figures?annotator=ann",
        "/api/conflicts",
        "/api/people",
    ):
        assert client.ask("GET", path, plain=True)[0] == 401


WAYS = (
    ("GET", "/api/figures?annotator=ann"),
    ("POST", "/api/start"),
    ("POST", "/api/labels"),
)


def test_hundreds_of_requests_that_are_and_are_not_ours(served: Served) -> None:
    client, session, _ = served
    before = len(session.store.events())
    empty = {"annotator": "ann", "answers": []}
    ask_as_others(client, WAYS, empty, own=(200, 400))  # an empty list of answers is a 400
    assert len(session.store.events()) == before


def test_a_forwarded_port_serves_the_page(served: Served) -> None:
    client, session, _ = served
    with forwarding(client.port) as port:
        outer = Client(port)
        for name in ("localhost", "127.0.0.1", "[::1]"):
            there = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}"}
            assert outer.ask("GET", "/", headers=there, plain=True)[0] == 200
            one = {"face": "f0020", "action": "keep", "client": f"forwarded-{name}"}
            given = {"annotator": "ann", "answers": [one]}
            assert outer.ask("POST", "/api/labels", given, there)[0] == 200
            assert (
                outer.ask("POST", "/api/labels", given, {**there, "Origin": "http://a"})[0] == 403
            )
        assert outer.ask("GET", "/image/f0001")[1][:2] == b"\xff\xd8"
    assert session.store.labels("ann")["f0020"] is True


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
        assert served[0].ask("GET", f"/web/{name}", plain=True)[0] == 200


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
    client = served[0]
    for token in ("", "t", TOKEN[:-1], TOKEN + "t", "%00"):
        assert client.ask("GET", "/api/people", headers=client.key(token), plain=True)[0] == 401
        assert client.ask("GET", f"/api/people?token={TOKEN}", plain=True)[0] == 401
        cookie = {"Cookie": f"sfhq-{client.port}={TOKEN}"}
        assert client.ask("GET", "/api/people", headers=cookie, plain=True)[0] == 401
    assert client.ask("GET", "/api/people", headers=client.key(), plain=True)[0] == 200


def test_a_label_is_stored_before_it_is_acknowledged(served: Served) -> None:
    client, session, _ = served
    one = {"face": "f0003", "action": "keep", "client": "c-1", "reaction": 120}
    status, answer, _ = client.ask("POST", "/api/labels", {"annotator": "ann", "answers": [one]})
    assert status == 200
    stored = [s for s in session.store.events() if s.number == answer["results"][0]["number"]]
    assert stored[0].event.face_id == "f0003"
    assert stored[0].event.image_hash == session.faces.hash_of(3)


def test_each_decision_of_a_batch_is_told_its_fate(served: Served) -> None:
    client, session, _ = served
    answers = [
        {"face": "f0010", "action": "keep", "client": "batch-0"},
        {"face": "gone", "action": "keep", "client": "batch-1"},
        {"face": "f0011", "action": "keep", "client": "batch-0"},
        {"undo": "batch-1", "client": "batch-3"},
        {"face": "f0012", "action": "reject", "client": "batch-4"},
    ]
    given = {"annotator": "bea", "answers": answers}
    for _ in range(2):  # sent twice, it is answered the same
        status, answer, _ = client.ask("POST", "/api/labels", given)
        results = answer["results"]
        assert status == 207
        assert [r["client"] for r in results] == [a["client"] for a in answers]
        assert [r.get("status") for r in results] == [None, 400, 409, 400, None]
        assert [("number" in r) != ("refused" in r) for r in results] == [True] * 5
        assert session.store.labels("bea") == {"f0010": True, "f0012": False}
    status, answer, _ = client.ask("POST", "/api/undo", {"annotator": "bea", "client": "batch-0"})
    assert status == 409 and "another decision" in answer["error"]


def test_keys_and_names_are_kept_in_the_part(tmp_path: Path) -> None:
    part = faces_to_judge(tmp_path / "part", 12)
    keys = {"keep": ["k"], "skip": [" ", "ф"]}
    with serving(part) as (client, _, _):
        assert client.ask("POST", "/api/start", {"annotator": "ann"})[1]["keys"] == {}
        for name in ("ann", "bob"):
            given = {"annotator": name, "keys": keys}
            assert client.ask("POST", "/api/keys", given)[1]["keys"] == keys
        assert client.ask("POST", "/api/keys", {"annotator": "bob", "keys": {}})[0] == 200
        wrongs: tuple[object, ...] = (
            None,
            [],
            {"keep": "k"},
            {"keep": [""]},
            {"keep": ["\n"]},
            {"<b>": ["k"]},
            {"keep": ["k"] * 11},
            {"keep": ["k" * 21]},
            {"keep": ["\ud800"]},
        )
        for wrong in wrongs:
            assert client.ask("POST", "/api/keys", {"annotator": "ann", "keys": wrong})[0] == 400
    with serving(part) as (client, _, _):
        assert client.ask("POST", "/api/start", {"annotator": "ann"})[1]["keys"] == keys
        assert client.ask("POST", "/api/start", {"annotator": "bob"})[1]["keys"] == {}
        assert client.ask("GET", "/api/people")[1] == {"people": ["ann"]}
    (part.root / "curation" / "people.json").write_text("{")
    with serving(part) as (client, _, _):
        assert client.ask("POST", "/api/start", {"annotator": "ann"})[1]["keys"] == {}


@contextlib.contextmanager
def errors_of_server() -> Iterator[list[str]]:
    """What the log of a server that has started says of errors from now on."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(self.format(record))

    listener = Listener()
    logging.getLogger("uvicorn.error").addHandler(listener)
    try:
        yield said
    finally:
        logging.getLogger("uvicorn.error").removeHandler(listener)


def nested(depth: int) -> object:
    found: object = "x"
    for i in range(depth):
        found = [found] if i % 2 else {"a": found}
    return found


HOSTILE: tuple[object, ...] = (
    *(
        None,
        True,
        -1,
        0.5,
        10**400,
        -(10**400),
        10**4000,
        float("nan"),
        float("inf"),
        "",
        " ",
        ".",
        "x",
    ),
    *(
        "\ud800",
        "\udfff\ud800",
        "\x00",
        "\n",
        "\u202e",
        "\u200d",
        "x" * 100_000,
        "9" * 5000,
        "../..",
        "'; --",
    ),
    *([], {}, [None], {"": ""}, nested(100), nested(400)),
)
BODIES: dict[str, dict[str, object]] = {
    "/api/start": {"annotator": "ann", "tab": "t"},
    "/api/leave": {"annotator": "ann", "tab": "t"},
    "/api/keys": {"annotator": "ann", "keys": {"keep": ["k"]}},
    "/api/labels": {"annotator": "ann", "tab": "t", "answers": []},
    "/api/undo": {"annotator": "ann", "tab": "t", "client": "u"},
    "/api/train": {},
}
DECISIONS: tuple[dict[str, object], ...] = (
    {"face": "f0001", "action": "keep", "client": "d", "reaction": 1, "review": False},
    {"undo": "d", "client": "e"},
)


def hostile_bodies() -> Iterator[tuple[str, bytes]]:
    """Every field of every request with every hostile value, and without it."""
    for path, body in BODIES.items():
        for field in (*body, "more"):
            yield path, json.dumps({k: v for k, v in body.items() if k != field}).encode()
            for value in HOSTILE:
                yield path, json.dumps({**body, field: value}).encode()
    for one in DECISIONS:
        for field in one:
            less = {k: v for k, v in one.items() if k != field}
            changed = [{**one, field: value} for value in HOSTILE]
            for answer in (less, *changed):
                given = {"annotator": "ann", "answers": [answer]}
                yield "/api/labels", json.dumps(given).encode()
    fine = json.dumps({"annotator": "ann", "answers": [DECISIONS[0]]})
    yield "/api/labels", fine.replace("1,", "9" * 5000 + ",").encode()
    for encoding in ("utf-16", "utf-32-le", "utf-8-sig", "utf-7"):
        yield "/api/labels", fine.encode(encoding)
    for raw in (
        b"",
        b"null",
        b"\xff",
        b"\x00",
        b'{"annotator": "\xed\xa0\x80"}',
        b"{" * 1000,
        b'"',
    ):
        for path in BODIES:
            yield path, raw


def test_no_body_makes_the_server_stumble(tmp_path: Path) -> None:
    part = faces_to_judge(tmp_path / "part", 12)
    count = 0
    with serving(part) as (client, session, _), errors_of_server() as errors:
        for path, body in hostile_bodies():
            status, answer, _ = client.ask("POST", path, body)
            assert status in (200, 207, 400, 409), (path, body[:200], answer)
            count += 1
        for name, value in itertools.product(
            ("annotator", "count", "mode", "band", "tab", "size"),
            (
                "",
                "%00",
                "%ff",
                "%ed%a0%80",
                "9" * 5000,
                "nan,nan",
                "inf,1",
                "1,0",
                "-1",
                "a&annotator=b",
            ),
        ):
            for path in (
                "/api/cards",
                "/api/figures",
                "/image/f0001",
                "/image/%ed%a0%80",
                "/api/points/%00",
            ):
                status = client.ask("GET", f"{path}?annotator=ann&{name}={value}")[0]
                assert status in (200, 400), (path, name, value)
                count += 1
        assert len(session.store.events()) > 0
        one = {"face": "f0003", "action": "keep", "client": "last"}
        assert client.ask("POST", "/api/labels", {"annotator": "a", "answers": [one]})[0] == 200
    assert count > 700
    assert errors == []


def test_bodies_that_end_early_or_late_are_no_errors(served: Served) -> None:
    client, session, _ = served
    before = len(session.store.events())
    head = (
        f"POST /api/labels HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n{TOKEN_HEADER}: {TOKEN}\r\n"
        "Sec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\n"
    )
    with errors_of_server() as errors:
        for more in (
            "Content-Length: 1000\r\n\r\n",
            'Content-Length: 1000\r\n\r\n{"annotator": ',
            "Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2,\r\n",
            "Transfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        ):
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", client.port), timeout=60) as sock:
                    sock.sendall((head + more).encode())
        huge = "".join(f"{65536:x}\r\n{'a' * 65536}\r\n" for _ in range(20))
        with socket.create_connection(("127.0.0.1", client.port), timeout=60) as sock:
            sock.sendall(
                (head + "Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n").encode()
            )
            assert b" 413 " in sock.recv(4096)
            with contextlib.suppress(OSError):  # the server has hung up already
                sock.sendall(huge.encode())
        for _ in range(5):
            assert client.ask("GET", "/api/conflicts")[0] == 200
    assert errors == []
    assert len(session.store.events()) == before


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
        found = re.fullmatch(r"(http\S+):(\d+)/#token=(\S+)\n", run.stdout.readline())
        assert found is not None
        client = Client(int(found[2]))
        answers = [
            {"face": f"f{i:04d}", "action": ("keep", "reject")[i % 2], "client": f"c{i}"}
            for i in range(24)
        ]
        given = {"annotator": "ann", "answers": answers}
        assert client.ask("POST", "/api/labels", given, client.key(found[3]))[0] == 200
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
