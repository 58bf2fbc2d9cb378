"""Published weights of face parsers, read without running anything in them.

Two layouts are read: that of zllrunning's 79999_iter.pth (191 tensors, also shipped by others as
parsing_bisenet.pth), and that of yakhyo's resnet18.pt and resnet34.pt, whose tensors have other
names. Both were trained on CelebAMask-HQ, whose terms allow non-commercial research only, and that
holds for what derives from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from annotate.bisenet.network import BiSeNet
from sfhq.errors import IntegrityError, UsageError
from sfhq.weights.checkpoints import file_digest, require_fit
from stylegan2_ops.foreign.inert import BadCheckpoint
from stylegan2_ops.foreign.torch_files import read_weights, sniff, tensors_in

LICENCE = "CelebAMask-NC: trained on CelebAMask-HQ, non-commercial research only"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB from 0 to 1, both layouts
SIZE = 512  # side of the pictures that both were trained on
LARGEST = 400_000_000  # bytes; the largest published file has 96 million
WRAPPERS = ("model", "state_dict")  # keys under which some programs save the tensors
# yakhyo's name -> the published one; applied in this order, each where it stands.
RENAMED = (
    ("fpn.backbone.", "cp.resnet."),
    ("fpn.", "cp."),
    (".attention.0.", ".conv_atten."),
    (".attention.1.", ".bn_atten."),
    ("ffm.conv_block.", "ffm.convblk."),
)
HEADS = ("conv_out", "conv_out16", "conv_out32")
UNUSED = ("cp.resnet.fc.weight", "cp.resnet.fc.bias")  # of ResNets that torchvision wrote


def published_name(name: str) -> str:
    """A tensor's name in 79999_iter.pth, of its name in either layout."""
    name = name.removeprefix("module.")
    if not name.startswith(("fpn.", "ffm.conv_block.", *(f"{h}.conv_block." for h in HEADS))):
        parts = name.split(".")
        # yakhyo's last layer is conv_out.conv.weight; zllrunning's is conv_out.conv_out.weight.
        if parts[0] in HEADS and parts[1:] == ["conv", "weight"]:
            return f"{parts[0]}.conv_out.weight"
        return name
    for theirs, ours in RENAMED:
        name = name.replace(theirs, ours)
    name = name.replace(".conv_block.", ".conv.")
    return name.replace(".norm.", ".bn.")


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of either layout by the names of 79999_iter.pth.

    Raises:
        IntegrityError: two tensors have one name.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = published_name(name)
        if ours in found:
            raise IntegrityError(f"two tensors are called {ours}")
        found[ours] = tensor
    return {name: tensor for name, tensor in found.items() if name not in UNUSED}


def _tensors(path: Path) -> dict[str, Tensor]:
    if sniff(path) == "safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:
            raise BadCheckpoint(f"{path}: damaged safetensors ({type(error).__name__})") from None
    value = read_weights(path)
    for key in WRAPPERS:
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    return tensors_in(value)


def load_bisenet(path: Path) -> tuple[BiSeNet, str]:
    """A parser in eval mode, and the sha256 of its file.

    Args:
        path: 79999_iter.pth, resnet18.pt, resnet34.pt, or the same tensors as safetensors.

    Raises:
        UsageError: there is no such file.
        IntegrityError: it is damaged, holds another network, or numbers that are not finite.
    """
    if not path.is_file():
        raise UsageError(
            f"{path}: no such weights file; run: sfhq models fetch bisenet "
            "--accept-licence CelebAMask-NC"
        )
    if path.stat().st_size > LARGEST:
        raise IntegrityError(
            f"{path}: {path.stat().st_size:,} bytes; wanted weights of BiSeNet, at most {LARGEST:,}"
        )
    try:
        state = renamed(_tensors(path))
        # ResNet-34 has a third block in its first stage, ResNet-18 has two.
        layers = 34 if "cp.resnet.layer1.2.conv1.weight" in state else 18
        with torch.device("meta"):
            outline = BiSeNet(layers)
        require_fit(outline, state)
    except (BadCheckpoint, IntegrityError) as error:
        said = str(error).removeprefix(f"{path}: ")
        raise IntegrityError(f"{path}: no weights of BiSeNet: {said}") from None
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.sum(dtype=torch.float64).isfinite():
            raise IntegrityError(f"{path}: {name} has numbers that are not finite; fetch it again")
    network = BiSeNet(layers)
    network.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    )
    return network.eval().requires_grad_(False), file_digest(path)
