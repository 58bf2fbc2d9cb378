"""The explorer's server: who may ask, what cannot be asked, and parts that change under it."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from curating import TOKEN, Client, ask_as_others
from exploring import COUNT, explorer_of, exploring, faces_to_see, told
from PIL import Image
from test_server import errors_of_server

import curation.explore
from curation.explore import server as explore_server
from curation.explore.explorer import Explorer
from sfhq.parts.part import Part
from sfhq.web.guard import TOKEN_HEADER

Served = tuple[Client, Explorer, str]
READ = (
    "/api/about",
    "/api/faces",
    "/api/facets?columns=years",
    "/api/board?column=years",
    "/api/face/0",
    "/api/find?part=seen&face=f0000",
    "/api/map",
    "/api/map/shown",
    "/api/map/codes?column=years",
    "/small?i=0",
    "/photo/0",
)
WRITE: dict[str, dict[str, object]] = {
    "/api/export": {"view": {}, "kind": "ids"},
    "/api/part": {"view": {}, "name": "x"},
    "/api/upload": {"image": ""},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    explorer = explorer_of(faces_to_see(tmp_path_factory.mktemp("explore") / "seen"))
    with exploring(explorer) as (client, url):
        yield client, explorer, url


def picture(size: tuple[int, int] = (64, 64), kind: str = "PNG") -> str:
    out = io.BytesIO()
    Image.new("RGB", size, (120, 90, 60)).save(out, kind)
    return base64.b64encode(out.getvalue()).decode()


def test_the_page_comes_without_a_token_and_has_nothing_in_it(served: Served) -> None:
    client, explorer, url = served
    assert url == f"http://127.0.0.1:{client.port}/#token={TOKEN}"
    status, page, headers = client.ask("GET", "/", plain=True)
    assert status == 200 and b"<title>sfhq explore</title>" in page
    assert "set-cookie" not in headers and TOKEN.encode() not in page
    assert explorer.faces.names[0].encode() not in page
    assert "default-src 'none'" in headers["content-security-policy"]
    for path in READ:
        assert client.ask("GET", path, plain=True)[0] == 401, path
        assert client.ask("GET", path)[0] == 200, path


def test_scripts_and_style_come_with_their_types(served: Served) -> None:
    folder = Path(curation.explore.__path__[0]) / "web"
    names = sorted(p.name for p in folder.iterdir())
    assert "app.js" in names and "style.css" in names
    for name in names:
        status, data, headers = served[0].ask("GET", f"/web/{name}", plain=True)
        kind = {".js": "text/javascript", ".css": "text/css"}[Path(name).suffix]
        assert status == 200 and headers["content-type"] == f"{kind}; charset=utf-8"
        assert data == (folder / name).read_bytes()


def test_hundreds_of_requests_that_are_and_are_not_ours(served: Served) -> None:
    ways = (("GET", "/api/faces"), ("GET", "/small?i=1"), ("POST", "/api/export"))
    ask_as_others(served[0], ways, WRITE["/api/export"], own=(200,))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST", "GET"])
def test_other_methods_are_refused(served: Served, method: str) -> None:
    for path in (*READ, *WRITE, "/", "/web/app.js"):
        reads = path not in WRITE
        if (method == "GET" and reads) or (method == "POST" and not reads):
            continue
        body: object = {} if method == "POST" else None
        assert served[0].ask(method, path, body)[0] == 405, path


SPELLINGS = [
    prefix + body
    for prefix in ("/photo/", "/web/", "/api/face/", "/small/")
    for dots in ("..", "%2e%2e", "%252e%252e", "..%00", "%c0%ae%c0%ae", "....", ". .", "\\..")
    for slash in ("/", "%2f", "%5c", "%252f", "//", "\\")
    for body in (f"{dots}{slash}part.json", f"{dots}{slash}{dots}{slash}etc{slash}passwd")
] + [
    "/photo//etc/passwd",
    "/photo/%2fetc%2fpasswd",
    "/photo/f0000.png",
    "/photo/images%2ff0000.png",
    "/photo/0/",
    "/web/app.js%00",
    "/web/APP.JS",
    "/web/../server.py",
    "/part.json",
    "//evil.example/photo/0",
]


def test_hundreds_of_spellings_reach_no_file(served: Served) -> None:
    assert len(SPELLINGS) >= 200
    for path in SPELLINGS:
        status, answer, _ = served[0].ask("GET", path.replace(" ", "%20"))
        assert status in (307, 400, 404), path
        text = answer if isinstance(answer, bytes) else str(answer).encode()
        assert b"root:" not in text and b'"format"' not in text and b"import " not in text


def test_wrong_tokens(served: Served) -> None:
    client = served[0]
    for token in ("", "t", TOKEN[:-1], TOKEN + "t", "%00"):
        assert client.ask("GET", "/api/about", headers=client.key(token), plain=True)[0] == 401
        assert client.ask("GET", f"/api/about?token={TOKEN}", plain=True)[0] == 401
        cookie = {"Cookie": f"{TOKEN_HEADER}={TOKEN}"}
        assert client.ask("GET", "/api/about", headers=cookie, plain=True)[0] == 401


def test_small_pictures_come_together(served: Served) -> None:
    status, data, _ = served[0].ask("GET", "/small?i=3,0,7&size=64")
    assert status == 200
    found = []
    while data:
        length = int.from_bytes(data[:4], "little")
        with Image.open(io.BytesIO(data[4 : 4 + length])) as image:
            assert image.format == "JPEG" and max(image.size) <= 64
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    assert len({*found}) == 3


HOSTILE: tuple[object, ...] = (
    *(
        None,
        True,
        -1,
        0.5,
        10**400,
        -(10**4000),
        float("nan"),
        float("inf"),
        "",
        "\x00",
        "x" * 9000,
    ),
    *("\ud800", "\u202e", "'; --", "../..", [], {}, [None], [[]], {"": ""}, [1, 2], ["a", "b"]),
    *([10**400, 0], [0.0, float("nan")], {"years": [10**400, 1]}, {"years": ["\ud800"]}),
    *({"hair_colour": ["\ud800"]}, {"\ud800": ["a"]}, {"caption": [0, 1]}, ["\ud800", "f0000"]),
    *({"points": [[10**400, 0]] * 3}, {"x": "\ud800", "points": [[0, 0], [1, 0], [1, 1]]}),
    *({"points": [[0, 0]] * 500}, {"hair_colour": ["a"] * 999}, [10**30], list(range(30_000))),
)
FIELDS = ("q", "f", "r", "where", "like", "image", "lasso", "picked", "sort", "down", "seed", "no")
NUMBERS = ("", "-1", "x", "1.5", "%D9%A3", "9" * 5000, "nan", "1,2", "%00", "%ed%a0%80")


def test_no_question_makes_the_server_stumble(served: Served) -> None:
    """Every field of a view with every hostile value, in the address and in a body."""
    client, asked = served[0], 0
    with errors_of_server() as errors:
        for field, value in itertools.product(FIELDS, HOSTILE):
            text = json.dumps({field: value})
            if len(text) < 20_000:  # longer ones are no address
                for path in (
                    "/api/faces?",
                    "/api/facets?columns=years&",
                    "/api/board?column=years&",
                ):
                    status, answer, _ = client.ask("GET", f"{path}view={quote(text)}")
                    assert status in (200, 400), (path, field, value, answer)
                    assert status == 200 or "\n" not in answer["error"]
                    asked += 1
            body = f'{{"view": {text}, "kind": "ids"}}'.encode()
            status, answer, _ = client.ask("POST", "/api/export", body)
            assert status in (200, 400), (field, value, answer)
            asked += 1
        for number in NUMBERS:
            for path in (
                f"/api/faces?offset={number}",
                f"/api/faces?limit={number}",
                f"/api/face/{number}",
                f"/photo/{number}",
                f"/photo/0?size={number}",
                f"/photo/0?layer={number}",
                f"/small?i={number}",
                f"/small?i=0&size={number}",
                f"/api/board?column={number}",
                f"/api/facets?columns={number}",
                f"/api/map?x={number}&y={number}",
                f"/api/map/codes?column={number}",
                f"/api/find?part={number}&face={number}",
                f"/api/faces?view={number}",
            ):
                assert client.ask("GET", path)[0] in (200, 400, 404), path
                asked += 1
        for path, fine in WRITE.items():
            for field, value in itertools.product((*fine, "more"), HOSTILE):
                status, answer, _ = client.ask("POST", path, {**fine, field: value})
                assert status in (200, 400), (path, field, value, answer)
                asked += 1
            for raw in (b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000):
                assert client.ask("POST", path, raw)[0] == 400
                asked += 1
        assert client.ask("GET", "/api/faces")[1]["total"] == COUNT
    assert errors == []
    assert asked > 1000


def test_uploads_that_cannot_be(served: Served) -> None:
    client = served[0]
    noise = base64.b64encode(np.random.default_rng(0).bytes(3000)).decode()
    for image, message in (
        (noise, "not a picture; wanted a JPEG, PNG or WebP file"),
        (picture(kind="GIF"), "not a picture; wanted a JPEG, PNG or WebP file"),
        (picture((8000, 4000)), "8000 x 4000 pixels; wanted 16,000,000 at most"),
        (picture()[:-60] + "AAAA", "cannot decode its pixels"),
        ("???", "wanted a JPEG, PNG or WebP file in base64"),
        (picture(), "unknown encoder 'toy'"),
    ):
        status, answer, _ = client.ask("POST", "/api/upload", {"image": image})
        assert status == 400 and message in answer["error"], answer
        assert "\n" not in answer["error"]
    status, answer, _ = client.ask("POST", "/api/upload", {"image": "A" * (1 << 20)})
    assert status == 413 and "content-length" in answer["error"]


def test_what_is_asked_for_and_not_there_is_said(tmp_path: Path) -> None:
    bare = explorer_of(faces_to_see(tmp_path / "bare", embedded=False, said=False))
    with exploring(bare) as (client, _):
        for path in (
            f"/api/faces?view={told({'q': 'hat'})}",
            f"/api/faces?view={told({'like': ['bare', 'f0001']})}",
            "/api/map",
        ):
            status, answer, _ = client.ask("GET", path)
            assert status == 400 and f"run: sfhq embed {tmp_path / 'bare'}" in answer["error"]
        status, answer, _ = client.ask("POST", "/api/upload", {"image": picture()})
        assert status == 400 and "has no vectors; run: sfhq embed" in answer["error"]
        status, answer, _ = client.ask("POST", "/api/part", {"view": {}, "name": "x"})
        assert status == 400 and "--new-parts FOLDER" in answer["error"]


def test_an_encoder_that_is_not_there_is_named(tmp_path: Path) -> None:
    part = faces_to_see(tmp_path / "part", 10)
    path = part.root / "records" / "embed.json"
    info = json.loads(path.read_text())
    info["settings"]["encoder"] = "flip"
    path.write_text(json.dumps(info))
    with exploring(explorer_of(part, weights=tmp_path / "none.safetensors")) as (client, _):
        status, answer, _ = client.ask("GET", f"/api/faces?view={told({'q': 'hat'})}")
        assert status in (400, 500) and "none.safetensors" in answer["error"]
        status, answer, _ = client.ask("POST", "/api/upload", {"image": picture()})
        assert status in (400, 500) and "none.safetensors" in answer["error"]
        assert client.ask("GET", "/api/faces")[1]["total"] == 10


def test_a_part_that_changes_under_the_server_says_so_everywhere(tmp_path: Path) -> None:
    part = faces_to_see(tmp_path / "part", 10)
    with exploring(explorer_of(part), tmp_path / "new") as (client, _):
        paths = [p for p in READ if p not in ("/api/about", "/api/find?part=seen&face=f0000")]
        assert {client.ask("GET", p)[0] for p in paths} == {200}
        path = part.root / "records" / "attribute.json"
        path.write_text(path.read_text() + "\n")
        told_by = [client.ask("GET", p) for p in (*paths, "/api/find?part=part&face=f0000")]
        told_by += [client.ask("POST", p, body) for p, body in WRITE.items()][:2]
        told_by.append(client.ask("POST", "/api/upload", {"image": picture()}))
        for status, answer, _ in told_by:
            assert status == 409
            wanted = r".*attribute\.json: changed since this server read it; .*sfhq explore .*part"
            assert re.fullmatch(wanted, answer["error"])
        assert not (tmp_path / "new").exists()


def test_a_lost_photo_is_said_and_the_others_are_shown(tmp_path: Path) -> None:
    part = faces_to_see(tmp_path / "part", 10)
    with exploring(explorer_of(part)) as (client, _):
        part.image_path("images", "f0001").unlink()
        shutil.copy(part.image_path("images", "f0003"), part.image_path("images", "f0002"))
        for i, words in ((1, "missing"), (2, "sha256 differs")):
            status, answer, _ = client.ask("GET", f"/photo/{i}")
            assert status == 409 and words in answer["error"]
            assert client.ask("GET", f"/small?i={i}")[1] == bytes(4)
        assert len(client.ask("GET", "/small?i=1,2,3")[1]) > 100


def test_a_selection_becomes_a_part_in_the_one_folder_that_was_named(tmp_path: Path) -> None:
    part = faces_to_see(tmp_path / "part", 10)
    folder = tmp_path / "new"
    with exploring(explorer_of(part), folder) as (client, _):
        assert client.ask("GET", "/api/about")[1]["new_parts"] is True
        view = {"f": {"hair_colour": ["blond"]}}
        status, answer, _ = client.ask("POST", "/api/part", {"view": view, "name": "blond"})
        assert status == 200 and answer == {"part": str(folder / "blond"), "faces": 3}
        assert [r.face_id for r in Part.open(folder / "blond").faces()] == [
            "f0001",
            "f0004",
            "f0007",
        ]
        for name, message in (
            ("blond", "is there already"),
            ("../part", "no name for one"),
            ("/tmp/x", "no name for one"),
            ("..", "no name for one"),
            (".", "no name for one"),
            (".hidden", "no name for one"),
            ("a\x00b", "no name for one"),
            ("\ud800", "no name for one"),
            ("x" * 300, "no name for one"),
            ("", "wanted a name"),
        ):
            status, answer, _ = client.ask("POST", "/api/part", {"view": {}, "name": name})
            assert status == 400 and message in answer["error"], (name, answer)
        status, answer, _ = client.ask("POST", "/api/part", {"view": {"q": "dragon"}, "name": "n"})
        assert status == 400 and "no face is chosen" in answer["error"]
    assert [p.name for p in folder.iterdir()] == ["blond"]


def test_searches_go_before_pictures_and_a_page_that_has_gone_costs_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from curation.explore.pictures import Pictures
    from curation.explore.turns import Turns

    _, explorer, _ = served
    monkeypatch.setattr(explore_server, "AT_ONCE", 1)
    turns = Turns(1)
    pictures = Pictures(explorer.faces, turns)
    made = threading.Event()

    def draw() -> None:
        pictures.small(9, 96)
        made.set()

    with turns.searching():
        thread = threading.Thread(target=draw)
        thread.start()
        assert not made.wait(0.3)
    assert made.wait(30)
    thread.join()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path, end: signal.Signals) -> None:
    part = faces_to_see(tmp_path / "part", 10)
    run = subprocess.Popen(
        [sys.executable, "-m", "cli", "explore", str(part.root), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert run.stdout is not None and run.stderr is not None
    try:
        found = re.fullmatch(r"(http\S+):(\d+)/#token=(\S+)\n", run.stdout.readline())
        assert found is not None
        client = Client(int(found[2]))
        status, answer, _ = client.ask("GET", "/api/faces", headers=client.key(found[3]))
        assert status == 200 and answer["total"] == 10
        run.send_signal(end)
        run.wait(60)
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
    with run.stderr:
        assert run.stderr.read().splitlines()[0] == "10 faces; stop with Ctrl-C"
    assert run.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[end]
    assert [p.name for p in tmp_path.iterdir()] == ["part"], "nothing is written"
