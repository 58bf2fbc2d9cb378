"""Training FLIP: processes, slices, resume, bad numbers, validation."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("tokenizers")

from encoders.flip.data import Captioned
from encoders.flip.evaluation import retrieve, see
from encoders.flip.losses import same
from encoders.flip.network import Flip, FlipConfig
from encoders.flip.processes import Processes
from encoders.flip.recipe import FlipRecipe
from encoders.flip.text import TextConfig
from encoders.flip.tokens import SPECIAL, Tokens
from encoders.flip.training import FlipTraining, caption_keys, follow_training
from encoders.flip.vision import VisionConfig
from sfhq.errors import SfhqError, UsageError
from sfhq.training.run import run_training
from sfhq.training.state import load_state, save_state

WORDS = ("a", "man", "woman", "bald", "old", "looks", "left", "right", ".")
CONFIG = FlipConfig(
    VisionConfig(16, 8, 16, 1, 2, 16), TextConfig(16, 12, 16, 1, 2, 16, 16), 8, 12, True
)
RECIPE = FlipRecipe(
    CONFIG, images=32, batch=8, lr=1e-3, warm_up=8, queue=13, alpha_images=16, momentum=0.9
)


def tokens() -> Tokens:
    return Tokens([*SPECIAL, *WORDS])


def captioned(count: int = 11, seed: int = 0) -> Captioned:
    """Shades of grey with captions; some faces and some captions stand twice."""
    rng = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 3, 16, 16), generator=rng, dtype=torch.uint8)
    said = ["a man .", "a bald man looks left .", "old woman", "a woman", "a man ."]
    texts = tuple((said[i % 5], f"{said[(i + 1) % 5]} .") for i in range(count))
    names = tuple(f"{seed}-{i}" for i in range(count))
    faces = tuple(f"{seed}-{i // 2 if i < 4 else i}" for i in range(count))
    return Captioned(pixels, names, faces, texts)


def trained(
    recipe: FlipRecipe = RECIPE, steps: int = 4, **more: Any
) -> tuple[FlipTraining, list[Tensor]]:
    training = FlipTraining(recipe, captioned(), tokens(), **more)
    losses = []
    for _ in range(steps):
        found = training.step()
        losses.append(torch.stack([found["contrast"], found.get("matching", torch.zeros(()))]))
    return training, losses


def weights(training: FlipTraining) -> dict[str, Tensor]:
    return {**training.network.state_dict(), **training.slow.state_dict(prefix="slow.")}


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor], limit: float) -> None:
    assert a.keys() == b.keys()
    worst = max((a[n] - b[n]).abs().max().item() for n in a)
    assert worst <= limit


def worker(rank: int, folder: str, slices: int, momentum: float, alone: bool) -> None:
    """A process of two; at top level, so that it can be started anew."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    training = FlipTraining(
        replace(RECIPE, slices=slices, momentum=momentum, only_matching=alone),
        captioned(),
        tokens(),
        processes=Processes(rank, 2),
    )
    if rank:
        follow_training(training, lambda: None)
    else:
        losses = []
        for _ in range(4):
            found = training.step()
            losses.append(torch.stack([found["contrast"], found["matching"]]))
        training.processes.goes_on(False, training.device)
        torch.save(
            {"losses": losses, "captions": training.queue.keys().captions}, f"{folder}/losses"
        )
    torch.save(weights(training), f"{folder}/weights-{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("slices", "momentum", "alone"),
    [
        (1, 0.9, False),
        pytest.param(2, 0.9, False, marks=pytest.mark.long),
        pytest.param(1, 0.0, False, marks=pytest.mark.long),
        (1, 0.0, True),
    ],
)
def test_two_processes_train_as_one(
    tmp_path: Path, slices: int, momentum: float, alone: bool
) -> None:
    spawn = multiprocessing.get_context("spawn")
    both = [
        spawn.Process(target=worker, args=(r, str(tmp_path), slices, momentum, alone))
        for r in range(2)
    ]
    for process in both:
        process.start()
    recipe = replace(RECIPE, slices=slices, momentum=momentum, only_matching=alone)
    one, losses = trained(recipe)
    for process in both:
        process.join()
        assert process.exitcode == 0
    found = torch.load(tmp_path / "losses", weights_only=True)
    torch.testing.assert_close(torch.stack(found["losses"]), torch.stack(losses), atol=1e-5, rtol=0)
    for rank in range(2):
        assert_close(
            torch.load(tmp_path / f"weights-{rank}", weights_only=True), weights(one), 1e-5
        )
    assert torch.equal(found["captions"], one.queue.keys().captions)


def test_slices_have_the_contrastive_loss_of_the_whole() -> None:
    """Gradients are compared: Adam makes steps of full length even of what is nearly 0."""
    whole = replace(RECIPE, matching=0.0)
    one, first = trained(whole, steps=1)
    _, losses = trained(whole)
    for slices in (2, 8):
        other, _ = trained(replace(whole, slices=slices), steps=1)
        for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
            assert (a.grad is None) == (b.grad is None)
            if a.grad is not None and b.grad is not None:
                assert (a.grad - b.grad).abs().max() < 5e-6
        _, found = trained(replace(whole, slices=slices))
        torch.testing.assert_close(torch.stack(found), torch.stack(losses), atol=1e-5, rtol=0)
    assert torch.equal(first[0], losses[0])


def test_without_momentum_it_is_the_loss_of_clip() -> None:
    recipe = replace(RECIPE, momentum=0.0, queue=0, alpha=0.0, matching=0.0, clip=1e9)
    training = FlipTraining(recipe, captioned(), tokens())
    network, batch = training.network, training._draw()
    with torch.random.fork_rng():
        seen = network.image_vectors(network.image_tokens(training._pixels(batch, torch.arange(8))))
        said = network.text_vectors(batch.ids, batch.mask)
        logits = seen @ said.T / network.temp
        keys = training._named(batch, seen, said)
        wanted = same(keys, keys).float()
        wanted /= wanted.sum(1, keepdim=True)
        loss = (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2
        wished = torch.autograd.grad(loss, network.text_proj.weight)[0]
    training.rng.manual_seed(recipe.seed)
    found = training.step()["contrast"]
    assert torch.allclose(found, loss, atol=1e-6)
    given = network.text_proj.weight.grad
    assert given is not None and torch.allclose(given, wished, atol=1e-6)
    with pytest.raises(UsageError, match="2 slices without momentum; wanted a momentum above 0"):
        replace(recipe, slices=2)


def test_only_the_matching_head_learns_where_that_was_asked() -> None:
    recipe = replace(RECIPE, only_matching=True, momentum=0.0, queue=0, alpha=0.0, images=64)
    training = FlipTraining(recipe, captioned(), tokens())
    before = {n: v.clone() for n, v in training.network.state_dict().items()}
    easier = []
    for _ in range(6):
        easier.append(training._ease())
        assert training.step()["matching"] > 0
    changed = {n for n, v in training.network.state_dict().items() if not torch.equal(v, before[n])}
    assert {"itm_head.weight", "itm_head.bias"} <= changed
    assert any(".crossattention." in n for n in changed)
    assert all(".crossattention." in n or n.startswith("itm_head.") for n in changed)
    assert easier[0] == 4 and easier[-1] == 1 and sorted(easier, reverse=True) == easier
    with pytest.raises(UsageError, match="nothing would be trained"):
        replace(recipe, matching=0.0)


def test_checkpointing_changes_nothing() -> None:
    one, losses = trained(steps=2)
    other, found = trained(replace(RECIPE, checkpointing=True), steps=2)
    torch.testing.assert_close(torch.stack(found), torch.stack(losses), atol=1e-6, rtol=0)
    assert_close(weights(other), weights(one), 1e-6)


def test_it_learns_what_is_said() -> None:
    """Five images with captions of their own: after training each finds its caption."""
    data = captioned().select([4, 6, 7, 8, 10])
    data = replace(data, texts=tuple((t,) for t in ("a man", "woman", "bald", "old .", "left ?")))
    recipe = replace(RECIPE, images=2400, batch=16, flip=0.0, lr=3e-3, queue=0, alpha=0.0)
    training = FlipTraining(recipe, data, tokens())
    first = training.step()
    while training.images < training.total:
        last = training.step()
    assert last["contrast"] < first["contrast"] and last["matching"] < first["matching"]
    found = retrieve(see(training.chosen(), tokens(), data))
    assert found["text_to_image"].r1 == found["image_to_text"].r1 == 1.0


def test_a_resumed_run_goes_on_exactly(tmp_path: Path) -> None:
    recipe = replace(RECIPE, validate=16)
    held = captioned(6, seed=1)
    whole, _ = trained(recipe, held_out=held)
    first = FlipTraining(recipe, captioned(), tokens(), held)
    for _ in range(2):
        first.step()
    save_state(first.state_dict(), first.images, tmp_path)
    second = FlipTraining(recipe, captioned(), tokens(), held)
    assert run_training(second, tmp_path, {}, say=lambda _: None)
    assert second.images == 32
    for name, value in weights(whole).items():
        assert torch.equal(weights(second)[name], value), name
    state, wanted = second.optimiser.state_dict(), whole.optimiser.state_dict()
    assert torch.equal(state["state"][0]["exp_avg"], wanted["state"][0]["exp_avg"])
    assert torch.equal(second.queue.keys().images, whole.queue.keys().images)
    assert second.validations == whole.validations and len(whole.validations) == 2
    assert not list(tmp_path.glob("grid-*"))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"contrast", "matching", "temperature", "lr_millionths", "images_per_second"} <= lines[
        -1
    ].keys()


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    training, _ = trained(steps=0)
    run_training(training, tmp_path, {}, limit_seconds=0, say=lambda _: None)
    saved = load_state(tmp_path)
    again = Untouched(RECIPE, captioned(), tokens())
    FlipTraining.load_state_dict(again, load_state(tmp_path) or {})
    with torch.no_grad():
        again.network.vision_proj.weight[0, 0] = torch.nan
    before = {n: v.clone() for n, v in again.network.state_dict().items()}
    with pytest.raises(SfhqError, match=r"step 2: the loss is nan .*lower --lr") as caught:
        run_training(again, tmp_path, {}, say=lambda _: None)
    assert "\n" not in str(caught.value)
    for name, value in again.network.state_dict().items():
        assert torch.equal(value.nan_to_num(7.0), before[name].nan_to_num(7.0)), name
    kept = load_state(tmp_path)
    assert saved is not None and kept is not None and kept["images"] == saved["images"] == 8
    assert kept["network"]["vision_proj.weight"].isfinite().all()


class Untouched(FlipTraining):
    """A training that keeps the weights it has when a run is resumed."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state


def test_keys_of_all_captions_and_of_mirror_images() -> None:
    data = captioned().select([0, 1])
    data = replace(data, texts=(("looks left .",), ("looks right .", "a man")))
    keys = caption_keys(data)
    assert keys.shape == (2, 2, 2)
    assert keys[0, 0, 0] == keys[1, 1, 0] and keys[1, 0, 0] == keys[0, 1, 0] != keys[0, 0, 0]
    assert keys[0, 1, 1] == keys[1, 1, 1] and keys[0, 0, 1] == -1


def test_gains_and_biases_do_not_decay() -> None:
    training = FlipTraining(RECIPE, captioned(), tokens())
    weighed, plain = training.optimiser.param_groups
    names = {id(p): n for n, p in training.network.named_parameters()}
    assert weighed["weight_decay"] == 0.05 and plain["weight_decay"] == 0.0
    said = {names[id(p)] for p in plain["params"]}
    assert {"temp", "itm_head.bias", "text_encoder.embeddings.LayerNorm.weight"} <= said
    assert {names[id(p)] for p in weighed["params"]}.isdisjoint(said)
    assert len(names) == len(weighed["params"]) + len(plain["params"])


def test_the_learning_rate() -> None:
    recipe = FlipRecipe(CONFIG, images=1000, batch=10, lr=1.0, least_lr=0.1, warm_up=100)
    assert recipe.lr_at(0, 200) == pytest.approx(0.1)
    assert recipe.lr_at(50, 200) == pytest.approx(0.55)
    assert recipe.lr_at(100, 200) == pytest.approx(1.0)
    assert recipe.lr_at(550, 200) == pytest.approx(0.55)
    assert recipe.lr_at(1000, 200) == pytest.approx(0.1)
    step = replace(recipe, schedule="step")
    assert step.lr_at(450, 200) == pytest.approx(0.81)
    assert step.lr_at(199, 200) == 1.0
    assert replace(step, step_factor=0.01).lr_at(900, 200) == pytest.approx(0.1)


def test_the_best_network_of_the_validation_is_chosen() -> None:
    recipe = replace(RECIPE, validate=8)
    training, _ = trained(recipe, held_out=captioned(6, seed=1))
    scores = [v["mean_recall"] for v in training.validations]
    assert [v["images"] for v in training.validations] == [8, 16, 24, 32]
    at = scores.index(max(scores)) + 1
    wanted, _ = trained(recipe, steps=at, held_out=captioned(6, seed=1))
    chosen: Flip = training.chosen()
    for name, value in wanted.network.state_dict().items():
        assert torch.equal(chosen.state_dict()[name], value)


def test_bf16_trains() -> None:
    training, losses = trained(replace(RECIPE, precision="bf16"), steps=2)
    assert torch.stack(losses).isfinite().all()
    assert all(p.dtype == torch.float32 for p in training.network.parameters())


def test_fp16_scales_its_loss_and_resumes(tmp_path: Path) -> None:
    recipe = replace(RECIPE, precision="fp16")
    whole, losses = trained(recipe)
    assert torch.stack(losses).isfinite().all()
    _, usual = trained()
    torch.testing.assert_close(torch.stack(losses), torch.stack(usual), atol=2e-2, rtol=0)
    first, _ = trained(recipe, steps=2)
    save_state(first.state_dict(), first.images, tmp_path)
    second = FlipTraining(recipe, captioned(), tokens())
    state = load_state(tmp_path)
    assert state is not None
    second.load_state_dict(state)
    for _ in range(2):
        second.step()
    assert second.scaler.get_scale() == whole.scaler.get_scale() > 1
    for name, value in weights(whole).items():
        assert torch.equal(weights(second)[name], value), name
    # A scale that makes gradients overflow costs a step, no weight, and is halved.
    before = {n: v.clone() for n, v in second.network.state_dict().items()}
    second.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    second.step()
    assert second.scaler.get_scale() == 2.0**126
    for name, value in second.network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_settings_that_do_not_fit() -> None:
    for change, said in (
        ({"slices": 3}, "slices that divide it"),
        ({"schedule": "up"}, "wanted cosine or step"),
        ({"precision": "fp8"}, "wanted fp32, bf16 or fp16"),
    ):
        with pytest.raises(UsageError, match=said):
            replace(RECIPE, **change)
    with pytest.raises(UsageError, match="3 processes of 1 slices"):
        FlipTraining(RECIPE, captioned(), tokens(), processes=Processes(0, 3))
    with pytest.raises(UsageError, match="a vocabulary of 17 tokens; the network has 16"):
        FlipTraining(RECIPE, captioned(), Tokens([*SPECIAL, *WORDS, "x"]))
    small = replace(captioned(), pixels=torch.zeros(11, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(UsageError, match="images of 8 pixels; the network wants 16"):
        FlipTraining(RECIPE, small, tokens())
    other = Flip(replace(CONFIG, embedding=4))
    with pytest.raises(UsageError, match="other sizes than the recipe"):
        FlipTraining(RECIPE, captioned(), tokens(), start=other)
