"""How good the label network is, on people and photos that it was never trained on.

    python benchmarks/labels.py heads heads-test           # rendered heads, and dlib beside
    python benchmarks/labels.py photos t2i --words t2i.csv # the held-out tenth, by words
    python benchmarks/labels.py steady t2i                 # mirrored, batched, moved crops

`benchmarks/label_photos.py` asks other networks, `benchmarks/label_speed.py` the clock.
`heads` needs a part of `sfhq render` with seeds that were not trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from annotate.metrics import attributes as answers
from annotate.metrics import parsing, points
from annotate.network.crops import FaceCrop, face_crop
from annotate.network.reader import LabelReader, Reading, load_labels
from annotate.training.heads import Heads, load_heads
from annotate.training.samples import part_of
from annotate.training.words import attributes_of, read_words, shows_one_face, years_of
from sfhq.faces.classes import CLASSES, FLIPPED, ID
from sfhq.faces.detector import FaceDetector, best_face
from sfhq.faces.points import MIRROR
from sfhq.images import read_image
from sfhq.networks.names import ATTRIBUTES, EXTRAS
from sfhq.parts.records import Pixels

Floats = npt.NDArray[np.float64]
PARTS = {
    "skin": ("skin",),
    "nose": ("nose",),
    "eyes": ("l_eye", "r_eye"),
    "brows": ("l_brow", "r_brow"),
    "lips": ("u_lip", "l_lip"),
    "hair": ("hair",),
    "background": ("background",),
}
COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Red_Hair", "Dyed_Hair")
QUERIED = (
    *("Eyeglasses", "Sunglasses", "Wearing_Hat", "Full_Beard", "No_Beard", "Bald", "Smiling"),
    *(
        "Heavy_Makeup",
        "Wearing_Lipstick",
        "Male",
        "Eyes_Closed",
        "Curly_Hair",
        "Long_Hair",
        "Child",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("what", choices=("heads", "photos", "steady"))
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--words", type=Path, action="append", default=[])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--most", type=int, default=10**9, help="of each folder")
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    reader, digest = load_labels(given.weights)
    print(f"weights {digest[:12]}, crops of {reader.size} px")
    if given.what == "heads":
        for folder in given.folders:
            heads(reader, folder, given.most)
    elif given.what == "photos":
        photos(reader, given.folders, given.words)
    else:
        steady(reader, given.folders, given.most)


def joined(readings: list[Reading]) -> Reading:
    names = Reading.__dataclass_fields__
    return Reading(*(torch.cat([getattr(r, name) for r in readings]) for name in names))


def heads(reader: LabelReader, folder: Path, most: int) -> None:
    kept = folder.parent / f"{folder.name}-exact"
    truth = load_heads(folder, reader.size, kept, styled=False)
    count = min(len(truth.names), most)
    table, seven = np.zeros((19, 19), np.int64), np.zeros((8, 8), np.int64)
    edges: list[tuple[float, ...]] = []
    readings = []
    for i in range(count):
        reading = reader.read(truth.pixels[i : i + 1])
        told = reading.parsing[0].argmax(0).to(torch.uint8).numpy()
        table += parsing.confusion(told, truth.classes[i])
        groups = [[ID[n] for n in names] for names in PARTS.values()]
        pair = [parsing.merged(m, groups) for m in (told, truth.classes[i])]
        seven += parsing.confusion(pair[0], pair[1], 8)
        alpha, exact = reading.alpha[0].numpy(), truth.hair[i] / 255
        hair = told == ID["hair"], truth.classes[i] == ID["hair"]
        edges.append(
            (
                parsing.alpha_error(alpha, exact),
                parsing.alpha_edge_error(alpha, exact),
                parsing.boundary_f(*hair, 1),
                parsing.boundary_f(*hair, 2),
                parsing.boundary_iou(*hair),
                parsing.hd95(*hair),
            )
        )
        none = torch.zeros(1, 0)  # maps are large: keep only the numbers
        readings.append(
            Reading(
                none, none, *(getattr(reading, n) for n in list(Reading.__dataclass_fields__)[2:])
            )
        )
    _masks(table, seven, np.array(edges), count)
    reading = joined(readings)
    _points(reading, truth, count)
    _angles(reading, truth, count)
    _attributes(reading, truth, count, reader.calibration.rates.numpy())


def _masks(
    table: npt.NDArray[np.int64], seven: npt.NDArray[np.int64], edges: Floats, count: int
) -> None:
    f1, iou = parsing.class_f1(table), parsing.class_iou(table)
    print(f"\nmasks of {count} heads, all pixels together\n\n| class | F1 | IoU |\n|---|---|---|")
    for name, a, b in zip(CLASSES, f1, iou, strict=True):
        print(f"| {name} | {a:.3f} | {b:.3f} |")
    print(
        f"| mean over {int((~np.isnan(f1)).sum())} | {np.nanmean(f1):.3f} | {np.nanmean(iou):.3f} |"
    )
    parts = parsing.class_f1(seven)[1:]
    print(
        "mean F1 of seven parts",
        f"{parts.mean():.3f}",
        dict(zip(PARTS, parts.round(3), strict=True)),
    )
    names = ("alpha error", "alpha error at edges", "hair F@1px", "hair F@2px")
    for name, column in zip((*names, "hair boundary IoU", "hair HD95 px"), edges.T, strict=True):
        print(f"{name}: mean {np.nanmean(column):.4f}, median {np.nanmedian(column):.4f}")


def _points(reading: Reading, truth: Heads, count: int) -> None:
    exact, flags = truth.points[:count], truth.flags[:count]
    unit = points.eye_distance(exact)
    ours = points.errors(reading.points.numpy(), exact, unit, flags > 0)
    theirs = np.full((count, 68), np.nan)
    detector = FaceDetector()
    for i in range(count):
        face = best_face(detector.detect(Image.fromarray(truth.pixels[i])))
        if face is not None:
            apart = points.errors(face.landmarks[None], exact[i : i + 1, :68], unit[i : i + 1])
            theirs[i] = np.where(flags[i, :68] > 0, apart[0], np.nan)
    found = ~np.isnan(theirs).all(1)
    print(f"\npoints, % of the outer eye distance; dlib finds {int(found.sum())} of {count}")
    print("\n| group | ours | median | p95 | ours beside dlib | dlib |\n|---|---|---|---|---|---|")
    beside = points.by_group(theirs)
    where = points.by_group(ours[found])
    rows = {**points.by_group(ours), "all 68": points.by_group(ours, {"": (0, 68)})[""]}
    where["all 68"] = points.by_group(ours[found], {"": (0, 68)})[""]
    beside["all 68"] = points.by_group(theirs, {"": (0, 68)})[""]
    for name, row in rows.items():
        other = f"{100 * beside[name]['mean']:.2f}" if name in beside else ""
        numbers = " | ".join(f"{100 * row[k]:.2f}" for k in ("mean", "median", "p95"))
        print(f"| {name} | {numbers} | {100 * where[name]['mean']:.2f} | {other} |")
    for name, found_errors in (("ours", ours[:, :68]), ("dlib", theirs)):
        faces = points.face_errors(found_errors)
        print(
            f"{name}: failures beyond 8 %: {100 * points.failure_rate(faces):.1f} %, area under "
            f"the curve {points.curve_area(faces):.3f}"
        )
    open_eyes = np.array([d["eye_opening"] >= 0.02 for d in truth.details[:count]])
    irises = points.errors(reading.irises.numpy(), truth.irises[:count], unit)[open_eyes]
    print(f"irises, {int(open_eyes.sum())} with open eyes: {100 * irises.mean():.2f} mean")
    for name, first, last in (("hairline", 80, 89), ("contour", 89, 110)):
        away = []
        for i in range(count):
            shown = flags[i, first:last] == 2
            if shown.sum() >= 2:
                curve = exact[i, first:last][shown]
                told = reading.points[i, first:last].numpy()[shown]
                away.append(points.to_curve(told, curve) / unit[i])
        flat = np.concatenate(away)
        middle, mean = 100 * np.median(flat), 100 * flat.mean()
        print(f"{name} to the true line: median {middle:.2f}, mean {mean:.2f}")
    known = (flags > 0) & (ours > 0)
    sigma = reading.sigma.numpy() / unit[:, None]
    order = np.corrcoef(np.log(sigma[known]), np.log(ours[known]))[0, 1]
    print(
        f"expected error over true error: {sigma[known].mean() / ours[known].mean():.2f}; "
        f"correlation of logarithms {order:.2f}"
    )
    seen = answers.auc(reading.seen.numpy()[flags > 0], (flags[flags > 0] == 2).astype(float))
    print(f"visible or hidden: AUC {seen:.3f}")


def _angles(reading: Reading, truth: Heads, count: int) -> None:
    told = torch.cat([reading.pose, reading.gaze], 1).numpy()
    off = points.angle_errors(told, truth.angles[:count])
    names = ("yaw", "pitch", "roll", "gaze yaw", "gaze pitch")
    spread = np.abs(truth.angles[:count] - truth.angles[:count].mean(0)).mean(0)
    print("\ndegrees off, mean (in brackets: that of always saying the mean)")
    print(", ".join(f"{n} {e:.2f} ({s:.2f})" for n, e, s in zip(names, off, spread, strict=True)))
    gaze = np.linalg.norm(told[:, 3:] - truth.angles[:count, 3:], axis=1)
    print(f"gaze, both together: {gaze.mean():.2f}")
    years = np.abs(reading.years.numpy() - truth.years[:count])
    r = np.corrcoef(reading.years.numpy(), truth.years[:count])[0, 1]
    print(f"years off {years.mean():.1f}, correlation {r:.3f}")


def _attributes(reading: Reading, truth: Heads, count: int, rates: Floats) -> None:
    """`rates`: (K,) from where on a probability says yes; those of the calibration's samples."""
    told, known = reading.attributes.numpy(), truth.attributes[:count]
    print(
        "\n| attribute | yes | balanced accuracy from 0.5 on | from its rate on | AUC | "
        "calibration error |\n|---|---|---|---|---|---|"
    )
    rows = []
    for k, name in enumerate(ATTRIBUTES):
        yes = int((known[:, k] == 1).sum())
        if min(yes, int((known[:, k] == 0).sum())) < answers.LEAST:
            continue
        row = (
            answers.balanced_accuracy(told[:, k], known[:, k]),
            answers.balanced_accuracy(told[:, k], known[:, k], rates[k]),
            answers.auc(told[:, k], known[:, k]),
            answers.calibration_error(told[:, k], known[:, k]),
        )
        rows.append(row)
        print(f"| {name} | {yes} | {row[0]:.3f} | {row[1]:.3f} | {row[2]:.3f} | {row[3]:.3f} |")
    mean = np.array(rows).mean(0)
    print(
        f"| mean of {len(rows)} | | {mean[0]:.3f} | {mean[1]:.3f} | {mean[2]:.3f} | {mean[3]:.3f} |"
    )
    d = truth.details[:count]
    groups = {
        **{
            a: np.array([x[f"ancestry_{a}"] > 0.5 for x in d])
            for a in ("african", "asian", "caucasian")
        },
        "women": np.array([x["male"] < 0.5 for x in d]),
        "men": np.array([x["male"] >= 0.5 for x in d]),
        "under 18": np.array([x["years"] < 18 for x in d]),
        "18 to 44": np.array([18 <= x["years"] < 45 for x in d]),
        "45 and older": np.array([x["years"] >= 45 for x in d]),
        "glasses": np.array([x["glasses"] != "none" for x in d]),
        "hats": np.array([x["hat"] != "none" for x in d]),
        "turned": np.array([abs(x["yaw"]) > 20 for x in d]),
    }
    print("mean balanced accuracy by group, over attributes with 5 of both answers in it")
    for name, member in groups.items():
        judged = [
            answers.balanced_accuracy(told[member, k], known[member, k], rates[k])
            for k in range(len(ATTRIBUTES))
            if min((known[member, k] == 1).sum(), (known[member, k] == 0).sum()) >= answers.LEAST
        ]
        if judged:
            print(f"  {name}: {np.mean(judged):.3f} over {len(judged)} ({int(member.sum())} heads)")


def held_out(folder: Path, size: int, most: int = 10**9) -> Iterator[tuple[str, FaceCrop]]:
    """The held-out photos of a folder in which dlib finds a face, as crops."""
    detector = FaceDetector()
    missed = taken = 0
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in (".jpg", ".png") or part_of(path.name) != "test":
            continue
        if taken >= most:
            break
        image = np.array(read_image(path.read_bytes()).convert("RGB"))
        face = best_face(detector.detect(Image.fromarray(image)))
        if face is None:
            missed += 1
            continue
        taken += 1
        yield path.name, face_crop(image, face.landmarks, size)
    print(f"{folder.name}: {taken} held-out photos with a face, {missed} without")


def photos(reader: LabelReader, folders: list[Path], tables: list[Path]) -> None:
    words = {n: w for table in tables for n, w in read_words(table).items()}
    told, known, years, aged, apart = [], [], [], [], []
    for folder in folders:
        for name, crop in held_out(folder, reader.size):
            text = words.get(name, "")
            if not shows_one_face(text):
                continue
            reading = reader.read(crop.pixels[None])
            told.append(reading.attributes[0].numpy())
            known.append(attributes_of(text))
            years.append(float(reading.years[0]))
            aged.append(years_of(text))
            apart.append(folder.name)
    p, truth = np.array(told, np.float64), np.array(known, np.float64)
    print("\n| attribute | yes | no | AUC | balanced accuracy |\n|---|---|---|---|---|")
    for name in dict.fromkeys((*QUERIED, *COLOURS, *EXTRAS)):
        k = ATTRIBUTES.index(name)
        yes, no = int((truth[:, k] == 1).sum()), int((truth[:, k] == 0).sum())
        print(
            f"| {name} | {yes} | {no} | {answers.auc(p[:, k], truth[:, k]):.3f} | "
            f"{answers.balanced_accuracy(p[:, k], truth[:, k]):.3f} |"
        )
    age = np.array(aged)
    sex = ATTRIBUTES.index("Male")
    adult = np.where((age >= 18) | np.isnan(age), truth[:, sex], np.nan)
    adult = np.where(truth[:, ATTRIBUTES.index("Child")] == 1, np.nan, adult)
    count = int((~np.isnan(adult)).sum())
    print(f"sex, no children: AUC {answers.auc(p[:, sex], adult):.3f} of {count}")
    for which in sorted(set(apart)):
        here = np.array([a == which for a in apart]) & ~np.isnan(age)
        if here.sum() > 2:
            r = np.corrcoef(np.array(years)[here], age[here])[0, 1]
            off = np.abs(np.array(years)[here] - age[here]).mean()
            print(
                f"age, {which}: correlation {r:.3f}, {off:.1f} years off, {int(here.sum())} photos"
            )
    columns = [ATTRIBUTES.index(c) for c in COLOURS]
    one = (truth[:, columns] == 1).sum(1) == 1
    if one.any():
        right = p[one][:, columns].argmax(1) == np.nanargmax(truth[one][:, columns], 1)
        print(f"hair colour of six: {right.mean():.3f} of {int(one.sum())} right")


def steady(reader: LabelReader, folders: list[Path], most: int) -> None:
    crops: list[Pixels] = []
    for folder in folders:
        crops += [crop.pixels for _, crop in held_out(folder, reader.size, most)]
    same = masks = 0
    moved: list[float] = []
    size = reader.size
    rng = np.random.default_rng(0)
    for crop in crops:
        plain = reader.read(crop[None])
        other = reader.read(np.ascontiguousarray(crop[None, :, ::-1]))
        turned = other.parsing.flip(3)[:, list(FLIPPED)]
        sign, middle = torch.tensor([-1.0, 1.0]), torch.tensor([size - 1.0, 0.0])
        points_back = (other.points * sign + middle)[:, list(MIRROR)]
        same += torch.equal(turned, plain.parsing) and torch.equal(points_back, plain.points)
        masks += torch.equal(turned.argmax(1), plain.parsing.argmax(1))
        scale = 1 + rng.uniform(-0.08, 0.08)
        shift = rng.uniform(-0.08, 0.08, 2) * size
        middle_px = size / 2
        matrix = (
            scale,
            0,
            middle_px * (1 - scale) + shift[0],
            0,
            scale,
            middle_px * (1 - scale) + shift[1],
        )
        view = Image.fromarray(crop).transform(
            (size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
        )
        again = reader.read(np.array(view)[None]).points[0].numpy()
        back = (again + 0.5) * scale + np.array([matrix[2], matrix[5]]) - 0.5
        inside: npt.NDArray[np.bool_] = np.all((again > 4) & (again < size - 5), axis=1)
        unit = float(points.eye_distance(plain.points.numpy())[0])
        gone = np.linalg.norm(back - plain.points[0].numpy(), axis=1) / unit
        moved += gone[:80][inside[:80]].tolist()
    print(f"mirrored to the bit: {same} of {len(crops)}; same class in every pixel: {masks}")
    print(
        f"points of crops moved and scaled by up to 8 %: median {100 * np.median(moved):.2f} % of "
        f"the eye distance, 95 % within {100 * np.percentile(moved, 95):.2f} %"
    )
    few = np.stack(crops[:32])
    together = reader.read(few)
    alone = joined([reader.read(c[None]) for c in few])
    names = Reading.__dataclass_fields__
    equal = all(torch.equal(getattr(together, n), getattr(alone, n)) for n in names)
    print(f"a batch of {len(few)} equals {len(few)} single crops to the bit: {equal}")


if __name__ == "__main__":
    main()
