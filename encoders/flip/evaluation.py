"""Retrieval between images and texts: how often, and at which rank, the right one is found.

Equal captions and images of one face count as hits of each other; ties count against the network.
A metric here is never measured on what a network was trained or selected on; see
`encoders.flip.training`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from encoders.flip.data import Captioned
from encoders.flip.losses import key_of
from encoders.flip.network import Flip
from encoders.flip.tokens import Tokens
from sfhq.errors import UsageError

CHUNK = 256  # queries at a time
LAST = 1000.0  # what puts all that is not among the best behind them


@dataclass(frozen=True)
class Recall:
    """How well queries find what belongs to them.

    Attributes:
        r1, r5, r10: share of queries with a hit among the first 1, 5, 10.
        median, mean: of the rank of the first hit; 1 is best.
        queries: how many there were.
        gallery: among how many each had to find its own.
        chance10: `r10` of a network that knows nothing, from the number of hits of each query.
    """

    r1: float
    r5: float
    r10: float
    median: float
    mean: float
    queries: int
    gallery: int
    chance10: float


@dataclass(frozen=True)
class Gallery:
    """Images and texts as a network sees them.

    Attributes:
        images: (N, D) unit vectors.
        whole: (N, C) the tokens of the whole images, before they are projected.
        tokens: (N, 1 + P, C) image tokens, for matching; None where nobody matches.
        faces: (N,) keys of the images' faces.
        texts: (M, D) unit vectors.
        ids, mask: (M, L) of the texts.
        owners: (M,) the image that each text was written for.
        captions: (M,) keys of the texts.
    """

    images: Tensor
    whole: Tensor
    tokens: Tensor | None
    faces: Tensor
    texts: Tensor
    ids: Tensor
    mask: Tensor
    owners: Tensor
    captions: Tensor

    def hits(self, start: int, end: int) -> Tensor:
        """(end - start, M) bool: which texts belong to some images.

        A text belongs to an image if it was written for an image of the same face, or if it is
        equal to one that was.
        """
        faces = self.faces[self.owners]  # of the texts
        rows = []
        for face in self.faces[start:end]:
            own = faces == face
            rows.append(own | torch.isin(self.captions, self.captions[own]))
        return torch.stack(rows)


def ranks(similarity: Tensor, hits: Tensor) -> Tensor:
    """(Q,) rank of the first hit of each query; 1 is best.

    It is 1 and the number of others that are no hit and at least as similar as the best hit.

    Args:
        similarity: (Q, N).
        hits: (Q, N) bool, at least one in each row.
    """
    best = similarity.masked_fill(~hits, -torch.inf).max(1, keepdim=True).values
    return 1 + ((similarity >= best) & ~hits).sum(1)


def recall_of(found: Tensor, gallery: int, counts: Tensor) -> Recall:
    """Summary of the ranks of some queries.

    Args:
        found: (Q,) ranks.
        gallery: how many were searched.
        counts: (Q,) how many of them were hits.
    """
    # Nothing found among 10 drawn without putting back: product of (gallery - hits - i) / (...).
    draws = torch.arange(min(10, gallery), dtype=torch.float64)
    misses = (gallery - counts.double()[:, None] - draws).clamp(min=0) / (gallery - draws)
    values = found.double()
    ordered = values.sort().values
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return Recall(
        r1=float((values <= 1).double().mean()),
        r5=float((values <= 5).double().mean()),
        r10=float((values <= 10).double().mean()),
        median=float(middle),
        mean=float(values.mean()),
        queries=len(found),
        gallery=gallery,
        chance10=float(1 - misses.prod(1).mean()),
    )


def pool(data: Captioned, count: int | None) -> Captioned:
    """A fixed part of some images: those whose names have the smallest hashes.

    Raises:
        UsageError: there are fewer.
    """
    if count is None:
        return data
    if count > len(data):
        raise UsageError(f"a pool of {count} images; there are {len(data)}: give a smaller --pool")
    order = sorted(
        range(len(data)),
        key=lambda i: hashlib.sha256(data.names[i].encode("utf-8", "replace")).digest(),
    )
    return data.select(sorted(order[:count]))


@torch.inference_mode()
def see(
    network: Flip,
    tokens: Tokens,
    data: Captioned,
    *,
    matching: bool = False,
    batch: int = 32,
    features: Tensor | None = None,
) -> Gallery:
    """Run a network over images and all their texts.

    Args:
        network: in eval mode.
        tokens: its vocabulary.
        data: images of the network's size.
        matching: keep the image tokens, which `rerank` needs: 50 KB an image at `tiny`, 600 KB at
            `paper`.
        batch: images or texts at a time.
        features: (N, 1 + P, F) what a hybrid's stem sees of the images, where it is at hand.
    """
    device = network.temp.device
    vectors, whole, kept = [], [], []
    for rows in torch.arange(len(data)).split(batch):
        shown = data.images(rows) if features is None else features[rows].float()
        seen = network.image_tokens(shown.to(device))
        vectors.append(network.image_vectors(seen).cpu())
        whole.append(seen[:, 0].float().cpu())
        if matching:
            kept.append(seen.float().cpu())
    said = [(i, text) for i, texts in enumerate(data.texts) for text in texts]
    ids, mask = tokens([text for _, text in said], network.config.length)
    texts = [
        network.text_vectors(a.to(device), b.to(device)).cpu()
        for a, b in zip(ids.split(batch), mask.split(batch), strict=True)
    ]
    return Gallery(
        torch.cat(vectors),
        torch.cat(whole),
        torch.cat(kept) if matching else None,
        data.face_keys(),
        torch.cat(texts),
        ids,
        mask,
        torch.tensor([i for i, _ in said]),
        torch.tensor([key_of(text) for _, text in said]),
    )


@torch.inference_mode()
def match_scores(
    network: Flip, tokens: Tokens, gallery: Gallery, images: Tensor, texts: Tensor
) -> Tensor:
    """(K,) how much more the matching head believes "a pair" than "not a pair".

    The first token is [ENC], as in training.

    Args:
        network, tokens: as of `see`.
        gallery: with image tokens.
        images, texts: (K,) places of the pairs.
    """
    if gallery.tokens is None:
        raise UsageError("image tokens were not kept; call see with matching=True")
    device = network.temp.device
    scores = []
    for rows, said in zip(images.split(CHUNK), texts.split(CHUNK), strict=True):
        ids = tokens.for_matching(gallery.ids[said]).to(device)
        mask = gallery.mask[said].to(device)
        logits = network.match(gallery.tokens[rows].to(device), ids, mask)
        scores.append((logits[:, 1] - logits[:, 0]).cpu())
    return torch.cat(scores)


def reordered(similarity: Tensor, best: int, score: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Similarities in which the best of each row are ordered anew; all others stay behind them.

    Args:
        similarity: (Q, N) cosines.
        best: how many of each row.
        score: of (K,) rows and (K,) columns gives (K,) numbers, which the cosines are added to.
    """
    top = similarity.topk(min(best, similarity.shape[1]), dim=1)
    rows = torch.arange(len(similarity))[:, None].expand_as(top.indices)
    scores = score(rows.flatten(), top.indices.flatten()).view_as(top.values)
    return (similarity - LAST).scatter(1, top.indices, scores + top.values)


def retrieve(
    gallery: Gallery, best: int = 0, score: Callable[[Tensor, Tensor], Tensor] | None = None
) -> dict[str, Recall]:
    """Retrieval both ways.

    Args:
        gallery: what `see` gave.
        best: how many of each query's results are ordered anew by `score`; 0 for none.
        score: of (K,) images and (K,) texts gives (K,) numbers; see `match_scores`.

    Returns:
        "image_to_text" and "text_to_image".
    """
    hits = gallery.hits(0, len(gallery.images))
    found: dict[str, Recall] = {}
    for name, queries, others, right in (
        ("image_to_text", gallery.images, gallery.texts, hits),
        ("text_to_image", gallery.texts, gallery.images, hits.T),
    ):
        places = []
        for start in range(0, len(queries), CHUNK):
            similarity = queries[start : start + CHUNK] @ others.T
            if best and score is not None:
                similarity = reordered(
                    similarity, best, _turned(score, start, name == "text_to_image")
                )
            places.append(ranks(similarity, right[start : start + CHUNK]))
        found[name] = recall_of(torch.cat(places), len(others), right.sum(1))
    return found


def _turned(
    score: Callable[[Tensor, Tensor], Tensor], start: int, texts_first: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """A score of images and texts as one of queries, counted from `start`, and candidates."""

    def turned(queries: Tensor, candidates: Tensor) -> Tensor:
        queries = queries + start
        return score(candidates, queries) if texts_first else score(queries, candidates)

    return turned


def evaluate(
    network: Flip,
    tokens: Tokens,
    data: Captioned,
    pools: Sequence[int | None] = (None,),
    best: int = 0,
    batch: int = 32,
) -> list[dict[str, Any]]:
    """Retrieval in several pools, without and with matching, ready for JSON.

    Args:
        network, tokens: as of `see`.
        data: held-out images with captions.
        pools: numbers of images; None for all.
        best: how many results the matching head orders anew; 0 leaves that out.
        batch: images or texts at a time.

    Raises:
        UsageError: a pool is larger than the data.
    """
    rows = []
    for count in pools:
        part = pool(data, count)
        gallery = see(network, tokens, part, matching=best > 0, batch=batch)

        def score(images: Tensor, texts: Tensor, gallery: Gallery = gallery) -> Tensor:
            return match_scores(network, tokens, gallery, images, texts)

        for reorder in {0, best}:
            found = retrieve(gallery, reorder, score)
            rows.append(
                {
                    "pool": len(part),
                    "reordered": reorder,
                    **{name: asdict(recall) for name, recall in found.items()},
                }
            )
    return sorted(rows, key=lambda row: (row["pool"], row["reordered"]))


def mean_recall(found: dict[str, Recall]) -> float:
    """The mean of R@1, R@5 and R@10 of both ways, by which a network is selected."""
    values = [v for r in found.values() for v in (r.r1, r.r5, r.r10)]
    return sum(values) / len(values)
