"""The metrics of labels, against independent computations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import directed_hausdorff
from sklearn.metrics import balanced_accuracy_score, f1_score, jaccard_score, roc_auc_score

from annotate.metrics import attributes, parsing, points

RNG = np.random.default_rng(5)


def disc(size: int, x: float, y: float, radius: float) -> parsing.Mask:
    rows, columns = np.mgrid[:size, :size]
    return np.asarray(np.hypot(columns - x, rows - y) <= radius)


def test_f1_and_iou_of_classes_are_those_of_scikit_learn() -> None:
    truth = RNG.integers(0, 5, (40, 40)).astype(np.uint8)
    told = np.where(RNG.random((40, 40)) < 0.7, truth, RNG.integers(0, 5, (40, 40)))
    table = parsing.confusion(told.astype(np.uint8), truth, 5)
    assert table.sum() == 1600
    f1 = f1_score(truth.ravel(), told.ravel(), average=None)
    iou = jaccard_score(truth.ravel(), told.ravel(), average=None)
    np.testing.assert_allclose(parsing.class_f1(table), f1)
    np.testing.assert_allclose(parsing.class_iou(table), iou)


def test_a_class_that_neither_map_has_is_unknown() -> None:
    mask = np.zeros((4, 4), np.uint8)
    table = parsing.confusion(mask, mask)
    assert parsing.class_f1(table)[0] == 1
    assert np.isnan(parsing.class_f1(table)[1:]).all()
    assert np.isnan(parsing.class_iou(table)[1:]).all()


def test_maps_of_other_shapes_or_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        parsing.confusion(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match="above 18"):
        parsing.confusion(np.full((2, 2), 19, np.uint8), np.zeros((2, 2), np.uint8))


def test_merged_classes() -> None:
    mask = np.array([[0, 2, 3], [17, 18, 1]], np.uint8)
    np.testing.assert_array_equal(parsing.merged(mask, [(2, 3), (17,)]), [[0, 1, 1], [2, 0, 0]])


def naive_boundary_f(told: parsing.Mask, truth: parsing.Mask, pixels: float) -> float:
    a, b = np.argwhere(parsing.border(told)), np.argwhere(parsing.border(truth))
    precision = (cKDTree(b).query(a)[0] <= pixels).mean()
    recall = (cKDTree(a).query(b)[0] <= pixels).mean()
    return float(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("pixels", [1, 2, 4])
def test_boundary_f_is_that_of_nearest_border_pixels(pixels: float) -> None:
    told, truth = disc(64, 30, 31, 14.5), disc(64, 32, 30, 15)
    wanted = naive_boundary_f(told, truth, pixels)
    assert wanted > 0.1
    assert parsing.boundary_f(told, truth, pixels) == pytest.approx(wanted)


def test_boundary_f_of_empty_masks() -> None:
    empty, some = np.zeros((8, 8), bool), disc(8, 4, 4, 2)
    assert parsing.boundary_f(empty, empty, 1) == 1
    assert parsing.boundary_f(empty, some, 1) == 0
    assert np.isnan(parsing.hd95(empty, some))
    assert parsing.hd95(empty, empty) == 0
    assert np.isnan(parsing.boundary_iou(empty, empty))


def test_the_edge_of_the_picture_is_no_border() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:, :4] = True
    np.testing.assert_array_equal(np.argwhere(parsing.border(mask))[:, 1], 3)


def test_hd95_of_shifted_squares_is_the_shift_and_below_hausdorff() -> None:
    one, two = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    one[10:40, 10:40], two[10:40, 13:43] = True, True
    far = max(
        directed_hausdorff(np.argwhere(parsing.border(a)), np.argwhere(parsing.border(b)))[0]
        for a, b in ((one, two), (two, one))
    )
    assert parsing.hd95(one, two) == 3
    assert parsing.hd95(one, two) <= far


def test_boundary_iou_of_the_same_mask_is_one_and_of_a_wide_band_the_iou() -> None:
    one, two = disc(64, 30, 31, 14), disc(64, 33, 30, 15)
    assert parsing.boundary_iou(one, one) == 1
    iou = (one & two).sum() / (one | two).sum()
    assert parsing.boundary_iou(one, two, 100) == pytest.approx(iou)
    assert parsing.boundary_iou(one, two, 2) < iou


def test_alpha_errors() -> None:
    truth = np.zeros((10, 10))
    truth[:, 5:] = 1
    truth[:, 4] = 0.5
    told = truth.copy()
    told[:, 4] = 0.7
    assert parsing.alpha_error(told, truth) == pytest.approx(0.02)
    assert parsing.alpha_edge_error(told, truth) == pytest.approx(0.2 / 3)
    assert np.isnan(parsing.alpha_edge_error(told, np.zeros((10, 10))))


def test_point_errors_are_in_eye_distances_and_skip_what_is_unknown() -> None:
    truth = RNG.random((2, 110, 2)) * 100
    unit = points.eye_distance(truth)
    np.testing.assert_allclose(unit, np.hypot(*(truth[:, 45] - truth[:, 36]).T))
    told = truth + np.array([3.0, 4.0])
    known = np.ones((2, 110), bool)
    known[0, 80:] = False
    found = points.errors(told, truth, unit, known)
    np.testing.assert_allclose(found[1], 5 / unit[1])
    assert np.isnan(found[0, 80:]).all()
    groups = points.by_group(found)
    assert groups["hairline"]["mean"] == pytest.approx(5 / unit[1])
    assert groups["eyes"]["median"] == pytest.approx((5 / unit).mean())
    np.testing.assert_allclose(points.face_errors(found), 5 / unit)


def test_failures_and_the_area_under_the_curve_count_faces_without_result() -> None:
    faces = np.array([0.02, 0.04, 0.2, np.nan])
    assert points.failure_rate(faces) == 0.5
    # Independent: the mean of the share of faces within each error up to the limit.
    limits = np.linspace(0, 0.08, 20001)
    share = np.array([(faces <= limit).mean() for limit in limits])
    assert points.curve_area(faces) == pytest.approx(share.mean(), abs=1e-3)


def test_distance_from_a_curve_is_that_from_its_dense_points() -> None:
    turn = np.linspace(0, np.pi, 9)
    curve = np.stack([np.cos(turn), np.sin(turn)], 1) * 40 + 50
    given = RNG.random((30, 2)) * 100
    steps = np.linspace(0, 1, 4001)[:, None]
    dense = np.concatenate([a + steps * (b - a) for a, b in pairwise(curve)])
    wanted = cKDTree(dense).query(given)[0]
    np.testing.assert_allclose(points.to_curve(given, curve), wanted, atol=1e-3)
    np.testing.assert_allclose(points.to_curve(given, curve[:1]), np.hypot(*(given - curve[0]).T))


def test_angles_take_the_short_way_round() -> None:
    told, truth = np.array([[179.0, 10.0], [0.0, 0.0]]), np.array([[-179.0, 7.0], [0.0, np.nan]])
    np.testing.assert_allclose(points.angle_errors(told, truth), [1.0, 3.0])


def test_attribute_metrics_are_those_of_scikit_learn() -> None:
    truth = (RNG.random(300) < 0.3).astype(float)
    told = np.round(np.clip(0.5 * truth + RNG.random(300) * 0.6, 0, 1), 2)  # with ties
    truth[:20] = np.nan
    known = ~np.isnan(truth)
    assert attributes.auc(told, truth) == pytest.approx(roc_auc_score(truth[known], told[known]))
    wanted = balanced_accuracy_score(truth[known], told[known] >= 0.5)
    assert attributes.balanced_accuracy(told, truth) == pytest.approx(wanted)
    assert np.isnan(attributes.auc(told, np.ones(300)))
    assert np.isnan(attributes.balanced_accuracy(told, np.zeros(300)))


def test_calibration_error_of_bins_by_hand() -> None:
    told = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    truth = np.array([0.0, 1.0, 1.0, 1.0, 0.0])
    low, high = 2 * abs(0.05 - 0.5), abs(0.95 + 0.95 + 1.0 - 2)
    assert attributes.calibration_error(told, truth) == pytest.approx((low + high) / 5)
    assert np.isnan(attributes.calibration_error(told, np.full(5, np.nan)))


def test_the_worst_group_is_named_and_small_groups_are_not_judged() -> None:
    truth = np.tile([0.0, 1.0], 20)
    told = truth.copy()
    told[20:30] = 1 - told[20:30]
    groups = {"a": np.arange(40) < 20, "b": np.arange(40) >= 20, "few": np.arange(40) < 4}
    assert attributes.worst_group(told, truth, groups) == ("b", 0.5)
    assert attributes.worst_group(told, truth, {"few": groups["few"]})[0] == ""
