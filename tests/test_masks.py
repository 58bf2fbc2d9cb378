"""From probabilities to maps: native size, sub-pixel borders, sides, mirroring, paste back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from reading import TinyReader, face_points
from scipy import ndimage

from annotate.labels.classes import CLASSES, ID, SIDED, flip_ids
from annotate.labels.frame import (
    Frame,
    _rows_at,
    _widened,
    face_crop,
    face_frame,
    whole_crop,
    whole_frame,
)
from annotate.labels.masks import FaceMap, facts, largest, over, possible, read_map, shares
from annotate.labels.sides import assign_sides
from annotate.network import mend
from sfhq.faces.points import COUNT, MIRROR
from sfhq.images import CLASS_COLOURS
from sfhq.parts.records import Pixels

NAMES = range(len(CLASSES))
Mask = npt.NDArray[np.bool_]


def noise(seed: int, height: int, width: int) -> Pixels:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 7 + 1, width // 7 + 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.kron(small, np.ones((7, 7, 1), np.uint8))[:height, :width])


def one_hot(classes: Pixels) -> torch.Tensor:
    ids = torch.from_numpy(classes.astype(np.int64))
    return torch.nn.functional.one_hot(ids, len(CLASSES)).permute(2, 0, 1).float()


def test_mirrored_ids_and_points_lead_back() -> None:
    ids = np.arange(19, dtype=np.uint8)[None]
    assert (flip_ids(flip_ids(ids)) == ids).all()
    for i in NAMES:
        other = CLASSES[int(flip_ids(np.array([[i]], np.uint8))[0, 0])]
        name = CLASSES[i]
        sided = name[:2] in ("l_", "r_") and name[2:] in ("brow", "eye", "ear")
        swapped = {"l": "r", "r": "l"}[name[0]] + name[1:] if sided else name
        assert other == swapped
    assert [MIRROR[MIRROR[i]] for i in range(COUNT)] == list(range(COUNT))
    points = face_points()
    mirrored = points[list(MIRROR)] * (-1, 1) + (1, 0)
    assert np.allclose(points, mirrored, atol=1e-9)
    assert len(CLASS_COLOURS) == len(CLASSES)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (100, 100), (131, 131), (15, 15)])
def test_map_of_the_mirrored_photo_is_the_mirrored_map(height: int, width: int) -> None:
    reader = TinyReader()
    photo = noise(3, height, width)
    maps = []
    for pixels in (photo, np.ascontiguousarray(photo[:, ::-1])):
        crop = whole_crop(pixels, reader.size)
        reading = reader.read(crop[None])
        frame = whole_frame(height, width, reader.size)
        maps.append(read_map(reading.parsing[0], frame, alpha=reading.alpha[0]))
    assert maps[0].classes.shape == (height, width)
    assert (maps[1].classes == flip_ids(maps[0].classes)).all()
    assert maps[0].alpha is not None and maps[1].alpha is not None
    assert (maps[1].alpha == maps[0].alpha[:, ::-1]).all()
    assert len(np.unique(maps[0].classes)) > 5


def test_enlarging_matches_the_formula_of_bilinear_interpolation() -> None:
    planes = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed(0))
    frame = whole_frame(23, 23, 7)
    found = torch.cat([v for _, _, v, _ in frame.strips(planes)], 1)
    wanted = torch.nn.functional.interpolate(planes[None], (23, 23), mode="bilinear")[0]
    assert torch.allclose(found, wanted, atol=1e-5)


def test_strips_give_the_same_as_all_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    planes = torch.rand(19, 16, 16, generator=torch.Generator().manual_seed(1))
    frames = (
        whole_frame(40, 40, 16),
        Frame(16, (40, 60), np.array([[1.5, 0.4, 5], [-0.4, 1.5, 9], [0, 0, 1]]), False),
    )
    for frame in frames:
        at_once = read_map(planes, frame)
        monkeypatch.setattr("annotate.labels.frame.STRIP", 1500)
        in_strips = read_map(planes, frame)
        monkeypatch.undo()
        assert (at_once.classes == in_strips.classes).all()
        assert (at_once.read == in_strips.read).all()


def test_planes_of_the_photos_own_size_are_what_enlarging_gives() -> None:
    planes = torch.rand(20, 64, 64, generator=torch.Generator().manual_seed(0))
    _, _, found, inside = next(whole_frame(64, 64, 64).strips(planes))
    assert inside is None
    assert found.equal(_widened(_rows_at(planes, 64, 64, slice(0, 64)), 64))


def test_the_largest_of_many_is_what_sorting_finds() -> None:
    planes = torch.rand(19, 40, 30, generator=torch.Generator().manual_seed(2))
    planes = planes.mul(8).round().div(8)  # with ties
    ids, margin = largest(planes)
    top = planes.topk(2, 0).values
    assert np.array_equal(margin, (top[0] - top[1]).numpy())
    first = planes.numpy().argmax(0)
    sided = np.isin(first, [i for pair in SIDED for i in pair])
    assert np.array_equal(ids[~sided], first[~sided])
    assert np.array_equal(mend.largest(planes), first)


def test_a_tie_of_left_and_right_goes_to_neither() -> None:
    planes = torch.zeros(19, 1, 3)
    planes[4, 0] = torch.tensor([0.4, 0.4, 0.1])
    planes[5, 0] = torch.tensor([0.4, 0.1, 0.4])
    planes[10, 0] = 0.2
    ids, margin = largest(planes)
    assert ids[0].tolist() == [10, 4, 5]
    assert margin[0].tolist() == pytest.approx([0.0, 0.2, 0.2])


def test_classes_that_are_nowhere_likely_are_left_out() -> None:
    planes = torch.rand(19, 9, 9, generator=torch.Generator().manual_seed(5)) * 0.05
    planes[17] += 0.5
    planes[3, 4, 4] = 0.9
    assert possible(planes) == (0, 1, 2, 3, 17), "of a pair both"
    ids, margin = largest(planes[[0, 1, 2, 3, 17]], (0, 1, 2, 3, 17))
    assert ids[4, 4] == 3 and (ids == 17).sum() == 80
    every, exact = largest(planes)
    assert np.array_equal(ids, every) and np.abs(margin - exact).max() < 1 / 19
    top = planes.topk(2, 0).values
    assert np.allclose(exact, top[0] - top[1])


def test_borders_are_finer_than_a_map_that_is_enlarged() -> None:
    """The published route, 256 enlarged by nearest neighbour, puts 1 in 5 border pixels wrong."""
    size, big = 256, 1024
    y, x = np.mgrid[:big, :big] / big
    line = 0.4 + 0.05 * np.sin(11 * x) + 0.02 * np.sin(37 * x + 1)
    truth = y < line
    fine = np.mgrid[: size * 8, : size * 8] / (size * 8)
    inside = fine[0] < 0.4 + 0.05 * np.sin(11 * fine[1]) + 0.02 * np.sin(37 * fine[1] + 1)
    share = inside.reshape(size, 8, size, 8).mean((1, 3)).astype(np.float32)
    planes = torch.zeros(19, size, size)
    planes[ID["hair"]], planes[ID["skin"]] = torch.from_numpy(share), torch.from_numpy(1 - share)
    ours = read_map(planes, whole_frame(big, big, size)).classes == ID["hair"]
    nearest = np.kron(share > 0.5, np.ones((4, 4), bool))

    def f_score(found: Mask) -> float:
        def border(mask: Mask) -> Mask:
            return np.asarray(mask & ~ndimage.binary_erosion(mask, border_value=1))

        a, b = border(found), border(truth)
        near_b = ndimage.distance_transform_edt(~b)[a] <= 1
        near_a = ndimage.distance_transform_edt(~a)[b] <= 1
        return float(200 * near_b.mean() * near_a.mean() / (near_b.mean() + near_a.mean()))

    assert f_score(ours) >= 99
    assert f_score(nearest) < 90


def test_paste_back_returns_to_the_photo() -> None:
    """A drawn face in a turned frame: cut, read exactly, pasted, it is where it was."""
    height, width = 300, 420
    landmarks = face_points()[:68] * 160 + (120, 60)
    turn = np.radians(12)
    about = landmarks.mean(0)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    landmarks = (landmarks - about) @ spin.T + about
    frame = face_frame(height, width, landmarks, 128)
    inner = frame.to_crop(landmarks)
    assert np.allclose(frame.to_photo(inner), landmarks)
    # a disc of hair around the nose, in the photo
    y, x = np.mgrid[:height, :width]
    disc = np.hypot(x - landmarks[30, 0], y - landmarks[30, 1]) < 50
    photo = np.where(disc[..., None], 255, 0).astype(np.uint8).repeat(3, 2)
    crop = face_crop(photo, landmarks, 128)[..., 0] / np.float32(255)
    planes = torch.zeros(19, 128, 128)
    planes[ID["hair"]] = torch.from_numpy(crop)
    planes[ID["skin"]] = 1 - planes[ID["hair"]]
    found = read_map(planes, frame)
    assert found.classes.shape == (height, width)
    wrong = (found.classes == ID["hair"]) != disc
    assert wrong.sum() < 0.02 * disc.sum(), wrong.sum()
    assert (found.classes[~found.read] == 0).all() and not found.read.all()
    assert (found.margin[~found.read] == 1).all()


def test_a_frame_beside_the_photo_reads_nothing() -> None:
    frame = Frame(16, (30, 30), np.array([[1.0, 0, 500], [0, 1.0, 500], [0, 0, 1]]), False)
    found = read_map(torch.rand(19, 16, 16), frame)
    assert not found.read.any() and not found.classes.any()


def test_crops_of_any_photo_are_square_and_mirror() -> None:
    for height, width in ((64, 64), (200, 199), (6000, 60)):
        photo = noise(1, height, width)
        crop = whole_crop(photo, 32)
        assert crop.shape == (32, 32, 3) and crop.dtype == np.uint8
        mirrored = whole_crop(np.ascontiguousarray(photo[:, ::-1]), 32)
        assert (mirrored == crop[:, ::-1]).all()
    photo = noise(2, 64, 64)
    wanted = np.asarray(Image.fromarray(photo).resize((32, 32), Image.Resampling.LANCZOS))
    assert np.abs(whole_crop(photo, 32).astype(int) - wanted).max() <= 1


def face_map(size: int = 61) -> Pixels:
    """A drawn map of classes: skin, eyes, brows, ears, nose, lips, hair, with wrong sides."""
    out = np.zeros((size, size), np.uint8)
    y, x = np.mgrid[:size, :size] / (size - 1)
    out[(np.hypot(x - 0.5, y - 0.45) < 0.45) & (y < 0.4)] = ID["hair"]
    out[np.hypot((x - 0.5) * 1.2, y - 0.55) < 0.33] = ID["skin"]
    for name, cx, cy, rx, ry in (
        ("l_ear", 0.19, 0.55, 0.05, 0.09),  # wrong: a left ear on the picture's left
        ("l_ear", 0.81, 0.55, 0.05, 0.09),
        ("r_brow", 0.36, 0.42, 0.09, 0.025),
        ("r_brow", 0.64, 0.42, 0.09, 0.025),
        ("l_eye", 0.36, 0.5, 0.06, 0.03),
        ("r_eye", 0.64, 0.5, 0.06, 0.03),
        ("nose", 0.5, 0.6, 0.06, 0.1),
        ("u_lip", 0.5, 0.74, 0.1, 0.03),
    ):
        out[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] = ID[name]
    return out


def test_sides_follow_the_place() -> None:
    told = assign_sides(face_map())
    half = told.shape[1] // 2
    for left, right in SIDED:
        assert not (told[:, :half] == left).any() and (told[:, half + 1 :] == left).any()
        assert not (told[:, half + 1 :] == right).any() and (told[:, :half] == right).any()
    same = ~np.isin(told, [i for pair in SIDED for i in pair])
    assert (told[same] == face_map()[same]).all()


def test_brows_that_meet_are_cut_along_the_middle() -> None:
    drawn = face_map()
    drawn[25:27, 20:41] = ID["l_brow"]
    told = assign_sides(drawn)
    assert (told[25:27, 31:41] == ID["l_brow"]).all()
    assert (told[25:27, 20:30] == ID["r_brow"]).all()
    assert (told[25:27, 30] == ID["skin"]).all(), "the middle column is neither"


def test_a_turned_head_has_its_middle_where_its_nose_is() -> None:
    """Both eyes right of the picture's middle are still a right and a left one."""
    drawn = np.zeros((60, 60), np.uint8)
    drawn[10:50, 25:59] = ID["skin"]
    drawn[20:23, 36:40] = drawn[20:23, 50:54] = ID["r_eye"]
    drawn[26:34, 43:46] = ID["nose"]
    drawn[38:41, 40:49] = ID["u_lip"]
    told = assign_sides(drawn)
    assert (told[20:23, 50:54] == ID["l_eye"]).all() and (told[20:23, 36:40] == ID["r_eye"]).all()


@pytest.mark.parametrize("seed", range(8))
def test_sides_of_a_mirrored_map_are_the_mirrored_sides(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = 40 + seed
    drawn = rng.integers(0, 19, (size // 3 + 1, size // 3 + 1)).astype(np.uint8)
    drawn = np.ascontiguousarray(np.kron(drawn, np.ones((3, 3), np.uint8))[:size, :size])
    there = assign_sides(drawn)
    back = assign_sides(np.ascontiguousarray(drawn[:, ::-1]))
    assert (back == flip_ids(there)).all()


def as_map(classes: Pixels, margin: float = 1.0) -> FaceMap:
    shape = classes.shape
    return FaceMap(classes, None, np.full(shape, margin, np.float32), np.ones(shape, bool))


def test_facts_of_a_map() -> None:
    drawn = np.kron(assign_sides(face_map()), np.ones((3, 3), np.uint8))
    said = facts(as_map(drawn))
    assert said.flags == () and said.certainty == 1.0
    rows, columns = np.nonzero(drawn)
    size = drawn.shape[0]
    assert said.margins == pytest.approx(
        (
            columns.min() / size,
            rows.min() / size,
            (size - 1 - columns.max()) / size,
            (size - 1 - rows.max()) / size,
        ),
        abs=1e-4,
    )
    assert sum(shares(drawn)) == pytest.approx(1, abs=1e-4)
    assert shares(drawn)[ID["nose"]] == pytest.approx((drawn == ID["nose"]).mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ("hat", "hat"),
        ("glasses", "glasses"),
        ("one eye", "one side hidden"),
        ("top", "truncated"),
        ("nobody", "no face"),
        ("vague", "low margin"),
        ("small", "small photo"),
        ("frame", "truncated"),
    ],
)
def test_flags_of_a_map(change: str, flag: str) -> None:
    drawn = np.kron(assign_sides(face_map()), np.ones((3, 3), np.uint8))
    found = as_map(drawn, 0.2 if change == "vague" else 1.0)
    if change == "hat":
        drawn[drawn == ID["hair"]] = ID["hat"]
    elif change == "glasses":
        drawn[85:100, 40:140] = ID["eye_g"]
    elif change == "one eye":
        drawn[np.isin(drawn, (ID["l_eye"], ID["l_brow"]))] = ID["skin"]
    elif change == "top":
        found = as_map(np.ascontiguousarray(drawn[60:]))
    elif change == "nobody":
        drawn[drawn != ID["hair"]] = 0
    elif change == "small":
        found = as_map(assign_sides(face_map()))
    elif change == "frame":
        found.read[:70] = False
    assert flag in facts(found).flags


def test_specks_of_glasses_and_hats_are_mistakes() -> None:
    drawn = np.kron(assign_sides(face_map()), np.ones((3, 3), np.uint8))
    drawn[90:93, 60:120] = ID["eye_g"]
    drawn[20:24, 70:110] = ID["hat"]
    assert facts(as_map(drawn)).flags == ()


def test_two_faces_share_a_map() -> None:
    front = as_map(np.zeros((4, 4), np.uint8))
    front.classes[1:3, 1:3] = ID["skin"]
    front.read[:, 3] = False
    behind = as_map(np.full((4, 4), ID["hair"], np.uint8))
    both = over(front, behind).classes
    assert (both[1:3, 1:3] == ID["skin"]).all() and (both[:, 3] == ID["hair"]).all()
    assert both[0, 0] == ID["hair"], "what is background to one face may be the other's hair"
