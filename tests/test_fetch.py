"""Downloads from a server in this process that does everything a server may do wrong."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from command import told as sfhq

import cli
from sfhq import doctor
from sfhq.errors import IntegrityError, SfhqError, UsageError
from sfhq.weights import fetch as model_fetch
from sfhq.weights import store as model_store
from sfhq.weights import table as model_table
from sfhq.weights.fetch import fetch
from sfhq.weights.store import Status, model_path
from sfhq.weights.table import ModelRow

ROOT = Path(cli.__file__).parent
DATA = bytes(range(256)) * 4096  # 1 MiB
OTHER = DATA[::-1]
LICENCE = "TOY-1.0"


class Site:
    """A server on this machine, and how it behaves.

    Attributes:
        data: what it serves.
        etag, modified: validators, if any.
        ranges: whether it knows the Range header.
        cuts: for the next requests, after how many bytes the connection ends.
        resets: whether it ends with a reset rather than in order.
        answers: status codes of the next requests.
        length: Content-Length, if another than the true one; "" for none.
        content_range: Content-Range, if another than the true one.
        redirect: where "/file" leads, if anywhere.
        hold: after how many bytes it waits for `released`.
        asked: Range and If-Range of each request.
    """

    def __init__(self) -> None:
        self.data = DATA
        self.etag = '"one"'
        self.modified = ""
        self.ranges = True
        self.cuts: list[int] = []
        self.resets = False
        self.answers: list[int] = []
        self.length: str | None = None
        self.content_range: str | None = None
        self.redirect = ""
        self.hold: int | None = None
        self.released = threading.Event()
        self.asked: list[tuple[str | None, str | None]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                site.answer(self)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # clients that are killed or have had enough

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/file"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        given = handler.headers
        self.asked.append((given["Range"], given["If-Range"]))
        if self.answers:
            handler.send_error(self.answers.pop(0))
            return
        if self.redirect and handler.path == "/file":
            handler.send_response(302)
            handler.send_header("Location", self.redirect)
            handler.end_headers()
            return
        start = 0
        wanted = given["If-Range"] or ""
        if self.ranges and given["Range"] and wanted in ("", self.etag, self.modified):
            start = int(given["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(self.data):
                handler.send_error(416)
                return
        body = self.data[start:]
        handler.send_response(206 if start else 200)
        if start or self.content_range:
            true = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
            handler.send_header("Content-Range", self.content_range or true)
        if self.etag:
            handler.send_header("ETag", self.etag)
        if self.modified:
            handler.send_header("Last-Modified", self.modified)
        length = str(len(body)) if self.length is None else self.length
        if length:
            handler.send_header("Content-Length", length)
        handler.end_headers()
        if self.hold is not None:
            handler.wfile.write(body[: self.hold])
            handler.wfile.flush()
            self.released.wait(30)
            body = body[self.hold :]
        cut = self.cuts.pop(0) if self.cuts else None
        handler.wfile.write(body[:cut])
        handler.wfile.flush()
        handler.close_connection = True
        if cut is not None and self.resets:
            time.sleep(0.05)  # so that what was sent has arrived
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.close()


@pytest.fixture
def site() -> Iterator[Site]:
    opened = Site()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no proxy, no patience."""
    for name in ("SFHQ_OFFLINE", "HF_HUB_OFFLINE", "SFHQ_ACCEPT_LICENCE", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("SFHQ_HOME", str(tmp_path / "sfhq"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(model_fetch, "PAUSE", 0.0)
    monkeypatch.setattr(model_fetch, "CHUNK", 1 << 14)
    return tmp_path / "sfhq"


def toy(site: Site, data: bytes | None = DATA) -> ModelRow:
    """A row of the site's file; published digest and size are those of `data`, if any."""
    return ModelRow(
        "toy",
        "a toy",
        "toy.bin",
        LICENCE,
        "for play only",
        "no",
        (),
        "https://example.org/toy",
        site.url,
        None if data is None else len(data),
        None if data is None else hashlib.sha256(data).hexdigest(),
        "" if data is None else "this test",
    )


def yes(digest: str, size: int) -> bool:
    return True


def no(digest: str, size: int) -> bool:
    return False


def fetched(row: ModelRow) -> Status:
    return fetch(row, no, LICENCE)


def partial(row: ModelRow) -> Path:
    return model_path(row).with_name(row.file + ".part")


def left(row: ModelRow) -> set[str]:
    """What lies in the model's folder, the lock aside."""
    folder = model_path(row).parent
    return {p.name for p in folder.iterdir()} - {"lock"} if folder.is_dir() else set()


def is_whole(row: ModelRow, data: bytes = DATA) -> None:
    assert model_path(row).read_bytes() == data
    assert model_store.status(row).state == "installed"
    assert left(row) == {row.file, row.file + ".json"}


def test_a_file_arrives_with_its_record(site: Site) -> None:
    row = toy(site)
    seen: list[tuple[int, int | None]] = []
    found = fetch(row, no, LICENCE, progress=lambda done, total: seen.append((done, total)))
    assert (found.state, found.path) == ("installed", model_path(row))
    is_whole(row)
    assert seen[-1] == (len(DATA), len(DATA))
    entry = found.entry
    assert entry is not None
    assert (entry.source, entry.sha256, entry.size) == (site.url, row.sha256, len(DATA))
    assert (entry.licence_accepted, entry.pinned) == (LICENCE, False)
    assert site.asked == [(None, None)]
    assert fetched(row) == found
    assert len(site.asked) == 1, "what is there was fetched again"


def test_the_licence_comes_first(site: Site) -> None:
    row = toy(site)
    with pytest.raises(UsageError, match=r"--accept-licence TOY-1.0") as refused:
        fetch(row, yes)
    assert "for play only" in str(refused.value)
    with pytest.raises(UsageError, match="'MIT' is not it; to accept it"):
        fetch(row, yes, "MIT")
    assert site.asked == []
    assert left(row) == set()


@pytest.mark.parametrize("name", ["SFHQ_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(site: Site, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SfhqError, match=f"toy: {name} is set, so nothing is fetched"):
        fetched(toy(site))
    assert site.asked == []
    monkeypatch.setenv(name, "0")
    fetched(toy(site))


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("published", [True, False])
def test_a_dropped_connection_goes_on(site: Site, resets: bool, published: bool) -> None:
    row = toy(site, DATA if published else None)
    site.cuts, site.resets = [300_000, 200_000], resets
    fetch(row, yes, LICENCE)
    is_whole(row)
    assert [given for _, given in site.asked] == [None, '"one"', '"one"']
    starts = [int(r[6:-1]) if r else 0 for r, _ in site.asked]
    assert starts == sorted(set(starts)) and starts[-1] >= 450_000, starts


def test_a_server_that_only_drops(site: Site) -> None:
    row = toy(site)
    site.cuts = [300_000] + [0] * 20
    with pytest.raises(SfhqError, match=r"no network, or 127.0.0.1:.* run the same command again"):
        fetched(row)
    assert partial(row).stat().st_size == 300_000
    assert len(site.asked) == 1 + model_fetch.ATTEMPTS
    site.cuts = []
    fetched(row)
    assert site.asked[-1] == ("bytes=300000-", '"one"')
    is_whole(row)


def test_a_server_without_ranges(site: Site) -> None:
    row = toy(site)
    site.ranges, site.cuts = False, [300_000]
    fetched(row)
    is_whole(row)
    site.cuts = [300_000, 200_000] * 20  # never further than once before
    model_path(row).unlink()
    with pytest.raises(SfhqError, match="bytes came"):
        fetched(row)
    assert len(site.asked) < 12


def test_a_server_without_validators(site: Site) -> None:
    site.etag, site.cuts = "", [300_000]
    fetched(toy(site))
    assert site.asked[-1] == ("bytes=300000-", None), "a published digest makes up for them"
    is_whole(toy(site))
    model_path(toy(site)).unlink()
    unknown = toy(site, None)
    site.cuts = [300_000]
    fetch(unknown, yes, LICENCE)
    assert site.asked[-1][0] is None, "nothing would tell if the file had changed"
    model_path(unknown).unlink()
    site.cuts = [300_000] * 50
    with pytest.raises(SfhqError, match="it cannot be continued"):
        fetch(unknown, yes, LICENCE)
    assert len(site.asked) < 12


@pytest.mark.parametrize("validator", ["etag", "modified"])
@pytest.mark.parametrize("honest", [True, False])
def test_a_file_that_changed_meanwhile(site: Site, validator: str, honest: bool) -> None:
    """The rest of one file is never put to the beginning of another."""
    row = toy(site, None)
    days = ["Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"]
    names = ['"one"', '"two"'] if validator == "etag" else days
    site.etag, site.modified = "", ""
    setattr(site, validator, names[0])
    site.cuts = [300_000] + [0] * 10
    with pytest.raises(SfhqError):
        fetch(row, yes, LICENCE)
    site.cuts, site.data = [], OTHER
    setattr(site, validator, names[1])
    if not honest:  # a server that ignores If-Range
        site.answer = _without_if_range(site)  # type: ignore[method-assign]
    fetch(row, yes, LICENCE)
    is_whole(row, OTHER)


def _without_if_range(site: Site):  # type: ignore[no-untyped-def]
    answer = Site.answer

    def ignoring(handler: BaseHTTPRequestHandler) -> None:
        del handler.headers["If-Range"]
        answer(site, handler)

    return ignoring


def test_a_weak_etag_promises_nothing(site: Site) -> None:
    site.etag, site.cuts = 'W/"one"', [300_000]
    fetch(toy(site, None), yes, LICENCE)
    assert site.asked == [(None, None), (None, None)]


def test_a_file_that_became_shorter(site: Site) -> None:
    row = toy(site, None)
    site.etag, site.modified, site.cuts = "", "today", [300_000] + [0] * 10
    with pytest.raises(SfhqError):
        fetch(row, yes, LICENCE)
    site.cuts, site.data = [], DATA[:1000]
    fetch(row, yes, LICENCE)
    is_whole(row, DATA[:1000])


@pytest.mark.parametrize(
    "lie", ["bytes 0-9/10", "bytes 5-1048575/1048576", "items 300000-1/2", "bytes */*", "nonsense"]
)
def test_a_server_that_lies_about_ranges(site: Site, lie: str) -> None:
    row = toy(site)
    site.cuts, site.resets = [300_000] + [0] * 10, False
    with pytest.raises(SfhqError):
        fetched(row)
    site.cuts, site.content_range = [], lie
    fetched(row)  # begins again: a whole file needs no Content-Range
    assert [r for r, _ in site.asked[-2:]] == ["bytes=300000-", None]
    is_whole(row)


def test_a_part_that_nobody_asked_for(site: Site) -> None:
    row = toy(site, None)
    site.ranges = False
    site.answer = _partly(site)  # type: ignore[method-assign]
    with pytest.raises(SfhqError, match="another part than was asked for"):
        fetch(row, yes, LICENCE)
    assert left(row) == set()


def _partly(site: Site):  # type: ignore[no-untyped-def]
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 0-9/1000")
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.wfile.write(DATA[:10])

    return answer


def test_another_file_of_the_right_size(site: Site) -> None:
    """A continued download whose two halves do not belong together is not taken."""
    row = toy(site)
    site.cuts = [300_000] + [0] * 10
    with pytest.raises(SfhqError):
        fetched(row)
    site.cuts, site.data = [], OTHER  # under the old ETag
    with pytest.raises(IntegrityError, match=r"sha256 [0-9a-f]{64}; wanted .*; not taken"):
        fetched(row)
    assert left(row) == set()
    site.data = DATA
    fetched(row)
    is_whole(row)


def test_size_comes_before_digest(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    row = toy(site)
    hashed: list[Path] = []
    monkeypatch.setattr(model_store, "sha256_of", hashed.append)
    site.data = DATA + b"!"
    with pytest.raises(IntegrityError, match="offers 1,048,577 bytes; wanted 1,048,576; not taken"):
        fetched(row)
    site.data, site.length = DATA[:-1], ""
    with pytest.raises(IntegrityError, match="has 1,048,575 bytes; wanted 1,048,576; not taken"):
        fetched(row)
    assert hashed == []
    assert left(row) == set()


def test_a_body_without_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.data, site.length = DATA * 2, ""
    with pytest.raises(IntegrityError, match="sends over 1,048,576 bytes; not taken"):
        fetched(toy(site))
    monkeypatch.setattr(model_fetch, "LARGEST", 1_500_000)
    with pytest.raises(IntegrityError, match="sends over 1,500,000 bytes"):
        fetch(toy(site, None), yes, LICENCE)
    assert left(toy(site)) == set()


def test_no_length_is_fine(site: Site) -> None:
    site.length = ""
    fetched(toy(site))
    is_whole(toy(site))


def test_a_length_that_is_too_long_is_a_dropped_connection(site: Site) -> None:
    row = toy(site, None)
    site.length, site.ranges = str(len(DATA) + 5), False
    with pytest.raises(SfhqError, match="1,048,576 of 1,048,581 bytes came"):
        fetch(row, yes, LICENCE)
    assert not model_path(row).exists()


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal(site: Site, code: int) -> None:
    site.answers = [code]
    with pytest.raises(SfhqError, match=f"answered {code} ") as refused:
        fetched(toy(site))
    assert "https://example.org/toy and run: sfhq models add toy FILE" in str(refused.value)
    assert len(site.asked) == 1
    assert left(toy(site)) == set()


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_passing_trouble(site: Site, code: int) -> None:
    site.answers = [code] * 3
    fetched(toy(site))
    is_whole(toy(site))
    model_path(toy(site)).unlink()
    site.answers = [code] * 9
    with pytest.raises(SfhqError, match=f"does not do its part \\({code} "):
        fetched(toy(site))


@pytest.mark.parametrize(
    "page", [b"\n <!DOCTYPE html><p>quota", b"\xef\xbb\xbf<HTML>", b"<?xml version='1.0'?>"]
)
@pytest.mark.parametrize("published", [True, False])
def test_a_page_instead_of_weights(site: Site, page: bytes, published: bool) -> None:
    row = toy(site, DATA if published else None)
    site.cuts = [300_000] + [0] * 10
    with pytest.raises(SfhqError):
        fetch(row, yes, LICENCE)
    site.cuts, site.data, site.ranges = [], page, False
    with pytest.raises(SfhqError, match="gave a web page instead of weights"):
        fetch(row, yes, LICENCE)
    site.data, site.ranges = DATA, True
    fetch(row, yes, LICENCE)
    assert site.asked[-1][0] == "bytes=300000-", "the page cost what had arrived"
    is_whole(row)


def test_an_empty_file(site: Site) -> None:
    site.data = b""
    with pytest.raises(IntegrityError, match="is empty; not taken"):
        fetch(toy(site, None), yes, LICENCE)
    assert left(toy(site)) == set()


def test_redirects(site: Site) -> None:
    row = toy(site)
    site.redirect = "/elsewhere"
    fetched(row)
    is_whole(row)
    model_path(row).unlink()
    for target in ("http://example.org/file", "ftp://127.0.0.1/file", "file:///etc/hostname"):
        site.redirect = target
        with pytest.raises(SfhqError, match=r"wanted an https address|answered 302"):
            fetched(row)
    site.redirect = "/file"
    with pytest.raises(SfhqError, match="answered 302") as refused:
        fetched(row)
    assert "\n" not in str(refused.value)
    assert not partial(row).exists() and not model_path(row).exists()


def test_https_never_leads_back_to_http() -> None:
    request = urllib.request.Request("https://example.org/file")
    with pytest.raises(UsageError, match=r"leads to http://127.0.0.1/file"):
        model_fetch._OnlySafe().redirect_request(
            request, None, 302, "Found", {}, "http://127.0.0.1/file"
        )


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x",
        "http://127.0.0.1.example.org/x",
        "ftp://127.0.0.1/x",
        "file:///etc/hostname",
        "toy.bin",
        "https://",
        "https://[1/x",
        "https://example.org/a b",
        "https://example.org/\u00e4",
        "https://example.org/\n",
    ],
)
def test_addresses_that_are_not_asked(site: Site, url: str) -> None:
    with pytest.raises(UsageError, match="wanted an https address"):
        fetch(toy(site), no, LICENCE, url=url)


def test_a_mirror_is_held_to_the_same_digest(site: Site) -> None:
    row = replace(toy(site), url="https://example.org/toy.bin")
    found = fetch(row, no, LICENCE, url=site.url)
    assert found.entry is not None and found.entry.source == site.url
    is_whole(row)
    model_path(row).unlink()
    site.data = OTHER
    with pytest.raises(IntegrityError, match="wanted"):
        fetch(row, no, LICENCE, url=site.url)


def test_no_address_is_known(site: Site) -> None:
    row = replace(toy(site), url=None)
    with pytest.raises(UsageError, match="add it with: sfhq models add toy FILE"):
        fetched(row)


def test_no_network(site: Site) -> None:
    row = toy(site)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        with pytest.raises(SfhqError, match=r"no network, or 127.0.0.1:.*refused"):
            fetch(row, no, LICENCE, url=url)


def test_a_full_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_store, "SPARE", 10**18)
    for length in (None, ""):
        site.length = length
        with pytest.raises(
            SfhqError, match=r"MB free, .* MB needed; free some room, or set SFHQ_H"
        ):
            fetched(toy(site))
    assert not model_path(toy(site)).exists()


def test_pinned_on_first_use(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    row = toy(site, None)
    asked: list[Any] = []

    def hesitate(*given: Any) -> bool:
        asked.append(given)
        return False

    digest = hashlib.sha256(DATA).hexdigest()
    with pytest.raises(UsageError, match=f"{digest}: if you trust that, run again with --pin"):
        fetch(row, hesitate, LICENCE)
    assert asked == [(digest, len(DATA))]
    assert not model_path(row).exists()
    monkeypatch.setenv("SFHQ_OFFLINE", "1")  # what was received waits; nothing is fetched again
    found = fetch(row, yes, LICENCE)
    assert found.entry is not None and found.entry.pinned and found.wanted == digest
    is_whole(row)
    assert len(site.asked) == 1


def test_killed_after_the_last_byte(site: Site) -> None:
    row = toy(site)
    partial(row).parent.mkdir(parents=True)
    partial(row).write_bytes(DATA)
    note = {"url": site.url, "validator": '"one"', "total": len(DATA), "complete": False}
    partial(row).with_name(row.file + ".part.json").write_text(json.dumps(note))
    fetched(row)
    assert site.asked == []
    is_whole(row)


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"url": "https://example.org", "x": 1}'])
def test_a_part_without_a_note_begins_again(site: Site, note: str) -> None:
    row = toy(site)
    partial(row).parent.mkdir(parents=True)
    partial(row).write_bytes(OTHER[:5000])
    partial(row).with_name(row.file + ".part.json").write_text(note)
    fetched(row)
    assert site.asked == [(None, None)]
    is_whole(row)


def test_two_at_once(site: Site) -> None:
    row = toy(site)
    site.hold = 500_000
    errors: list[BaseException] = []

    def first() -> None:
        try:
            fetched(row)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    while not partial(row).exists():
        time.sleep(0.01)
    with pytest.raises(SfhqError, match="toy: another sfhq is writing it"):
        fetched(row)
    with pytest.raises(SfhqError, match="another sfhq"):
        model_store.add(row, Path(__file__), yes)
    site.released.set()
    thread.join(30)
    assert errors == []
    is_whole(row)
    assert len(site.asked) == 1


CHILD = """
import json, sys
from sfhq.weights import fetch as model_fetch
from sfhq.weights.table import ModelRow
row = ModelRow(**json.loads(sys.argv[1]))
model_fetch.CHUNK = 1 << 14
model_fetch.fetch(row, lambda digest, size: False, sys.argv[2])
"""


def test_kill_9_and_go_on(site: Site) -> None:
    """A process of its own is killed twice in the middle; the third ends with the right bytes."""
    row = toy(site)
    command = [sys.executable, "-c", CHILD, json.dumps(asdict(row)), LICENCE]
    for number in (1, 2):
        site.hold = 300_000
        child = subprocess.Popen(command, cwd=ROOT)
        try:
            deadline = time.monotonic() + 60
            size = 0
            while size < number * 270_000:
                assert child.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
                size = partial(row).stat().st_size if partial(row).exists() else 0
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
    assert not model_path(row).exists()
    site.hold = None
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    starts = [int(r[6:-1]) if r else 0 for r, _ in site.asked]
    assert len(starts) == 3 and starts[0] == 0 < 270_000 <= starts[1] < starts[2]
    is_whole(row)


@pytest.fixture
def one_row(site: Site, monkeypatch: pytest.MonkeyPatch) -> ModelRow:
    """The table holds nothing but the toy, whose digest nobody published."""
    row = toy(site, None)
    for module in (model_table, model_store, doctor):
        monkeypatch.setattr(module, "ROWS", (row,))
    return row


def test_the_command(site: Site, one_row: ModelRow, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sfhq("models", "fetch", "toy")
    assert result.exit_code == 2
    assert result.stderr == (
        "sfhq: toy: its licence is TOY-1.0 (for play only); to accept it, add: "
        "--accept-licence TOY-1.0\n"
    )
    result = sfhq("models", "fetch", "toy", "--accept-licence", LICENCE)
    assert result.exit_code == 2, "pinned without a word"
    assert result.stderr.count("\n") == 1 and "run again with --pin" in result.stderr
    monkeypatch.setenv("SFHQ_ACCEPT_LICENCE", LICENCE)
    result = sfhq("models", "fetch", "toy", "--pin")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{model_path(one_row)}\n"
    assert len(site.asked) == 1
    listed = sfhq("models", "list").stdout.splitlines()[1].split()
    assert listed[:5] == [
        "toy",
        "installed",
        "1",
        "MB",
        f"({hashlib.sha256(DATA).hexdigest()[:6]})",
    ]
    model_path(one_row).write_bytes(OTHER)
    result = sfhq("models", "verify")
    assert result.exit_code == 4
    assert "WRONG" in result.stdout
    assert "delete it, then fetch or add toy again" in result.stderr
    site.data = OTHER[:-1]
    result = sfhq("models", "fetch", "toy", "--pin")
    assert result.exit_code == 0, "a stale file is not replaced"
    is_whole(one_row, OTHER[:-1])


def test_the_exit_code_of_other_bytes(
    site: Site, one_row: ModelRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_table, "ROWS", (toy(site, OTHER),))
    result = sfhq("models", "fetch", "toy", "--accept-licence", LICENCE)
    assert result.exit_code == 4
    assert result.stderr.startswith("sfhq: toy: http://127.0.0.1:")
    monkeypatch.setenv("SFHQ_OFFLINE", "yes")
    result = sfhq("models", "fetch", "toy", "--accept-licence", LICENCE)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "SFHQ_OFFLINE is set" in result.stderr


TERMINAL = """
import json, sys
import cli
from sfhq.weights import store as model_store
from sfhq.weights import table as model_table
model_table.ROWS = model_store.ROWS = (model_table.ModelRow(**json.loads(sys.argv.pop())),)
cli.main(["models", "fetch", "toy"])
"""


@pytest.mark.parametrize(
    ("typed", "code"), [("y\ny\n", 0), ("n\n", 2), ("y\nn\n", 2)], ids=["yes", "no", "no pin"]
)
def test_a_terminal_is_asked(site: Site, one_row: ModelRow, typed: str, code: int) -> None:
    ours, theirs = pty.openpty()
    try:
        child = subprocess.Popen(
            [sys.executable, "-c", TERMINAL, json.dumps(asdict(one_row))],
            cwd=ROOT,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.write(ours, typed.encode())
        out, err = child.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert child.returncode == code, err
    assert "toy is under TOY-1.0: for play only" in err
    assert ("trust this file and pin it?" in err) == typed.startswith("y")
    if code:
        assert not model_path(one_row).exists()
    else:
        assert out == f"{model_path(one_row)}\n"
        is_whole(one_row)


def test_a_wrong_file_elsewhere_does_not_count(site: Site) -> None:
    """A damaged file where a package put it is no reason not to fetch a good one."""
    row = replace(toy(site), size=None, also=("torch-hub:toy.bin",), place="torch-hub")
    hub = model_store.torch_hub()
    hub.mkdir(parents=True)
    (hub / "toy.bin").write_bytes(OTHER)
    assert model_store.status(row).state == "elsewhere"
    fetched(row)
    is_whole(row)
    with pytest.raises(IntegrityError, match="not the toy that is in the cache; delete it"):
        model_store.put_in_hub(row)
    (hub / "toy.bin").write_bytes(DATA)
    assert model_store.put_in_hub(row) == hub / "toy.bin"
    model_path(row).unlink()
    before = len(site.asked)
    assert fetch(row, no).state == "elsewhere"
    assert len(site.asked) == before
