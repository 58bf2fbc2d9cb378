"""Retrieval of photos by sketches that are being drawn, by texts, and by both.

Source: Dai et al. 2024, "Sketch Less Face Image Retrieval", for the protocol; its sketches are
people's, ours are traced from the photos.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from encoders.flip.data import Captioned
from encoders.flip.network import Flip
from encoders.flip.sketches import SketchScores, sketch_ranks, sketch_scores
from encoders.flip.strokes import progress
from encoders.flip.tokens import Tokens
from sfhq.parts.records import Pixels


@torch.inference_mode()
def by_sketches(
    network: Flip,
    tokens: Tokens,
    data: Captioned,
    steps: int,
    say: Callable[[str], None] = print,
) -> dict[str, SketchScores]:
    """Scores of each way to search.

    Args:
        network, tokens: in eval mode, and its vocabulary.
        data: photos with texts; of each the first text counts.
        steps: of each sketch.
        say: takes progress lines.

    Returns:
        "sketch"; "text", whose rank is the same at each step; "sketch and text", by the mean of
        both vectors.
    """
    device = network.temp.device
    photos = torch.cat(
        [
            network.image_vectors(network.image_tokens(data.images(rows).to(device))).cpu()
            for rows in torch.arange(len(data)).split(32)
        ]
    )
    ids, mask = tokens([t[0] for t in data.texts], network.config.length)
    words = torch.cat(
        [
            network.text_vectors(a.to(device), b.to(device)).cpu()
            for a, b in zip(ids.split(64), mask.split(64), strict=True)
        ]
    )
    truth = torch.arange(len(data))
    ranks: dict[str, list[torch.Tensor]] = {"sketch": [], "text": [], "sketch and text": []}
    for place in range(len(data)):
        drawn = progress(data.picture(place), steps)
        # Steps that add nothing look alike: each picture is read once.
        several, of = np.unique(drawn.reshape(steps, -1), axis=0, return_inverse=True)
        images = torch.from_numpy(several.reshape(-1, *drawn.shape[1:])).permute(0, 3, 1, 2)
        seen = torch.cat(
            [
                network.image_vectors(
                    network.image_tokens((some.float() / 127.5 - 1).to(device))
                ).cpu()
                for some in images.split(32)
            ]
        )[torch.from_numpy(of.reshape(-1))]
        text = words[place].expand_as(seen)
        for name, query in (
            ("sketch", seen),
            ("text", text),
            ("sketch and text", F.normalize(seen + text, dim=1)),
        ):
            near = (query @ photos.T)[None]
            ranks[name].append(sketch_ranks(near, truth[place : place + 1]))
        if (place + 1) % 50 == 0:
            say(f"{place + 1} of {len(data)} photos")
    return {name: sketch_scores(torch.cat(found), len(data)) for name, found in ranks.items()}


def sketch_sheet(data: Captioned, steps: int, count: int = 6) -> Pixels:
    """Some photos, and beside each its sketch at five moments."""
    rows = []
    for place in range(min(count, len(data))):
        photo = data.picture(place)
        drawn = progress(photo, steps)
        moments = [max(0, round(steps * share) - 1) for share in (0.08, 0.2, 0.4, 0.7, 1.0)]
        rows.append(np.concatenate([photo, *(drawn[m] for m in moments)], 1))
    return np.concatenate(rows)
