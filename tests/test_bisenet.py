"""BiSeNet: the published layouts are read exactly, refused where they are others, and mirror."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from annotate.bisenet.network import Attention, BiSeNet, Fusion
from annotate.bisenet.published import load_bisenet, published_name
from annotate.bisenet.reader import BisenetReader
from annotate.labels.classes import flip_ids
from annotate.labels.frame import whole_frame
from annotate.labels.masks import read_map
from sfhq.errors import IntegrityError, UsageError

Shapes = dict[str, tuple[int, ...]]


def norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)
    yield f"{name}.num_batches_tracked", ()


def layout(blocks: tuple[int, ...] = (2, 2, 2, 2)) -> Shapes:
    """Names and shapes of the published file, written down from its description."""
    found: Shapes = {"cp.resnet.conv1.weight": (64, 3, 7, 7)}
    found.update(norm("cp.resnet.bn1", 64))
    before = 64
    for level, (count, width) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), 1):
        for number in range(count):
            name = f"cp.resnet.layer{level}.{number}"
            inputs = before if number == 0 else width
            found[f"{name}.conv1.weight"] = (width, inputs, 3, 3)
            found[f"{name}.conv2.weight"] = (width, width, 3, 3)
            found.update(norm(f"{name}.bn1", width))
            found.update(norm(f"{name}.bn2", width))
            if number == 0 and level > 1:
                found[f"{name}.downsample.0.weight"] = (width, inputs, 1, 1)
                found.update(norm(f"{name}.downsample.1", width))
        before = width
    for arm, inputs in (("16", 256), ("32", 512)):
        found[f"cp.arm{arm}.conv.conv.weight"] = (128, inputs, 3, 3)
        found.update(norm(f"cp.arm{arm}.conv.bn", 128))
        found[f"cp.arm{arm}.conv_atten.weight"] = (128, 128, 1, 1)
        found.update(norm(f"cp.arm{arm}.bn_atten", 128))
    for name, shape in (
        ("cp.conv_head32", (128, 128, 3, 3)),
        ("cp.conv_head16", (128, 128, 3, 3)),
        ("cp.conv_avg", (128, 512, 1, 1)),
        ("ffm.convblk", (256, 256, 1, 1)),
        ("conv_out.conv", (256, 256, 3, 3)),
        ("conv_out16.conv", (64, 128, 3, 3)),
        ("conv_out32.conv", (64, 128, 3, 3)),
    ):
        found[f"{name}.conv.weight"] = shape
        found.update(norm(f"{name}.bn", shape[0]))
    found["ffm.conv1.weight"] = (64, 256, 1, 1)
    found["ffm.conv2.weight"] = (256, 64, 1, 1)
    for name, width in (("conv_out", 256), ("conv_out16", 64), ("conv_out32", 64)):
        found[f"{name}.conv_out.weight"] = (19, width, 1, 1)
    return found


def tensors(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Random numbers that keep a network's activations in range."""
    rng = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(7)
        elif len(shape) == 4:
            fan = shape[1] * shape[2] * shape[3]
            found[name] = torch.randn(shape, generator=rng) * (2 / fan) ** 0.5
        elif name.endswith(("running_var", "weight")):
            found[name] = 0.5 + torch.rand(shape, generator=rng)
        else:
            found[name] = 0.1 * torch.randn(shape, generator=rng)
    return found


def yakhyo(name: str) -> str:
    """The same tensor's name in yakhyo's files, by its own module names."""
    for ours, theirs in (
        ("cp.resnet.", "fpn.backbone."),
        ("cp.", "fpn."),
        (".conv_atten.", ".attention.0."),
        (".bn_atten.", ".attention.1."),
        ("ffm.convblk.", "ffm.conv_block."),
    ):
        name = name.replace(ours, theirs)
    head = name.split(".")[0]
    if head.startswith("conv_out"):
        name = name.replace(f"{head}.conv_out.", f"{head}.last.").replace(
            ".conv.", ".conv_block.", 1
        )
        name = name.replace(".last.", ".conv.")
    if ".arm" in name:
        name = name.replace(".conv.", ".conv_block.", 1)
    return name if "backbone" in name else name.replace(".bn.", ".norm.")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return tensors(layout())


@pytest.fixture(scope="module")
def published(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bisenet") / "79999_iter.pth"
    # as torch wrote files in 2019
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


def test_the_layout_is_the_published_one() -> None:
    shapes = layout()
    assert len(shapes) == 191
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    assert sum(sizes.values()) == 13_313_119
    learned = {
        k: n for k, n in sizes.items() if not k.endswith(("_mean", "_var", "batches_tracked"))
    }
    assert sum(learned.values()) == 13_300_416
    assert {n: tuple(t.shape) for n, t in BiSeNet().state_dict().items()} == shapes


def test_the_published_file_loads(published: Path, state: dict[str, Tensor]) -> None:
    network, digest = load_bisenet(published)
    assert len(digest) == 64 and not network.training
    assert all(torch.equal(network.state_dict()[n], t) for n, t in state.items())


@pytest.mark.parametrize("blocks", [(2, 2, 2, 2), (3, 4, 6, 3)])
def test_yakhyos_file_loads(tmp_path: Path, blocks: tuple[int, ...]) -> None:
    ours = tensors(layout(blocks), 1)
    theirs = {yakhyo(name): tensor for name, tensor in ours.items()}
    assert "fpn.arm16.attention.0.weight" in theirs and "conv_out.conv.weight" in theirs
    assert "fpn.conv_avg.norm.weight" in theirs and "conv_out16.conv_block.norm.bias" in theirs
    unused = {"fpn.backbone.fc.weight": torch.zeros(3, 512), "fpn.backbone.fc.bias": torch.ones(3)}
    torch.save({"model": theirs | unused, "epoch": 3}, tmp_path / "resnet.pt")
    network, _ = load_bisenet(tmp_path / "resnet.pt")
    assert all(torch.equal(network.state_dict()[n], t) for n, t in ours.items())


def test_names_of_both_layouts_meet() -> None:
    for name in layout((3, 4, 6, 3)):
        assert published_name(name) == name
        assert published_name(f"module.{name}") == name
        assert published_name(yakhyo(name)) == name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing", "cp.conv_avg.conv.weight: shape none"),
        ("shape", "cp.conv_avg.conv.weight: shape (128, 512, 3, 3)"),
        ("extra", "cp.more.weight"),
        ("infinite", "numbers that are not finite"),
        ("other", "no weights of BiSeNet"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, state: dict[str, Tensor], change: str, said: str
) -> None:
    broken: dict[str, Tensor] = dict(state)
    name = "cp.conv_avg.conv.weight"
    if change == "missing":
        del broken[name]
    elif change == "shape":
        broken[name] = torch.zeros(128, 512, 3, 3)
    elif change == "extra":
        broken["cp.more.weight"] = torch.zeros(1)
    elif change == "infinite":
        broken[name] = torch.full((128, 512, 1, 1), torch.inf)
    else:
        broken = {"weight": torch.zeros(3)}
    torch.save(broken, tmp_path / "w.pth")
    with pytest.raises(IntegrityError) as caught:
        load_bisenet(tmp_path / "w.pth")
    assert said in str(caught.value) and str(tmp_path / "w.pth") in str(caught.value)


def test_a_file_that_would_run_code_is_refused_unread(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    (tmp_path / "w.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(IntegrityError, match="not allowed"):
        load_bisenet(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_a_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sfhq models fetch bisenet"):
        load_bisenet(tmp_path / "no.pth")


def test_the_network_computes_what_the_tensors_say(state: dict[str, Tensor]) -> None:
    """Against the same steps written with functions and the tensors' names alone."""
    network = BiSeNet()
    network.load_state_dict(state)
    network.eval()
    s = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
    x = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(3)).double()

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = s[f"{name}.weight"]
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def bn(x: Tensor, name: str) -> Tensor:
        mean, var = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        scale = s[f"{name}.weight"] / (var + 1e-5).sqrt()
        return x * scale[:, None, None] + (s[f"{name}.bias"] - mean * scale)[:, None, None]

    def unit(x: Tensor, name: str) -> Tensor:
        return bn(conv(x, f"{name}.conv"), f"{name}.bn").clamp(min=0)

    def pooled(x: Tensor) -> Tensor:
        return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])

    def arm(x: Tensor, name: str) -> Tensor:
        x = unit(x, f"{name}.conv")
        return x * torch.sigmoid(bn(conv(pooled(x), f"{name}.conv_atten"), f"{name}.bn_atten"))

    def up(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    h = bn(conv(x, "cp.resnet.conv1", 2), "cp.resnet.bn1").clamp(min=0)
    h = functional.max_pool2d(h, 3, 2, 1)
    grids = []
    for level in (1, 2, 3, 4):
        for number in (0, 1):
            name, stride = f"cp.resnet.layer{level}.{number}", 1 + (level > 1 and number == 0)
            inner = bn(conv(h, f"{name}.conv1", stride), f"{name}.bn1").clamp(min=0)
            inner = bn(conv(inner, f"{name}.conv2"), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in s:
                h = bn(conv(h, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            h = (inner + h).clamp(min=0)
        grids.append(h)
    c = arm(grids[3], "cp.arm32") + unit(pooled(grids[3]), "cp.conv_avg")
    c = arm(grids[2], "cp.arm16") + unit(up(c), "cp.conv_head32")
    f = unit(torch.cat([grids[1], unit(up(c), "cp.conv_head16")], 1), "ffm.convblk")
    f = f + f * torch.sigmoid(conv(conv(pooled(f), "ffm.conv1").clamp(min=0), "ffm.conv2"))
    logits = conv(unit(f, "conv_out.conv"), "conv_out.conv_out")
    wanted = functional.interpolate(logits, (96, 64), mode="bilinear", align_corners=True)
    with torch.no_grad():
        found = network(x.float())
    assert found.shape == (1, 19, 96, 64)
    assert (found.double() - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("size", [(32, 32), (100, 71), (33, 160)])
def test_any_size_comes_out_as_it_went_in(state: dict[str, Tensor], size: tuple[int, int]) -> None:
    network = BiSeNet().eval()
    network.load_state_dict(state)
    with torch.no_grad():
        assert network(torch.zeros(2, 3, *size)).shape == (2, 19, *size)


def test_gradients_reach_every_part() -> None:
    torch.manual_seed(0)
    for part, inputs in (
        (Attention(4, 3), (torch.randn(2, 4, 5, 5),)),
        (Fusion(), (torch.randn(2, 128, 3, 3), torch.randn(2, 128, 3, 3))),
    ):
        part(*inputs).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_a_map_of_the_mirrored_photo_is_the_mirrored_map(published: Path) -> None:
    reader = BisenetReader.load(published, 64)
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    crops = np.stack([np.kron(c, np.ones((8, 8, 1), np.uint8))[:64, :64] for c in coarse])
    there = reader.probabilities(crops)
    back = reader.probabilities(np.ascontiguousarray(crops[:, :, ::-1]))
    assert torch.equal(there, back.flip(3)), "pairs are added up, so ids do not change sides"
    assert (there[:, [3, 5, 8]] == 0).all()
    assert torch.allclose(there.sum(1), torch.ones(2, 64, 64), atol=1e-5)
    assert torch.equal(there[1:], reader.probabilities(crops[1:])), "a batch equals singles"
    frame = whole_frame(97, 97, 64)
    one = read_map(there[0], frame, sided=False).classes
    other = read_map(back[0], frame, sided=False).classes
    assert len(np.unique(one)) > 2
    assert (other == flip_ids(one)).all()
