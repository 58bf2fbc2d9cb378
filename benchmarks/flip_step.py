"""A training step of FLIP against a straightforward one, in the same run and with the same loss.

    OMP_NUM_THREADS=1 python benchmarks/flip_step.py --config tiny --batch 32 --steps 5

The straightforward step has attention written out, all tokens in every layer, texts padded to the
full length, positives and negatives found sample by sample, matching in two passes, a queue that is
copied whole, and momentum and AdamW parameter by parameter. Both start from the same weights and
see the same random batches; they take turns, and the medians are compared. With `--longest` the
straightforward step, too, pads texts to the longest of the batch only. `--alone` times our step
alone, also in seconds of the processor, and tells the memory of the process at its highest.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from encoders.flip.data import Captioned
from encoders.flip.network import flip_config
from encoders.flip.recipe import FlipRecipe
from encoders.flip.text import TextTower
from encoders.flip.tokens import load_tokens
from encoders.flip.training import FlipTraining

CAPTIONS = (
    "A young woman with long brown hair. She is smiling, and she wears earrings.",
    "This is a photo of an older man with gray hair and a mustache.",
    "A man with a receding hairline and bushy eyebrows. He has a goatee.",
    "The photo shows a girl wearing a hat. Her hair is blond and wavy.",
)


def attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    mixed: Tensor = scores.softmax(3) @ v
    return mixed


def whole(
    tower: TextTower,
    ids: Tensor,
    mask: Tensor,
    image: Tensor | None = None,
    which: Tensor | None = None,
) -> Tensor:
    """All tokens of the last layer, though only the first is read."""
    assert which is None
    vectors: Tensor = tower(ids, mask, image)
    return vectors[:, 0]


class Plain(FlipTraining):
    """The straightforward step."""

    longest = False

    def follow(self) -> dict[str, Tensor]:
        with (
            patch.object(F, "scaled_dot_product_attention", attention),
            patch.object(TextTower, "first", whole),
        ):
            return self._plain()

    def _plain(self) -> dict[str, Tensor]:
        recipe, network = self.recipe, self.network
        batch = self._draw()
        ids, mask = batch.ids, batch.mask
        if not self.longest:
            more = recipe.config.length - ids.shape[1]
            ids, mask = F.pad(ids, (0, more), value=self.tokens.pad), F.pad(mask, (0, more))
        network.clamp_temperature()
        theirs = dict(network.named_parameters())
        with torch.no_grad():
            for name, value in self.slow.named_parameters():
                value.copy_(value * recipe.momentum + theirs[name] * (1 - recipe.momentum))
        images = self.data.images(batch.rows, batch.flipped)
        seen, said = self.slow.keys(images, ids, mask)
        queue = self.queue.keys()
        all_images = torch.cat([seen, queue.images.clone()])
        all_texts = torch.cat([said, queue.texts.clone()])
        faces = torch.cat([batch.faces, queue.faces]).tolist()
        drawn = torch.cat([batch.drawn, queue.drawn]).tolist()
        owned = torch.cat([batch.captions, queue.captions]).tolist()
        count = recipe.batch
        good = torch.zeros(count, len(faces))
        for i in range(count):
            for j in range(len(faces)):
                alike = faces[i] == faces[j] or drawn[i] in owned[j] or drawn[j] in owned[i]
                good[i, j] = float(alike)
        alpha = recipe.alpha * min(1.0, self.images / max(recipe.alpha_images, 1))
        hard = good / good.sum(1, keepdim=True)
        tokens = network.image_tokens(images)
        mine, words = network.image_vectors(tokens), network.text_vectors(ids, mask)
        contrast = torch.zeros(())
        for query, slow, others in ((mine, seen, all_texts), (words, said, all_images)):
            with torch.no_grad():
                soft = (slow @ others.T / network.temp).softmax(1)
            target = alpha * soft + (1 - alpha) * hard
            logs = F.log_softmax(query @ others.T / network.temp, dim=1)
            contrast = contrast - (logs * target).sum(1).mean() / 2
        numbers = torch.rand(2, count, generator=self.rng)
        wrong: list[list[Tensor]] = [[], [], []]
        matched = self.tokens.for_matching(ids)
        for way, (query, others) in enumerate(((words, mine), (mine, words))):
            for i in range(count):
                with torch.no_grad():
                    logits = query[i] @ others.T / network.temp
                    logits[good[i, :count] > 0] = -torch.inf
                    until = logits.double().softmax(0).cumsum(0)
                    place = int((until <= numbers[way, i].double() * until[-1]).sum().item())
                if way == 0:
                    wrong[0].append(tokens[place])
                else:
                    wrong[1].append(matched[place])
                    wrong[2].append(mask[place])
        pairs = network.match(tokens, matched, mask)
        others_two = network.match(
            torch.cat([torch.stack(wrong[0]), tokens]),
            torch.cat([matched, torch.stack(wrong[1])]),
            torch.cat([mask, torch.stack(wrong[2])]),
        )
        truth = torch.cat([torch.ones(count), torch.zeros(2 * count)]).long()
        matching = F.cross_entropy(torch.cat([pairs, others_two]), truth)
        self.optimiser.zero_grad(set_to_none=True)
        (contrast + matching).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip, foreach=False)
        lr = recipe.lr_at(self.images, len(self.data))
        for group in self.optimiser.param_groups:
            group["lr"], group["foreach"] = lr, False
        self.optimiser.step()
        self.queue.push(self._made(seen, said, batch))
        self.images += count
        self.steps += 1
        return {"contrast": contrast.detach(), "matching": matching.detach()}

    @staticmethod
    def _made(seen: Tensor, said: Tensor, batch: Any) -> Any:
        from encoders.flip.losses import Keys

        return Keys(seen, said, batch.faces, batch.drawn, batch.captions)


def alone(training: FlipTraining, options: argparse.Namespace) -> None:
    """Time our step, and tell the memory that it took."""
    training.step()  # the first warms up
    times = []
    for _ in range(options.steps):
        started, used = time.perf_counter(), time.process_time()
        training.step()
        times.append((time.perf_counter() - started, time.process_time() - used))
    wall, processor = (statistics.median(t) for t in zip(*times, strict=True))
    numbers = sum(p.numel() for p in training.network.parameters())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{options.config}, {numbers / 1e6:.0f} million numbers, batch {options.batch}, "
        f"{options.precision}: {wall:.2f} s a step, {processor:.2f} s of the processor, "
        f"{memory:.1f} GiB at most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--queue", type=int, default=4096)
    parser.add_argument("--longest", action="store_true")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options = parser.parse_args()
    tokens = load_tokens()
    config = flip_config(options.config, len(tokens))
    count, size = 4 * options.batch, config.vision.size
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, size, size), generator=rng, dtype=torch.uint8)
    names = tuple(map(str, range(count)))
    texts = tuple((f"{CAPTIONS[i % 4]} {i}",) for i in range(count))
    data = Captioned(pixels, names, names, texts)
    recipe = FlipRecipe(
        config, 10**6, options.batch, queue=options.queue, lr=1e-5, precision=options.precision
    )
    if options.alone:
        alone(FlipTraining(recipe, data, tokens), options)
        return
    if options.precision != "fp32":
        parser.error("--precision bf16 is for --alone: the straightforward step has 32 bits")
    both: dict[str, FlipTraining] = {
        "plain": Plain(recipe, data, tokens),
        "ours": FlipTraining(recipe, data, tokens),
    }
    assert isinstance(both["plain"], Plain)
    both["plain"].longest = options.longest
    times: dict[str, list[float]] = {name: [] for name in both}
    worst = 0.0
    for step in range(options.steps + 1):
        losses = {}
        for name, training in both.items():
            started = time.perf_counter()
            found = training.step()
            losses[name] = float(found["contrast"] + found["matching"])
            if step:  # the first warms up
                times[name].append(time.perf_counter() - started)
        worst = max(worst, abs(losses["plain"] - losses["ours"]))
    plain, ours = (statistics.median(times[name]) for name in ("plain", "ours"))
    print(
        f"{options.config}, batch {options.batch}: straightforward {plain:.2f} s, "
        f"ours {ours:.2f} s, {plain / ours:.2f} x; losses differ by {worst:.1e} at most"
    )


if __name__ == "__main__":
    main()
