"""A small part to judge, and a server of it in a thread."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from tiny import embedded_part, unit

from curation.faces import Faces
from curation.labels.store import FILE, LabelStore
from curation.page.server import application, free_port
from curation.page.session import Session, SessionSettings
from sfhq.parts.part import Part
from sfhq.web.guard import TOKEN_HEADER, page_address

TOKEN = "t" * 32


def liked(part: Part) -> dict[str, bool]:
    """A taste that the embeddings show: the first coordinate is positive."""
    faces = Faces.of(part)
    first = faces.feature_sets()["embedding"][:, 0]
    return {r.face_id: bool(v > 0) for r, v in zip(faces.records, first, strict=True)}


def faces_to_judge(root: Path, count: int = 120, width: int = 16) -> Part:
    vectors = np.random.default_rng(3).standard_normal((count, width))
    vectors[:, 0] *= 2
    return embedded_part(root, unit(vectors), images=True, shard_size=50)


class Client:
    """A browser that says what it is told to."""

    def __init__(self, port: int) -> None:
        self.port = port

    def key(self, token: str = TOKEN) -> dict[str, str]:
        """The header by which the page shows that it knows a token."""
        return {TOKEN_HEADER: token}

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        plain: bool = False,
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, parsed body, headers; `plain` adds nothing of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {} if plain else {**self.key(), "Sec-Fetch-Site": "same-origin"}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            if not plain:
                sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        try:
            connection.putrequest(method, path, skip_host="Host" in sent, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            if data is not None and "Content-Length" not in sent:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            raw = answer.read()
            found = {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()
        kind = found.get("content-type", "")
        return answer.status, json.loads(raw) if "json" in kind and raw else raw, found


@contextmanager
def serving(
    part: Part,
    settings: SessionSettings | None = None,
    blind: bool = False,
    token: str = TOKEN,
    port: int = 0,
    without: Collection[str] = (),
) -> Iterator[tuple[Client, Session, str]]:
    """A client, the session behind it, and the page's address; on a given or any free port, and
    without some of the faces.
    """
    with LabelStore(part.root / FILE) as store, free_port(port) as sock:
        faces = Faces.of(part)
        left = tuple(r for r in faces.records if r.face_id not in without)
        session = Session(replace(faces, records=left), store, settings)
        port = sock.getsockname()[1]
        config = uvicorn.Config(application(session, token, blind), log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Client(port), session, page_address(port, token)
        finally:
            server.should_exit = True
            thread.join(60)
            session.close()


@contextmanager
def forwarding(target: int) -> Iterator[int]:
    """A port of this machine whose connections go on to another one, as with `ssh -L`."""
    stop = threading.Event()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def connect(near: socket.socket) -> None:
        with (
            near,
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", target)) as far,
        ):
            back = threading.Thread(target=pump, args=(far, near), daemon=True)
            back.start()
            pump(near, far)
            back.join()

    def listen() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                near, _ = listener.accept()
                near.settimeout(None)
                threading.Thread(target=connect, args=(near,), daemon=True).start()

    with free_port() as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            thread.join(60)


HOSTS = ("own", "localhost", "forwarded", "evil.example", "127.0.0.1.evil.example", "[::2]", "")
ORIGINS = (None, "own", "host", "http://evil.example", "null", "https://127.0.0.1")
SITES = (None, "same-origin", "none", "cross-site", "same-site")


def ask_as_others(
    client: Client, ways: Sequence[tuple[str, str]], given: object, own: tuple[int, ...]
) -> None:
    """Ask as all kinds of pages would: only our own page, with its token, is answered.

    Args:
        client: of the server.
        ways: methods and paths.
        given: body of a POST.
        own: what our own page gets.
    """
    address = f"127.0.0.1:{client.port}"
    hosts = {
        "own": address,
        "localhost": f"localhost:{client.port}",
        "forwarded": "localhost:4711",
    }
    tried = wrong = 0
    for (method, path), host, origin, site, key in itertools.product(
        ways, HOSTS, ORIGINS, SITES, (True, False)
    ):
        headers = {"Host": hosts.get(host, host)}
        if origin is not None:
            named = {"own": f"http://{address}", "host": f"http://{headers['Host']}"}
            headers["Origin"] = named.get(origin, origin)
        if site is not None:
            headers["Sec-Fetch-Site"] = site
        if key:
            headers |= client.key()
        body = None
        if method == "POST":
            headers["Content-Type"] = "application/json"
            body = given
        status, _, _ = client.ask(method, path, body, headers, plain=True)
        allowed = (
            host in hosts
            and headers.get("Origin") in (None, f"http://{headers['Host']}")
            and site in (None, "same-origin", "none")
            and key
            and (method == "GET" or origin is not None or site is not None)
        )
        tried += 1
        if allowed:
            wrong += status not in own
        else:
            wrong += status not in (400, 401, 403)
            wrong += status == 400 and host != ""
    assert tried >= 1000
    assert wrong == 0
