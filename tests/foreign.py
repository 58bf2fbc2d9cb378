"""Writers of weights files in the published layouts, by the real libraries' own picklers.

Modules of the foreign projects exist only while a file is written, so that the pickles name them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.e4e.network import E4e
from stylegan2_ops.generator import Generator

SOURCE = "import pathlib\npathlib.Path({canary!r}).write_text('ran')\n"
NUMPY_2, NUMPY_1 = b"numpy._core", b"numpy.core"


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError("a writer never calls this")


class EasyDict(dict[str, Any]):
    """Stands for dnnlib's, under its name."""


class Network:
    """Stands for dnnlib's TensorFlow network, under its name."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        return self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise AssertionError("a writer never calls this")


@contextlib.contextmanager
def foreign_modules() -> Iterator[None]:
    """Modules under the names that published pickles mention."""
    homes: dict[str, Any] = {
        "torch_utils.persistence": _reconstruct_persistent_obj,
        "dnnlib.util": EasyDict,
        "dnnlib.tflib.network": Network,
    }
    made: list[str] = []
    before = {value: value.__module__ for value in homes.values()}
    for name, value in homes.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            package = ".".join(parts[:end])
            if package not in sys.modules:
                sys.modules[package] = types.ModuleType(package)
                made.append(package)
        setattr(sys.modules[name], value.__name__, value)
        value.__module__ = name
    try:
        yield
    finally:
        for value, module in before.items():
            value.__module__ = module
        for name in made:
            del sys.modules[name]


class Persistent:
    """An instance of a class under the persistence format: it pickles as source text and state."""

    def __init__(self, class_name: str, state: dict[str, Any], canary: Path) -> None:
        self.meta = EasyDict(
            type="class",
            version=6,
            module_src=SOURCE.format(canary=str(canary)),
            class_name=class_name,
            state=state,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _reconstruct_persistent_obj, (self.meta,)


def module_tree(
    state: Mapping[str, Tensor],
    buffers: set[str],
    canary: Path,
    kept: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Persistent:
    """Modules as the persistence format keeps them, from tensors by name.

    `kept` has the attributes that each class keeps beside its tensors.
    """

    def build(prefix: str, class_name: str) -> Persistent:
        own = {n: v for n, v in state.items() if n.startswith(prefix)}
        direct = {n.removeprefix(prefix): v for n, v in own.items() if "." not in n[len(prefix) :]}
        below = OrderedDict.fromkeys(n[len(prefix) :].split(".")[0] for n in own)
        modules: OrderedDict[str, Any] = OrderedDict()
        for name in below:
            if name not in direct:
                modules[name] = build(f"{prefix}{name}.", _class_of(name))
        parameters = {n: v for n, v in direct.items() if n not in buffers}
        return Persistent(
            class_name,
            {
                "training": False,
                "_parameters": OrderedDict(
                    (n, torch.nn.Parameter(v.clone(), requires_grad=False))
                    for n, v in parameters.items()
                ),
                "_buffers": OrderedDict((n, v.clone()) for n, v in direct.items() if n in buffers),
                "_non_persistent_buffers_set": set(),
                "_modules": modules,
                "resample_gain": np.float64(1.0),
                "act_gain": np.float32(1.4142135),
                **kept.get(class_name, {}),
            },
            canary,
        )

    return build("", "Generator")


def _class_of(name: str) -> str:
    if name.startswith("fc"):
        return "FullyConnectedLayer"
    if name.startswith("b") and name[1:].isdigit():
        return "SynthesisBlock"
    return {
        "mapping": "MappingNetwork",
        "synthesis": "SynthesisNetwork",
        "affine": "FullyConnectedLayer",
        "torgb": "ToRGBLayer",
    }.get(name, "SynthesisLayer")


BUFFERS = {"w_avg", "resample_filter", "noise_const"}
DEFAULTED = object()  # an argument left at its default, which is not among the kept ones


def init_kwargs(generator: Generator, flat: bool = False, **more: Any) -> dict[str, Any]:
    """The arguments that the published network keeps of its own making."""
    config = generator.config
    synthesis = EasyDict(
        channel_base=config.channel_base,
        channel_max=config.channel_max,
        num_fp16_res=4 if config.conv_clamp else 0,
        conv_clamp=config.conv_clamp,
    )
    sizes = {
        "z_dim": config.z_dim,
        "c_dim": 0,
        "w_dim": config.w_dim,
        "img_resolution": config.resolution,
        "img_channels": 3,
        "mapping_kwargs": EasyDict(num_layers=config.mapping_layers),
    }
    kept = dict(synthesis) if flat else {"synthesis_kwargs": synthesis}
    given = {**sizes, **kept, **more}
    return EasyDict({name: value for name, value in given.items() if value is not DEFAULTED})


def write_nvlabs(
    path: Path,
    generator: Generator,
    canary: Path,
    protocol: int = 4,
    flat: bool = False,
    state: Mapping[str, Tensor] | None = None,
    kept: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> Path:
    """A snapshot: G, D, G_ema and what else is in one, by Python's own pickler.

    Layers keep the generator's clamp, as those of published snapshots do; `kept` replaces what
    classes keep. A value of `DEFAULTED` in `more` leaves the argument out.
    """
    if kept is None:
        clamp = {"conv_clamp": generator.config.conv_clamp}
        kept = {
            "SynthesisLayer": {"activation": "lrelu", "use_noise": True, **clamp},
            "ToRGBLayer": clamp,
            "SynthesisBlock": {"architecture": "skip"},
        }
    with foreign_modules():
        tree = module_tree(state or generator.state_dict(), BUFFERS, canary, kept)
        tree.meta["state"]["_init_args"] = ()
        tree.meta["state"]["_init_kwargs"] = init_kwargs(generator, flat, **more)
        empty: dict[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}}
        whole = {
            "G": tree,
            "D": Persistent("Discriminator", dict(empty), canary),
            "G_ema": tree,
            "training_set_kwargs": EasyDict(
                path="faces.zip", resolution=generator.config.resolution
            ),
            "augment_pipe": Persistent("AugmentPipe", dict(empty), canary),
        }
        path.write_bytes(pickle.dumps(whole, protocol=protocol))
    return path


def to_tensorflow(state: Mapping[str, Tensor], resolution: int) -> dict[str, dict[str, Any]]:
    """Variables of the TensorFlow release, by network, from ours by name."""
    mapping: dict[str, Any] = {}
    synthesis: dict[str, Any] = {}
    layer = 0
    while f"mapping.fc{layer}.weight" in state:
        mapping[f"Dense{layer}/weight"] = state[f"mapping.fc{layer}.weight"].t().numpy()
        mapping[f"Dense{layer}/bias"] = state[f"mapping.fc{layer}.bias"].numpy()
        layer += 1
    synthesis["4x4/Const/const"] = state["synthesis.b4.const"][None].numpy()
    side, noise = 4, 0
    while side <= resolution:
        names = {"conv1": "Conv"} if side == 4 else {"conv0": "Conv0_up", "conv1": "Conv1"}
        for ours, theirs in {**names, "torgb": "ToRGB"}.items():
            source, target = f"synthesis.b{side}.{ours}", f"{side}x{side}/{theirs}"
            weight = state[f"{source}.weight"]
            if theirs == "Conv0_up":
                weight = weight.flip(2, 3)
            synthesis[f"{target}/weight"] = weight.permute(2, 3, 1, 0).numpy()
            synthesis[f"{target}/bias"] = state[f"{source}.bias"].numpy()
            synthesis[f"{target}/mod_weight"] = state[f"{source}.affine.weight"].t().numpy()
            synthesis[f"{target}/mod_bias"] = (state[f"{source}.affine.bias"] - 1).numpy()
            if ours != "torgb":
                synthesis[f"{target}/noise_strength"] = state[f"{source}.noise_strength"].numpy()
                synthesis[f"noise{noise}"] = state[f"{source}.noise_const"][None, None].numpy()
                noise += 1
        side *= 2
    own = {"lod": np.float32(0), "dlatent_avg": state["mapping.w_avg"].numpy()}
    return {"Gs": own, "mapping": mapping, "synthesis": synthesis}


def write_tensorflow(
    path: Path, generator: Generator, protocol: int = 3, version: int = 4, **static: Any
) -> Path:
    """The tuple (G, D, Gs) of networks with their variables as numpy arrays."""
    variables = to_tensorflow(generator.state_dict(), generator.config.resolution)

    def network(name: str, components: dict[str, Any] | None = None) -> Network:
        return Network(
            {
                "version": version,
                "name": name,
                "static_kwargs": EasyDict(
                    num_channels=3, resolution=generator.config.resolution, **static
                ),
                "components": EasyDict(components or {}),
                "build_module_src": "raise SystemExit('built')",
                "build_func_name": "G_main",
                "variables": [(n, np.asarray(v)) for n, v in variables.get(name, {}).items()],
            }
        )

    with foreign_modules():
        parts = {name: network(name) for name in ("synthesis", "mapping")}
        whole = (network("G"), network("D"), network("Gs", parts))
        path.write_bytes(pickle.dumps(whole, protocol=protocol))
    return path


def to_rosinality(state: Mapping[str, Tensor], resolution: int) -> OrderedDict[str, Tensor]:
    """g_ema's tensors from ours by name."""
    out: OrderedDict[str, Tensor] = OrderedDict()
    layer = 0
    while f"mapping.fc{layer}.weight" in state:
        for part in ("weight", "bias"):
            out[f"style.{layer + 1}.{part}"] = state[f"mapping.fc{layer}.{part}"]
        layer += 1
    out["input.input"] = state["synthesis.b4.const"][None]
    side, index, noise = 4, 0, 0
    while side <= resolution:
        block = f"synthesis.b{side}"
        names = {"conv1": "conv1"}
        if side > 4:
            names = {"conv0": f"convs.{2 * index}", "conv1": f"convs.{2 * index + 1}"}
        rgb = "to_rgb1" if side == 4 else f"to_rgbs.{index}"
        for ours, theirs in names.items():
            source = f"{block}.{ours}"
            out[f"{theirs}.conv.weight"] = state[f"{source}.weight"][None]
            for part in ("weight", "bias"):
                out[f"{theirs}.conv.modulation.{part}"] = state[f"{source}.affine.{part}"]
            out[f"{theirs}.noise.weight"] = state[f"{source}.noise_strength"].reshape(1)
            out[f"{theirs}.activate.bias"] = state[f"{source}.bias"]
            if ours == "conv0":
                out[f"{theirs}.conv.blur.kernel"] = state[f"{source}.resample_filter"] * 4
            out[f"noises.noise_{noise}"] = state[f"{source}.noise_const"][None, None]
            noise += 1
        out[f"{rgb}.conv.weight"] = state[f"{block}.torgb.weight"][None]
        for part in ("weight", "bias"):
            out[f"{rgb}.conv.modulation.{part}"] = state[f"{block}.torgb.affine.{part}"]
        out[f"{rgb}.bias"] = state[f"{block}.torgb.bias"].reshape(1, 3, 1, 1)
        if side > 4:
            out[f"{rgb}.upsample.kernel"] = state[f"{block}.resample_filter"] * 4
            index += 1
        side *= 2
    return out


def write_rosinality(path: Path, generator: Generator, archive: bool = True, **drop: bool) -> Path:
    """{g_ema, latent_avg, args}, by torch.save."""
    theirs = to_rosinality(generator.state_dict(), generator.config.resolution)
    if drop.get("noises"):
        theirs = OrderedDict((n, v) for n, v in theirs.items() if not n.startswith("noises"))
    whole: dict[str, Any] = {
        "g_ema": theirs,
        "args": argparse.Namespace(size=generator.config.resolution, lr=0.002),
    }
    if not drop.get("latent_avg"):
        whole["latent_avg"] = generator.mapping.w_avg.clone()
    torch.save(whole, path, _use_new_zipfile_serialization=archive)
    return path


def write_e4e(
    path: Path,
    encoder: E4e,
    generator: Generator | None,
    options: Any = None,
    archive: bool = True,
    rows: bool = True,
    mean: bool = True,
) -> Path:
    """{state_dict: {encoder.*, decoder.*}, latent_avg if `mean`, opts}, by torch.save."""
    state: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in encoder.state_dict().items():
        if name != "latent_avg":
            state[name if name.startswith("encoder.") else f"encoder.{name}"] = value
    if generator is not None:
        for name, value in to_rosinality(
            generator.state_dict(), generator.config.resolution
        ).items():
            state[f"decoder.{name}"] = value
    average = encoder.latent_avg.clone() if generator is None else generator.mapping.w_avg.clone()
    if rows and generator is not None:
        average = average.repeat(encoder.config.num_ws, 1)
    options = (
        {"encoder_type": "Encoder4Editing", "device": "cuda:0"} if options is None else options
    )
    whole = {"state_dict": state, "opts": options}
    if mean:
        whole["latent_avg"] = average
    torch.save(whole, path, _use_new_zipfile_serialization=archive)
    return path


def rename_numpy(data: bytes, to: bytes) -> bytes:
    """A pickle with numpy's module under its other name, in the text form of protocols 2 and 3."""
    other = NUMPY_1 if to == NUMPY_2 else NUMPY_2
    return data.replace(b"c" + other, b"c" + to)


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()
