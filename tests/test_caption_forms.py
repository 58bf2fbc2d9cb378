"""Tables of captions: of parts, and of CelebA's own files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from test_caption import seen_part

from annotate.forms import FORMS, faces_of, write_captions
from annotate.grammar.facts import Facts
from annotate.grammar.parse import Parser
from annotate.grammar.templates import dialog_style, single_template
from sfhq.errors import IntegrityError, UsageError

ATTRIBUTES = "5_o_Clock_Shadow Attractive Bald Black_Hair Eyeglasses Male Smiling Young"


def celeba(folder: Path) -> Path:
    path = folder / "list_attr_celeba.txt"
    path.write_text(
        f"3\n{ATTRIBUTES} \n"
        "000001.jpg -1  1 -1  1 -1 -1  1  1\n"
        "000002.jpg -1 -1  1 -1  1  1 -1 -1\n"
        "000003.jpg -1 -1 -1  1 -1  1  1  1\n"
    )
    (folder / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 2\n000003.jpg 2\n")
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [*csv.DictReader(file)]


def test_captions_of_celebas_test_images(tmp_path: Path) -> None:
    path, out = celeba(tmp_path), tmp_path / "t.csv"
    found = write_captions(faces_of(path, "test"), out, "grammar", count=2)
    assert (found.faces, found.missing, found.added) == (2, 0, 0)
    assert {r["file"] for r in rows(out)} == {"000002.jpg", "000003.jpg"}
    told = Parser().read(rows(out)[0]["text"]).facts
    assert told["Bald"] is True and told["Eyeglasses"] is True and told["Male"] is True
    assert [name for name, _ in faces_of(path)] == [f"00000{i}.jpg" for i in (1, 2, 3)]
    again = out.read_bytes()
    write_captions(faces_of(path, "test"), out, "grammar", count=2)
    assert out.read_bytes() == again
    write_captions(faces_of(path, "test"), out, "grammar", count=2, seed=1)
    assert out.read_bytes() != again


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_part(tmp_path: Path, form: str) -> None:
    part, out = seen_part(tmp_path / "part"), tmp_path / "t.csv"
    found = write_captions(faces_of(part.root), out, form, count=3)
    assert found.captions == len(rows(out)) and found.faces + found.silent == 4
    assert found.silent == 1
    if form in ("grammar", "paraphrase"):
        assert found.missing == found.added == 0
    texts = [r["text"] for r in rows(out) if r["face"] == "a"]
    assert len({*texts}) == len(texts) == {"template": 1}.get(form, len(texts))


def test_templates_by_hand() -> None:
    facts: Facts = {
        "Male": True,
        "Smiling": True,
        "Black_Hair": True,
        "age": "older",
        "Bald": False,
    }
    assert single_template(facts, 0) == (
        "This is a photo of a man with smiling, older age and black hair."
    )
    assert dialog_style({"Male": False, "Smiling": True}, 1) in (
        "The woman smiles.",
        "She has a smile on the face.",
        "The woman looks happy.",
    )


def test_what_is_no_source(tmp_path: Path) -> None:
    path = celeba(tmp_path)
    (tmp_path / "list_eval_partition.txt").unlink()
    with pytest.raises(UsageError, match="CelebA's partition lies beside its attributes"):
        [*faces_of(path, "test")]
    path.write_text("hello\n")
    with pytest.raises(UsageError, match=r"wanted a part, or CelebA's list_attr_celeba.txt"):
        [*faces_of(path)]
    path.write_text(f"1\n{ATTRIBUTES}\n000001.jpg 1 1 2\n")
    with pytest.raises(IntegrityError, match="line 3: wanted a file and 8 times 1 or -1"):
        [*faces_of(path)]
    part = seen_part(tmp_path / "part")
    with pytest.raises(UsageError, match="--split is for CelebA"):
        [*faces_of(part.root, "test")]
    with pytest.raises(UsageError, match="form 'song'; wanted grammar"):
        write_captions(faces_of(part.root), tmp_path / "t.csv", "song")
    with pytest.raises(UsageError, match="nothing can be said of any face"):
        write_captions([("a", {})], tmp_path / "t.csv", "grammar")
