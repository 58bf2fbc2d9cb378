from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from chain import write_chain
from PIL import Image

from sfhq.errors import MissingExtra, UsageError
from sfhq.images import (
    COMPOSITE,
    TRAINED,
    BadImage,
    Marks,
    encode_image,
    read_marked,
    source_type_xmp,
)
from sfhq.marks import signature, watermark, xmp
from sfhq.marks.signature import Signer, read_manifest
from sfhq.marks.xmp import Origin, packet, read_packet
from sfhq.parts.records import Pixels

FORMATS = ("PNG", "JPEG", "WEBP")
HARD = "a \"portrait\" of <Ann & Bo>,\n\u00e9\u00df\u6f22\U0001f600 'q'"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.load(*write_chain(tmp_path_factory.mktemp("chain")), "notAllowed")


def photo(side: int = 256) -> Pixels:
    path = sorted((Path(__file__).parents[1] / "sfhq" / "samples").glob("oil*.jpg"))[0]
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((side, side)))


class TestXmp:
    @pytest.mark.parametrize(
        "origin",
        [
            Origin(),
            Origin(COMPOSITE, "StyleGAN2"),
            Origin(TRAINED, "a", "b", HARD),
            Origin(TRAINED, prompt="x" * 10_000),
        ],
    )
    def test_what_is_written_is_read_back(self, origin: Origin) -> None:
        assert read_packet(packet(origin)) == origin

    def test_without_more_to_say_the_bytes_are_those_of_earlier_versions(self) -> None:
        old = (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
            '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            '<rdf:Description rdf:about="" '
            'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
            "Iptc4xmpExt:DigitalSourceType="
            '"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
            '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
        ).encode()
        assert source_type_xmp(TRAINED) == packet(Origin()) == old

    def test_control_characters_are_left_out_and_long_values_cut(self) -> None:
        found = read_packet(packet(Origin(TRAINED, "s" * 500, "1", "a\x00\x1b[31m\ud800b")))
        assert found == Origin(TRAINED, "s" * xmp.SHORT, "1", "a[31mb")

    @pytest.mark.parametrize("prompt", ['"' * 10_000, "\U0001f600" * 10_000, "&" * 20_000])
    def test_the_longest_prompt_fits_into_a_jpeg(self, prompt: str) -> None:
        data = encode_image(photo(), "JPEG", marks=Marks("s" * 200, "v" * 200, prompt))
        found = read_packet(read_marked(data).packet)
        assert found is not None
        assert found.prompt == prompt[: xmp.LONGEST]

    def test_elements_and_other_prefixes_count_as_well(self) -> None:
        text = (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-'
            'syntax-ns#"><r:Description xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
            '<e:DigitalSourceType r:resource="http://cv.iptc.org/newscodes/digitalsourcetype/'
            'trainedAlgorithmicMedia"/><e:AISystemUsed>Flux</e:AISystemUsed>'
            "<e:AIPromptInformation><r:Alt><r:li>a cat</r:li></r:Alt></e:AIPromptInformation>"
            "</r:Description></r:RDF></x:xmpmeta>"
        )
        assert read_packet(text.encode()) == Origin(TRAINED, "Flux", "", "a cat")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"<",
            b"plain text",
            b"<a/>",
            b"\xff\xfe\x00",
            b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
            b'<x xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" e:AISystemUsed="s">',
            packet(Origin()) + b" " * xmp.MOST_PACKET,
        ],
    )
    def test_packets_of_anybody_state_nothing(self, data: bytes) -> None:
        assert read_packet(data) is None


class TestImages:
    @pytest.mark.parametrize("file_format", FORMATS)
    def test_all_marks_hold_in_one_file(self, file_format: str, signer: Signer) -> None:
        marks = Marks("StyleGAN2", "abc", HARD, 77, signer)
        data = encode_image(photo(), file_format, TRAINED, 90, marks)
        decoded = read_marked(data)
        assert decoded.file_format == file_format
        assert read_packet(decoded.packet) == Origin(TRAINED, "StyleGAN2", "abc", HARD)
        assert watermark.detect(np.asarray(decoded.image)).payload == 77
        manifest = read_manifest(data, file_format)
        assert manifest is not None
        assert (manifest.state, manifest.source_type) == ("valid", TRAINED)

    @pytest.mark.parametrize("file_format", FORMATS)
    def test_without_a_signature_the_bytes_are_the_same_each_time(self, file_format: str) -> None:
        marks = Marks("StyleGAN2", "abc", HARD, 77)
        once, twice = (encode_image(photo(), file_format, marks=marks) for _ in range(2))
        assert once == twice

    def test_crops_of_what_people_made_are_never_marked(self, signer: Signer) -> None:
        plain = encode_image(photo(), "PNG", None)
        assert encode_image(photo(), "PNG", None, marks=Marks("a", "b", "c", 1, signer)) == plain

    def test_maps_of_classes_are_never_watermarked(self) -> None:
        ids = np.full((300, 300), 17, np.uint8)
        assert encode_image(ids, marks=Marks(watermark=3)) == encode_image(ids)

    def test_a_small_photo_says_that_it_carries_no_watermark(self) -> None:
        with pytest.raises(BadImage, match=r"64 x 64 pixels .* wanted at least 128") as caught:
            encode_image(photo(64), marks=Marks(watermark=3))
        assert caught.value.reason == "too small for a watermark"


class TestSignature:
    @pytest.mark.parametrize("file_format", FORMATS)
    def test_it_is_small(self, file_format: str, signer: Signer) -> None:
        data = encode_image(photo(), file_format)
        signed = signer.sign(data, file_format, Origin())
        assert 0 < len(signed) - len(data) <= 5000

    @pytest.mark.parametrize("file_format", FORMATS)
    def test_every_flipped_bit_of_the_image_is_noticed(
        self, file_format: str, signer: Signer
    ) -> None:
        plain = encode_image(photo(128), file_format)
        data = signer.sign(plain, file_format, Origin())
        generator = np.random.default_rng(3)
        manifest = data.find(b"jumb")  # its padding is not signed
        image = [i for i in range(len(data)) if not manifest - 40 < i < manifest + 4000]
        for place in generator.choice(image, 70).tolist():
            changed = bytearray(data)
            changed[place] ^= 1 << int(generator.integers(8))
            found = read_manifest(bytes(changed), file_format)
            assert found is None or found.state == "invalid", place

    def test_it_says_how_the_image_was_made_and_whether_it_may_be_mined(
        self, signer: Signer
    ) -> None:
        import json

        import c2pa

        data = signer.sign(encode_image(photo()), "PNG", Origin(TRAINED, "StyleGAN2", "v3"))
        with c2pa.Reader("image/png", io.BytesIO(data)) as reader:
            found = json.loads(reader.json())
        active = found["manifests"][found["active_manifest"]]
        by_label = {a["label"]: a["data"] for a in active["assertions"]}
        (action,) = by_label["c2pa.actions.v2"]["actions"]
        assert action["action"] == "c2pa.created"
        assert action["softwareAgent"] == {"name": "StyleGAN2", "version": "v3"}
        assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
        uses = by_label["cawg.training-mining"]["entries"]
        assert {use["use"] for use in uses.values()} == {"notAllowed"}
        assert "cawg.ai_generative_training" in uses
        assert "thumbnail" not in active

    def test_trust_is_the_users_own(self, tmp_path: Path, signer: Signer) -> None:
        data = signer.sign(encode_image(photo()), "PNG", Origin())
        mine, other = signer.certificates.decode(), write_chain(tmp_path)[0].read_text()
        states = [read_manifest(data, "PNG", trust) for trust in (mine, other, "")]
        assert [s.state for s in states if s] == ["trusted", "valid", "valid"]
        assert states[1] is not None
        assert states[1].problems == ("signingCredential.untrusted",)

    def test_a_file_without_a_manifest_has_none(self) -> None:
        for file_format in FORMATS:
            assert read_manifest(encode_image(photo(), file_format), file_format) is None
        assert read_manifest(b"c2pa" * 100, "PNG") is not None  # a claim that does not hold
        assert read_manifest(b"c2pa", "BMP") is None

    def test_keys_that_do_not_fit_are_refused(self, tmp_path: Path) -> None:
        chain, key = write_chain(tmp_path)
        (tmp_path / "other").mkdir()
        _, stranger = write_chain(tmp_path / "other")
        with pytest.raises(UsageError, match="does not belong to the first certificate"):
            Signer.load(chain, stranger)
        with pytest.raises(UsageError, match="wanted a chain as a PEM file"):
            Signer.load(key, key)
        with pytest.raises(UsageError, match="no private key"):
            Signer.load(chain, chain)
        with pytest.raises(UsageError, match="no such file"):
            Signer.load(chain, tmp_path / "missing.pem")

    def test_a_certificate_for_something_else_is_refused(self, tmp_path: Path) -> None:
        chain, key = write_chain(tmp_path)
        parts = chain.read_bytes().split(b"-----END CERTIFICATE-----\n")
        root = parts[1] + b"-----END CERTIFICATE-----\n"
        wrong = Signer(root, key.read_bytes(), "es256")
        with pytest.raises(UsageError, match="cannot sign"):
            wrong.sign(encode_image(photo()), "PNG", Origin())

    def test_without_the_package_the_error_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
        with pytest.raises(MissingExtra, match=r"pip install 'sfhq\[c2pa\]'"):
            signature.read_manifest(b"c2pa", "PNG")


def test_photos_that_are_encoded_anew_keep_what_their_stage_said(tmp_path: Path) -> None:
    from tiny import finish

    from sfhq.export.face_files import photo_marks
    from sfhq.parts.part import Part
    from sfhq.parts.records import FaceRecord

    part = Part.create(tmp_path / "part")
    record = FaceRecord("a", params={"text": "an old man"}, hashes={"images": "0" * 64})
    finish(
        part,
        "sample",
        [[record]],
        generator="g" * 64,
        encoder="e" * 64,
        marks={"system": "StyleGAN2", "watermark": "00c0ffee"},
    )
    plain = photo_marks(part, record)
    assert (plain.system, plain.prompt) == ("StyleGAN2", "an old man")
    assert plain.version == f"generator {'g' * 16}, encoder {'e' * 16}"
    assert plain.watermark is None, "it is in the pixels already"
    assert photo_marks(part, record, (512, 512)).watermark == 0xC0FFEE
    assert photo_marks(part, record, (32, 32)).watermark is None, "too small to carry one"
    aligned = FaceRecord("b", hashes={"aligned": "0" * 64})
    assert photo_marks(part, aligned).system == ""
    other = Part.create(tmp_path / "other")
    finish(other, "sample", [[record]], generator="g" * 64)
    assert photo_marks(other, record).system == "", "a part that was begun without marks"
