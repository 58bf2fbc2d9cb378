"""The two losses of FLIP: contrastive (ITC) against a queue, and matching (ITM) of hard negatives.

Two samples belong together if they show the same face or share a caption; see `same`. Such a pair
is a positive of the contrastive loss, in the queue too, and never a negative of the matching loss.

Source: Li et al. 2021, "Align before Fuse"; Khosla et al. 2020, "Supervised Contrastive Learning",
for several positives.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfhq.errors import UsageError


def key_of(text: str) -> int:
    """A number of 63 bits for a face's name or a caption; equal texts have equal numbers."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8]) >> 1


@dataclass(frozen=True)
class Keys:
    """What queries are compared with: M samples of an image and one of its captions.

    Attributes:
        images, texts: (M, D) unit vectors, of the momentum networks if there are any.
        faces: (M,) int64, see `key_of`.
        drawn: (M,) int64, of the captions that `texts` are.
        captions: (M, K) int64, of all captions of the images; -1 where there are fewer than K.
    """

    images: Tensor
    texts: Tensor
    faces: Tensor
    drawn: Tensor
    captions: Tensor

    def then(self, other: Keys) -> Keys:
        """These keys and others behind them."""
        return Keys(*(torch.cat([getattr(self, n), getattr(other, n)]) for n in FIELDS))

    def rows(self, rows: Tensor | slice) -> Keys:
        """Some of the keys."""
        return Keys(*(getattr(self, n)[rows] for n in FIELDS))


FIELDS = ("images", "texts", "faces", "drawn", "captions")


def same(ours: Keys, theirs: Keys) -> Tensor:
    """(N, M) bool: which samples belong together.

    They show the same face, or the caption of one is a caption of the other's image, too.
    """
    face = ours.faces[:, None] == theirs.faces[None, :]
    mine = (ours.captions[:, None, :] == theirs.drawn[None, :, None]).any(2)
    other = (ours.drawn[:, None, None] == theirs.captions[None, :, :]).any(2)
    return face | mine | other


class Queue:
    """The keys of the last steps; it fills up, then the oldest go. Any batch fits.

    Args:
        size: how many keys it holds; 0 for none.
        width: length of the vectors.
        captions: most captions of an image.
        device: where it lies.
    """

    def __init__(self, size: int, width: int, captions: int, device: torch.device) -> None:
        if size < 0:
            raise UsageError(f"a queue of {size} keys; wanted 0 or more")
        self.size, self.filled, self.next = size, 0, 0
        zeros = torch.zeros(size, width, device=device)
        numbers = torch.zeros(size, dtype=torch.int64, device=device)
        several = torch.zeros(size, captions, dtype=torch.int64, device=device)
        self._held = Keys(zeros, zeros.clone(), numbers, numbers.clone(), several)

    def keys(self) -> Keys:
        """The keys that it holds, at most `size`."""
        return self._held.rows(slice(self.filled))

    @torch.no_grad()
    def push(self, keys: Keys) -> None:
        """Take new keys in; of more than `size` only the last."""
        if not self.size:
            return
        count = min(len(keys.images), self.size)
        at = (torch.arange(count, device=keys.images.device) + self.next) % self.size
        for name in FIELDS:
            getattr(self._held, name)[at] = getattr(keys, name)[-count:].detach()
        self.next = (self.next + count) % self.size
        self.filled = min(self.filled + count, self.size)

    def state_dict(self) -> dict[str, Tensor | int]:
        """All that it holds."""
        return {**self._held.__dict__, "filled": self.filled, "next": self.next}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ValueError: it is of another size.
        """
        for name in FIELDS:
            mine, theirs = getattr(self._held, name), state[name]
            if not isinstance(theirs, Tensor) or mine.shape != theirs.shape:
                raise ValueError(f"a queue of another size; wanted {name} {tuple(mine.shape)}")
            mine.copy_(theirs)
        self.filled, self.next = int(state["filled"]), int(state["next"])


def contrastive_loss(
    images: Tensor,
    texts: Tensor,
    rows: Tensor,
    batch: Keys,
    queue: Keys,
    temperature: Tensor,
    alpha: float,
) -> Tensor:
    """The mean contrastive loss of some rows of a batch, both ways.

    The target of a query is `alpha` times what the keys' networks say, and 1 - `alpha` spread
    evenly over its positives: all keys that belong to it.

    Args:
        images, texts: (n, D) unit vectors with gradients.
        rows: (n,) their places in the batch.
        batch: keys of the whole batch, over all processes.
        queue: keys of earlier batches.
        temperature: ().
        alpha: 0 to 1.

    Returns:
        (), in float32 also under autocast.
    """
    with torch.autocast(images.device.type, enabled=False):
        return _contrastive_loss(images, texts, rows, batch, queue, temperature, alpha)


def _contrastive_loss(
    images: Tensor,
    texts: Tensor,
    rows: Tensor,
    batch: Keys,
    queue: Keys,
    temperature: Tensor,
    alpha: float,
) -> Tensor:
    keys = batch.then(queue)
    mine = batch.rows(rows)
    with torch.no_grad():
        positive = same(mine, keys).float()
        hard = positive / positive.sum(1, keepdim=True)
        targets = []
        for query, others in ((mine.images, keys.texts), (mine.texts, keys.images)):
            soft = (query @ others.T / temperature).softmax(1)
            targets.append(alpha * soft + (1 - alpha) * hard)
    losses = []
    for query, others, target in zip(
        (images, texts), (keys.texts, keys.images), targets, strict=True
    ):
        logs = F.log_softmax(query @ others.T / temperature, dim=1)
        losses.append(-(logs * target).sum(1).mean())
    return (losses[0] + losses[1]) / 2


@dataclass(frozen=True)
class Negatives:
    """A wrong image and a wrong text for each pair of a batch.

    Attributes:
        images: (B,) for each text the place of an image that does not belong to it.
        texts: (B,) for each image the place of such a text.
        exist: (B,) bool, False where every other sample belongs to it; the places mean nothing.
    """

    images: Tensor
    texts: Tensor
    exist: Tensor

    @property
    def decisions(self) -> Tensor:
        """How many decisions the matching loss is the mean of, ()."""
        return len(self.exist) + 2 * self.exist.sum()


@torch.no_grad()
def draw_negatives(
    images: Tensor,
    texts: Tensor,
    together: Tensor,
    temperature: Tensor,
    rng: torch.Generator,
) -> Negatives:
    """Hard negatives, drawn by their similarity; samples that belong together are never drawn.

    Two numbers per row are drawn on the CPU, whatever the device and however the batch is split.

    Args:
        images, texts: (B, D) unit vectors of the batch, over all processes.
        together: (B, B) bool, see `same`.
        temperature: of the softmax that gives the probabilities, ().
        rng: where the numbers come from.
    """
    numbers = torch.rand(2, len(images), generator=rng).to(images.device)
    exist = ~together.all(1)
    places = []
    for query, others, number in ((texts, images, numbers[0]), (images, texts, numbers[1])):
        with torch.autocast(query.device.type, enabled=False):
            logits = (query @ others.T / temperature).masked_fill(together, -torch.inf)
        # A row without a negative is -inf everywhere; zeros keep it finite, it is not used.
        chances = torch.where(exist[:, None], logits, 0.0).double().softmax(1)
        until = chances.cumsum(1)
        place = torch.searchsorted(until, (number.double() * until[:, -1])[:, None], right=True)
        last = chances.shape[1] - 1 - (chances.flip(1) > 0).long().argmax(1)  # that can be drawn
        places.append(torch.minimum(place[:, 0], last))
    return Negatives(places[0], places[1], exist)


def matching_loss(logits: Tensor, exist: Tensor, decisions: Tensor, processes: int = 1) -> Tensor:
    """The loss of decisions on n pairs, n pairs with a wrong image, n pairs with a wrong text.

    Args:
        logits: (3n, 2) in that order.
        exist: (n,) bool; where it is False, the two negatives are left out.
        decisions: of the whole batch, over all processes; see `Negatives.decisions`.
        processes: over which the result is averaged.

    Returns:
        () such that the average over the processes is the mean over all decisions.
    """
    count = len(exist)
    wanted = (torch.arange(3 * count, device=logits.device) < count).long()
    each = F.cross_entropy(logits, wanted, reduction="none")
    counts = torch.cat([torch.ones_like(exist), exist, exist])
    return torch.where(counts, each, 0.0).sum() * processes / decisions
