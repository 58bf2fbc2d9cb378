"""Linear probes: made from labels, words or texts, judged on other faces, written as columns."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import sfhq
from tiny import embedded_part, finish_about, tree, unit

from annotate.probing.fit import fit, pair
from annotate.probing.probe import Probe
from encoders.features.clip import ClipEncoder, ClipWords
from sfhq.errors import IntegrityError, UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import Array, FaceRecord

COUNT, WIDTH = 80, 12


def told(seed: int = 0, count: int = COUNT) -> tuple[Array, Array]:
    """Vectors, and scores from 0 to 1 that their first number decides."""
    rng = np.random.default_rng(seed)
    vectors = unit(rng.standard_normal((count, WIDTH)))
    return vectors, 1 / (1 + np.exp(-8 * vectors[:, 0].astype(np.float64)))


def part(root: Path, seed: int = 0, **more: object) -> Part:
    vectors, score = told(seed)
    return embedded_part(root, vectors, score=score.tolist(), **more)  # type: ignore[arg-type]


def names(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.str_]]:
    return np.array([f"p{i}" for i in range(count)])


def test_labels_make_a_probe_that_says_the_same_of_other_faces(tmp_path: Path) -> None:
    seen, other = part(tmp_path / "seen"), part(tmp_path / "other", seed=1)
    out = tmp_path / "bright.safetensors"
    line = ("annotations", "probe", seen.root, "--name", "bright", "--out", out)
    found = json.loads(sfhq(*line, "--when", "score > 0.5", "--json").stdout)
    truth = told()[1] > 0.5
    assert (found["yes"], found["no"]) == (int(truth.sum()), int((~truth).sum()))
    assert found["auc"] > 0.9 and found["balanced_accuracy"] > 0.8
    text = sfhq(*line, "--when", "score > 0.5").stdout
    assert f"bright: {truth.sum()} faces with it" in text and str(out) in text

    sfhq("probe", other.root, "--probes", out)
    records = list(Part.open(other.root).faces())
    says = np.array(["bright" in r.about["probed"] for r in records])
    assert (says == (told(1)[1] > 0.5)).mean() > 0.85
    assert all(r.about["probe_names"] == ["bright"] for r in records)
    p = np.array([r.about["probe_probabilities"][0] for r in records])
    np.testing.assert_allclose(p, Probe.load(out)(told(1)[0]), atol=1e-6)
    sfhq("probe", other.root, "--probes", out, "--threshold", 1, "--redo")
    assert not any(r.about["probed"] for r in Part.open(other.root).faces())


def test_faces_of_one_source_are_never_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    sources = np.repeat(np.arange(20), 8)
    vectors = rng.standard_normal((20, 64))[sources].astype(np.float32)
    truth = rng.permutation(np.repeat([True, False], 10))[sources]
    apart = fit(vectors, truth, np.array([f"p{s}" for s in sources]))
    mixed = fit(vectors, truth, names(len(sources)))
    assert mixed.auc > 0.98, "a source that is on both sides gives itself away"
    assert apart.auc < 0.7


def test_probabilities_hold_and_the_cut_is_the_rate() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((600, 4)).astype(np.float32)
    truth = rng.random(600) < 1 / (1 + np.exp(2 - vectors[:, 0]))
    found = fit(vectors, truth, names(600))
    p = Probe("x", "embedding", "0", found.weights, found.bias, found.cut, {})(vectors)
    assert abs(p.mean() - truth.mean()) < 0.03
    assert found.cut == truth.mean()
    assert len(found.by_fold) == 5 and min(found.by_fold) <= found.balanced <= max(found.by_fold)


def test_words_say_who_has_it_and_what_they_do_not_name_can_stay_unknown(tmp_path: Path) -> None:
    seen = part(tmp_path / "part")
    truth = told()[1] > 0.5
    table = tmp_path / "words.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "queries"])
        for i, yes in enumerate(truth[:60].tolist()):
            rows.writerow([f"{i}.png", "Bright face" if yes else "dim face" if i % 2 else "face"])
    out = tmp_path / "p.safetensors"
    line = ("annotations", "probe", seen.root, "--name", "bright", "--out", out, "--words", table)
    every = json.loads(sfhq(*line, "--yes", "^bright", "--json").stdout)
    assert every["yes"] + every["no"] == 60 and every["yes"] == truth[:60].sum()
    some = json.loads(sfhq(*line, "--yes", "^bright", "--no", "dim", "--json").stdout)
    dim = sum(not yes and i % 2 == 1 for i, yes in enumerate(truth[:60].tolist()))
    assert (some["yes"], some["no"]) == (every["yes"], dim)


def test_two_texts_need_no_label_and_are_calibrated_where_there_are_some() -> None:
    vectors, score = told()
    axis = np.eye(WIDTH, dtype=np.float32)[0]
    bare = pair(axis, -axis, 50.0, None)
    assert np.isnan(bare.auc) and bare.cut == 0.5
    known = pair(axis, -axis, 50.0, (vectors, score > 0.5))
    assert known.auc == 1.0 and known.balanced > 0.95
    assert pair(-axis, axis, 50.0, (vectors, score > 0.5)).auc == 0.0, "the texts, not the labels"


def test_texts_of_flip_make_a_probe(tmp_path: Path) -> None:
    from encoders.search import text_encoder

    encoder = text_encoder()
    width = encoder(["a man"]).shape[1]
    rng = np.random.default_rng(0)
    root = embedded_part(tmp_path / "part", unit(rng.standard_normal((12, width)))).root
    info = Part.open(root).stage_info("embed")
    info["settings"] = {"encoder": "flip", "digest": encoder.digest}
    Part.open(root).write_stage_info("embed", info)
    out = tmp_path / "man.safetensors"
    line = ("annotations", "probe", root, "--name", "man", "--pair", "a man", "a woman")
    assert "two texts, judged by no label" in sfhq(*line, "--out", out).stdout
    probe, texts = Probe.load(out), encoder(["a man", "a woman"])
    p = probe(texts)
    gap = float(texts[0] @ texts[0] - texts[0] @ texts[1]) * encoder.sharpness
    assert p[0] > 0.5 > p[1] and p[0] == pytest.approx(1 / (1 + np.exp(-gap)), rel=1e-4)


TINY_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # open_clip's own
def test_texts_of_clip_are_those_of_open_clip(tmp_path: Path) -> None:
    import open_clip

    (tmp_path / "sfhq-tiny-words.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path / "sfhq-tiny-words.json")
    torch.manual_seed(0)
    network, _, _ = open_clip.create_model_and_transforms("sfhq-tiny-words")
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    words = ClipWords(ClipEncoder("sfhq-tiny-words", tmp_path / "weights.pt"))
    found = words(["a man", "a woman with a hat"])
    with torch.inference_mode():
        tokens = open_clip.tokenize(["a man", "a woman with a hat"])
        wanted = network.eval().encode_text(tokens).numpy()
    np.testing.assert_allclose(found, unit(wanted), atol=1e-6)
    assert words.sharpness == pytest.approx(float(network.logit_scale.exp()))
    assert words.digest == words.encoder.digest


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "nothing says who has it"),
        (("--when", "score > 2"), "0 faces with it and 80 without it, of 0 and 80 sources; wanted"),
        (("--when", "scores > 2"), "scores"),
        (("--when", "score > 0.5", "--words", "w.csv", "--yes", "x"), "both say who has it"),
        (("--words", "w.csv"), "--words, --yes and --no belong together"),
        (("--when", "score > 0.5", "--no", "x"), "--words, --yes and --no belong together"),
        (("--words", "none.csv", "--yes", "x"), "none.csv: cannot read the words"),
        (("--when", "score > 0.5", "--vectors", "other"), "has no array other; make vectors with"),
        (("--pair", "a hat", "no hat"), "is by toy, which knows no words"),
        (("--when", "score > 0.5", "--name", "a/b"), "name 'a/b': wanted letters"),
    ],
)
def test_what_cannot_make_a_probe_is_said_in_one_line(
    tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    root = part(tmp_path / "part").root
    line = ("annotations", "probe", root, "--name", "x", "--out", tmp_path / "x.safetensors")
    result = sfhq(*line, *more, code=2)
    assert said in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert not (tmp_path / "x.safetensors").exists()


def test_words_that_match_no_file_or_are_no_expression_are_refused(tmp_path: Path) -> None:
    root = part(tmp_path / "part").root
    table = tmp_path / "words.csv"
    table.write_text("file,queries\nelsewhere.png,x\n")
    line = ("annotations", "probe", root, "--name", "x", "--out", tmp_path / "x", "--words", table)
    assert "no word about these faces" in sfhq(*line, "--yes", "x", code=2).stderr
    assert "not a regular expression" in sfhq(*line, "--yes", "(", code=2).stderr


def test_a_probe_of_another_network_or_of_no_file_is_refused(tmp_path: Path) -> None:
    root = part(tmp_path / "part").root
    numbers = np.ones(WIDTH)
    path = tmp_path / "x.safetensors"
    Probe("x", "embedding", "1" * 64, numbers, 0.0, 0.5, {}).save(path)
    before = tree(root)
    assert (
        "fitted on that of network 111111111111"
        in sfhq("probe", root, "--probes", path, code=2).stderr
    )
    assert "no such probe" in sfhq("probe", root, "--probes", tmp_path / "none", code=2).stderr
    assert "probes none" in sfhq("probe", root, code=2).stderr
    assert "probes x, x" in sfhq("probe", root, "--probes", path, "--probes", path, code=2).stderr
    after = tree(root)
    assert {k: v for k, v in after.items() if k != ".lock"} == before
    with pytest.raises(UsageError, match="reads vectors of 12 numbers"):
        Probe.load(path)(np.ones((1, 3), np.float32))


def test_a_damaged_probe_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    Probe("x", "embedding", "1" * 64, np.ones(3), 0.25, 0.5, {"yes": 7}).save(path)
    again = Probe.load(path)
    assert (again.name, again.bias, again.cut, again.notes) == ("x", 0.25, 0.5, {"yes": 7})
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x10
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="not those it was saved with"):
        Probe.load(path)
    path.write_bytes(b"{}")
    with pytest.raises(IntegrityError, match="not a probe that can be read"):
        Probe.load(path)


def test_a_face_of_which_nothing_was_read_has_empty_columns(tmp_path: Path) -> None:
    seen = part(tmp_path / "part")
    records = [FaceRecord(r.face_id, shard=r.shard) for r in seen.faces()]
    rows = told()[0]
    rows[3] = np.nan  # as attribute leaves a photo without a face
    given = [r.with_array("attribute_probabilities", v) for r, v in zip(records, rows, strict=True)]
    shards = [given[i : i + 4] for i in range(0, COUNT, 4)]
    finish_about(seen, "attribute", shards, digest="2" * 64)
    out = tmp_path / "x.safetensors"
    line = ("annotations", "probe", seen.root, "--name", "x", "--out", out, "--json")
    array = ("--vectors", "attribute_probabilities")
    found = json.loads(sfhq(*line, *array, "--when", "score > 0.5").stdout)
    assert found["yes"] + found["no"] == COUNT - 1
    sfhq("probe", seen.root, "--probes", out)
    lost = [r for r in Part.open(seen.root).faces() if not r.about["probe_probabilities"]]
    assert [r.face_id for r in lost] == ["f0003"] and lost[0].about["probed"] == []
