"""The explorer without a browser: views, searches, facets, maps, pictures, figures, errors."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from exploring import COUNT, HAIR, explorer_of, faces_to_see, numbers
from PIL import Image

from cli import main
from curation.explore.boards import board
from curation.explore.explorer import Explorer
from curation.explore.export import export
from curation.explore.faces import details
from curation.explore.pictures import DIM, ISOLATIONS, Pictures, isolated
from curation.explore.views import Lasso, View, read_view
from sfhq.errors import IntegrityError, SfhqError, UsageError
from sfhq.parts.part import Part


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    return explorer_of(faces_to_see(tmp_path_factory.mktemp("explore") / "seen"))


def seen(explorer: Explorer, **view: object) -> list[int]:
    return [int(i) for i in explorer.order(read_view(view))]


def test_filters_combine(explorer: Explorer) -> None:
    assert seen(explorer) == list(range(COUNT))
    both = seen(explorer, f={"hair_colour": ["blond", "brown"]}, r={"years": [3, 9]})
    assert both == [4, 5, 7, 8]
    assert seen(explorer, f={"attributes_present": ["Smiling"]}) == list(range(1, COUNT, 2))
    assert seen(explorer, f={"hair_colour": []}) == []
    assert seen(explorer, where="years > 20 AND hair_colour = 'black'") == [21]
    assert seen(explorer, picked=[7, 3]) == [3, 7]


def test_sorted_by_a_number_and_at_random(explorer: Explorer) -> None:
    assert seen(explorer, sort="years")[:3] == [COUNT - 1, COUNT - 2, COUNT - 3]
    assert seen(explorer, sort="years", down=False)[:3] == [0, 1, 2]
    first = seen(explorer, sort="random", seed=1)
    assert sorted(first) == list(range(COUNT)) and first != sorted(first)
    assert first == seen(explorer, sort="random", seed=1) != seen(explorer, sort="random", seed=2)


def test_words_are_looked_up_in_captions(explorer: Explorer) -> None:
    men = seen(explorer, q="man")
    assert men == list(range(0, COUNT, 2)), "not in woman"
    assert seen(explorer, q="man -glasses") == [i for i in men if i % 4]
    assert seen(explorer, q='"black hair" years:<7') == [0, 3, 6]
    assert seen(explorer, q="hair_colour:BLOND years:3..8") == [4, 7]
    assert seen(explorer, q="-hair_colour:black years:<=2") == [1, 2]
    assert "dlib" not in explorer.how_words() and "sfhq embed" in explorer.how_words()


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"q": "hair_color:red"}, "did you mean: hair_colour"),
        ({"q": "hair_colour:green"}, "never 'green'; it is one of: black"),
        ({"q": "years:old"}, "years is a number"),
        ({"where": "years >"}, "syntax error"),
        ({"where": "1=1); DROP TABLE faces; SELECT (1"}, "one SQL condition"),
        ({"where": "(SELECT count(*) FROM read_text('/etc/passwd')) > 0"}, "disabled"),
        ({"f": {"nothing": ["a"]}}, "no column of few values"),
        ({"r": {"caption": [0, 1]}}, "no column of numbers"),
        ({"sort": "x; DROP TABLE faces"}, "no column"),
        ({"like": ["seen", "nobody"]}, "no face 'nobody'"),
        ({"image": "abc"}, "upload it again"),
        ({"picked": [COUNT]}, "from 0 to 23"),
        ({"lasso": {"points": [[0, 0]]}}, "3 to 400 points"),
        ({"lasso": {"x": "nope", "y": "years", "points": [[0, 0], [1, 0], [1, 1]]}}, "no column"),
        ({"what": 1}, "'what' is unknown"),
        ({"q": "x" * 600}, "500 at most"),
    ],
)
def test_what_cannot_be_looked_for_is_said(
    explorer: Explorer, view: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        explorer.order(read_view(view))
    assert seen(explorer) == list(range(COUNT))


def test_facets_count_what_the_others_leave(explorer: Explorer) -> None:
    view = read_view({"f": {"hair_colour": ["black"]}, "r": {"years": [0, 5]}})
    hair, tags, years = explorer.counts(view, ["hair_colour", "attributes_present", "years"])
    assert dict(zip(hair["values"], hair["counts"], strict=True)) == dict.fromkeys(HAIR, 2)
    assert dict(zip(tags["values"], tags["counts"], strict=True)) == {"Young": 2, "Smiling": 1}
    assert sum(years["counts"]) == len(seen(explorer, f={"hair_colour": ["black"]}))
    assert years["counts"][0] == 1 and years["counts"][-1] == 0
    assert "face_id" not in explorer.facets and "caption" not in explorer.facets
    with pytest.raises(UsageError, match="no column"):
        explorer.counts(View(), ["face_id"])


def test_more_like_a_face_is_the_order_of_cosines(explorer: Explorer) -> None:
    face = explorer.cards([3])[0]
    records = list(explorer.faces.parts[0].faces())
    vectors = np.stack([explorer.faces.parts[0].row("embedding", r) for r in records])
    wanted = np.argsort(-(vectors @ vectors[3]), kind="stable")
    found = explorer.page(read_view({"like": [face["part"], face["id"]]}), 0, 5)
    assert found["ranked"] and numbers(found["faces"]) == [int(i) for i in wanted[1:6]]
    best = float(vectors[wanted[1]] @ vectors[3])
    assert found["faces"][0]["value"] == pytest.approx(best, abs=1e-4)


def test_words_by_flip(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from test_flip_search import photos, weights

    from encoders.embed import Embed
    from encoders.features.flip import FlipEncoder
    from encoders.search import Searcher
    from sfhq.pipeline.engine import run_stage

    path, part = weights(tmp_path), photos(tmp_path / "part", 6)
    run_stage(Embed(FlipEncoder(path), batch=3), part, shard_size=3)
    explorer = explorer_of(part, weights=path)
    vectors = np.stack([part.row("embedding", r) for r in part.faces()])
    texts = Searcher(path).vectors(["a bald man", "glasses"])[0]
    wanted = np.argsort(-(vectors @ texts[0]), kind="stable")
    assert seen(explorer, q="a bald man") == [int(i) for i in wanted]
    away = np.argsort(-(vectors @ (texts[0] - 0.7 * texts[1])), kind="stable")
    assert seen(explorer, q="a bald man -glasses") == [int(i) for i in away]
    with Image.open(part.image_path("images", "f2")) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert seen(explorer, image=explorer.upload("key", pixels))[0] == 2
    other = weights(tmp_path, seed=1)
    with pytest.raises(UsageError, match="other weights of flip; give those"):
        explorer_of(part, weights=other).order(read_view({"q": "a man"}))
    with pytest.raises(SfhqError, match="none"):
        explorer_of(part, weights=tmp_path / "none").order(read_view({"q": "a man"}))


def test_a_part_without_vectors_or_captions_says_what_to_run(tmp_path: Path) -> None:
    bare = explorer_of(faces_to_see(tmp_path / "bare", embedded=False, said=False))
    with pytest.raises(UsageError, match=r"no captions; run: sfhq embed .*bare --encoder flip"):
        bare.order(read_view({"q": "hat"}))
    with pytest.raises(UsageError, match="has no vectors; run: sfhq embed"):
        bare.order(read_view({"like": ["bare", "f0001"]}))
    with pytest.raises(UsageError, match=r"map: .*has no vectors"):
        bare.maps.points()
    toy = explorer_of(faces_to_see(tmp_path / "toy"))
    with pytest.raises(UsageError, match="unknown encoder 'toy'"):
        toy.upload("key", np.zeros((8, 8, 3), np.uint8))


def test_several_parts_at_once(tmp_path: Path) -> None:
    first, second = faces_to_see(tmp_path / "a" / "x", 12), faces_to_see(tmp_path / "b" / "x", 8)
    both = explorer_of(first, second)
    assert both.faces.names == ("x", "x-2") and len(seen(both)) == 20
    assert seen(both, f={"part": ["x-2"]}, q="hair_colour:blond") == [13, 16, 19]
    assert set(seen(both, like=["x", "f0000"])) == set(range(1, 20))
    text = export(both, read_view({"picked": [0, 12]}), "ids").decode()
    assert text == "x\tf0000\nx-2\tf0000\n"


def test_the_map_is_the_main_plane_and_a_lasso_cuts_it(explorer: Explorer) -> None:
    points = explorer.maps.points().astype(float)
    part = explorer.faces.parts[0]
    vectors = np.stack([part.row("embedding", r) for r in part.faces()]).astype(float)
    centred = vectors - vectors.mean(axis=0)
    plane = centred @ np.linalg.svd(centred)[2][:2].T
    for k in (0, 1):
        assert abs(np.corrcoef(points[:, k], plane[:, k])[0, 1]) > 0.999
    box: list[list[float]] = [[-1, -1], [0.5, -1], [0.5, 2], [-1, 2]]
    inside = seen(explorer, lasso={"x": "", "y": "", "points": box})
    assert inside == [int(i) for i in np.flatnonzero(points[:, 0] / 65000 < 0.5)]
    by_years = Lasso("years", "years", tuple((float(x), float(y)) for x, y in box))
    assert np.flatnonzero(explorer.maps.inside(by_years)).tolist() == list(range(12))


def test_boards(explorer: Explorer) -> None:
    rows = board(explorer, View(), "hair_colour", 3)
    assert [(r["label"], r["count"], len(r["faces"])) for r in rows] == [(h, 8, 3) for h in HAIR]
    ages = board(explorer, View(), "years", 2)
    assert sum(r["count"] for r in ages) == COUNT and len(ages) <= 11
    low, high = ages[1]["range"]
    assert all(low <= i < high for i in numbers(ages[1]["faces"]))


def test_details_and_layers(explorer: Explorer) -> None:
    pictures = Pictures(explorer.faces)
    found = details(explorer, pictures, 4)
    assert dict(found["lineage"])["parent_id"] == "p0004" and dict(found["about"])["years"] == 4
    assert found["layers"][:2] == ["photo", "masks"] and "only hair" in found["layers"]
    assert found["captions"] == ["A man with blond hair and glasses"] and found["similar"]
    photo = np.asarray(Image.open(io.BytesIO(pictures.photo(4, "photo", 512))))
    hair = np.asarray(Image.open(io.BytesIO(pictures.photo(4, "only hair", 512))))
    assert np.abs(photo[:12].astype(int) - hair[:12]).mean() < 6
    assert hair[20:].mean() == pytest.approx(DIM * photo[20:].mean(), abs=4)
    with pytest.raises(UsageError, match="has none; run: sfhq landmark"):
        pictures.photo(4, "points", 512)
    with pytest.raises(UsageError, match="from 0 to 23"):
        pictures.small(COUNT, 160)


def test_isolation_darkens_all_other_classes() -> None:
    photo, mask = np.full((4, 4, 3), 100, np.uint8), np.zeros((2, 2), np.uint8)
    mask[0, 0] = 17
    found = isolated(photo, mask, ISOLATIONS["hair"])
    assert (found[:2, :2] == 100).all() and (found[2:] == 35).all() and (found[:2, 2:] == 35).all()


def test_exports(explorer: Explorer) -> None:
    view = read_view({"sort": "years", "r": {"years": [5, 7]}})
    assert export(explorer, view, "ids") == b"f0007\nf0006\nf0005\n"
    lines = export(explorer, view, "jsonl").decode().splitlines()
    assert [json.loads(line)["years"] for line in lines] == [7, 6, 5]
    head, *rows = export(explorer, view, "csv").decode().splitlines()
    assert "hair_colour" in head and len(rows) == 3
    with pytest.raises(UsageError, match="wanted: ids, csv"):
        export(explorer, view, "exe")


def test_a_part_that_changes_under_the_server(tmp_path: Path) -> None:
    part = faces_to_see(tmp_path / "part", 10)
    explorer = explorer_of(part)
    explorer.faces.require_unchanged()
    path = part.root / "records" / "attribute.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(IntegrityError, match=r"attribute.json: changed since .*start it again"):
        explorer.faces.require_unchanged()


def sfhq(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_figures_are_written_without_a_server(tmp_path: Path) -> None:
    part, out = faces_to_see(tmp_path / "part"), tmp_path / "out"
    code, printed, notes = sfhq("explore", part.root, "--figures", out)
    assert code == 0, notes
    names = {p.stem for p in out.iterdir()}
    assert {"hair-colour", "random", "overlays", "isolations"} <= names
    assert printed.split() == [str(out / Path(p).name) for p in printed.split()]
    first = {p.name: p.read_bytes() for p in out.iterdir()}
    assert sfhq("explore", part.root, "--figures", out)[0] == 0
    assert first == {p.name: p.read_bytes() for p in out.iterdir()}
    assert "looked up in the captions" in notes and "make-up: no face fits" in notes
    with Image.open(out / "isolations.jpg") as image:
        assert image.width == 8 * 166 + 6


def test_errors_of_the_command(tmp_path: Path) -> None:
    part = faces_to_see(tmp_path / "part", 10)
    (tmp_path / "file").write_text("")
    code, _, line = sfhq("explore", part.root, "--figures", tmp_path / "file")
    assert code == 2 and "is a file; give a folder" in line
    code, _, line = sfhq("explore", tmp_path)
    assert code == 2 and "not a part" in line
    empty = Part.create(tmp_path / "empty")
    code, _, line = sfhq("explore", empty.root)
    assert code == 2 and line.count("\n") == 1
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, line = sfhq("explore", part.root, "--port", taken.getsockname()[1])
    assert code == 2 and "give another --port" in line
