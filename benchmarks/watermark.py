"""Measure the watermark: how faint it is, what it survives, false alarms, time; and libraries.

python benchmarks/watermark.py photos/ renders/ --size 256 --count 400 --unmarked 2000
python benchmarks/watermark.py photos/ --libraries     # also those that are installed
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from sfhq.marks import watermark
from sfhq.parts.records import Pixels
from sfhq.publish.checks.result import wilson
from sfhq.publish.verify import image_files

PAYLOAD = 0x5A17C3E9
Change = Callable[[Image.Image], Image.Image]


def saved(image: Image.Image, kind: str, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(image: Image.Image, share: float) -> Image.Image:
    size = round(image.width * share), round(image.height * share)
    return image.resize(size, Image.Resampling.LANCZOS)


def cropped(image: Image.Image, share: float) -> Image.Image:
    edge = round(image.width * share)
    return image.crop((edge, edge, image.width - edge, image.height - edge))


CHANGES: dict[str, Change] = {
    "none": lambda i: i,
    "JPEG 80": lambda i: saved(i, "JPEG", 80),
    "75 %": lambda i: scaled(i, 0.75),
    "JPEG 80, then 75 %": lambda i: scaled(saved(i, "JPEG", 80), 0.75),
    "75 %, then JPEG 80": lambda i: saved(scaled(i, 0.75), "JPEG", 80),
    "JPEG 60": lambda i: saved(i, "JPEG", 60),
    "JPEG 40": lambda i: saved(i, "JPEG", 40),
    "WebP 80": lambda i: saved(i, "WEBP", 80),
    "50 %": lambda i: scaled(i, 0.5),
    "50 %, then JPEG 80": lambda i: saved(scaled(i, 0.5), "JPEG", 80),
    "mirrored": lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "30 % brighter": lambda i: ImageEnhance.Brightness(i).enhance(1.3),
    "grey": lambda i: i.convert("L").convert("RGB"),
    "blurred by 1 pixel": lambda i: i.filter(ImageFilter.GaussianBlur(1)),
    "1 % cut from each side": lambda i: cropped(i, 0.01),
    "5 % cut from each side": lambda i: cropped(i, 0.05),
}


def pictures(paths: list[Path], size: int, count: int) -> Iterator[Pixels]:
    """Pictures of some files, drawn at random, square and of one size."""
    files = list(image_files(paths))
    random.Random(0).shuffle(files)
    for path in files[:count]:
        with Image.open(path) as image:
            side = min(image.size)
            square = image.convert("RGB").crop((0, 0, side, side))
        yield np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))


def decibels(marked: Pixels, pixels: Pixels) -> float:
    error = np.mean((marked.astype(float) - pixels) ** 2)
    return float(10 * np.log10(255**2 / error))


def ours(args: argparse.Namespace) -> None:
    loss: list[float] = []
    times: dict[str, list[float]] = {"mark": [], "detect": [], "JPEG 95": []}
    found: dict[str, list[watermark.Found]] = {name: [] for name in CHANGES}
    for pixels in pictures(args.folders, args.size, args.count):
        started = time.perf_counter()
        marked = watermark.embed(pixels, PAYLOAD)
        times["mark"].append(time.perf_counter() - started)
        loss.append(decibels(marked, pixels))
        started = time.perf_counter()
        saved(Image.fromarray(pixels), "JPEG", 95)
        times["JPEG 95"].append(time.perf_counter() - started)
        started = time.perf_counter()
        watermark.detect(pixels)
        times["detect"].append(time.perf_counter() - started)
        for name, change in CHANGES.items():
            found[name].append(watermark.detect(np.asarray(change(Image.fromarray(marked)))))
    count = len(loss)
    print(f"{count} pictures of {args.size} pixels; load {os.getloadavg()[0]:.1f}")
    print(f"PSNR: least {min(loss):.2f} dB, mean {statistics.mean(loss):.2f}")
    for name, values in times.items():
        ratio = statistics.median(values) / statistics.median(times["JPEG 95"])
        print(
            f"{name:<10} median {1e3 * statistics.median(values):7.2f} ms, least "
            f"{1e3 * min(values):7.2f} ms, {ratio:.2f} times writing and reading a JPEG"
        )
    print(f"{'after':<24}{'found':>9}{'95 % from':>11}{'number':>9}{'wrong':>7}{'least sd':>10}")
    for name, marks in found.items():
        there = sum(m.there for m in marks)
        right = sum(m.payload == PAYLOAD for m in marks)
        wrong = sum(m.payload not in (None, PAYLOAD) for m in marks)
        low = wilson(there, count)[0]
        least = min(m.deviations for m in marks)
        print(
            f"{name:<24}{100 * there / count:>8.2f}%{100 * low:>10.2f}%"
            f"{100 * right / count:>8.2f}%{wrong:>7}{least:>10.1f}"
        )


def alarms(args: argparse.Namespace) -> None:
    """Unmarked pictures, each also as a JPEG: the highest agreement with the key."""
    values = []
    for pixels in pictures(args.folders, args.size, args.unmarked):
        values.append(watermark.detect(pixels).deviations)
    found = np.array(values)
    print(
        f"{len(found)} unmarked pictures of {args.size} pixels: {(found >= watermark.FOUND).sum()} "
        f"false alarms; highest {found.max():.2f} sd; above 2: {(found > 2).mean():.4f} and above "
        f"3: {(found > 3).mean():.4f} (two coins: 0.0450 and 0.0027)"
    )


def library(name: str, args: argparse.Namespace) -> None:
    """What invisible-watermark (`imwatermark`) or blind-watermark reach."""
    module: Any = importlib.import_module(name)
    methods = ("dwtDct", "dwtDctSvd") if name == "imwatermark" else ("dwt-dct-svd",)
    for method in methods:
        loss, times = [], []
        right: dict[str, int] = dict.fromkeys(list(CHANGES)[:3], 0)
        count = min(args.count, 60)
        for pixels in pictures(args.folders, args.size, count):
            started = time.perf_counter()
            mark, read = codec(module, method, pixels)
            times.append(time.perf_counter() - started)
            loss.append(decibels(mark, pixels))
            for change in right:
                image = CHANGES[change](Image.fromarray(mark))
                right[change] += read(np.asarray(image))
        shares = ", ".join(f"{k}: {100 * v / count:.0f} %" for k, v in right.items())
        print(
            f"{name} {method}: PSNR least {min(loss):.1f} dB, {1e3 * statistics.median(times):.1f} "
            f"ms; 32 bits read after {shares}"
        )


def codec(module: Any, method: str, pixels: Pixels) -> tuple[Pixels, Callable[[Pixels], bool]]:
    """A marked copy, and what tells whether its number is read from a picture."""
    data = PAYLOAD.to_bytes(4, "big")
    bgr = np.ascontiguousarray(pixels[:, :, ::-1])
    if module.__name__ == "imwatermark":
        encoder, decoder = module.WatermarkEncoder(), module.WatermarkDecoder("bytes", 32)
        encoder.set_watermark("bytes", data)
        marked = encoder.encode(bgr, method)

        def read(found: Pixels) -> bool:
            back = np.ascontiguousarray(found[:, :, ::-1])
            try:
                return bytes(decoder.decode(back, method)) == data
            except Exception:
                return False

        return np.ascontiguousarray(marked[:, :, ::-1]), read
    bits = np.unpackbits(np.frombuffer(data, np.uint8)).astype(bool)
    one = module.WaterMark(password_wm=1, password_img=1)
    one.read_img(img=bgr)
    one.read_wm(bits, mode="bit")
    marked = np.clip(np.rint(one.embed()), 0, 255).astype(np.uint8)

    def extract(found: Pixels) -> bool:
        back = np.ascontiguousarray(found[:, :, ::-1])
        other = module.WaterMark(password_wm=1, password_img=1)
        try:
            got = np.asarray(other.extract(embed_img=back, wm_shape=len(bits), mode="bit"))
        except Exception:
            return False
        return bool(((got > 0.5) == bits).all())

    return np.ascontiguousarray(marked[:, :, ::-1]), extract


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--unmarked", type=int, default=2000)
    parser.add_argument("--libraries", action="store_true")
    args = parser.parse_args()
    ours(args)
    alarms(args)
    for name in ("imwatermark", "blind_watermark") if args.libraries else ():
        if importlib.util.find_spec(name) is None:
            print(f"{name}: not installed")
        else:
            library(name, args)


if __name__ == "__main__":
    main()
