"""caption and rewrite: every face described by what is known of it, resumed, never made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tiny import finish, finish_about

import cli
from annotate.attribute import Attribute
from annotate.caption import Caption
from annotate.grammar.compose import Grammar
from annotate.grammar.parse import Parser, differences
from annotate.rewrite import Rewrite
from sfhq.errors import UsageError
from sfhq.networks.names import ATTRIBUTES
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.pipeline.engine import run_stage

SEEN: dict[str, dict[str, Any]] = {
    "a": {"present": "Smiling, Black_Hair, Blond_Hair, Eyeglasses", "male": 0.02, "years": 30.0},
    "b": {"present": "Bald, Mustache, Big_Nose", "male": 0.97, "years": 72.0},
    "c": {"present": "Smiling", "male": 0.5, "years": 40.0, "valid": False},
    "d": {"present": "", "male": 0.5, "years": None},
}


def seen_part(root: Path) -> Part:
    """Four faces and what `attribute` would have said of them."""
    part = Part.create(root)
    finish(part, "synthesize", [[FaceRecord(n) for n in "ab"], [FaceRecord(n) for n in "cd"]])
    said = []
    for name, seen in SEEN.items():
        row = np.full(len(ATTRIBUTES), 0.5, np.float32)
        row[ATTRIBUTES.index("Black_Hair")] = 0.99
        row[ATTRIBUTES.index("Blond_Hair")] = 0.9
        record = FaceRecord(name).with_columns(
            attributes_present=seen["present"],
            attributes_absent="",
            attributes_valid=seen.get("valid", True),
            male=seen["male"],
            years=seen["years"],
            skin_tone="intermediate",
            hair_length="hidden",
            glasses="none",
        )
        said.append(record.with_array("attribute_probabilities", row))
    finish_about(part, "attribute", [said[:2], said[2:]], Attribute.columns)
    return part


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return seen_part(tmp_path / "part")


def rows(part: Part) -> dict[str, FaceRecord]:
    return {record.face_id: record for record in part.faces()}


def test_captions_say_what_is_known(part: Part) -> None:
    run_stage(Caption(Grammar(), ATTRIBUTES, count=3, seed=4, rule=True), part)
    found = rows(part)
    facts = json.loads(str(found["a"].about["caption_facts"]))
    assert facts == {
        **{"Smiling": True, "Black_Hair": True, "Eyeglasses": True, "Male": False},
        "Young": True,
    }
    assert found["a"].about["caption_dropped"] == "Blond_Hair"
    assert json.loads(str(found["b"].about["caption_facts"]))["age"] == "elderly"
    for name in "ab":
        about = found[name].about
        texts: Any = about["captions"]
        assert len(texts) == len(set(texts)) == 3 and about["caption"] == texts[0]
        known = json.loads(str(about["caption_facts"]))
        assert all(not differences(known, Parser().read(text)) for text in texts)
        derivations: Any = about["caption_derivations"]
        made = Grammar().repeat(known, [int(i) for i in derivations[0].split(" ")])
        odds: Any = about["caption_log_probabilities"]
        assert made.text == texts[0] and made.log_probability == pytest.approx(odds[0], abs=1e-5)
    assert found["c"].about["caption"] == "" and found["c"].about["captions"] == []
    assert found["c"].about["caption_reason"] == "few attributes"
    assert found["d"].about["caption_reason"] == "nothing to say"
    assert all(record.alive for record in found.values())


def test_captions_do_not_depend_on_the_other_faces(part: Part, tmp_path: Path) -> None:
    run_stage(Caption(Grammar(), ATTRIBUTES), part)
    other = seen_part(tmp_path / "other")
    run_stage(Caption(Grammar(), ATTRIBUTES, seed=1), other)
    again = seen_part(tmp_path / "again")
    run_stage(Caption(Grammar(), ATTRIBUTES), again)
    texts = [[str(r.about["caption"]) for r in rows(p).values()] for p in (part, other, again)]
    assert texts[0] == texts[2] != texts[1]


def test_rendered_people_are_described_by_their_truth(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "heads")
    params = {
        "attributes": {"Male": True, "Bald": True, "Attractive": None, "Smiling": False},
        "details": {"years": 60.0, "yaw": 40.0, "pitch": 0.0},
    }
    finish(part, "render", [[FaceRecord("h0", params=params)]])
    run_stage(Caption(Grammar(), ATTRIBUTES), part)
    facts = json.loads(str(rows(part)["h0"].about["caption_facts"]))
    assert facts == {"Male": True, "Bald": True, "age": "older", "head": "right"}


def test_a_part_without_attributes_is_refused(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    finish(part, "synthesize", [[FaceRecord("a")]])
    with pytest.raises(UsageError, match="has no attributes yet; run: sfhq attribute"):
        run_stage(Caption(Grammar(), ATTRIBUTES), part)
    result = CliRunner().invoke(cli.main, ["rewrite", str(part.root)])
    assert (
        result.exit_code == 2
        and "reads caption, which is not there; run: sfhq caption" in result.stderr
    )


def test_the_command_writes_a_table(part: Part) -> None:
    result = CliRunner().invoke(cli.main, ["caption", str(part.root), "--count", "2"])
    assert result.exit_code == 0, result.stderr
    assert part.stage_info("caption")["settings"]["count"] == 2
    shown = CliRunner().invoke(cli.main, ["table", str(part.root), "--columns", "face_id,caption"])
    assert shown.exit_code == 0 and "woman" in shown.stdout
    table = part.table()
    assert {"caption", "captions", "caption_reason"} <= set(table.column_names)


def test_rewriting_keeps_what_the_caption_says(part: Part) -> None:
    run_stage(Caption(Grammar(), ATTRIBUTES), part)
    asked: list[str] = []

    def ask(messages: list[dict[str, str]], seed: int) -> str:
        asked.append(messages[1]["content"])
        if "bald" in messages[1]["content"].lower():
            return "A dragon."
        return "This is a young woman, who smiles, with black hair and wearing eyeglasses."

    run_stage(Rewrite(ask, "toy"), part)
    found = rows(part)
    assert found["a"].about["caption_rewriter"] == "toy"
    assert str(found["a"].about["caption_rewritten"]).startswith("This is a young woman, who")
    assert found["b"].about["caption_rewritten"] == found["b"].about["caption"]
    assert found["b"].about["caption_rewriter"] == ""
    assert len(found["b"].about["caption_refused"]) == 3
    assert found["d"].about["caption_rewritten"] == "" and len(asked) == 1 + 3 + 3
