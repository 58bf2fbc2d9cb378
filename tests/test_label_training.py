"""Training of the label network: what is known counts, views move labels with pictures."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from label_tiny import TINY, tiny_network
from sklearn.linear_model import LogisticRegression

import cli
from annotate.metrics.parsing import class_f1, confusion
from annotate.network.reader import Calibration, LabelReader
from annotate.teachers.masks import ANY, bits
from annotate.training.augment import augment, plain
from annotate.training.balance import balance_classes, best_offsets
from annotate.training.calibration import calibrate, platt, with_absences
from annotate.training.losses import class_loss, heat_loss, losses, quarter
from annotate.training.samples import Samples, joined, one_kind, part_of
from annotate.training.training import LabelRecipe, LabelTraining
from annotate.training.words import attributes_of, read_words, shows_one_face, years_of
from sfhq.errors import UsageError
from sfhq.faces.classes import ID
from sfhq.networks.backbone import SameConv
from sfhq.networks.names import ATTRIBUTES, POINTS, TRACKED
from sfhq.training.run import run_training

SIZE = 64


def tiny_samples(count: int = 6, exact: bool = True, seed: int = 3) -> Samples:
    """Pictures whose left half is hair and whose right half is skin; a point on the border."""
    g = torch.Generator().manual_seed(seed)
    classes = torch.full((count, SIZE, SIZE), bits(["skin"]), dtype=torch.int32)
    classes[:, :, : SIZE // 2] = bits(["hair"])
    pixels = torch.full((count, 3, SIZE, SIZE), 200, dtype=torch.uint8)
    pixels[:, :, :, : SIZE // 2] = 30
    hair = (pixels[:, 0] < 100).to(torch.uint8) * 255
    points = torch.rand(count, TRACKED, 2, generator=g) * 30 + 17
    attributes = (torch.rand(count, len(ATTRIBUTES), generator=g) < 0.5).float()
    return Samples(
        pixels=pixels,
        bits=classes,
        hair=hair,
        exact=torch.full((count,), exact),
        points=points,
        weights=torch.ones(count, TRACKED),
        seen=torch.ones(count, POINTS),
        pose=torch.tensor([[10.0, 5.0, 2.0]]).repeat(count, 1),
        gaze=torch.tensor([[4.0, -3.0]]).repeat(count, 1),
        attributes=attributes,
        years=torch.full((count,), 30.0),
        names=tuple(f"{seed}-{i}.png" for i in range(count)),
    )


def test_silence_about_what_stands_out_is_absence() -> None:
    """Twenty photos with glasses, of which eight were told; a hundred without, of whom none was."""
    logits = np.r_[np.linspace(5, 8, 20), np.linspace(-1, 3.5, 100), [9.0, -9.0]]
    truth = np.full(122, np.nan)
    truth[0:16:2] = 1
    truth[-2:] = 1, 0  # two rendered heads
    exact = np.zeros(122, bool)
    exact[-2:] = True
    found = with_absences(logits, truth, exact)
    assert (found[20:120] == 0).all() and np.array_equal(found[-2:], [1, 0])
    assert (found[0:16:2] == 1).all() and np.isnan(found[3:20:2]).all()
    scale, bias = platt(logits[~np.isnan(found)], found[~np.isnan(found)])
    said = 1 / (1 + np.exp(-(scale * logits + bias)))
    assert np.median(said[:20]) > 0.5 and np.median(said[20:120]) < 0.1
    # Told too seldom, denied as well, or not seen at all: nothing is made up.
    few = truth.copy()
    few[8:16] = np.nan
    denied = truth.copy()
    denied[30:40] = 0
    for known in (few, denied):
        assert np.array_equal(with_absences(logits, known, exact), known, equal_nan=True)
    blind = np.random.default_rng(0).standard_normal(122)
    assert np.array_equal(with_absences(blind, truth, exact), truth, equal_nan=True)


def test_words_say_what_they_name_and_leave_the_rest_unknown() -> None:
    told = dict(zip(ATTRIBUTES, attributes_of("man with full beard").tolist(), strict=True))
    assert told["Full_Beard"] == 1 and told["No_Beard"] == 0 and told["Male"] == 1
    assert np.isnan(told["Eyeglasses"]) and np.isnan(told["Smiling"])
    told = dict(zip(ATTRIBUTES, attributes_of("woman with short black hair").tolist(), strict=True))
    assert told["Black_Hair"] == 1 and told["Blond_Hair"] == 0 and told["Dyed_Hair"] == 0
    assert told["Male"] == 0 and told["No_Beard"] == 1 and told["Long_Hair"] == 0


def test_words_that_contradict_each_other_leave_it_unknown() -> None:
    told = dict(zip(ATTRIBUTES, attributes_of("smiling; sad").tolist(), strict=True))
    assert np.isnan(told["Smiling"])


@pytest.mark.parametrize(
    ("words", "years"),
    [
        ("A portrait photo of a 34 year old Indian man", 34),
        ("asian female 10 month old baby", 10 / 12),
        ("2.5 year old toddler", 2.5),
        ("old age irish", 75),
        ("person with hat", float("nan")),
    ],
)
def test_years_in_words(words: str, years: float) -> None:
    assert years_of(words) == pytest.approx(years, nan_ok=True)
    young = attributes_of(words)[ATTRIBUTES.index("Young")]
    assert np.isnan(young) if np.isnan(years) else young == (years < 45)


def test_what_is_not_one_face_is_left_out() -> None:
    assert not shows_one_face("two people") and not shows_one_face("statue; smiling")
    assert shows_one_face("person with scarf")  # "cat" is inside no word


def test_tables_of_words(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('file,width,queries\na.jpg,3,"bald; smiling"\nb.jpg,3,\n')
    assert read_words(path) == {"a.jpg": "bald; smiling", "b.jpg": ""}
    path.write_text("name,text\na,b\n")
    with pytest.raises(UsageError, match="wanted file and queries, or file and prompt"):
        read_words(path)
    with pytest.raises(UsageError, match="cannot read the words"):
        read_words(tmp_path / "none.csv")


def test_a_name_belongs_to_one_of_three_parts_in_about_their_shares() -> None:
    parts = [part_of(f"head{i:06d}") for i in range(4000)]
    assert 0.08 < parts.count("test") / 4000 < 0.12
    assert 0.07 < parts.count("calibration") / 4000 < 0.11
    assert part_of("a.jpg") == part_of("a.png")  # the ending does not count


def test_views_move_classes_and_points_with_the_picture() -> None:
    samples = tiny_samples(40)
    # Every point lies on the border between dark hair and bright skin.
    border = torch.stack([torch.full((40, TRACKED), 31.5), samples.points[..., 1]], -1)
    samples = replace(samples, points=border)
    batch = augment(samples, torch.arange(40), torch.Generator().manual_seed(0))
    dark = batch.bits == bits(["hair"])
    inside = batch.weights[:, :POINTS] > 0
    for i in range(40):
        x, y = batch.points[i, :POINTS][inside[i]].round().long().unbind(1)
        near = [
            dark[i, (y + dy).clamp(0, 63), (x + dx).clamp(0, 63)]
            for dx in (-2, 0, 2)
            for dy in (-2, 0, 2)
        ]
        share = torch.stack(near).float().mean(0)
        known = batch.bits[i, y.clamp(0, 63), x.clamp(0, 63)] != ANY
        assert ((share > 0) & (share < 1))[known].float().mean() > 0.95


def test_views_turn_and_mirror_poses() -> None:
    samples = tiny_samples(200)
    batch = augment(samples, torch.arange(200), torch.Generator().manual_seed(1))
    mirrored = batch.pose[:, 0] < 0
    assert 70 < int(mirrored.sum()) < 130
    torch.testing.assert_close(batch.pose[:, 1], torch.full((200,), 5.0))
    assert torch.equal(batch.gaze[:, 0] < 0, mirrored)
    # The roll of two level points is what the view was turned by.
    level = replace(samples, points=samples.points.clone(), pose=torch.zeros(200, 3))
    level.points[:, 51], level.points[:, 57] = (
        torch.tensor([32.0, 20.0]),
        torch.tensor([32.0, 44.0]),
    )
    batch = augment(level, torch.arange(200), torch.Generator().manual_seed(1))
    down = batch.points[:, 57] - batch.points[:, 51]
    tilt = torch.rad2deg(torch.atan2(down[:, 0], down[:, 1]))
    torch.testing.assert_close(batch.pose[:, 2], tilt, atol=1e-2, rtol=0)


def test_mirrored_views_exchange_left_and_right_classes() -> None:
    samples = tiny_samples(60)
    sided = torch.full_like(samples.bits, bits(["l_eye", "skin"]))
    batch = augment(
        replace(samples, bits=sided), torch.arange(60), torch.Generator().manual_seed(2)
    )
    for i in range(60):
        found = set(batch.bits[i].unique().tolist()) - {ANY}
        mirrored = batch.pose[i, 0] < 0
        assert found == {bits(["r_eye" if mirrored else "l_eye", "skin"])}


def test_the_same_seed_gives_the_same_views() -> None:
    samples = tiny_samples(4)
    one, two = (augment(samples, torch.arange(4), torch.Generator().manual_seed(7)) for _ in "ab")
    assert torch.equal(one.images, two.images) and torch.equal(one.points, two.points)


def test_the_class_loss_is_cross_entropy_for_one_class_and_less_for_sets() -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 19, 4, 4, generator=g)
    one = torch.full((2, 4, 4), bits(["hair"]), dtype=torch.int64)
    wanted = torch.nn.functional.cross_entropy(logits, torch.full((2, 4, 4), ID["hair"]))
    torch.testing.assert_close(class_loss(logits, one, torch.ones(2)), wanted)
    two = torch.full((2, 4, 4), bits(["hair", "hat"]), dtype=torch.int64)
    p = logits.softmax(1)
    both = -(p[:, ID["hair"]] + p[:, ID["hat"]]).log().mean()
    torch.testing.assert_close(class_loss(logits, two, torch.ones(2)), both)
    unknown = torch.full((2, 4, 4), ANY, dtype=torch.int64)
    assert class_loss(logits, unknown, torch.ones(2)) == 0


def test_the_heat_loss_is_least_where_the_bump_is() -> None:
    points = torch.tensor([[[20.0, 36.0]]])
    cells = (points + 0.5) / 4 - 0.5
    steps = torch.arange(16.0)
    bump = (
        -0.5 * ((steps - cells[0, 0, 0]) ** 2)[None]
        - 0.5 * ((steps - cells[0, 0, 1]) ** 2)[:, None]
    )
    best = heat_loss(bump[None, None], points, torch.ones(1, 1), SIZE)
    moved = heat_loss(bump.roll(1, 1)[None, None], points, torch.ones(1, 1), SIZE)
    flat = heat_loss(torch.zeros(1, 1, 16, 16), points, torch.ones(1, 1), SIZE)
    assert best < moved < flat
    assert heat_loss(bump[None, None], points, torch.zeros(1, 1), SIZE) == 0


def test_what_is_unknown_has_no_loss_and_no_gradient() -> None:
    samples = tiny_samples(4, exact=False)
    nothing: dict[str, Any] = {
        f.name: torch.full_like(getattr(samples, f.name), torch.nan)
        for f in fields(Samples)
        if f.name in ("seen", "pose", "gaze", "attributes", "years")
    }
    unknown = replace(
        samples,
        **nothing,
        bits=torch.full_like(samples.bits, ANY),
        weights=torch.zeros_like(samples.weights),
    )
    network = tiny_network()
    batch = replace(plain(unknown, torch.arange(4)), hair=torch.full((4, SIZE, SIZE), torch.nan))
    found = losses(network(batch.images), batch)
    assert {name: float(value.detach()) for name, value in found.items()} == dict.fromkeys(
        found, 0.0
    )
    torch.stack(list(found.values())).sum().backward()
    assert all(p.grad is None or not p.grad.abs().any() for p in network.parameters())


def tiny_training(images: int = 32) -> LabelTraining:
    lots = joined([tiny_samples(6), tiny_samples(4, exact=False, seed=4)])
    return LabelTraining(LabelRecipe(TINY, images=images, batch=4), tiny_network(), lots)


def test_the_losses_lead_to_where_hair_is() -> None:
    network, batch = tiny_network(), plain(tiny_samples(4), torch.arange(4))
    optimizer = torch.optim.Adam(network.parameters(), 2e-2)
    history = []
    for step in range(30):
        found = losses(network(batch.images, step % 4), batch, step % 4)
        optimizer.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in found.items()})
    assert history[-1]["classes"] < 0.3 * history[0]["classes"]
    assert history[-1]["hair"] < 0.3 * history[0]["hair"]
    assert history[-1]["points"] < 0.9 * history[0]["points"]
    told = network.eval()(batch.images).classes.argmax(1)
    assert (told[:, :, :28] == ID["hair"]).float().mean() > 0.95
    assert (told[:, :, 36:] == ID["skin"]).float().mean() > 0.95


def test_a_quarter_of_the_pixels_is_what_all_pixels_say_there() -> None:
    network, batch = tiny_network().eval(), plain(tiny_samples(2), torch.arange(2))
    whole = network(batch.images)
    for phase in range(4):
        part = network(batch.images, phase)
        assert torch.allclose(part.classes, quarter(whole.classes, phase), atol=1e-5)
        assert torch.allclose(part.hair, quarter(whole.hair, phase), atol=1e-5)
        for name in ("places", "pose", "attributes", "years"):
            assert torch.allclose(getattr(part, name), getattr(whole, name), atol=1e-5), name
    found = [losses(network(batch.images, p), batch, p)["classes"] for p in range(4)]
    assert torch.allclose(torch.stack(found).mean(), losses(whole, batch)["classes"], rtol=0.2)


def test_bf16_gradients_of_depthwise_convolutions_are_those_of_float32() -> None:
    conv = SameConv(6, 6, 5, 2, groups=6)
    images = torch.randn(2, 6, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(images)
    assert found.dtype == torch.float32 and torch.equal(found, conv(images))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert conv(images).dtype == torch.bfloat16


def test_offsets_take_back_what_weights_made_too_large() -> None:
    rng = np.random.default_rng(0)
    count = 40_000
    truth = rng.choice([1, 4, 5, 10], count, p=[0.94, 0.02, 0.02, 0.02]).astype(np.uint8)
    logs = rng.normal(0, 1, (19, count)).astype(np.float32) - 6
    logs[truth, np.arange(count)] += 4
    logs[1] += 3
    logs[[4, 5]] += 3 + np.log(8)  # eyes count eight times as much
    found = best_offsets(logs, truth)
    assert found[4] == found[5] <= -0.75 and found[17] == 0, "hair is nowhere"

    def score(offsets: Any) -> float:
        told = (logs + offsets[:, None]).argmax(0).astype(np.uint8)
        return float(np.nanmean(class_f1(confusion(told, truth))))

    assert score(found) > score(np.zeros(19, np.float32)) + 0.1


def test_balancing_offsets_every_pixel_of_the_network() -> None:
    network, samples = tiny_network().fold(), tiny_samples(6)
    image = plain(samples, torch.arange(2)).images
    with torch.no_grad():
        before = network(image).classes
        moved = balance_classes(network, samples)
        after = network(image).classes
    assert torch.allclose(after - before, moved.view(1, -1, 1, 1).expand_as(after), atol=1e-5)
    assert moved.any()
    inexact = tiny_samples(3, exact=False)
    assert not balance_classes(network, inexact).any()


def test_kept_stages_stay_and_others_move() -> None:
    training = tiny_training()
    before = {n: p.detach().clone() for n, p in training.network.named_parameters()}
    training.step()
    moved = {n for n, p in training.network.named_parameters() if not torch.equal(p, before[n])}
    kept = ("backbone.stem.", "backbone.stages.0.", "backbone.stages.1.")
    assert moved and not [n for n in moved if n.startswith(kept)]
    assert any(n.startswith("backbone.stages.2.") for n in moved)


def test_a_resumed_training_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole = tiny_training()
    assert run_training(whole, tmp_path / "a", {}, say=lambda _: None)
    first = tiny_training()
    assert not run_training(first, tmp_path / "b", {}, limit_seconds=0.0, say=lambda _: None)
    assert 0 < first.images < first.total
    again = tiny_training()
    assert run_training(again, tmp_path / "b", {}, say=lambda _: None)
    for name, value in whole.averaged.state_dict().items():
        assert torch.equal(value, again.averaged.state_dict()[name]), name
    assert list((tmp_path / "b").glob("grid-*.png"))


def test_a_share_of_none_or_all_leaves_one_kind() -> None:
    samples = joined([tiny_samples(2), tiny_samples(4, exact=False, seed=4)])
    kinds = samples.exact.tolist()
    assert one_kind(samples, 0.5) is samples
    assert one_kind(samples, 1).exact.tolist() == [True] * sum(kinds)
    photos = one_kind(samples, 0)
    assert photos.names == tuple(n for n, k in zip(samples.names, kinds, strict=True) if not k)
    assert not photos.exact.any()


def test_photos_alone_need_photos(tmp_path: Path) -> None:
    line = ["train", "labels", str(tmp_path), "--out", str(tmp_path / "run"), "--exact", "0"]
    refused = CliRunner().invoke(cli.main, line)
    assert refused.exit_code == 2 and "there are none; give --photos" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(UsageError, match="no sample"):
        LabelTraining(LabelRecipe(TINY), tiny_network(), tiny_samples(1).select([False]))
    with pytest.raises(UsageError, match="wanted 1 and 2 or more"):
        LabelRecipe(TINY, batch=1)


def test_platt_finds_the_map_that_made_the_answers() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 4000)
    truth = (rng.random(4000) < 1 / (1 + np.exp(-(0.6 * logits - 1)))).astype(float)
    scale, bias = platt(logits, truth)
    fitted: Any = LogisticRegression(C=1e6).fit(logits[:, None], truth)
    assert scale == pytest.approx(float(fitted.coef_[0, 0]), abs=0.02)
    assert bias == pytest.approx(float(fitted.intercept_[0]), abs=0.02)


def test_few_answers_move_the_calibration_little_and_the_scale_stays_positive() -> None:
    scale, bias = platt(np.array([2.0, -2.0]), np.array([0.0, 1.0]))
    assert 0.05 <= scale < 1 and abs(bias) < 0.5


def test_calibration_scales_expected_errors_of_exact_points_alike_on_both_sides() -> None:
    network = tiny_network().fold()
    with torch.no_grad():
        network.face.bias[:TRACKED] = 2.5  # the expected error is about exp(2.5) pixels
    samples = tiny_samples(24)
    found = calibrate(network, samples)
    reader = LabelReader(network, found)
    reading = reader.read(samples.pixels.permute(0, 2, 3, 1).numpy())
    apart = (reading.points - samples.points[:, :POINTS]).norm(dim=-1)
    both = (found.spread[36] - found.spread[45]).abs()
    assert both < 1e-6
    within = (found.spread > 0.21) & (found.spread < 4.9)
    assert within.float().mean() > 0.8
    assert float(reading.sigma[:, within].mean()) == pytest.approx(
        float(apart[:, within].mean()), rel=0.05
    )
    none = calibrate(network, samples.select([False] * 24))
    assert torch.equal(none.scale, Calibration.plain().scale)
