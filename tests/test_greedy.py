"""Short files that ask for endless work, and messages that a file would like to write itself.

Each is small enough to end soon where nothing stops it; what it has to say tells that something
did.
"""

from __future__ import annotations

import io
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign import BUFFERS, foreign_modules, init_kwargs, module_tree, write_tensorflow
from hostile import blob, line, number, program, storage, stream, tensor, text
from test_convert import WITHOUT_REDUCTION, assert_same, lively
from tiny import tiny_e4e, tiny_generator
from torch import Tensor

from encoders.e4e.convert import read_e4e
from stylegan2_ops.foreign.convert import read_generator
from stylegan2_ops.foreign.inert import BadCheckpoint
from stylegan2_ops.foreign.unpickle import Unpickler
from stylegan2_ops.generator import GeneratorConfig


def repeated(module: str, name: str, value: bytes, count: int) -> bytes:
    """A pickle that calls a function on one value, time and again."""
    return program(value, b"q\x000]", b"(", (line(module, name) + b"h\x00\x85R") * count, b"e")


def module(state: bytes) -> bytes:
    """The instructions that push a module of some state."""
    pairs = text("type") + text("class") + text("class_name") + text("Generator")
    name = line("torch_utils.persistence", "_reconstruct_persistent_obj")
    return name + b"}(" + pairs + text("state") + state + b"u\x85R"


def network(version: bytes, more: bytes = b"") -> bytes:
    """The instructions that push a TensorFlow network."""
    made = line("dnnlib.tflib.network", "Network") + b")\x81"
    return made + b"}(" + text("version") + version + more + b"ub"


def doubled(depth: int) -> bytes:
    """Modules of which each holds the next one twice."""
    whole = module(b"}") + b"q\x00"
    for level in range(1, depth):
        below = b"h" + bytes([level - 1])
        held = b"}(" + text("a") + below + text("b") + below + b"u"
        whole += b"0" + module(b"}" + text("_modules") + held + b"s") + b"q" + bytes([level])
    return whole


def laughs(depth: int) -> bytes:
    """Lists of which each holds the last one ten times; 10^depth where it is spelt out."""
    whole = b"](" + b"N" * 10 + b"eq\x00"
    for level in range(1, depth):
        whole += b"0](" + (b"h" + bytes([level - 1])) * 10 + b"eq" + bytes([level])
    return whole


def held(parts: bytes) -> bytes:
    """A snapshot whose generator has some state."""
    return program(b"}", text("G_ema"), module(parts), b"s")


def stored(value: Tensor) -> bytes:
    """The old stream of one tensor."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


ENTRIES = b"}(" + b"".join(text(str(i)) + b"N" for i in range(20_000)) + b"u"
LINEAR = torch.zeros(20_000)
MEMORY = "needs far more memory than a sound file of its length"
GREEDY: dict[str, tuple[bytes, str]] = {
    "a storage read again and again": (
        repeated("torch.storage", "_load_from_bytes", blob(stored(LINEAR)), 200),
        MEMORY,
    ),
    "a long stream read again and again": (
        repeated(
            "torch.storage", "_load_from_bytes", blob(stream(program(b"N0" * 9000, b"N"))), 80
        ),
        "more than 1,000,000 instructions|" + MEMORY,
    ),
    "text encoded again and again": (
        repeated("_codecs", "encode", text("x" * 100_000), 200),
        MEMORY,
    ),
    "a dictionary copied again and again": (
        repeated("collections", "OrderedDict", ENTRIES, 20),
        MEMORY,
    ),
    "a device of long parts": (
        program(line("torch", "device"), text("x" * 100_000) + b"q\x00", b"0(h\x00h\x00tR"),
        "torch.device; wanted a Generator",
    ),
    "numbers that hash alike": (
        program(b"}(", *(number(k * (2**61 - 1)) + b"N" for k in range(1, 1000)), b"u"),
        "keys such as 'a huge number'",
    ),
    "a class name of laughing lists": (
        program(
            laughs(6),
            b"0",
            line("torch_utils.persistence", "_reconstruct_persistent_obj"),
            b"}(" + text("type") + text("class") + text("class_name") + b"h\x05u\x85R",
        ),
        "class 'a list'",
    ),
    "a dtype of laughing lists": (
        program(laughs(6), b"0", line("numpy", "dtype"), b"h\x05\x85R"),
        "dtype 'a list'",
    ),
    "a version of laughing lists": (
        program(laughs(6), b"0", network(b"h\x05")),
        "version a list; wanted 4",
    ),
    "modules that hold each other twice": (
        program(doubled(16), b"0}", text("G_ema") + b"h\x0fs"),
        "more than 20,000 modules, or nested without end",
    ),
    "components that hold each other": (
        program(
            network(b"K\x04") + b"q\x00",
            b"0}(" + b"".join(text(str(i)) + b"h\x00" for i in range(40)) + b"uq\x010",
            network(b"K\x04", text("components") + b"h\x01"),
        ),
        "more than 16 networks, or nested without end",
    ),
    "names without end": (
        held(b"}" + text("_buffers") + b"}" + text("x" * 5000) + b"K\x01ss"),
        "_buffers has a bad name",
    ),
    "parameters in a list": (
        held(b"}" + text("_parameters") + b"](Nes"),
        "_parameters is a list",
    ),
    "a number too large for a float": (
        held(b"}" + text("_parameters") + b"}" + text("x") + b"\x8a\xc8" + b"\x11" * 200 + b"ss"),
        "too large",
    ),
    "a name that breaks the line": (
        program(b"}", text("a\nb\x1b[31m"), b"Ns"),
        re.escape("a?b?[31m"),
    ),
    "a storage whose key breaks the line": (
        stream(program(tensor(1, 0, [1], [1])), program(b"(" + text("\n\x07") + b"l")[2:-1]),
        "a storage that nothing refers to",
    ),
    "bytes after the end": (held(b"}") + b"more", "4 extra bytes after its end"),
    "bytes after a stream": (stored(LINEAR) + b"more", "4 extra bytes after its end"),
}


@pytest.mark.parametrize("name", GREEDY)
def test_greedy_files_are_stopped(tmp_path: Path, name: str) -> None:
    data, reason = GREEDY[name]
    path = tmp_path / "weights"
    path.write_bytes(data)
    with pytest.raises(BadCheckpoint, match=reason) as caught:
        read_generator(path)
    assert str(caught.value).isprintable()


@pytest.mark.long
def test_many_storages_take_linear_time() -> None:
    """A sum over all that came before took minutes for these."""
    from time import process_time

    from stylegan2_ops.foreign.torch_files import read_stream

    def seconds(many: int) -> float:
        stored_each = b"".join(storage(str(i), 0) for i in range(many))
        keys = b"(" + b"".join(text(str(i)) for i in range(many)) + b"l"
        data = stream(program(b"](", stored_each, b"e"), keys, bytes(8 * many))
        started = process_time()
        assert len(read_stream(data)) == many
        return process_time() - started

    # Sixteen times the storages take 16 times as long; with the square, 256 times.
    few = min(seconds(1_250) for _ in range(3))
    assert min(seconds(20_000) for _ in range(2)) < 64 * few


def test_an_array_under_many_names_is_held_once() -> None:
    from stylegan2_ops.foreign.inert import as_tensor

    found = Unpickler(pickle.dumps(np.ones(5, np.float32))).load()
    assert as_tensor(found).data_ptr() == as_tensor(found).data_ptr()


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadCheckpoint, match="pipe: no regular file"):
        read_generator(tmp_path / "pipe")


def layer(name: str, width: int = 4) -> dict[str, Tensor]:
    """A layer under rosinality's names."""
    return {
        f"{name}.conv.weight": torch.zeros(1, width, width, 3, 3),
        f"{name}.activate.bias": torch.zeros(width),
        f"{name}.noise.weight": torch.zeros(1),
        f"{name}.conv.modulation.weight": torch.zeros(width, width),
        f"{name}.conv.modulation.bias": torch.zeros(width),
    }


def rgb(name: str, width: int = 4) -> dict[str, Tensor]:
    """A layer to colours under rosinality's names."""
    return {
        f"{name}.conv.weight": torch.zeros(1, 3, width, 1, 1),
        f"{name}.bias": torch.zeros(1, 3, 1, 1),
        f"{name}.conv.modulation.weight": torch.zeros(width, width),
        f"{name}.conv.modulation.bias": torch.zeros(width),
    }


def blocks(count: int) -> dict[str, Tensor]:
    """A generator of so many blocks after the first, without mapping or noise."""
    state = {"input.input": torch.zeros(1, 4, 4, 4), **layer("conv1"), **rgb("to_rgb1")}
    for index in range(count):
        state |= layer(f"convs.{2 * index}") | layer(f"convs.{2 * index + 1}")
        state |= rgb(f"to_rgbs.{index}")
    return state


def test_no_noise_is_drawn_for_a_resolution_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "g.pt"
    torch.save({"g_ema": blocks(9)}, path)  # 2048 pixels
    with pytest.raises(BadCheckpoint, match="more than 1024 pixels"):
        read_generator(path)


def test_layers_that_share_their_numbers_are_counted(tmp_path: Path) -> None:
    weight, bias = torch.zeros(64, 64), torch.zeros(64)
    state = blocks(3)
    for index in range(1, 201):
        state |= {f"style.{index}.weight": weight, f"style.{index}.bias": bias}
    path = tmp_path / "g.pt"
    torch.save({"g_ema": state, "latent_avg": torch.zeros(64)}, path)
    with pytest.raises(BadCheckpoint, match="200 mapping layers of 64"):
        read_generator(path)


def test_heads_that_share_their_numbers_are_counted(tmp_path: Path) -> None:
    encoder = tiny_e4e(config=WITHOUT_REDUCTION).state_dict()
    state = {n if n.startswith("encoder.") else f"encoder.{n}": v for n, v in encoder.items()}
    heads = {n: v for n, v in state.items() if n.startswith("encoder.styles.0.")}
    for index in range(100):
        state |= {n.replace("styles.0.", f"styles.{index}."): v for n, v in heads.items()}
    path = tmp_path / "e.pt"
    torch.save({"state_dict": state, "latent_avg": torch.zeros(16)}, path)
    with pytest.raises(BadCheckpoint, match="100 heads of"):
        read_e4e(path)


@pytest.mark.parametrize("base", [500, 501, 256])
def test_widths_that_do_not_divide_the_base(tmp_path: Path, base: int) -> None:
    from foreign import write_rosinality

    generator = lively(GeneratorConfig(64, 16, 24, base, 512, mapping_layers=2))
    source = read_generator(write_rosinality(tmp_path / "r.pt", generator))
    assert_same(source, generator)


def test_other_gains_are_named(tmp_path: Path) -> None:
    generator = tiny_generator()
    path = tmp_path / "n.pkl"
    with foreign_modules():
        tree = module_tree(generator.state_dict(), BUFFERS, tmp_path / "canary")
        mapping = {"num_layers": 8, "lr_multiplier": 1.0}
        tree.meta["state"]["_init_kwargs"] = init_kwargs(generator) | {"mapping_kwargs": mapping}
        path.write_bytes(pickle.dumps({"G_ema": tree}))
    with pytest.raises(BadCheckpoint, match=r"lr_multiplier is 1.0; wanted 0.01"):
        read_generator(path)
    for given, reason in (
        ({"mapping_lrmul": 1.0}, "mapping_lrmul is 1.0"),
        ({"resample_kernel": [1, 2, 1]}, "resample_kernel is a list"),
        ({"nonlinearity": "relu"}, "nonlinearity is relu"),
    ):
        with pytest.raises(BadCheckpoint, match=reason):
            read_generator(write_tensorflow(tmp_path / "t.pkl", generator, **given))
