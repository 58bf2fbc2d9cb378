"""Parts on storage: only what is missing moves, the manifest is last, and nothing is lost.

Everything runs with a folder by its file:// address. The same runs with a server of S3 where moto's
is installed, outside of this environment because it cannot stand beside its packages:

    python -m venv elsewhere && elsewhere/bin/pip install 'moto[server]'
    SFHQ_MOTO_SERVER=elsewhere/bin/moto_server pytest tests/test_remote.py
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny import embedded_part, tree, unit

import sfhq.remote.push
from cli import main
from sfhq.errors import DiskFull, IntegrityError, SfhqError, UsageError
from sfhq.parts.part import Part
from sfhq.remote.manifest import MANIFEST, MOVING, is_portable
from sfhq.remote.pull import pull
from sfhq.remote.push import Moved, push
from sfhq.remote.store import Store, open_store

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a server of S3, a process of its own."""
    program = os.environ.get("SFHQ_MOTO_SERVER") or shutil.which("moto_server")
    if not program:
        pytest.skip("no moto_server; SFHQ_MOTO_SERVER names one")
    port = free_port()
    with subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


def make_bucket(server: str) -> str:
    from pyarrow.fs import S3FileSystem

    name = f"faces-{time.monotonic_ns()}"
    S3FileSystem(
        endpoint_override=server, region="us-east-1", allow_bucket_creation=True
    ).create_dir(name)
    return name


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, keys: None) -> Store:
    if request.param == "file":
        return open_store(f"file://{tmp_path}/there/part")
    server = request.getfixturevalue("server")
    return open_store(f"s3://{make_bucket(server)}/deep/part", server)


@pytest.fixture
def part(tmp_path: Path) -> Part:
    """Twelve faces with images, arrays and records."""
    vectors = unit(np.random.default_rng(0).standard_normal((12, 8)))
    return embedded_part(tmp_path / "part", vectors, images=True)


def files(part: Part) -> dict[str, str]:
    return {name: digest for name, digest in tree(part.root).items() if name != ".lock"}


def copied(store: Store, root: Path, **given: Any) -> tuple[Moved, dict[str, str]]:
    done = pull(store, root, **given)
    return done, files(Part.open(root))


def test_a_part_goes_there_and_comes_back(store: Store, part: Part, tmp_path: Path) -> None:
    wanted = files(part)
    (part.root / "images" / "half.png.part").write_bytes(b"half")
    done = push(part.root, store, check=True)
    assert (done.files, done.moved) == (len(wanted), len(wanted))
    assert {*store.sizes()} == {*wanted, MANIFEST}  # the same names: others can read it there
    back, found = copied(store, tmp_path / "back")
    assert found == wanted
    assert back.moved == len(wanted)
    assert not (tmp_path / "back" / ".pull.part").exists()
    assert push(part.root, store).moved == pull(store, tmp_path / "back").moved == 0


def test_only_what_differs_moves(store: Store, part: Part, tmp_path: Path) -> None:
    push(part.root, store)
    pull(store, tmp_path / "back")
    image = part.image_path("images", "f0003")
    image.write_bytes(bytes(reversed(image.read_bytes())))  # the same size
    part.image_path("images", "f0004").unlink()
    done = push(part.root, store)
    assert (done.moved, done.left) == (1, 1)
    assert "images/f0004.png" in store.sizes()  # nothing goes unless asked for
    with pytest.raises(UsageError, match=r"1 files differ from those .*f0003\.png; pull into an"):
        pull(store, tmp_path / "back")
    assert pull(store, tmp_path / "back", replace=True).moved == 1
    assert (tmp_path / "back" / "images" / "f0003.png").read_bytes() == image.read_bytes()
    store.write("images/foreign.txt", b"of somebody else")
    done = push(part.root, store, delete=True)
    assert (done.moved, done.deleted) == (0, 1)
    assert {*store.sizes()} == {*files(part), MANIFEST, "images/foreign.txt"}


class Away(Exception):
    pass


def stop_after(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
    """Let a method of the store work `count` times, then fail."""
    usual = getattr(Store, name)
    done: list[Any] = []

    def failing(self: Store, *given: Any) -> Any:
        if len(done) == count:
            raise Away
        done.append(given[0])
        return usual(self, *given)

    monkeypatch.setattr(Store, name, failing)


def test_a_push_that_ended_early_goes_on_and_is_no_part_until_then(
    store: Store, part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, "send", 5)
        with pytest.raises(Away):
            push(part.root, store, transfers=1)
    with pytest.raises(SfhqError, match="a push has not ended, so the part is not whole"):
        pull(store, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert push(part.root, store).moved == len(files(part)) - 5
    assert copied(store, tmp_path / "back")[1] == files(part)
    assert MOVING not in store.sizes()


def test_a_killed_push_sends_again_what_it_could_not_note(
    store: Store, part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill saves nothing: a file of the right size that nobody vouches for does not count."""
    with monkeypatch.context() as patch:
        stop_after(patch, "send", 5)
        usual = sfhq.remote.push._Push._save
        saved: list[int] = []

        def once(self: Any) -> None:
            if not saved:
                usual(self)
            saved.append(1)

        patch.setattr(sfhq.remote.push._Push, "_save", once)
        with pytest.raises(Away):
            push(part.root, store, transfers=1)
    name = next(n for n in store.sizes() if n.endswith(".npy"))
    store.write(name, b"?" * store.sizes()[name])
    assert push(part.root, store).moved == len(files(part))
    assert copied(store, tmp_path / "back")[1] == files(part)


def test_an_update_takes_the_manifest_away_first(
    store: Store, part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(part.root, store)
    part.image_path("images", "f0003").write_bytes(b"another")
    with monkeypatch.context() as patch:
        stop_after(patch, "send", 0)
        with pytest.raises(Away):
            push(part.root, store)
    assert MANIFEST not in store.sizes()
    assert push(part.root, store).moved == 1


def test_a_pull_that_ended_early_goes_on_and_is_no_part_until_then(
    store: Store, part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(part.root, store)
    with monkeypatch.context() as patch:
        stop_after(patch, "fetch", 5)
        with pytest.raises(Away):
            pull(store, tmp_path / "back", transfers=1)
    with pytest.raises(UsageError, match=r"no part\.json"):
        Part.open(tmp_path / "back")
    fetched: list[str] = []
    usual = Store.fetch

    def fetch(self: Store, name: str, *given: Any) -> None:
        fetched.append(name)
        usual(self, name, *given)

    monkeypatch.setattr(Store, "fetch", fetch)
    assert copied(store, tmp_path / "back")[1] == files(part)
    assert len(fetched) == len(files(part)) - 5


def test_a_pull_that_ended_among_its_renames_goes_on(
    store: Store, part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(part.root, store)
    pull(store, tmp_path / "back")
    for number in (1, 2, 3):
        part.image_path("images", f"f000{number}").write_bytes(b"another")
    push(part.root, store)
    usual, moves = os.replace, []

    def replace(source: Any, target: Any) -> None:
        if ".pull.part" in str(source) and ".pull.part" not in str(target):
            moves.append(target)
            if len(moves) == 3:
                raise Away
        usual(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(Away):
            pull(store, tmp_path / "back", replace=True)
    with pytest.raises(UsageError, match=r"no part\.json"):  # some files are new, some are old
        Part.open(tmp_path / "back")
    assert copied(store, tmp_path / "back", replace=True)[1] == files(part)


def test_what_is_damaged_there_is_found_and_sent_again(
    store: Store, part: Part, tmp_path: Path
) -> None:
    push(part.root, store)
    size = store.sizes()["images/f0005.png"]
    store.write("images/f0005.png", b"?" * size)
    with pytest.raises(IntegrityError, match=r"images/f0005\.png is not what the manifest says"):
        pull(store, tmp_path / "back")
    assert push(part.root, store).moved == 0  # its size is right
    assert push(part.root, store, check=True).moved == 1
    store.delete("images/f0006.png")
    with pytest.raises(IntegrityError, match=r"images/f0006\.png is missing; push the part again"):
        pull(store, tmp_path / "new")
    assert push(part.root, store).moved == 1
    assert copied(store, tmp_path / "back")[1] == files(part)


def test_a_place_that_holds_something_else(store: Store, part: Part, tmp_path: Path) -> None:
    store.write("letter.txt", b"dear")
    with pytest.raises(UsageError, match=r"holds 1 files and no part, such as letter\.txt; give"):
        push(part.root, store)
    with pytest.raises(UsageError, match="no part there"):
        pull(store, tmp_path / "back")
    store.delete("letter.txt")
    push(part.root, store)
    other = Part.create(tmp_path / "other", "other")
    with pytest.raises(UsageError, match="holds the part part, this is other"):
        push(other.root, store)
    with pytest.raises(UsageError, match="holds the part other, or half of it; there it is part"):
        pull(store, other.root)
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not empty and not a part"):
        pull(store, folder)
    assert [p.name for p in folder.iterdir()] == ["letter.txt"]


HOSTILE = ("../x", "/x", "a/../x", "a//b", "", ".", "C:\\x", "a\nb", ".lock", "x.part", MANIFEST)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_manifest_that_names_files_outside(part: Part, tmp_path: Path, name: str) -> None:
    assert not is_portable(name)
    store = open_store(f"file://{tmp_path}/there")
    push(part.root, store)
    path = tmp_path / "there" / MANIFEST
    said = json.loads(path.read_text())
    said["files"][name] = said["files"]["part.json"]
    path.write_text(json.dumps(said))
    with pytest.raises(IntegrityError, match=r"sfhq-manifest\.json is damaged, or names files out"):
        pull(store, tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"a": [1, "zz"]}},
        {"files": {"a": [-1, "0" * 64]}},
        {"files": {"a": [True, "0" * 64]}},
        {"files": []},
        {"part": 3},
    ],
)
def test_a_damaged_manifest(part: Part, tmp_path: Path, change: dict[str, Any]) -> None:
    store = open_store(f"file://{tmp_path}/there")
    push(part.root, store)
    path = tmp_path / "there" / MANIFEST
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, **change}))
    with pytest.raises(IntegrityError, match="damaged"):
        pull(store, tmp_path / "back")
    path.write_text(json.dumps({**said, "format": 2}))
    with pytest.raises(IntegrityError, match=r"of another version; run: pip install --upgrade"):
        pull(store, tmp_path / "back")


def test_links_do_not_leave_the_part(part: Part, tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/there")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.txt").write_text("secret")
    for target in (secret, secret / "key.txt"):
        link = part.root / "images" / "link"
        link.symlink_to(target)
        with pytest.raises(UsageError, match="a link or no plain file"):
            push(part.root, store)
        link.unlink()
    push(part.root, store)
    back = tmp_path / "back"
    pull(store, back)
    shutil.rmtree(back / "images")
    (back / "images").symlink_to(secret)
    with pytest.raises(UsageError, match="leads out of the part by a link"):
        pull(store, back, replace=True)
    assert [p.name for p in secret.iterdir()] == ["key.txt"]


def test_a_file_that_changes_while_it_is_sent(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"file://{tmp_path}/there")
    usual = Store.send

    def send(self: Store, name: str, source: Path, entry: Any) -> None:
        if name == "images/f0003.png":
            source.write_bytes(b"changed")
        usual(self, name, source, entry)

    monkeypatch.setattr(Store, "send", send)
    with pytest.raises(SfhqError, match=r"f0003\.png: changed while it was sent"):
        push(part.root, store)
    assert MANIFEST not in store.sizes()
    assert "images/f0003.png" not in store.sizes()


def test_a_disk_without_room(part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"file://{tmp_path}/there")
    push(part.root, store)
    usage = shutil._ntuple_diskusage(10, 9, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFull, match="bytes are to come, 1 are free"):
        pull(store, tmp_path / "back")


def test_a_folder_inside_the_part(part: Part) -> None:
    with pytest.raises(UsageError, match="lies in the part itself"):
        push(part.root, open_store(f"file://{part.root}/copy"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("part-05", "not an address of storage"),
        ("http://host/x", "not an address of storage"),
        ("s3://bucket/../x", "not an address of storage"),
        ("s3://bucket/x?region=y", "not an address of storage"),
        ("s3://UPPER/x", "not a name of a bucket"),
        ("s3:///x", "not a name of a bucket"),
        ("s3://host:9000/x", "a bucket only"),
        ("file://host/x", "not a folder of this machine"),
        ("file:///", "not a folder of this machine"),
    ],
)
def test_addresses_that_are_none(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_store(url)


def test_keys_in_an_address_are_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match="a bucket only") as caught:
        open_store("s3://somebody:topsecret@bucket/x")
    assert "topsecret" not in str(caught.value)
    with pytest.raises(UsageError, match="--endpoint is") as caught:
        open_store("s3://bucket/x", "http://somebody:topsecret@host")
    assert "topsecret" not in str(caught.value)


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(w) for w in words])


def test_the_commands(part: Part, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/there"
    count = len(files(part))
    done = call("push", part.root, url)
    assert done.exit_code == 0
    assert f"{count} files" in done.output
    assert f"in {url}: {count} files" in done.output
    done = call("pull", url, tmp_path / "back", "--json")
    assert json.loads(done.output)["moved"] == count
    assert files(Part.open(tmp_path / "back")) == files(part)
    done = call("pull", "s3://x", tmp_path / "none")
    assert done.exit_code == 2
    assert done.output.startswith("sfhq: s3://x: not a name of a bucket")


def test_a_server_that_is_not_there_is_one_line_within_seconds(
    part: Part, tmp_path: Path, keys: None
) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    done = call("push", part.root, "s3://faces/part", "--endpoint", endpoint)
    assert done.exit_code == 1
    assert done.output.startswith("sfhq: s3://faces/part: the storage does not answer (curlCode: 7")
    assert done.output.count("\n") == 1
    done = call("pull", "s3://faces/part", tmp_path / "back", "--endpoint", endpoint)
    assert done.exit_code == 1
    assert not (tmp_path / "back").exists()


def test_a_bucket_that_is_not_there(server: str, part: Part, keys: None) -> None:
    with pytest.raises(SfhqError, match="no such bucket; make it, or correct the address"):
        push(part.root, open_store("s3://nowhere-to-be-found/part", server))


class Line:
    """A line to a server, which can be cut and mended; it counts what was asked."""

    def __init__(self, server: str) -> None:
        self.to = int(server.rpartition(":")[2])
        self.port, self.asked = free_port(), 0
        self.cut_at = -1
        self.open: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        self.cut_at = -1
        self.listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listening,), daemon=True).start()

    def cut(self) -> None:
        self.listening.close()
        for each in self.open:
            hang_up(each)
        self.open.clear()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            self.open += [near, far]
            threading.Thread(target=self._both, args=(near, far), daemon=True).start()

    def _both(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._pass, args=(far, near, False), daemon=True)
        with near, far:
            back.start()
            self._pass(near, far, True)
            back.join()

    def _pass(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if counts and data[:4] in (b"PUT ", b"GET ", b"POST"):
                    self.asked += 1
                    if self.asked == self.cut_at:
                        self.cut()
                        return
                target.sendall(data)
        hang_up(target)


def hang_up(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(server: str) -> Iterator[Line]:
    line = Line(server)
    yield line
    line.cut()


@pytest.mark.parametrize("way", ["push", "pull"])
def test_storage_that_goes_away_is_one_line_and_the_same_command_goes_on(
    server: str, line: Line, part: Part, tmp_path: Path, keys: None, way: str
) -> None:
    bucket = make_bucket(server)
    url, endpoint = f"s3://{bucket}/part", f"http://127.0.0.1:{line.port}"
    back = tmp_path / "back"
    words: list[Any] = ["push", part.root, url]
    if way == "pull":
        push(part.root, open_store(url, server))
        words = ["pull", url, back]
    words += ["--endpoint", endpoint, "--transfers", 2]
    line.cut_at = line.asked + 14
    done = call(*words)
    assert done.exit_code == 1, done.output
    assert done.output.startswith(f"sfhq: {url}: the storage does not answer")
    assert done.output.endswith("run the same command again to go on\n")
    assert done.output.count("\n") == 1
    line.mend()
    done = call(*words)
    assert done.exit_code == 0, done.output
    if way == "push":
        pull(open_store(url, server), back)
    assert files(Part.open(back)) == files(part)


def test_a_process_that_is_killed_while_it_pushes(
    server: str, part: Part, tmp_path: Path, keys: None
) -> None:
    for number in range(150):
        (part.root / "images" / f"more{number}.png").write_bytes(os.urandom(2000))
    url = f"s3://{make_bucket(server)}/part"
    command = [sys.executable, "-m", "cli", "push", str(part.root), url, "--endpoint", server]
    store = open_store(url, server)
    with subprocess.Popen(command, cwd=ROOT) as process:
        wait_for(lambda: len(store.sizes()) > 20)
        process.send_signal(signal.SIGKILL)
    assert MANIFEST not in store.sizes()
    push(part.root, store)
    assert copied(store, tmp_path / "back")[1] == files(part)


def wait_for(ready: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)
