"""The label network prepared for reading says what the network says."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from label_tiny import TINY, crops, tiny_network, tiny_reader
from PIL import Image

from annotate.network import reader as reading
from annotate.network.reader import LabelReader, load_labels
from sfhq.faces.classes import FLIPPED
from sfhq.networks.backbone import BackboneShape
from sfhq.networks.labels import LabelConfig, LabelNetwork, Outputs
from sfhq.networks.prepared import PreparedLabels, preparable
from sfhq.parts.records import Pixels
from sfhq.tensors import to_tensor
from stylegan2_ops.merged import pack_added_conv2d, pack_doubled_conv2d
from stylegan2_ops.packed import pack_conv2d

SAMPLES = sorted((Path(__file__).parents[1] / "sfhq" / "samples").glob("*.jpg"))
# Odd widths, and residual blocks in the last stage; a side of 96 gives maps of 3, 6, 12 and 24.
ODD = LabelConfig(
    size=96,
    backbone=BackboneShape(5, (5, 7, 6, 9, 11, 13, 13), (2, 2, 1, 1, 2, 1, 2), 3),
    widths=(9, 7, 5, 6, 3),
    looks=3,
    hidden=7,
    added=1,
)

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


def channels_last(crop: Pixels) -> torch.Tensor:
    return to_tensor(crop[None]).contiguous(memory_format=torch.channels_last)


def furthest(network: LabelNetwork, crop: Pixels) -> dict[str, float]:
    """How far what is said differs, in shares of the largest value of its kind."""
    image = channels_last(crop)
    with torch.inference_mode():
        (plain, whole), (found, seen) = network.said(image), PreparedLabels(network).said(image)
    pairs = [(getattr(plain, f.name), getattr(found, f.name)) for f in fields(Outputs)]
    assert all(a.shape == b.shape for a, b in pairs)
    names = [*(f.name for f in fields(Outputs)), "whole"]
    return {
        name: float((a - b).abs().max() / a.abs().max().clamp(min=1e-6))
        for name, (a, b) in zip(names, [*pairs, (whole, seen)], strict=True)
    }


@pytest.mark.parametrize("config", [TINY, ODD, replace(ODD, size=160)])
def test_a_random_network_says_the_same(config: LabelConfig) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LabelNetwork(config)
        network(torch.randn(2, 3, config.size, config.size))  # the norms see something
    network.fold()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    off = furthest(network, crops(1, config.size)[0])
    assert max(off.values()) < 1e-4, off
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_the_embedded_network_says_the_same() -> None:
    network = load_labels()[0].network
    with Image.open(SAMPLES[0]) as opened:
        crop = np.array(opened.convert("RGB").resize((256, 256)))
    off = furthest(network, crop)
    assert max(off.values()) < 1e-5, off


def test_a_reader_of_a_known_network_uses_the_prepared_one_and_shares_it() -> None:
    plain, picture = tiny_reader(), crops(1)
    one, other = (LabelReader(plain.network, digest="a digest of this test") for _ in range(2))
    found, wanted = one.read(picture), plain.read(picture)
    other.read(crops(1, seed=2))
    assert plain._network() is plain.network
    assert isinstance(one._network(), PreparedLabels) and one._network() is other._network()
    assert (found.parsing - wanted.parsing).abs().max() < 1e-5
    assert (found.points - wanted.points).abs().max() < 0.01
    assert (found.attributes - wanted.attributes).abs().max() < 1e-5


def test_a_mirrored_crop_has_the_mirrored_labels_to_the_bit() -> None:
    reader, pictures = LabelReader(tiny_reader().network, digest="mirrored"), crops(3)
    here = reader.read(pictures)
    there = reader.read(np.ascontiguousarray(pictures[:, :, ::-1]))
    assert torch.equal(here.parsing, there.parsing.flip(3)[:, list(FLIPPED)])
    assert torch.equal(here.alpha, there.alpha.flip(2))
    assert torch.equal(here.attributes, there.attributes)


def test_a_reader_goes_to_a_worker_without_what_was_prepared() -> None:
    reader, picture = LabelReader(tiny_reader().network, digest="to a worker"), crops(1)
    size = len(pickle.dumps(reader))
    wanted = reader.read(picture)
    packed = pickle.dumps(reader)
    assert len(packed) == size
    reading._LAST.clear()
    assert pickle.loads(packed).read(picture).parsing.equal(wanted.parsing)


def test_what_is_not_preparable_reads_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_reader().network
    assert preparable(network)
    assert not preparable(tiny_network()), "its norms are not folded"
    assert not preparable(tiny_reader().network.double())
    assert not preparable(tiny_reader().network.to("meta"))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not preparable(network)
    reader = LabelReader(network, digest="without oneDNN")
    wanted = tiny_reader().read(crops(1))
    assert reader.read(crops(1)).parsing.equal(wanted.parsing)


@pytest.mark.parametrize("works", [True, False])
def test_packed_convolutions(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise RuntimeError("the operator is no more")

    if not works:
        for name in ("_reorder_convolution_weight", "_reorder_convolution_transpose_weight"):
            monkeypatch.setattr(torch.ops.mkldnn, name, gone)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x, to = torch.randn(1, 6, 10, 10), torch.randn(1, 5, 10, 10)
        weight, bias = torch.randn(5, 6, 3, 3), torch.randn(5)
    x, to = (t.contiguous(memory_format=torch.channels_last) for t in (x, to))
    plain = F.conv2d(x, weight, bias, padding=1)
    clamped = pack_conv2d(weight, 10, bias, padding=1, clamp=(-0.5, 2.0))(x)
    torch.testing.assert_close(clamped, plain.clamp(-0.5, 2.0))
    for relu in (False, True):
        onto = to.clone(memory_format=torch.preserve_format)
        found = pack_added_conv2d(weight, 10, bias, padding=1, relu=relu)(x, onto)
        assert found.data_ptr() == onto.data_ptr()
        torch.testing.assert_close(found, F.relu(plain + to) if relu else plain + to)
    doubled = F.conv2d(F.interpolate(x, scale_factor=2.0), weight, bias, padding=1)
    torch.testing.assert_close(
        pack_doubled_conv2d(weight, 10, bias)(x), doubled, atol=1e-4, rtol=1e-4
    )
