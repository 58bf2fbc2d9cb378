"""What a FLIP starts from, and the processes that train it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sfhq.commands.train import check_device
from sfhq.console import say
from sfhq.errors import UsageError

if TYPE_CHECKING:
    from encoders.flip.network import Flip, FlipConfig
    from encoders.flip.processes import Processes
    from encoders.flip.tokens import Tokens


def started_on_stem(config: FlipConfig, weights: Path | None, seed: int) -> Flip:
    """A new network whose stem is a label network."""
    from dataclasses import replace

    import torch

    from encoders.flip.network import Flip
    from sfhq.networks.labels import LabelConfig
    from sfhq.weights.checkpoints import pack_path, read_checkpoint

    source = read_checkpoint(weights or pack_path("labels"), "labels")
    try:
        sizes = LabelConfig.from_dict(source.architecture)
        vision = replace(config.vision, size=sizes.size, stem=sizes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Flip(replace(config, vision=vision))
        network.stem.load_state_dict({n: source.state[n] for n in network.stem.state_dict()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{source.path}: it cannot be read ({error}); wanted a file of sfhq train labels"
        ) from None
    return network


def joined(device: str) -> tuple[Processes, str]:
    """This process among those that torchrun started, and its device."""
    from encoders.flip.processes import Processes

    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(), device
    import torch

    kind = device.partition(":")[0]
    if kind == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        check_device(device)
        torch.cuda.set_device(torch.device(device))
    torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    return Processes(torch.distributed.get_rank(), count), device


def started_on_files(
    config: FlipConfig, tokens: Tokens, vision: Path | None, text: Path | None, seed: int
) -> Flip:
    """A network whose towers come from files; its sizes are theirs."""
    from dataclasses import replace

    import torch

    from encoders.flip.foreign import grow_words, read_text, read_vision
    from encoders.flip.network import Flip
    from sfhq.errors import IntegrityError
    from stylegan2_ops.foreign.inert import BadCheckpoint

    try:
        seen = read_vision(vision) if vision else None
        width = seen.config.width if seen else config.vision.width
        said = read_text(text, image_width=width) if text else None
        said = grow_words(said, len(tokens), seed) if said else None
        # What comes from a file keeps the published form, without normed tokens.
        config = replace(
            config,
            vision=seen.config if seen else config.vision,
            text=said.config if said else replace(config.text, image_width=width),
            norm_tokens=config.norm_tokens and seen is None,
        )
    except BadCheckpoint as error:
        raise IntegrityError(str(error)) from None
    except ValueError as error:
        raise UsageError(f"--vision and --text do not fit: {error}") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Flip(config)
    for source, tower in ((seen, network.visual_encoder), (said, network.text_encoder)):
        if source is not None:
            tower.load_state_dict(source.state, strict=False)  # a BERT lacks cross-attention
            for note in source.notes:
                say(note, err=True)
    return network
