"""What is said of a published part: marks of its files, lineage, terms, and the data card."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import write_chain
from click.testing import CliRunner, Result
from PIL import Image
from published import NAME, PREDICTOR, SAMPLES, SIDE, art, pack_digest, published_part
from tiny import finish

import cli
from sfhq.errors import UsageError
from sfhq.images import TRAINED, Marks, encode_image
from sfhq.marks.signature import Signer
from sfhq.marks.watermark import payload_of
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.pipeline.recipe import MarkSettings
from sfhq.publish import card as cards
from sfhq.publish import card_form, card_words, networks
from sfhq.publish.facts import KEYS, NOT_STATED, Facts, template
from sfhq.publish.licences import SPDX, licence_terms, roll_up
from sfhq.publish.lineage import as_text, lineage
from sfhq.publish.networks import identify, noted, read_networks
from sfhq.publish.validate import validate
from sfhq.publish.verify import Checked, verify_file
from sfhq.synthesis.marking import KEY, as_settings, marks_of, photo_marks
from sfhq.weights.header import PACK
from sfhq.weights.table import model_row


def sfhq(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_part(tmp_path_factory.mktemp("sound") / "part").root


class TestVerify:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A marked photo in three formats, copies that lost marks, and pictures of others."""
        signer = Signer.load(*write_chain(tmp_path))
        place = tmp_path / "files"
        (place / "deep").mkdir(parents=True)
        marks = Marks("StyleGAN2", "abc", "a prompt", payload_of(NAME), signer)
        pixels = np.asarray(Image.fromarray(art(3)).resize((256, 256)))
        for name, kind in (("full.png", "PNG"), ("full.jpg", "JPEG"), ("deep/full.webp", "WEBP")):
            (place / name).write_bytes(encode_image(pixels, kind, TRAINED, 90, marks))
        with Image.open(place / "full.png") as image:
            image.resize((192, 192)).save(place / "stripped.jpg", quality=80)
        (place / "xmp-only.png").write_bytes(encode_image(pixels))
        Image.fromarray(pixels).save(place / "foreign.png")
        data = bytearray((place / "full.jpg").read_bytes())
        data[-2000] ^= 1
        (place / "changed.jpg").write_bytes(data)
        (place / "torn.png").write_bytes((place / "full.png").read_bytes()[:9000])
        (place / "notes.txt").write_text("no image")
        return place

    def test_each_file_says_what_it_carries(self, folder: Path) -> None:
        expected = {
            "full.png": ("marked", ("xmp", "watermark", "c2pa")),
            "full.jpg": ("marked", ("xmp", "watermark", "c2pa")),
            "deep/full.webp": ("marked", ("xmp", "watermark", "c2pa")),
            "stripped.jpg": ("marked", ("watermark",)),
            "xmp-only.png": ("marked", ("xmp",)),
            "foreign.png": ("unmarked", ()),
            "changed.jpg": ("broken", ("xmp", "watermark")),
            "torn.png": ("unreadable", ()),
        }
        found = {name: verify_file(folder / name) for name in expected}
        assert {n: (f.verdict(), f.layers) for n, f in found.items()} == expected
        for name in ("full.png", "stripped.jpg"):
            mark = found[name].watermark
            assert mark is not None
            assert mark.payload == payload_of(NAME)

    def test_the_command_walks_folders_and_counts(self, folder: Path) -> None:
        done = sfhq("verify", folder, "--name", NAME, "--workers", 2)
        assert done.exit_code == 4
        lines = done.stdout.splitlines()
        assert lines[-1] == "8 files: 1 broken, 5 marked, 1 unmarked, 1 unreadable"
        assert [w.rsplit("/", 1)[-1] for w in lines[1:4]] == [
            "changed.jpg",
            "foreign.png",
            "full.jpg",
        ]
        assert all(NAME in line for line in lines if "stripped.jpg" in line)

    @pytest.mark.parametrize(
        ("files", "options", "code"),
        [
            (("full.png", "full.jpg"), (), 0),
            (("full.png", "foreign.png"), (), 1),
            (("full.png", "stripped.jpg"), ("--require", "xmp"), 1),
            (("stripped.jpg",), ("--require", "watermark"), 0),
            (("xmp-only.png",), ("--require", "xmp", "--require", "c2pa"), 1),
            (("changed.jpg",), ("--require", "watermark"), 4),
            (("torn.png",), (), 4),
        ],
    )
    def test_exit_codes(
        self, folder: Path, files: tuple[str, ...], options: tuple[str, ...], code: int
    ) -> None:
        assert sfhq("verify", *(folder / f for f in files), *options).exit_code == code

    def test_json_is_a_line_a_file(self, folder: Path) -> None:
        done = sfhq("verify", folder / "full.png", folder / "torn.png", "--json")
        first, second = (json.loads(line) for line in done.stdout.splitlines())
        assert first["holds"] == ["xmp", "watermark", "c2pa"]
        assert first["xmp"]["prompt"] == "a prompt"
        assert first["watermark"]["payload"] == f"{payload_of(NAME):08x}"
        assert first["watermark"]["chance"] < 1e-8
        assert first["c2pa"]["state"] == "valid"
        assert second["problem"].startswith("damaged image")
        assert "2 files" in done.stderr

    def test_quiet_names_only_what_is_not_marked(self, folder: Path) -> None:
        done = sfhq("verify", folder, "--quiet")
        assert len(done.stdout.splitlines()) == 5  # head, three files, total
        assert "full.png" not in done.stdout

    def test_a_signer_can_be_trusted(self, folder: Path) -> None:
        done = sfhq("verify", folder / "full.png", "--trust", folder.parent / "chain.pem")
        assert "trusted, sfhq tests" in done.stdout

    def test_without_c2pa_python_the_other_marks_are_checked(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
        found = verify_file(folder / "full.png")
        assert (found.unchecked, found.layers) == (True, ("xmp", "watermark"))
        done = sfhq("verify", folder / "full.png")
        assert done.exit_code == 0
        assert "1 signed manifests were not checked: pip install 'sfhq[c2pa]'" in done.stdout

    def test_what_cannot_be_looked_at_is_one_line(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "bad.pem").write_bytes(b"\xff\xfe")
        for arguments, words in (
            ((tmp_path / "missing",), "no such file or folder"),
            ((tmp_path / "empty",), "no images in it"),
            ((folder, "--trust", tmp_path / "bad.pem"), "wanted certificates as PEM"),
        ):
            done = sfhq("verify", *arguments)
            assert done.exit_code == 2
            assert words in done.stderr
            assert len(done.stderr.splitlines()) == 1

    def test_a_link_is_not_followed(self, folder: Path) -> None:
        (folder / "link.png").symlink_to(folder / "full.png")
        assert verify_file(folder / "link.png").problem == "not a regular file"

    def test_a_photo_of_a_part_says_so(self, sound: Path) -> None:
        found = verify_file(sound / "images" / "art000-strict.png")
        assert found.layers == ("xmp", "watermark")
        assert verify_file(sound / "aligned" / "art000.png").layers == ()
        assert verify_file(sound / "segmentations" / "art000-strict.png").verdict() == "unmarked"

    def test_a_claim_of_a_camera_is_no_mark(self) -> None:
        from sfhq.marks.xmp import Origin

        assert Checked(Path(), Origin("digitalCapture")).verdict() == "unmarked"


class TestSign:
    def test_copies_are_signed_and_keep_their_marks(self, sound: Path, tmp_path: Path) -> None:
        chain, key = write_chain(tmp_path)
        out = tmp_path / "out"
        arguments = ("--out", out, "--cert", chain, "--key", key, "--mining", "notAllowed")
        done = sfhq("sign", sound / "images", *arguments)
        assert done.exit_code == 0, done.output
        assert done.stdout == f"24 of 24 files signed in {out}\n"
        name = "art000-strict.png"
        assert verify_file(out / name).layers == ("xmp", "watermark", "c2pa")
        with Image.open(out / name) as signed, Image.open(sound / "images" / name) as plain:
            assert np.array_equal(np.asarray(signed), np.asarray(plain))
        again = sfhq("sign", sound / "images", *arguments)
        assert again.exit_code == 2
        assert "there already; give a new folder" in again.stderr

    def test_what_does_not_say_that_it_is_synthetic_is_not_signed(
        self, sound: Path, tmp_path: Path
    ) -> None:
        chain, key = write_chain(tmp_path)
        out = tmp_path / "out"
        files = (sound / "aligned" / "art000.png", sound / "images" / "art001-low.png")
        done = sfhq("sign", *files, "--out", out, "--cert", chain, "--key", key)
        assert done.exit_code == 1
        assert "art000.png: not signed: its XMP does not say that it is synthetic" in done.stderr
        assert [p.name for p in out.iterdir()] == ["art001-low.png"]
        twice = sfhq("sign", out, "--out", tmp_path / "more", "--cert", chain, "--key", key)
        assert "has a manifest already" in twice.stderr

    def test_bad_input_is_one_line_and_writes_nothing(self, sound: Path, tmp_path: Path) -> None:
        chain, key = write_chain(tmp_path)
        out = tmp_path / "out"
        same = sound / "images" / "art000-low.png"
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / same.name).write_bytes(same.read_bytes())
        for arguments, words in (
            ((same, tmp_path / "other" / same.name, "--cert", chain, "--key", key), "same name"),
            ((same, "--cert", key, "--key", chain), "wanted a chain as a PEM file"),
            ((tmp_path / "none.png", "--cert", chain, "--key", key), "no such file or folder"),
        ):
            done = sfhq("sign", *arguments, "--out", out)
            assert done.exit_code == 2
            assert words in done.stderr
            assert len(done.stderr.splitlines()) == 1
            assert not out.exists()


class TestLineage:
    def test_it_goes_from_the_source_to_what_is_said(self, sound: Path) -> None:
        found = lineage(Part.open(sound), "art003-low")
        assert found["source"]["name"] == "art/003.jpg"
        assert found["source"]["licence"] == "CC0-1.0"
        assert found["made"] == {
            "parent_id": "art003",
            "candidate": "low",
            "seed": 3,
            "psi": 0.7,
            "prior_distance": 0.5,
            "params": {},
        }
        steps = {s["stage"]: s for s in found["steps"]}
        assert list(steps)[:3] == ["ingest", "align", "synthesize"]
        used = {n["role"]: n["name"] for n in steps["synthesize"]["networks"]}
        assert used == {"generator": "sfhq's embedded generator", "encoder": "sfhq's embedded e4e"}
        assert steps["align"]["networks"][0]["name"] == "dlib-68"
        assert "source" not in steps["ingest"]["settings"]  # a path of the machine
        assert found["said"]["caption"]
        assert found["fate"]["alive"]

    @pytest.mark.parametrize("spelling", ["id", "path", "digest", "export"])
    def test_a_photo_is_found_by_what_one_has(self, sound: Path, spelling: str) -> None:
        part = Part.open(sound)
        record = next(r for r in part.faces() if r.face_id == "art001-strict")
        place = [r.face_id for r in part.faces()].index("art001-strict")
        name = {
            "id": "art001-strict",
            "path": str(sound / "images" / "art001-strict.png"),
            "digest": record.hashes["images"],
            "export": f"{NAME}_{place:08d}",
        }[spelling]
        pq_rows = lineage(part, name)
        assert pq_rows["face_id"] == "art001-strict"

    def test_the_text_names_licence_and_digests(self, sound: Path) -> None:
        text = "\n".join(as_text(lineage(Part.open(sound), "art000-strict")))
        for words in ("CC0-1.0", pack_digest("generator")[:16], "dlib-68", "300W-NC", "stayed"):
            assert words in text

    def test_a_face_that_is_not_there_is_one_line(self, sound: Path) -> None:
        done = sfhq("lineage", sound, "art000-strikt")
        assert done.exit_code == 2
        assert "did you mean art000-strict?" in done.stderr

    def test_json(self, sound: Path) -> None:
        done = sfhq("lineage", sound, "art000-strict", "--json")
        assert json.loads(done.stdout)["photo"]["digital_source_type"] == TRAINED


class TestLicences:
    def test_the_strictest_term_of_a_layer_counts(self, sound: Path) -> None:
        found = roll_up(Part.open(sound))
        assert found.faces == 24
        assert found.commercial("photos") == "unclear"
        first = found.terms[0]
        assert first.layer == "photos"
        texts = {(t.layer, t.what): t for t in found.terms}
        crop = texts["photos", "align: dlib-68"]
        assert (crop.licence, crop.commercial) == ("300W-NC", "unclear")
        assert texts["photos", "sources: sample art"].faces == 24
        assert texts["captions", "read from attributes and quality"].commercial == "unclear"

    def test_points_of_dlib_bind_commercial_use(self, tmp_path: Path) -> None:
        part = published_part(tmp_path / "part", 2)
        info = part.stage_info("detect")
        info["settings"] = {"detection": {"predictor_sha256": PREDICTOR}}
        part.write_stage_info("detect", info)
        found = roll_up(part)
        assert found.commercial("68 points") == "no"
        assert found.commercial() == "no"
        assert "NOT allowed" in sfhq("licences", part.root).stdout

    @pytest.mark.parametrize(
        ("licence", "commercial"),
        [
            ("CC0-1.0", "yes"),
            ("CC-BY-4.0", "yes"),
            ("CC-BY-NC-SA-4.0", "no"),
            ("CC BY-NC 4.0", "no"),
            ("CC-BY-ND-4.0", "no"),
            ("", "unclear"),
            ("ask me", "unclear"),
        ],
    )
    def test_licences_of_sources(self, tmp_path: Path, licence: str, commercial: str) -> None:
        assert licence_terms(licence)[1] == commercial
        if licence not in SPDX:
            part = published_part(tmp_path / "part", 1, licence)
            (term,) = [t for t in roll_up(part).terms if t.what.startswith("sources")]
            assert (term.commercial, term.licence) == (commercial, licence)

    def test_published_weights_are_known_by_their_digest(self) -> None:
        row = model_row("stylegan2-ffhq-1024")
        assert row.sha256 is not None
        found = identify(row.sha256)
        assert (found.name, found.commercial) == ("stylegan2-ffhq-1024", "no")
        assert identify("f" * 64).name == "unknown network"
        assert identify("f" * 64).commercial == "unclear"

    def test_converted_weights_bring_their_terms(self, tmp_path: Path) -> None:
        from safetensors.numpy import save_file

        source = model_row("stylegan2-ffhq-1024").sha256 or ""
        for name, notes in (
            ("a", {"kind": "generator", "source_sha256": source, "licence": "NVIDIA"}),
            ("b", {"kind": "generator", "licence": "NVIDIA Source Code License"}),
            ("c", {"kind": "generator"}),
        ):
            save_file({"x": np.zeros(2)}, tmp_path / f"{name}.safetensors", notes)
        paths = [tmp_path / f"{n}.safetensors" for n in "abc"]
        found = {n.name: n.commercial for n in read_networks(paths).values()}
        assert found == {
            "stylegan2-ffhq-1024, converted": "no",
            "generator of b.safetensors": "no",
            "generator of c.safetensors": "unclear",
        }
        with pytest.raises(UsageError, match="wanted weights as a safetensors file"):
            read_networks([SAMPLES[0]])

    def test_digests_are_found_in_inner_tables(self) -> None:
        digest = "a" * 64
        settings = {"encoder": "clip", "digest": digest, "in": {"cnn": digest}, "seed": 3}
        assert list(noted(settings)) == [("clip", digest), ("cnn", digest)]


class TestMarking:
    DIGESTS = ("1" * 64, "2" * 64)

    def marks(self, part: Path, size: int, **settings: Any) -> Marks | None:
        return photo_marks(MarkSettings(**settings), "synthesize", part, size, *self.DIGESTS)

    def test_large_photos_are_watermarked_and_small_ones_say_what_made_them(
        self, tmp_path: Path
    ) -> None:
        large = self.marks(tmp_path / "new", 1024, watermark_name="X")
        small = self.marks(tmp_path / "new", 128)
        assert large is not None and small is not None
        assert large.watermark == payload_of("X")
        assert small.watermark is None
        assert small.version == "generator 1111111111111111, encoder 2222222222222222"
        assert as_settings(large) == {
            KEY: {"system": large.system, "watermark": f"{payload_of('X'):08x}"}
        }
        assert as_settings(None) == {}

    def test_a_part_that_was_begun_without_stays_so(self, tmp_path: Path) -> None:
        part = Part.create(tmp_path / "old")
        finish(part, "synthesize", [[FaceRecord("a")]], seed=0)
        assert self.marks(part.root, 1024) is None
        forced = self.marks(part.root, 1024, watermark="on")
        assert forced is not None and forced.watermark is not None

    def test_off_and_on(self, tmp_path: Path) -> None:
        off = self.marks(tmp_path / "p", 1024, watermark="off")
        assert off is not None and off.watermark is None
        on = self.marks(tmp_path / "p", 128, watermark="on")
        assert on is not None and on.watermark is not None
        with pytest.raises(UsageError, match="64 pixels a side; wanted at least 128"):
            self.marks(tmp_path / "p", 64, watermark="on")

    def test_the_prompt_is_that_of_the_inspiration(self) -> None:
        face = FaceRecord("a", params={"text": "a painting"})
        marked = marks_of(face, Marks("s"))
        assert marked is not None
        assert marked.prompt == "a painting"
        assert marks_of(face, None) is None

    def test_the_stages_mark_what_they_write(
        self, tmp_path: Path, networks: tuple[Path, Path]
    ) -> None:
        generator, e4e = networks
        options = ("--count", 2, "--generator", generator, "--e4e", e4e)
        done = sfhq("sample", tmp_path / "part", *options)
        assert done.exit_code == 0, done.output
        part = Part.open(tmp_path / "part")
        record = next(iter(part.faces()))
        found = verify_file(part.image_path("images", record.face_id))
        assert found.origin is not None
        assert found.origin.source_type == TRAINED
        assert found.origin.system == "StyleGAN2 and e4e, by sfhq"
        wanted = part.stage_info("sample")["settings"]["generator"][:16]
        assert f"generator {wanted}" in found.origin.version
        refused = sfhq("sample", tmp_path / "other", *options, "--watermark", "on")
        assert refused.exit_code == 2
        assert "set it to auto or off" in refused.stderr


class TestCard:
    @pytest.fixture
    def facts(self) -> Facts:
        return Facts({key: f"the {key} | <b> of *us*" for key in KEYS})

    def test_without_facts_the_card_says_what_is_missing(self, sound: Path) -> None:
        text = cards.card_body(Part.open(sound))
        assert text.startswith("# SFHQ\\_test\n")
        for heading in (
            *("Summary", "How it was made", "What was in the training data", "Consent", "Terms"),
            *("Intended use", "Out of scope", "Limits", "Who the photos show", "Proofs"),
            *("Errors of labels", "Maintenance and take-down", "Not stated"),
        ):
            assert f"\n## {heading}" in text
        assert text.count(NOT_STATED) >= 10
        for key, what in KEYS.items():
            assert f"- {what} ({key})".replace("_", "\\_") in text
        assert "Categorisation of real people" in text
        assert "Identification or verification of real people" in text
        assert "FFHQ" in text
        assert "300W-NC" in text

    def test_facts_fill_it_in_and_are_escaped(self, sound: Path, facts: Facts) -> None:
        card = cards.make_card(Part.open(sound), facts)
        text = card_form.as_markdown(card)
        assert card.missing == ()
        assert NOT_STATED not in text.split("## Not stated")[0].replace("| not stated |", "")
        assert "the takedown \\| \\<b\\> of \\*us\\*" in text
        assert "<b>" not in text.replace("\\<b\\>", "")
        page = card_form.as_page(card)
        assert "<b> of" not in page
        assert "&lt;b&gt; of *us*" in page

    def test_proofs_are_those_of_the_validation(self, sound: Path) -> None:
        part = Part.open(sound)
        report = validate(part)
        text = cards.card_body(part, None, report)
        for name in ("duplicates", "identities", "marks"):
            assert f"| {name} | {report.result(name).state} | " in text
        assert "24 carry the watermark" in text
        assert cards.make_card(part, None, report).data["proofs"] == report.to_dict()

    def test_counts_are_those_of_the_part(self, sound: Path) -> None:
        data = cards.make_card(Part.open(sound)).data
        assert data["photos"] == 24
        assert data["balance"]["age"]["70+"]["count"] == 6
        assert list(data["balance"]["age"]) == ["20-34", "70+"]
        low, high = (data["balance"]["age"]["70+"][k] for k in ("low", "high"))
        assert low < 0.25 < high

    def test_photos_that_nobody_made_here_are_not_called_synthetic(self, tmp_path: Path) -> None:
        part = Part.create(tmp_path / "part")
        finish(part, "align", [[FaceRecord("a", source="a.jpg").with_image("aligned", art(0))]])
        text = cards.card_body(part)
        assert "All photos are synthetic" not in text
        assert "No person sat" not in text
        assert "0 of 1 photos were made by a program here" in text

    def test_the_same_part_gives_the_same_card(self, sound: Path) -> None:
        once, twice = (cards.card_body(Part.open(sound)) for _ in range(2))
        assert once == twice

    @pytest.mark.parametrize("suffix", ["md", "html", "json"])
    def test_the_command(self, sound: Path, tmp_path: Path, suffix: str) -> None:
        facts = tmp_path / "card.toml"
        facts.write_text('title = "Faces"\ncontact = "a@b.example"\n')
        out = tmp_path / "deep" / f"card.{suffix}"
        done = sfhq("card", sound, "--facts", facts, "--out", out)
        assert done.exit_code == 0, done.output
        assert "card of 24 photos; not stated: description" in done.stdout
        text = out.read_text()
        assert "a@b.example" in text
        if suffix == "json":
            assert json.loads(text)["facts"]["title"] == "Faces"
        assert done.exit_code == 0

    def test_the_template_can_be_filled_in(self, tmp_path: Path) -> None:
        text = sfhq("card", "--template").stdout
        assert text == template()
        assert {*tomllib.loads(text)} == {*KEYS}
        path = tmp_path / "card.toml"
        path.write_text(text)
        assert Facts.load(path).missing() == [*KEYS]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("titel = 'a'", "unknown key titel; did you mean title"),
            ("title = 3", "title: wanted a text"),
            ("title = ", "not TOML"),
        ],
    )
    def test_bad_facts_are_one_line(
        self, sound: Path, tmp_path: Path, text: str, words: str
    ) -> None:
        path = tmp_path / "card.toml"
        path.write_text(text)
        done = sfhq("card", sound, "--facts", path, "--quick")
        assert done.exit_code == 2
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1

    def test_other_bad_input(self, sound: Path, tmp_path: Path) -> None:
        assert "give its folder, or --template" in sfhq("card").stderr
        assert "ends in .md" in sfhq("card", sound, "--out", tmp_path / "a.pdf").stderr
        missing = sfhq("card", sound, "--facts", tmp_path / "none.toml", "--quick")
        assert "cannot read facts" in missing.stderr


def test_the_pack_is_known() -> None:
    for path in PACK.glob("*.safetensors"):
        assert identify(pack_digest(path.stem)).name.startswith("sfhq's")


def test_replaced_results_do_not_touch_the_report(sound: Path) -> None:
    report = validate(Part.open(sound), only=["sizes"])
    assert report.result("sizes").figures["sizes"] == {f"{SIDE} x {SIDE}": 24}
    assert replace(report, part="x").part == "x"


def test_the_card_knows_what_every_embedded_network_was_trained_on() -> None:
    assert {name for name, _, _ in networks._PACK.values()} <= card_words.TRAINED_ON.keys()
    assert {*networks._PACK} == {
        p.name for p in (Path(cards.__file__).parents[1] / "models").glob("*.safetensors")
    }
