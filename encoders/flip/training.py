"""Train FLIP: contrastive and matching loss, momentum networks, a queue, several processes.

A step is a batch over all processes. All of them draw the same random numbers for the whole batch
and each does its rows, so the result does not depend on their number. Keys of the contrastive loss
that come from momentum networks need no gradient; they are made for the whole batch first, so a
batch that is split into `slices` to save memory has exactly the contrastive loss of the whole.
Without momentum the keys are the networks' own, with gradients, as CLIP's. The matching loss draws
its wrong images and texts from one slice, over all processes: with more slices there are fewer.

Source: Li et al. 2021, "Align before Fuse"; Dai et al. 2024, "15M Multimodal Facial Image-Text
Dataset". Unlike the published training, duplicates are no negatives, and networks are selected on a
validation split.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from encoders.flip.data import Captioned, mirrored
from encoders.flip.evaluation import mean_recall, retrieve, see
from encoders.flip.losses import (
    Keys,
    Queue,
    contrastive_loss,
    draw_negatives,
    key_of,
    matching_loss,
    same,
)
from encoders.flip.network import Flip, Momentum
from encoders.flip.processes import Processes
from encoders.flip.recipe import FlipRecipe
from encoders.flip.tokens import Tokens
from encoders.flip.vision import Kept
from sfhq.errors import SfhqError, UsageError

ONE = Processes()
EASIER = 3.0  # times the temperature that negatives of a new matching head are warmer at first
FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class _Batch:
    """The images, texts and keys of a step, over all processes."""

    rows: Tensor
    flipped: Tensor
    ids: Tensor
    mask: Tensor
    faces: Tensor
    drawn: Tensor
    captions: Tensor
    kept: Kept | None


@torch.inference_mode()
def stem_features(
    network: Flip, data: Captioned, batch: int = 8, *, mirrors: bool = True
) -> Tensor:
    """(2, N, 1 + P, F) float16: what a hybrid's stem sees of images, and of their mirror images.

    Without `mirrors` (1, N, 1 + P, F): of the images alone.
    """
    device, found = network.temp.device, []
    for mirror in (False, True) if mirrors else (False,):
        rows = []
        for at in torch.arange(len(data)).split(batch):
            images = data.images(at, torch.full((len(at),), mirror)).to(device)
            images = images.contiguous(memory_format=torch.channels_last)
            rows.append(
                network.visual_encoder.vision_model.embeddings.features(images).half().cpu()
            )
        found.append(torch.cat(rows))
    return torch.stack(found)


def caption_keys(data: Captioned) -> Tensor:
    """(2, N, K) keys of all captions of N images, then of their mirror images; -1 fills up."""
    most = max(len(texts) for texts in data.texts)
    keys = torch.full((2, len(data), most), -1, dtype=torch.int64)
    for i, texts in enumerate(data.texts):
        for k, text in enumerate(texts):
            keys[0, i, k], keys[1, i, k] = key_of(text), key_of(mirrored(text))
    return keys


class FlipTraining:
    """State of a training run, a `sfhq.training.run.Training`.

    Attributes:
        images: images seen.
        validations: for each validation the images seen and the retrieval on the held-out images.
        best: state of the network at the best validation, or None.

    Args:
        recipe: settings.
        data: images with captions to train on.
        tokens: the vocabulary.
        held_out: images of other faces for validation, or None.
        device: where the networks run. Random numbers are drawn on the CPU.
        start: the network to start from; None starts from random weights.
        processes: this process among those that train together.
        features: what `stem_features` gives of the data, where a kept stem's are at hand already.

    Raises:
        UsageError: sizes do not fit each other.
    """

    def __init__(
        self,
        recipe: FlipRecipe,
        data: Captioned,
        tokens: Tokens,
        held_out: Captioned | None = None,
        device: str = "cpu",
        start: Flip | None = None,
        processes: Processes = ONE,
        features: Tensor | None = None,
    ) -> None:
        config = recipe.config
        if recipe.batch % (recipe.slices * processes.count):
            raise UsageError(
                f"a batch of {recipe.batch} for {processes.count} processes of {recipe.slices} "
                "slices; wanted a multiple of both"
            )
        if len(tokens) != config.text.vocabulary:
            raise UsageError(
                f"a vocabulary of {len(tokens)} tokens; the network has {config.text.vocabulary}"
            )
        if data.size != config.vision.size:
            raise UsageError(
                f"images of {data.size} pixels; the network wants {config.vision.size}"
            )
        if start is not None and start.config != config:
            raise UsageError("the network to start from has other sizes than the recipe")
        self.recipe, self.data, self.tokens = recipe, data, tokens
        self.held_out, self.processes = held_out, processes
        self.device = torch.device(device)
        if start is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                start = Flip(config)
        self.network = copy.deepcopy(start).to(self.device).requires_grad_(True).train()
        self.network.use_checkpointing(recipe.checkpointing)
        if recipe.keep_stem:
            self.network.stem.requires_grad_(False)
        if recipe.only_matching:
            for name, value in self.network.named_parameters():
                value.requires_grad_(".crossattention." in name or name.startswith("itm_head."))
        self.slow = Momentum(self.network).to(self.device)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        plain = [p for p in trained if p.ndim < 2]
        weights = [p for p in trained if p.ndim >= 2]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": weights, "weight_decay": recipe.decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=recipe.lr,
        )
        self.scaler = torch.amp.GradScaler(
            self.device.type, init_scale=2.0**12, enabled=recipe.precision == "fp16"
        )
        self._captions = caption_keys(data)
        several = self._captions.shape[2]
        self.queue = Queue(recipe.queue, config.embedding, several, self.device)
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self._faces = data.face_keys()
        self._seen = None
        if recipe.keep_stem:
            self._seen = stem_features(self.network, data) if features is None else features
        self.images = self.steps = 0
        self.validations: list[dict[str, float]] = []
        self.best: dict[str, Tensor] | None = None

    @property
    def total(self) -> int:
        """Number of images after which the training ends."""
        return self.recipe.images

    def step(self) -> dict[str, Tensor]:
        """One update; losses by name.

        Raises:
            SfhqError: the loss or its gradient is not finite; no weight was changed.
        """
        self.processes.goes_on(True, self.device)
        return self.follow()

    def follow(self) -> dict[str, Tensor]:
        """One update, together with the other processes; see `step`."""
        recipe, network = self.recipe, self.network
        batch = self._draw()
        network.clamp_temperature()
        self.slow.follow(network, recipe.momentum)
        lr = recipe.lr_at(self.images, len(self.data))
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        keys = self._keys(batch) if recipe.momentum else None
        self.optimiser.zero_grad(set_to_none=True)
        report = torch.zeros(2, device=self.device)
        for rows in torch.arange(recipe.batch).split(recipe.batch // recipe.slices):
            with self._autocast():
                contrast, matching, keys = self._losses(batch, keys, rows)
            loss = contrast + recipe.matching * matching
            self.scaler.scale(loss / recipe.slices).backward()
            report += torch.stack([contrast.detach(), matching.detach()]) / recipe.slices
        self.processes.average_gradients(network.parameters())
        report = self.processes.average(report)
        self.scaler.unscale_(self.optimiser)
        length = torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        # Of a scaled loss gradients may overflow: that step is left out, and the scale halved.
        usual = self.scaler.is_enabled() and bool(report.sum().isfinite())
        if not usual and not bool((report.sum() + length).isfinite()):
            raise SfhqError(
                f"step {self.steps + 1}: the loss is {float(report.sum())} and its gradient "
                f"{float(length)}; the last saved state is kept: lower --lr, or use --precision "
                "fp32, in another --out"
            )
        self.scaler.step(self.optimiser)
        self.scaler.update()
        assert keys is not None
        self.queue.push(keys)
        self.images += recipe.batch
        self.steps += 1
        self._validate()
        found = {"contrast": report[0], "temperature": network.temp.detach().clone()}
        if recipe.matching:
            found["matching"] = report[1]
        return found | {"lr_millionths": torch.tensor(lr * 1e6)}  # logs have four digits

    def _autocast(self) -> torch.autocast:
        kind = FORMATS.get(self.recipe.precision)
        return torch.autocast(self.device.type, kind or torch.bfloat16, enabled=kind is not None)

    def _draw(self) -> _Batch:
        """The next images of the epoch's order; a batch may go on into the next epoch."""
        recipe, count = self.recipe, len(self.data)
        places = torch.arange(recipe.batch) + self.images
        rows = torch.empty(recipe.batch, dtype=torch.int64)
        for epoch in (places // count).unique().tolist():
            order = torch.randperm(
                count, generator=torch.Generator().manual_seed(key_of(f"{recipe.seed} {epoch}"))
            )
            here = places // count == epoch
            rows[here] = order[places[here] % count]
        flipped = torch.rand(recipe.batch, generator=self.rng) < recipe.flip
        chosen = torch.rand(recipe.batch, generator=self.rng).tolist()
        texts, chosen_of = [], []
        for row, mirror, number in zip(rows.tolist(), flipped.tolist(), chosen, strict=True):
            captions = self.data.texts[row]
            chosen_of.append(int(number * len(captions)))
            text = captions[chosen_of[-1]]
            texts.append(mirrored(text) if mirror else text)
        ids, mask = self.tokens(texts, recipe.config.length)
        keys = self._captions[flipped.long(), rows]  # (B, K)
        drawn = keys.gather(1, torch.tensor(chosen_of)[:, None])[:, 0]
        return _Batch(rows, flipped, ids, mask, self._faces[rows], drawn, keys, self._kept())

    def _kept(self) -> Kept | None:
        """What of the images is looked at; None for all."""
        recipe, sizes = self.recipe, self.recipe.config.vision
        if not recipe.left_out:
            return None
        order = torch.rand(recipe.batch, sizes.places, generator=self.rng).argsort(1)
        places = order[:, : max(round(sizes.places * (1 - recipe.left_out)), 1)]
        if sizes.stem is None:
            return Kept(places)
        numbers = torch.rand(recipe.batch, sizes.stem.hidden, generator=self.rng)
        return Kept(places, numbers >= recipe.left_out)

    def _mine(self, rows: Tensor) -> Tensor:
        """This process's part of some rows of a batch."""
        return rows.chunk(self.processes.count)[self.processes.rank]

    def _pixels(self, batch: _Batch, rows: Tensor) -> Tensor:
        which, flipped = batch.rows[rows], batch.flipped[rows]
        if self._seen is not None:
            return self._seen[flipped.long(), which].to(self.device, torch.float32)
        return self.data.images(which, flipped).to(self.device)

    def _keys(self, batch: _Batch) -> Keys:
        """The momentum networks' keys of the whole batch, over all processes, in its order."""
        recipe = self.recipe
        images, texts = [], []
        for rows in torch.arange(recipe.batch).split(recipe.batch // recipe.slices):
            own = self._mine(rows)
            with self._autocast():
                seen, said = self.slow.keys(
                    self._pixels(batch, own),
                    batch.ids[own].to(self.device),
                    batch.mask[own].to(self.device),
                )
            images.append(self.processes.rows(seen.float()))
            texts.append(self.processes.rows(said.float()))
        return self._named(batch, torch.cat(images), torch.cat(texts))

    def _named(self, batch: _Batch, images: Tensor, texts: Tensor) -> Keys:
        names = (batch.faces, batch.drawn, batch.captions)
        return Keys(images, texts, *(n.to(self.device) for n in names))

    def _losses(
        self, batch: _Batch, keys: Keys | None, rows: Tensor
    ) -> tuple[Tensor, Tensor, Keys]:
        """Both losses of this process's part of a slice, and the keys; None: the networks' own."""
        recipe, network, processes = self.recipe, self.network, self.processes
        own = self._mine(rows)
        ids, mask = batch.ids.to(self.device), batch.mask.to(self.device)
        kept = None if batch.kept is None else batch.kept.rows(own, self.device)
        with torch.set_grad_enabled(not recipe.only_matching):
            tokens = network.image_tokens(self._pixels(batch, own), kept)
            images = network.image_vectors(tokens)
            texts = network.text_vectors(ids[own], mask[own])
        if keys is None:
            both = processes.rows_with_gradients(images), processes.rows_with_gradients(texts)
            keys = self._named(batch, *both)
        alpha = recipe.alpha * min(1.0, self.images / max(recipe.alpha_images, 1))
        contrast = contrastive_loss(
            *(images, texts, own.to(self.device), keys, self.queue.keys()),
            network.temp,
            alpha,
        )
        if not recipe.matching:
            return contrast, torch.zeros((), device=self.device), keys
        those = keys.rows(rows.to(self.device))
        wrong = draw_negatives(
            processes.rows(images),
            processes.rows(texts),
            same(those, those),
            network.temp.detach() * self._ease(),
            self.rng,
        )
        place = (own - rows[0]).to(self.device)  # of this process's rows in the slice
        first, said = ids[rows].to(self.device), mask[rows].to(self.device)
        first = self.tokens.for_matching(first)
        other = wrong.texts[place]
        if processes.count == 1:
            seen, which = tokens, torch.cat([place, wrong.images[place], place])
        else:
            everyone = processes.rows_with_gradients(tokens)
            seen = torch.cat([tokens, everyone[wrong.images[place]]])
            own_place = torch.arange(len(tokens), device=self.device)
            which = torch.cat([own_place, own_place + len(tokens), own_place])
        logits = network.match(
            seen,
            torch.cat([first[place], first[place], first[other]]),
            torch.cat([said[place], said[place], said[other]]),
            which,
        )
        matching = matching_loss(logits, wrong.exist[place], wrong.decisions, processes.count)
        return contrast, matching, keys

    def _ease(self) -> float:
        """How many times warmer than the temperature negatives are drawn."""
        if not self.recipe.only_matching:
            return 1.0
        return 1 + EASIER * max(0.0, 1 - 2 * self.images / self.total)

    def _validate(self) -> None:
        """At times: retrieval on the held-out images; the best network is kept. Process 0 only."""
        every, before = self.recipe.validate, self.images - self.recipe.batch
        due = every and (self.images // every > before // every or self.images >= self.total)
        if not due or self.held_out is None or self.processes.rank:
            return
        self.network.eval()
        found = retrieve(see(self.network, self.tokens, self.held_out))
        self.network.train()
        score = mean_recall(found)
        if score > max((v["mean_recall"] for v in self.validations), default=-1.0):
            state = self.network.state_dict()
            self.best = {name: value.detach().cpu().clone() for name, value in state.items()}
        self.validations.append(
            {
                "images": float(self.images),
                "mean_recall": score,
                **{f"{way}_r{k}": getattr(r, f"r{k}") for way, r in found.items() for k in (1, 10)},
            }
        )

    def chosen(self) -> Flip:
        """The network of the best validation, or as it is now where there was none."""
        network = Flip(self.recipe.config)
        network.load_state_dict(self.best or self.network.state_dict())
        return network.eval().requires_grad_(False)

    def grid(self) -> None:
        """There is nothing to look at."""

    def state_dict(self) -> dict[str, Any]:
        """All state that a resumed run needs to continue exactly, on any number of processes."""
        return {
            "images": self.images,
            "steps": self.steps,
            "network": self.network.state_dict(),
            "slow": self.slow.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "queue": self.queue.state_dict(),
            "rng": self.rng.get_state(),
            "validations": self.validations,
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        for name in ("network", "slow", "optimiser", "queue"):
            getattr(self, name).load_state_dict(state[name])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.images, self.steps = state["images"], state["steps"]
        self.rng.set_state(state["rng"])
        self.validations, self.best = list(state["validations"]), state["best"]


def follow_training(training: FlipTraining, load: Callable[[], dict[str, Any] | None]) -> None:
    """What all processes but the first do: resume as it does, and step whenever it steps.

    Args:
        training: with a rank above 0.
        load: the saved state, or None; read before process 0's first step, so it is the same.
    """
    state = load()
    if state is not None:
        training.load_state_dict(state)
    while training.processes.goes_on(False, training.device):
        training.follow()
