"""Read weights of CLIP, BERT and FLIP in the layouts of others, as tensors under our names.

Nothing in a file is run. Sizes come from the tensors; the number of heads is width / 64 as in every
published network of these kinds, unless it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from encoders.flip.text import TextConfig, TextTower
from encoders.flip.vision import VisionConfig, VisionTower
from stylegan2_ops.foreign.fit import MAX_WIDTH, fit_tensors
from stylegan2_ops.foreign.inert import BadCheckpoint, first_line
from stylegan2_ops.foreign.torch_files import read_weights, sniff, tensors_in

State = dict[str, Tensor]
MAX_NUMBERS = 1 << 30  # most numbers of a tower
MAX_LAYERS = 128
HEAD = 64  # length of an attention head
T = TypeVar("T")
WRAPPERS = ("model", "state_dict", "module")


@dataclass(frozen=True)
class VisionSource:
    """An image network read from a file.

    Attributes:
        config: its sizes.
        state: the tensors of `VisionTower(config)`.
        notes: what was found, and what was left out.
    """

    config: VisionConfig
    state: State
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TextSource:
    """A text network read from a file.

    Attributes:
        config: its sizes.
        state: the tensors of `TextTower(config)`; without those of the cross-attention where
            the file has none.
        notes: what was found, and what was left out.
    """

    config: TextConfig
    state: State
    notes: tuple[str, ...]

    @property
    def has_cross_attention(self) -> bool:
        """Whether the file has the layers that look at an image."""
        return any(".crossattention." in name for name in self.state)


def read_state(path: Path) -> State:
    """The tensors of a safetensors file or a torch checkpoint, by name.

    A dictionary under "model", "state_dict" or "module" is unwrapped.

    Raises:
        BadCheckpoint: the file is damaged, hostile or of another kind; one line that begins with
            `path`.
    """
    if not path.is_file():
        raise BadCheckpoint(f"{path}: no such file")
    if sniff(path) == "safetensors":
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except Exception as error:
            raise BadCheckpoint(f"{path}: damaged safetensors: {first_line(error)}") from None
    value = read_weights(path)
    for name in WRAPPERS:
        if isinstance(value, dict) and isinstance(value.get(name), dict):
            value = value[name]
    try:
        return tensors_in(value)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{path}: {error}") from None


def read_vision(path: Path, heads: int | None = None) -> VisionSource:
    """Read the image network of a CLIP: of `transformers`, of OpenAI or open_clip, or a FLIP's.

    Args:
        path: the file.
        heads: attention heads; None for width / 64.

    Raises:
        BadCheckpoint: no such network is in it; one line that begins with `path`.
    """
    return _told(path, lambda: vision_of(read_state(path), heads))


def read_text(path: Path, heads: int | None = None, image_width: int | None = None) -> TextSource:
    """Read a BERT, with or without the prefix "bert.", or a FLIP's.

    Args:
        path: the file.
        heads: attention heads; None for width / 64.
        image_width: length of the image tokens, where the file has no cross-attention; None for the
            text's width.

    Raises:
        BadCheckpoint: no such network is in it; one line that begins with `path`.
    """
    return _told(path, lambda: text_of(read_state(path), heads, image_width))


def _told(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except BadCheckpoint as error:
        text = str(error)
        raise BadCheckpoint(text if text.startswith(f"{path}:") else f"{path}: {text}") from None
    except Exception as error:  # a hostile file can cause any error
        raise BadCheckpoint(f"{path}: cannot be read: {first_line(error)}") from None


def vision_of(state: Mapping[str, Tensor], heads: int | None = None) -> VisionSource:
    """The image network among some tensors; see `read_vision`.

    Raises:
        BadCheckpoint: there is none, or tensors are missing, not finite or of wrong shapes.
    """
    notes: list[str] = []
    if "visual.conv1.weight" in state:
        inner, what = _from_openai(below(state, "visual.")), "the layout of OpenAI and open_clip"
        if "visual.proj" in state:
            notes.append("left out: visual.proj, CLIP's own projection")
        rest = len([n for n in state if not n.startswith("visual.")])
    else:
        for prefix in ("visual_encoder.vision_model.", "vision_model.", ""):
            if f"{prefix}embeddings.patch_embedding.weight" in state:
                inner = below(state, prefix) if prefix else dict(state)
                break
        else:
            raise BadCheckpoint(
                "holds no CLIP image network (no embeddings.patch_embedding, no visual.conv1); "
                "wanted a vision transformer's file"
            )
        what = "the layout of transformers"
        rest = len(state) - len(inner)
    notes.insert(0, f"image network in {what}")
    if rest:
        notes.append(f"left out: {rest} tensors that belong to other networks")
    patch = inner["embeddings.patch_embedding.weight"]
    if patch.ndim != 4:
        raise BadCheckpoint(f"patch_embedding has shape {tuple(patch.shape)}; wanted 4 dimensions")
    width, side = int(patch.shape[0]), int(patch.shape[-1])
    places = _tensor(inner, "embeddings.position_embedding.weight")
    grid = round((len(places) - 1) ** 0.5)
    if grid * grid != len(places) - 1:
        raise BadCheckpoint(f"has {len(places)} positions; wanted 1 and a square grid")
    depth = _layers(inner, "encoder.layers")
    hidden = _tensor(inner, "encoder.layers.0.mlp.fc1.weight").shape[0]
    _check(depth, width, int(hidden), side * grid)
    config = VisionConfig(
        side * grid, side, width, depth, heads or max(width // HEAD, 1), int(hidden)
    )
    with torch.device("meta"):
        wanted = VisionTower(config).state_dict()
    named = {f"vision_model.{name}": value for name, value in inner.items()}
    return VisionSource(config, fit_tensors(wanted, named, MAX_NUMBERS), tuple(notes))


def text_of(
    state: Mapping[str, Tensor], heads: int | None = None, image_width: int | None = None
) -> TextSource:
    """The text network among some tensors; see `read_text`.

    Raises:
        BadCheckpoint: there is none, or tensors are missing, not finite or of wrong shapes.
    """
    for prefix in ("text_encoder.", "bert.", ""):
        if f"{prefix}embeddings.word_embeddings.weight" in state:
            inner = below(state, prefix) if prefix else dict(state)
            break
    else:
        raise BadCheckpoint(
            "holds no BERT (no embeddings.word_embeddings); wanted a file such as "
            "bert-base-uncased's"
        )
    # Files that were converted from TensorFlow call a layer norm's numbers gamma and beta.
    inner = {
        n.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
            "LayerNorm.beta", "LayerNorm.bias"
        ): v
        for n, v in inner.items()
    }
    words = inner["embeddings.word_embeddings.weight"]
    if words.ndim != 2:
        raise BadCheckpoint(f"word_embeddings has shape {tuple(words.shape)}; wanted 2 dimensions")
    width = int(words.shape[1])
    depth = _layers(inner, "encoder.layer")
    hidden = int(_tensor(inner, "encoder.layer.0.intermediate.dense.weight").shape[0])
    length = len(_tensor(inner, "embeddings.position_embeddings.weight"))
    cross = inner.get("encoder.layer.0.crossattention.self.key.weight")
    seen = int(cross.shape[-1]) if cross is not None else image_width or width
    _check(depth, width, hidden, length, seen)
    if len(words) > 1 << 20:
        raise BadCheckpoint(f"has {len(words):,} tokens; wanted at most {1 << 20:,}")
    config = TextConfig(
        len(words), length, width, depth, heads or max(width // HEAD, 1), hidden, seen
    )
    with torch.device("meta"):
        wanted = TextTower(config).state_dict()
    if cross is None:
        wanted = {n: v for n, v in wanted.items() if ".crossattention." not in n}
    notes = ["text network in the layout of transformers"]
    if cross is None:
        notes.append("has no cross-attention: these layers start from random weights")
    unused = sorted(
        {n.split(".")[0] for n in inner.keys() - wanted.keys() if not n.endswith("position_ids")}
    )
    others = {n.split(".")[0] for n in state if prefix and not n.startswith(prefix)}
    if unused or others:
        notes.append(f"left out: {', '.join(sorted({*unused, *others}))}")
    return TextSource(config, fit_tensors(wanted, inner, MAX_NUMBERS), tuple(notes))


def below(state: Mapping[str, Tensor], prefix: str) -> State:
    """The tensors whose names begin with a prefix, without it."""
    return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}


def grow_words(source: TextSource, vocabulary: int, seed: int = 0) -> TextSource:
    """The same network with more tokens; new ones start from small random vectors.

    Raises:
        BadCheckpoint: it has more tokens than that.
    """
    name = "embeddings.word_embeddings.weight"
    have = source.state[name]
    if len(have) > vocabulary:
        raise BadCheckpoint(
            f"has {len(have)} tokens; the vocabulary has {vocabulary}: give the vocabulary of "
            "these weights"
        )
    if len(have) == vocabulary:
        return source
    fresh = torch.empty(vocabulary - len(have), have.shape[1])
    nn.init.trunc_normal_(fresh, std=0.02, generator=torch.Generator().manual_seed(seed))
    values = {**source.config.__dict__, "vocabulary": vocabulary}
    notes = (*source.notes, f"{len(fresh)} tokens start from random vectors")
    return TextSource(TextConfig(**values), {**source.state, name: torch.cat([have, fresh])}, notes)


def _from_openai(state: State) -> State:
    """The tensors below `visual.` under the names of transformers."""
    found: State = {}
    places = {
        "class_embedding": "embeddings.class_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "conv1.weight": "embeddings.patch_embedding.weight",
    }
    parts = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "attn.out_proj": "self_attn.out_proj",
    }
    for name, value in state.items():
        if name in places:
            found[places[name]] = value
        elif name.startswith("ln_pre."):
            found[name.replace("ln_pre", "pre_layrnorm")] = value
        elif name.startswith("ln_post."):
            found[name.replace("ln_post", "post_layernorm")] = value
        elif at := re.fullmatch(r"transformer\.resblocks\.(\d{1,3})\.(.+)\.(weight|bias)", name):
            if at[2] in parts:
                found[f"encoder.layers.{at[1]}.{parts[at[2]]}.{at[3]}"] = value
        elif at := re.fullmatch(
            r"transformer\.resblocks\.(\d{1,3})\.attn\.in_proj_(weight|bias)", name
        ):
            if len(value) % 3:
                raise BadCheckpoint(f"{name} has {len(value)} rows; wanted a multiple of 3")
            for letter, rows in zip("qkv", value.chunk(3), strict=True):
                found[f"encoder.layers.{at[1]}.self_attn.{letter}_proj.{at[2]}"] = rows
    return found


def _tensor(state: State, name: str) -> Tensor:
    if name not in state or state[name].ndim < 1:
        raise BadCheckpoint(f"has no {name}")
    return state[name]


def _layers(state: State, name: str) -> int:
    pattern = re.compile(rf"{re.escape(name)}\.(\d{{1,4}})\.")
    numbers = {int(found[1]) for n in state if (found := pattern.match(n))}
    if numbers != set(range(len(numbers))) or not 0 < len(numbers) <= MAX_LAYERS:
        raise BadCheckpoint(
            f"has layers {sorted(numbers)[:5]} ...; wanted 1 to {MAX_LAYERS}, numbered from 0"
        )
    return len(numbers)


def _check(depth: int, *sizes: int) -> None:
    if max(sizes) > MAX_WIDTH or min(sizes) < 1:
        raise BadCheckpoint(f"has sizes {sizes}; wanted 1 to {MAX_WIDTH}")
    if depth > MAX_LAYERS:
        raise BadCheckpoint(f"has {depth} layers; wanted at most {MAX_LAYERS}")
