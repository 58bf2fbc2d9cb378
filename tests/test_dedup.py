"""The stage dedup: which of near-duplicates stays, what an audit says, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from oracle import clustered, oracle
from PIL import Image, ImageFilter, ImageOps
from tiny import embedded_part, finish, finish_about, tree, unit

import curation.dedup
import curation.pairs.cosines
from curation.dedup import Dedup, verify
from curation.pairs.finders import Search
from curation.sharpness import Detail, coarseness, level, sharpness
from sfhq.errors import IntegrityError, UsageError
from sfhq.ingest import Ingest
from sfhq.parts.join import history
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.pipeline.engine import run_stage


def dedup(part: Part, stage: Dedup) -> dict[str, FaceRecord]:
    run_stage(stage, part)
    return {r.face_id: r for r in history(part, "dedup")}


def audit(part: Part) -> dict[str, tuple[str, float]]:
    rows = pq.read_table(part.root / "audit" / "dedup.parquet").to_pylist()
    return {r["dropped"]: (r["kept"], r["similarity"]) for r in rows}


@pytest.mark.parametrize("search", ["whole", "tiles"])
def test_the_stage_is_the_oracle(tmp_path: Path, search: Search) -> None:
    vectors = clustered(50, 16, 0.3, seed=7)
    realism = np.random.default_rng(8).permutation(50).astype(float).tolist()
    part = embedded_part(tmp_path / "part", vectors, prior_distance=realism, shard_size=8)
    records = dedup(part, Dedup(0.92, block=9, search=search))
    wanted = oracle(vectors, np.argsort(realism), 0.92)
    assert list(records) == [f"f{i:04d}" for i in range(50)]
    assert [i for i, r in enumerate(records.values()) if not r.alive] == sorted(wanted)
    assert audit(part) == {f"f{i:04d}": (f"f{k:04d}", cosine) for i, (k, cosine) in wanted.items()}
    for index, (winner, cosine) in wanted.items():
        record = records[f"f{index:04d}"]
        assert (record.rejected_by, record.reason) == ("dedup", "near-duplicate")
        digits = next(d for d in range(4, 9) if f"{cosine:.{d}f}" != f"{0.92:.{d}f}")
        said = f"cosine {cosine:.{digits}f} with f{winner:04d} is above {0.92:.{digits}f}"
        assert record.detail == said
    assert verify(part, 0.92) == 50 - len(wanted)
    info = part.stage_info("dedup")["counts"]
    assert info["rejected"] == {"near-duplicate": len(wanted)}


@pytest.mark.parametrize("block", [1, 7, 50])
def test_the_block_does_not_change_a_byte(tmp_path: Path, block: int) -> None:
    vectors = clustered(50, 16, 0.3, seed=7)
    trees = []
    for name, stage in (("a", Dedup(0.92)), ("b", Dedup(0.92, block=block))):
        part = embedded_part(tmp_path / name / "part", vectors, shard_size=8)
        dedup(part, stage)
        trees.append(tree(part.root))
    assert trees[0] == trees[1]


SAME = unit(np.ones((3, 4)))


def test_the_highest_score_stays(tmp_path: Path) -> None:
    part = embedded_part(
        tmp_path / "part", SAME, score=[0.1, 0.9, 0.5], prior_distance=[0.1, 0.9, 0.5]
    )
    records = dedup(part, Dedup(0.9))
    assert [i for i, r in records.items() if r.alive] == ["f0001"]


def test_without_scores_the_one_that_keeps_the_person_stays(tmp_path: Path) -> None:
    part = embedded_part(
        tmp_path / "part", SAME, resemblance=[0.4, 0.7, 0.5], prior_distance=[0.1, 0.9, 0.5]
    )
    assert [i for i, r in dedup(part, Dedup(0.9)).items() if r.alive] == ["f0001"]


def test_without_resemblance_the_person_counts_more_than_the_prior(tmp_path: Path) -> None:
    part = embedded_part(
        tmp_path / "part", SAME, person=[0.4, 0.2, 0.5], prior_distance=[0.1, 0.9, 0.5]
    )
    assert [i for i, r in dedup(part, Dedup(0.9)).items() if r.alive] == ["f0001"]
    resembling = embedded_part(
        tmp_path / "other", SAME, person=[0.4, 0.2, 0.5], resemblance=[0.1, 0.2, 0.3]
    )
    assert [i for i, r in dedup(resembling, Dedup(0.9)).items() if r.alive] == ["f0002"]


def test_of_equal_people_the_nearest_to_the_prior_stays(tmp_path: Path) -> None:
    part = embedded_part(
        tmp_path / "part", SAME, person=[0.3, 0.3, None], prior_distance=[0.7, 0.6, 0.1]
    )
    assert [i for i, r in dedup(part, Dedup(0.9)).items() if r.alive] == ["f0001"]


def test_a_score_counts_more_than_the_person(tmp_path: Path) -> None:
    part = embedded_part(
        tmp_path / "part", SAME, score=[0.1, 0.2, 0.9], resemblance=[0.4, 0.7, 0.5]
    )
    assert [i for i, r in dedup(part, Dedup(0.9)).items() if r.alive] == ["f0002"]


def test_without_scores_the_smallest_prior_distance_stays(tmp_path: Path) -> None:
    part = embedded_part(tmp_path / "part", SAME, prior_distance=[0.7, 0.9, 0.5])
    assert [i for i, r in dedup(part, Dedup(0.9)).items() if r.alive] == ["f0002"]


def test_ties_go_by_face_id(tmp_path: Path) -> None:
    part = embedded_part(tmp_path / "part", SAME, prior_distance=[0.5] * 3, ids=["c", "a", "b"])
    assert [i for i, r in dedup(part, Dedup(0.9)).items() if r.alive] == ["a"]
    assert set(audit(part)) == {"b", "c"}


def copies_part(root: Path, sizes: list[int], blurred: list[int]) -> Part:
    """Photos of one person without score and distance, of sources of some sizes."""
    part = Part.create(root)
    rng = np.random.default_rng(0)
    sharp = Image.fromarray(rng.integers(0, 256, (32, 32, 3)).astype(np.uint8))
    records = []
    for i, size in enumerate(sizes):
        image = sharp.filter(ImageFilter.GaussianBlur(1)) if i in blurred else sharp
        record = FaceRecord(f"f{i:04d}", width=size, height=size)
        records.append(record.with_image("aligned", np.asarray(image)))
    finish(part, "align", [records])
    vectors = [FaceRecord(r.face_id).with_array("embedding", SAME[0]) for r in records]
    finish_about(part, "embed", [vectors], encoder="toy", digest="0" * 64)
    return part


@pytest.mark.parametrize(
    ("sizes", "blurred", "stays"),
    [
        ([64, 64, 64], [0, 1], "f0002"),
        ([64, 64, 64], [0, 2], "f0001"),
        ([64, 80, 64], [1], "f0001"),  # the size comes first
        ([64, 64, 64], [], "f0000"),
    ],
)
def test_without_scores_and_distances_the_undamaged_photo_stays(
    tmp_path: Path, sizes: list[int], blurred: list[int], stays: str
) -> None:
    part = copies_part(tmp_path / "part", sizes, blurred)
    assert [i for i, r in dedup(part, Dedup(0.9)).items() if r.alive] == [stays]
    assert {kept for kept, _ in audit(part).values()} == {stays}


def test_of_equal_photos_the_one_of_the_shorter_name_stays(tmp_path: Path) -> None:
    """Mirrored without loss, a photo is as sharp as it was."""
    art = tmp_path / "art"
    art.mkdir()
    pixels = np.random.default_rng(2).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    for name, some in (("x (1)", pixels[:, ::-1]), ("x", pixels), ("copy of x", pixels[::-1])):
        Image.fromarray(np.ascontiguousarray(some)).save(art / f"{name}.png")
    part = Part.create(tmp_path / "part")
    run_stage(Ingest(str(art)), part)
    said = [FaceRecord(r.face_id).with_array("embedding", SAME[0]) for r in part.records("ingest")]
    finish_about(part, "embed", [said], encoder="toy", digest="0" * 64)
    stayed = [r.source for r in dedup(part, Dedup(0.9)).values() if r.alive]
    assert stayed == ["x.png"]


def test_a_damaged_file_does_not_win(tmp_path: Path) -> None:
    part = copies_part(tmp_path / "part", [64, 64], [])
    part.image_path("aligned", "f0000").write_bytes(b"damaged")
    assert [i for i, r in dedup(part, Dedup(0.9)).items() if r.alive] == ["f0001"]


@pytest.mark.parametrize(
    ("seed", "search"), [*((seed, "whole") for seed in range(5)), (0, "tiles"), (1, "tiles")]
)
def test_only_photos_with_neighbours_are_read_and_the_choice_is_the_whole_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, search: Search
) -> None:
    """As if the sharpness of every photo had been known from the start."""
    vectors = clustered(80, 16, 0.3, seed)
    known = np.random.default_rng(seed + 50).permutation(80).astype(float)
    read: list[int] = []

    def seen(part: Part, records: Sequence[FaceRecord]) -> list[Detail]:
        read.extend(int(r.face_id[1:]) for r in records)
        return [Detail(0, int(known[int(r.face_id[1:])]), 0) for r in records]

    monkeypatch.setattr(curation.dedup, "photo_details", seen)
    part = embedded_part(tmp_path / "part", vectors, shard_size=9)
    found = dedup(part, Dedup(0.92, block=7, search=search))
    wanted = oracle(vectors, np.argsort(-known, kind="stable"), 0.92)
    assert [i for i, r in enumerate(found.values()) if not r.alive] == sorted(wanted)
    assert audit(part) == {f"f{i:04d}": (f"f{k:04d}", cosine) for i, (k, cosine) in wanted.items()}
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(cosines, -1)
    assert sorted(read) == np.nonzero(cosines.max(axis=1) > 0.92)[0].tolist()


def test_photos_with_a_score_or_a_distance_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curation.dedup, "photo_details", lambda *_: pytest.fail("read"))
    for name, how in (("a", {"score": [0.5] * 3}), ("b", {"prior_distance": [0.5] * 3})):
        part = embedded_part(tmp_path / name, SAME, **how)  # type: ignore[arg-type]
        assert sum(r.alive for r in dedup(part, Dedup(0.9)).values()) == 1


def test_sharpness() -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(60, 120, (64, 64, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    whole = sharpness(noise)
    values = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), np.float64)
    around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    assert whole == pytest.approx((around - 4 * values[1:-1, 1:-1]).var() / values.var(), rel=1e-4)
    assert sharpness(noise * 2) == pytest.approx(whole, rel=0.02)
    assert sharpness(np.asarray(image.filter(ImageFilter.GaussianBlur(1)))) < 0.5 * whole
    small = image.resize((24, 24), Image.Resampling.LANCZOS).resize((64, 64))
    assert sharpness(np.asarray(small)) < 0.8 * whole
    fourth = np.asarray(image.resize((32, 32), Image.Resampling.BOX))
    assert sharpness(noise, 4) == pytest.approx(sharpness(fourth), rel=0.1)
    assert sharpness(np.full((9, 9, 3), 7, np.uint8)) == sharpness(noise[:5]) == 0.0
    assert level(1.0, 2) == 0 and level(2.0, 2) == 1 and level(0.5, 2) < level(0.99, 2) == 0
    assert level(0.0, 2) < level(1e-9, 2)


def test_of_copies_as_sharp_the_least_compressed_photo_stays(tmp_path: Path) -> None:
    """Rounding of a JPEG that is saved once more is no sharpness; a name decides at last."""
    art = tmp_path / "art"
    art.mkdir()
    smooth = np.random.default_rng(2).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    original = Image.fromarray(smooth).resize((96, 96), Image.Resampling.BICUBIC)
    original.save(art / "photo.jpg", quality=95)
    with Image.open(art / "photo.jpg") as saved:
        saved.load()
    saved.save(art / "a.jpg", quality=70)
    ImageOps.mirror(saved).save(art / "photo-m.jpg", quality=95)
    losses = [coarseness((art / f"{n}.jpg").read_bytes()) for n in ("photo", "photo-m", "a")]
    assert 64 <= losses[0] == losses[1] < losses[2]
    original.save(tmp_path / "lossless.png")
    assert coarseness((tmp_path / "lossless.png").read_bytes()) == 0
    part = Part.create(tmp_path / "part")
    run_stage(Ingest(str(art)), part)
    said = [FaceRecord(r.face_id).with_array("embedding", SAME[0]) for r in part.records("ingest")]
    finish_about(part, "embed", [said], encoder="toy", digest="0" * 64)
    stayed = [r.source for r in dedup(part, Dedup(0.9)).values() if r.alive]
    assert stayed == ["photo.jpg"]


def test_the_order_of_faces_does_not_matter(tmp_path: Path) -> None:
    vectors = clustered(40, 8, 0.4, seed=9)
    ids = [f"id{i:02d}" for i in range(40)]
    shuffled = np.random.default_rng(1).permutation(40)
    same = [0.5] * 40
    one = embedded_part(tmp_path / "one", vectors, ids=ids, prior_distance=same)
    two = embedded_part(
        tmp_path / "two",
        vectors[shuffled],
        ids=[ids[i] for i in shuffled],
        prior_distance=same,
        shard_size=7,
    )
    first, second = dedup(one, Dedup(0.9)), dedup(two, Dedup(0.9))
    assert {i for i, r in first.items() if r.alive} == {i for i, r in second.items() if r.alive}
    assert audit(one) == audit(two)


def test_faces_that_were_refused_earlier_count_for_nothing(tmp_path: Path) -> None:
    part = embedded_part(tmp_path / "part", SAME)
    refuse(part, 1)
    assert {i: r.alive for i, r in dedup(part, Dedup(0.9)).items()} == {
        "f0001": True,
        "f0002": False,
    }


def refuse(part: Part, count: int) -> None:
    """Rewrite what `embed` said: the first faces have no embedding."""
    rows = part.read_about("embed", 0)
    part.shard_path("embed", 0).unlink()
    vectors = np.array(part.array("embedding", 0))
    said = [
        FaceRecord(r.face_id).with_array("embedding", vectors[r.rows["embedding"]]) for r in rows
    ]
    said[:count] = [FaceRecord(r.face_id).reject("embed", "no embedding") for r in rows[:count]]
    part.write_about("embed", 0, said, {})
    info = part.stage_info("embed")
    info["counts"]["rejected"] = {"no embedding": count}
    part.write_stage_info("embed", info)


def test_verify_finds_a_planted_pair(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    part = embedded_part(tmp_path / "part", unit(rng.standard_normal((12, 32))))
    assert all(r.alive for r in dedup(part, Dedup(0.9)).values())
    assert verify(part, 0.9) == 12
    path = part.array_path("embedding", 2)
    planted = np.load(path)
    planted[1] = part.array("embedding", 0)[3]
    np.save(path, planted)
    with pytest.raises(IntegrityError, match="not what was written here"):
        verify(part, 0.9)
    records = part.shard_path("embed", 2)  # whoever can forge an array can forge its digest
    pq.write_table(pq.read_table(records).replace_schema_metadata(None), records)
    with pytest.raises(IntegrityError, match=r"f0003 and f0009 are closer than 0.9") as caught:
        verify(part, 0.9)
    assert "\n" not in str(caught.value)


def test_verify_of_nothing(tmp_path: Path) -> None:
    part = embedded_part(tmp_path / "part", SAME[:1])
    refuse(part, 1)
    run_stage(Dedup(0.9), part)
    assert verify(part, 0.9) == 0


def test_an_unknown_encoder_needs_a_threshold(tmp_path: Path) -> None:
    part = embedded_part(tmp_path / "part", SAME, encoder="mine")
    with pytest.raises(UsageError, match="no default threshold for embeddings of mine"):
        run_stage(Dedup(), part)


@pytest.mark.parametrize(
    ("encoder", "threshold"), [("clip", 0.92), ("dlib-face", 0.985), ("flip", 0.991)]
)
def test_known_encoders_have_one(tmp_path: Path, encoder: str, threshold: float) -> None:
    part = embedded_part(tmp_path / "part", SAME, encoder=encoder)
    assert Dedup().threshold_for(part) == threshold
    assert Dedup(0.5).threshold_for(part) == 0.5


def test_without_embeddings_it_says_so(tmp_path: Path) -> None:
    for name, stage in (("a", Dedup()), ("b", Dedup(0.9))):
        part = Part.create(tmp_path / name)
        finish(part, "synthesize", [[FaceRecord("a")]])
        with pytest.raises(
            UsageError, match="dedup reads embedding, which is not there; run: sfhq embed"
        ):
            run_stage(stage, part)


@pytest.mark.parametrize("threshold", [1.5, -1.5, float("nan")])
def test_thresholds_that_cannot_be(threshold: float) -> None:
    with pytest.raises(UsageError, match="wanted a cosine"):
        replace(Dedup(), threshold=threshold)


def test_published_photos_stay_and_nothing_near_them_does(tmp_path: Path) -> None:
    vectors = clustered(60, 16, 0.3, seed=11)
    old = embedded_part(tmp_path / "old", vectors[:20], ids=[f"o{i:02d}" for i in range(20)])
    new = embedded_part(tmp_path / "new", vectors[20:], prior_distance=list(range(40)))
    stage = Dedup(0.92, published=(old.root,))
    records = dedup(new, stage)
    kept = [i for i, r in enumerate(records.values()) if r.alive]
    assert 0 < len(kept) < 40
    near = vectors[20:][kept] @ vectors[:20].T
    assert near.max() <= 0.92
    rows = pq.read_table(new.root / "audit" / "dedup.parquet").to_pylist()
    theirs = [r for r in rows if r["part"] == "old"]
    assert theirs and all(r["kept"].startswith("o") for r in theirs)
    one = theirs[0]
    assert f"with old/{one['kept']} is above 0.9200" in records[one["dropped"]].detail
    assert verify(new, 0.92, (old.root,)) == len(kept)
    assert new.stage_info("dedup")["settings"]["published"] == ["old"]
    assert not (new.root / "audit" / "dedup.progress.npz").exists()


def test_verify_looks_at_published_photos(tmp_path: Path) -> None:
    old = embedded_part(tmp_path / "old", SAME, ids=["a", "b", "c"])
    new = embedded_part(tmp_path / "new", SAME[:1])
    dedup(new, Dedup(0.9))
    assert verify(new, 0.9) == 1  # the old part's own pairs are its own affair
    with pytest.raises(IntegrityError, match="old/a and f0000 are closer"):
        verify(new, 0.9, (old.root,))


def test_published_parts_that_cannot_be_compared(tmp_path: Path) -> None:
    part = embedded_part(tmp_path / "part", SAME)
    other = embedded_part(tmp_path / "other", SAME, encoder="clip")
    with pytest.raises(UsageError, match="embedded with encoder clip"):
        dedup(part, Dedup(0.9, published=(other.root,)))
    with pytest.raises(UsageError, match="compared with itself"):
        dedup(part, Dedup(0.9, published=(part.root,)))
    with pytest.raises(UsageError, match="not a part"):
        dedup(part, Dedup(0.9, published=(tmp_path / "none",)))
