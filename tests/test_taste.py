"""A taste is learned, saved as numbers, and judged on labels it did not see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.ensemble
from curating import faces_to_judge, liked
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from curation.score import Score
from curation.taste.judge import _curve, auc_with_interval, evaluate_taste, near_groups
from curation.taste.model import TasteModel, TasteSettings, fit_taste
from curation.taste.report import taste_page
from curation.taste.stack import fit_stack, fold_numbers, thresholds
from curation.taste.trees import fit_trees
from sfhq.errors import IntegrityError, UsageError
from sfhq.parts.join import history
from sfhq.parts.records import Array
from sfhq.pipeline.engine import run_stage

QUICKER = TasteSettings(folds=3, strengths=(0.01,), rounds=15)


def faces(count: int, noise: float = 0.3, seed: int = 0) -> tuple[dict[str, Array], Array]:
    """Two feature sets, and a taste that needs both."""
    rng = np.random.default_rng(seed)
    wide = rng.standard_normal((count, 80)).astype(np.float32)
    narrow = rng.standard_normal((count, 5)).astype(np.float32) * [1, 10, 100, 1, 1] + 50
    hidden = wide[:, 0] + (narrow[:, 2] - 50) / 100 + noise * rng.standard_normal(count)
    return {"wide": wide, "narrow": narrow.astype(np.float32)}, hidden > 0


def test_it_finds_a_taste() -> None:
    blocks, y = faces(900)
    model = fit_taste({n: b[:500] for n, b in blocks.items()}, y[:500], settings=QUICKER)
    left = {n: b[500:] for n, b in blocks.items()}
    p, spread = model.judge(left)
    assert roc_auc_score(y[500:], p) > 0.9
    assert abs(p.mean() - y.mean()) < 0.06  # calibrated
    assert ((spread >= 0) & (spread <= 0.5)).all()
    assert (model.weights >= 0).all()
    assert roc_auc_score(model.labels, model.out_of_fold) < 0.999  # it has not seen them


def test_noise_is_not_mistaken_for_taste() -> None:
    blocks, _ = faces(200)
    few = replace(QUICKER, rounds=5)
    values = []
    for seed in range(4):
        y = np.random.default_rng(seed).random(200) < 0.5
        found = evaluate_taste(blocks, y, settings=few, folds=3, curve=False)
        assert found.auc[1] < found.auc[0] < found.auc[2]
        values.append(found.auc[0])
    assert abs(np.mean(values) - 0.5) < 0.09  # 200 labels: 0.04 a run


def test_saved_and_loaded_it_gives_the_same_bits(tmp_path: Path) -> None:
    blocks, y = faces(120)
    model = fit_taste(blocks, y, settings=QUICKER)
    path = tmp_path / "taste.safetensors"
    model.save(path)
    again = TasteModel.load(path)
    assert np.array_equal(again.score(blocks), model.score(blocks))
    assert again.version == model.version
    assert again.settings == model.settings
    assert (again.accept, again.reject) == (model.accept, model.reject)
    assert fit_taste(blocks, y, settings=QUICKER).version == model.version
    assert fit_taste(blocks, ~y, settings=QUICKER).version != model.version


def test_files_that_are_no_tastes(tmp_path: Path) -> None:
    path = tmp_path / "taste.safetensors"
    with pytest.raises(UsageError, match="make one with: sfhq taste fit"):
        TasteModel.load(path)
    blocks, y = faces(60)
    fit_taste(blocks, y, settings=QUICKER).save(path)
    data = path.read_bytes()
    place = len(data) - 200
    for broken in (b"", b"x" * 100, data[:-50], data[:place] + b"\x7f" * 8 + data[place + 8 :]):
        path.write_bytes(broken)
        with pytest.raises(IntegrityError, match="not a taste model") as caught:
            TasteModel.load(path)
        assert "\n" not in str(caught.value)


def test_trees_are_those_of_scikit_learn() -> None:
    blocks, y = faces(300)
    x = np.concatenate([blocks["wide"][:, :8], blocks["narrow"]], axis=1).astype(np.float64)
    trees = fit_trees(x, y, 20, 8, 0.1, seed=3)
    learner = HistGradientBoostingClassifier(
        max_iter=20,
        max_leaf_nodes=8,
        learning_rate=0.1,
        min_samples_leaf=7,
        l2_regularization=1.0,
        max_bins=63,
        early_stopping=False,
        random_state=3,
    ).fit(x, y)
    assert trees(x) == pytest.approx(learner.decision_function(x), abs=1e-9)
    rounding = 1 + 1e-7 * np.random.default_rng(2).choice([-1, 1], x.shape)
    assert (trees(x * rounding) == trees(x)).all()


def test_another_scikit_learn_gives_trees_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the quick learner's trees cannot be read, those of the public one serve."""
    blocks, y = faces(300)
    x = blocks["wide"][:, :8].astype(np.float64)

    class Renamed:
        def __init__(self, **_: object) -> None:
            pass

        def fit(self, x: Array, y: Array) -> object:
            return self

    class Emptied(Renamed):
        _baseline_prediction, _predictors = 0.0, ()

    class Other(Renamed):
        _baseline_prediction, _predictors = 0.0, ((SimpleNamespace(nodes=np.zeros(3)),),) * 20

    learner = GradientBoostingClassifier(
        n_estimators=20,
        max_leaf_nodes=8,
        max_depth=None,
        learning_rate=0.1,
        min_samples_leaf=7,
        random_state=3,
    ).fit(x, y)
    for other in (Renamed, Emptied, Other):
        monkeypatch.setattr(sklearn.ensemble, "HistGradientBoostingClassifier", other)
        trees = fit_trees(x, y, 20, 8, 0.1, seed=3)
        assert trees(x) == pytest.approx(learner.decision_function(x), abs=1e-5)
        assert roc_auc_score(y, trees(x)) > 0.9


def test_the_stack_leaves_out_what_only_remembers() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(2000) < 0.5
    good = np.where(y, 1.0, -1.0) + rng.standard_normal(2000)
    weights, _ = fit_stack(np.stack([2 * good, rng.standard_normal(2000), -good], axis=1), y)
    assert weights[0] > 0.7 and weights[1] < 0.1 and weights[2] < 0.05


def test_groups_stay_whole_in_folds() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    y = rng.random(200) < 0.4
    folds = fold_numbers(y, groups, 5, 0)
    assert all(len(set(folds[groups == g])) == 1 for g in range(40))
    assert set(folds) == set(range(5))


@pytest.mark.parametrize("alike", ["all", "kept", "rejected"])
def test_faces_of_one_group_cannot_be_judged(alike: str) -> None:
    """Whatever fold is left out, nothing is left to learn from, or nothing to test on."""
    blocks, y = faces(60)
    groups = np.arange(60)
    groups[{"all": y | ~y, "kept": y, "rejected": ~y}[alike]] = 0
    with pytest.raises(UsageError, match="come from one inspiration, or are near-dup") as caught:
        fit_taste(blocks, y, groups, QUICKER)
    assert "\n" not in str(caught.value)
    if alike != "all":
        assert f"{int((y if alike == 'kept' else ~y).sum())} {alike} faces" in str(caught.value)
    with pytest.raises(UsageError, match="come from one inspiration"):
        evaluate_taste(blocks, y, groups, QUICKER, 3)


def test_a_curve_passes_over_faces_of_one_group() -> None:
    """All rejected faces but a few are of one group: of a tenth of them the few are missing."""
    blocks, y = faces(200)
    groups = np.where(y, np.arange(200), 200)
    groups[np.nonzero(~y)[0][:6]] = np.arange(6) + 300
    outer = np.arange(200) % 5
    outer[np.nonzero(~y)[0][:6]] = 0
    assert _curve(blocks, y, groups, QUICKER, outer) == ()


def test_copies_are_one_group_and_do_not_flatter() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 32)).astype(np.float32)
    copies = np.repeat(vectors, 3, axis=0) + 0.01 * rng.standard_normal((120, 32))
    vectors = (copies / np.linalg.norm(copies, axis=1, keepdims=True)).astype(np.float32)
    groups = near_groups(vectors)
    assert len(set(groups.tolist())) == 40
    y = np.repeat(rng.random(40) < 0.5, 3)  # nothing to learn but who is whose copy
    honest = evaluate_taste({"a": vectors}, y, groups, QUICKER, 3, curve=False).auc[0]
    flattered = evaluate_taste({"a": vectors}, y, None, QUICKER, 3, curve=False).auc[0]
    assert flattered > 0.9 > 0.75 > honest


def test_groups_reach_as_far_as_their_links() -> None:
    """Each vector is near the next one only; the first and the last are far apart."""
    angles = np.radians([0.0, 200.0, 10.0, 90.0, 20.0, 30.0, 207.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert near_groups(vectors).tolist() == [0, 1, 0, 3, 0, 0, 1]
    assert near_groups(vectors[:0]).tolist() == []


def test_thresholds_keep_their_word() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(4000)
    y: npt.NDArray[np.bool_] = rng.random(4000) < p
    accept, reject = thresholds(p, y, 0.9)
    assert y[p >= accept].mean() >= 0.9
    assert (~y[p <= reject]).mean() >= 0.9
    assert 0.75 < accept < 0.85 and 0.15 < reject < 0.25
    assert thresholds(p, rng.random(4000) < 0.5, 0.99)[0] == float("inf")
    accept, reject = thresholds(p, p > 0.4, 0.8)  # so easy that both would claim the middle
    assert reject < accept <= float(np.nextafter(reject, 1))
    assert (p > 0.4)[p >= accept].mean() >= 0.8 and (p <= 0.4)[p <= reject].mean() >= 0.8


def test_few_labels_do_not_flatter_a_threshold() -> None:
    """Of a hundred, the smallest score above which the share happens to hold promises too much."""
    rng = np.random.default_rng(0)
    true = []
    for _ in range(600):
        p = 1 / (1 + np.exp(-rng.normal(0, 2.5, 100)))
        accept = thresholds(p, rng.random(100) < p, 0.9)[0]
        if accept <= 1:
            true.append(p[p >= accept].mean())
    assert len(true) > 580 and 0.9 < np.mean(true) < 0.915


def test_precision_is_measured_outside() -> None:
    blocks, y = faces(600, noise=0.6)
    found = evaluate_taste(blocks, y, settings=replace(QUICKER, precision=0.9), folds=3)
    assert found.accepted.count > 50
    assert found.accepted.low < 0.92 and found.accepted.value > 0.8
    assert found.calibration_error < 0.1
    assert [n for n, *_ in found.curve] == sorted(n for n, *_ in found.curve)
    wrong = np.where(y, 1 - found.scores, found.scores)
    assert found.disputed[0] == int(np.argmax(wrong))


def test_the_interval_of_the_auc_is_that_of_delong() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(400) < 0.4
    s = y + rng.standard_normal(400)
    auc, low, high = auc_with_interval(s, y)
    assert auc == pytest.approx(roc_auc_score(y, s), abs=1e-12)
    drawn = []
    for _ in range(600):
        rows = rng.integers(400, size=400)
        drawn.append(auc_with_interval(s[rows], y[rows])[0])
    assert high - low == pytest.approx(2 * 1.96 * float(np.std(drawn)), rel=0.12)


@pytest.mark.parametrize("kept", [0, 3, 40])
def test_too_few_labels_of_a_kind(kept: int) -> None:
    blocks, _ = faces(40)
    with pytest.raises(UsageError, match="wanted 8 or more of each: label some more"):
        fit_taste(blocks, np.arange(40) < kept)


def test_other_features_than_it_was_learned_from() -> None:
    blocks, y = faces(60)
    model = fit_taste(blocks, y, settings=QUICKER)
    with pytest.raises(UsageError, match="wants the feature set narrow with 5 columns"):
        model.score({"wide": blocks["wide"]})
    broken = {**blocks, "narrow": blocks["narrow"] * np.nan}
    with pytest.raises(UsageError, match="not finite"):
        model.score(broken)
    with pytest.raises(UsageError, match="no features"):
        fit_taste({}, y)


def test_a_face_has_one_score_in_any_company(tmp_path: Path) -> None:
    """Distances to its own place and its twins' are small; they must not depend on rounding."""
    blocks, y = faces(200)
    model = fit_taste(blocks, y, settings=QUICKER)
    together = model.score(blocks)
    alone = [model.score({n: b[i : i + 1] for n, b in blocks.items()})[0] for i in range(200)]
    assert np.abs(together - alone).max() < 1e-6


def test_a_model_is_written_the_same_twice(tmp_path: Path) -> None:
    blocks, y = faces(60)
    for name in ("one", "two"):
        fit_taste(blocks, y, settings=QUICKER).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_report_stands_alone() -> None:
    blocks, y = faces(150)
    found = evaluate_taste(blocks, y, settings=QUICKER, folds=3)
    page = taste_page(found, y, [b"jpeg"] * len(found.disputed), "<part>")
    assert "&lt;part&gt;" in page and "<part>" not in page
    assert "http" not in page and "<script" not in page
    assert page.count("<figure>") == 4
    assert f"{found.auc[0]:.3f}" in page


def test_the_stage_scores_a_part(tmp_path: Path) -> None:
    part = faces_to_judge(tmp_path / "part", 120)
    taste = liked(part)
    from curation.faces import Faces

    listed = Faces.of(part)
    y = np.array([taste[r.face_id] for r in listed.records])
    model = fit_taste(listed.feature_sets(), y, settings=QUICKER)
    run_stage(Score(model, drop=True), part)
    records = list(history(part, "score"))
    scores = {r.face_id: r.about["score"] for r in records}
    wanted = model.score(listed.feature_sets())
    for i, record in enumerate(listed.records):
        assert scores[record.face_id] == pytest.approx(float(wanted[i]), abs=1e-6)
    words = {r.about["taste"] for r in records}
    assert words <= {"accept", "reject", "unsure"} and "accept" in words
    for record in records:
        assert record.alive == (record.about["taste"] != "reject")
    settings = part.stage_info("score")["settings"]
    assert (settings["model"], settings["drop"]) == (model.version, True)


def test_the_stage_wants_its_features(tmp_path: Path) -> None:
    part = faces_to_judge(tmp_path / "part", 20)
    blocks, y = faces(60)
    with pytest.raises(UsageError, match=r"score reads features_.*, which is not there"):
        run_stage(Score(fit_taste(blocks, y, settings=QUICKER)), part)
