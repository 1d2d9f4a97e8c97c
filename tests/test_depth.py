from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from depth_image import draw_depth
from open_hand import CAMERA, TEMPLATE, make_hand
from posed_hand import about, posed_hand

from hand_perception.depth import (
    HandLengthEstimator,
    hand_length,
    refine_with_depth,
    scale_to_hand_length,
    scaled,
    visible_surface,
)
from hand_perception.errors import DataError, ImageError
from hand_perception.geometry import project, wrist_frame
from hand_perception.hands import Hand, Side
from hand_perception.uncertainty import depth_std, ray_covariance

BENT = {
    "index_mcp_flexion": 0.5,
    "middle_mcp_flexion": 0.7,
    "middle_pip_flexion": 0.6,
    "ring_mcp_flexion": 0.8,
    "ring_pip_flexion": 0.9,
    "pinky_mcp_flexion": 0.9,
    "pinky_pip_flexion": 1.0,
    "thumb_cmc_flexion": 0.3,
}
# Both renderers interpolate 1/z in triangles; what is left is single precision of a depth (3e-8 m)
# and of a pixel (3e-5) on a surface that changes by up to 4 pixels' width (75 degrees) a pixel.
EXACT_M = 2e-5


def truth(side: Side = Side.RIGHT, at=(0.05, 0.02, 0.55), **more) -> Hand:
    return posed_hand(side, at, about(1, 0.4) @ about(0, -0.3), **(BENT | more))


def moved_along_ray(hand: Hand, factor: float) -> Hand:
    """As a wrong translation would put it: same size, distance times the factor."""
    step = hand.vertices.astype(float).mean(0) * (factor - 1)
    keypoints = (hand.keypoints3d + step).astype(np.float32)
    return replace(
        hand,
        keypoints3d=keypoints,
        vertices=(hand.vertices + step).astype(np.float32),
        wrist=wrist_frame(keypoints, hand.side),
    )


def error(found: Hand, true: Hand) -> float:
    """Distance between the meshes' middles, metres."""
    return float(np.linalg.norm(found.vertices.mean(0) - true.vertices.mean(0)))


# -- without noise -------------------------------------------------------------------------------


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("factor", [0.7, 0.95, 1.0, 1.3])
def test_a_wrong_size_and_distance_are_mended_together(side, factor):
    true = truth(side)
    found = refine_with_depth(
        scaled(true, factor), draw_depth([true], CAMERA, TEMPLATE), CAMERA, TEMPLATE
    )
    assert error(found, true) < EXACT_M
    np.testing.assert_allclose(found.vertices, true.vertices, atol=2 * EXACT_M)
    np.testing.assert_allclose(found.keypoints3d, true.keypoints3d, atol=2 * EXACT_M)
    np.testing.assert_allclose(found.wrist.translation, true.wrist.translation, atol=2 * EXACT_M)
    np.testing.assert_array_equal(found.wrist.rotation, scaled(true, factor).wrist.rotation)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("factor", [0.7, 1.0, 1.3])
def test_a_hand_of_known_size_is_moved(side, factor):
    true = truth(side)
    depth = draw_depth([true], CAMERA, TEMPLATE, behind=1.2)
    found = refine_with_depth(
        moved_along_ray(true, factor), depth, CAMERA, TEMPLATE, keep_size=True
    )
    # Stops at half a millimetre's step; the step before moved the rim over neighbouring pixels.
    assert error(found, true) < 1e-3
    assert hand_length(found, TEMPLATE) == pytest.approx(hand_length(true, TEMPLATE), rel=1e-5)
    np.testing.assert_allclose(
        found.wrist.translation, found.keypoints3d[0].astype(float), atol=1e-6
    )


def test_the_picture_stays_when_a_hand_is_scaled():
    true = truth()
    start = scaled(true, 0.8)
    found = refine_with_depth(start, draw_depth([true], CAMERA, TEMPLATE), CAMERA, TEMPLATE)
    np.testing.assert_allclose(
        project(found.vertices, CAMERA), project(start.vertices, CAMERA), atol=1e-2
    )


def test_the_input_is_not_changed():
    true = truth()
    start = scaled(true, 0.8)
    before = start.vertices.copy()
    refine_with_depth(start, draw_depth([true], CAMERA, TEMPLATE), CAMERA, TEMPLATE)
    np.testing.assert_array_equal(start.vertices, before)
    assert start.position_covariance is None


# -- what a real depth image adds ----------------------------------------------------------------


def noisy(depth: np.ndarray, seed: int, relative: float = 0.005) -> np.ndarray:
    """With normal noise of that share of the depth, alike over 3 x 3 pixels as stereo's is."""
    rng = np.random.default_rng(seed)
    height, width = depth.shape
    coarse = rng.normal(0, relative, (height // 3 + 1, width // 3 + 1))
    return (depth * (1 + np.kron(coarse, np.ones((3, 3)))[:height, :width])).astype(np.float32)


def with_holes(depth: np.ndarray, seed: int, share: float) -> np.ndarray:
    """Blocks of 8 x 8 pixels are unknown: NaN, 0 or infinity."""
    rng = np.random.default_rng(seed)
    height, width = depth.shape
    kind = rng.choice(4, (height // 8 + 1, width // 8 + 1), p=[1 - share, *[share / 3] * 3])
    kind = np.kron(kind, np.ones((8, 8), int))[:height, :width]
    out = depth.copy()
    for k, value in enumerate((np.nan, 0.0, np.inf), 1):
        out[kind == k] = value
    return out


def tilted_wall(at: float, slope: float = 0.0) -> np.ndarray:
    rows = np.linspace(-1, 1, CAMERA.height)[:, None]
    return np.broadcast_to(at + slope * rows, (CAMERA.height, CAMERA.width)).astype(np.float32)


def assert_found(found: Hand, start: Hand, true: Hand, depth_noise: float = 0.0) -> None:
    """Within 1 % of the distance: a hand's flesh is a few centimetres thick, and its rim, where
    other things are seen, is a minor part of it. And within 4 of its own standard deviations."""
    assert found is not start, "refused"
    wrong = abs(float(found.vertices[:, 2].mean() - true.vertices[:, 2].mean()))
    assert wrong < 0.01 * true.vertices[:, 2].mean()
    assert wrong < 4 * depth_std(found.position_covariance)


@pytest.mark.parametrize("keep_size", [False, True])
@pytest.mark.parametrize("factor", [0.7, 0.9, 1.1, 1.3])
def test_noise_holes_and_a_background(factor, keep_size):
    for seed in range(3):
        true = truth(Side.LEFT if seed % 2 else Side.RIGHT, at=(0.05 * seed - 0.05, 0.03, 0.6))
        start = moved_along_ray(true, factor) if keep_size else scaled(true, factor)
        depth = draw_depth([true], CAMERA, TEMPLATE, tilted_wall(1.3, 0.3))
        depth = with_holes(noisy(depth, seed), seed, 0.4)
        found = refine_with_depth(start, depth, CAMERA, TEMPLATE, keep_size)
        assert_found(found, start, true)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.2])
def test_a_hand_on_a_table(factor):
    # A plane just behind the deepest vertex, so that all of the rim sees the table.
    true = posed_hand(at=(0, 0.05, 0.6))
    table = tilted_wall(float(true.vertices[:, 2].max()) + 0.002)
    start = scaled(true, factor)
    found = refine_with_depth(
        start, noisy(draw_depth([true], CAMERA, TEMPLATE, table), 0), CAMERA, TEMPLATE
    )
    assert_found(found, start, true)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
@pytest.mark.parametrize("ahead", [0.06, 0.15])
def test_an_object_in_front_of_the_fingers(factor, ahead):
    true = truth(at=(0, 0.05, 0.6))
    depth = draw_depth([true], CAMERA, TEMPLATE, tilted_wall(1.5))
    seen = np.isfinite(depth) & (depth < 1.0)
    # A board over the fingers: 35 % of the hand's pixels, from above.
    rows = np.flatnonzero(seen.any(1))
    edge = rows[np.searchsorted(np.cumsum(seen.sum(1))[rows], 0.35 * seen.sum())]
    depth[:edge] = true.vertices[:, 2].min() - ahead
    start = scaled(true, factor)
    assert_found(refine_with_depth(start, noisy(depth, 1), CAMERA, TEMPLATE), start, true)


def test_another_hand_in_front():
    true, other = truth(at=(0, 0.05, 0.7)), truth(Side.LEFT, at=(0.09, 0.05, 0.5))
    start = scaled(true, 0.85)
    depth = noisy(draw_depth([true, other], CAMERA, TEMPLATE, 1.5), 2)
    assert_found(refine_with_depth(start, depth, CAMERA, TEMPLATE), start, true)


def test_a_wrong_shape_still_finds_the_distance():
    """The network's pose is never exact: fingers 10 degrees off, skin 3 mm off."""
    rng = np.random.default_rng(3)
    true = truth()
    wrong = truth(index_mcp_flexion=0.33, ring_pip_flexion=1.08, pinky_mcp_flexion=0.72)
    wrong.vertices += rng.normal(0, 3e-3, wrong.vertices.shape).astype(np.float32)
    start = scaled(wrong, 0.8)
    depth = noisy(draw_depth([true], CAMERA, TEMPLATE, 1.1), 3)
    assert_found(refine_with_depth(start, depth, CAMERA, TEMPLATE), start, true)


def test_the_spread_of_the_results_is_what_the_covariance_says():
    """Normalised errors of independent scenes have a variance near 1, rather below: the covariance
    has a share for what all pixels of a camera are off together, which these images are not."""
    scores = []
    rng = np.random.default_rng(4)
    for seed in range(24):
        at = (*rng.uniform(-0.1, 0.1, 2), rng.uniform(0.4, 1.0))
        true = truth(Side.LEFT if seed % 2 else Side.RIGHT, at)
        depth = with_holes(noisy(draw_depth([true], CAMERA, TEMPLATE, 1.6), seed, 0.01), seed, 0.3)
        # All its pixels are off together, by the 0.5 % and 1 mm that are promised.
        z = depth * (1 + 0.005 * rng.normal()) + 0.001 * rng.normal()
        found = refine_with_depth(scaled(true, rng.uniform(0.8, 1.2)), z, CAMERA, TEMPLATE)
        wrong = found.vertices[:, 2].mean() - true.vertices[:, 2].mean()
        scores.append(wrong / depth_std(found.position_covariance))
    # 24 squares of standard normals: their mean has a standard deviation of sqrt(2 / 24) = 0.29;
    # the promised 0.5 % and 1 mm are added, not squared and added, which makes it 0.75 and less.
    assert 0.2 < np.mean(np.square(scores)) < 1 + 3 * 0.29


# -- where nothing can be told -------------------------------------------------------------------


@pytest.mark.parametrize("unknown", [np.nan, 0.0, np.inf, -1.0])
def test_an_empty_depth_image_changes_nothing(unknown):
    hand = truth()
    assert refine_with_depth(hand, tilted_wall(unknown), CAMERA, TEMPLATE) is hand


def test_a_few_pixels_are_no_evidence():
    hand = truth()
    depth = draw_depth([hand], CAMERA, TEMPLATE)
    rows, columns = np.nonzero(np.isfinite(depth))
    thin = np.full_like(depth, np.nan)
    thin[rows[:20], columns[:20]] = depth[rows[:20], columns[:20]]
    assert refine_with_depth(hand, thin, CAMERA, TEMPLATE) is hand


def test_a_far_wall_is_no_hand():
    # 2 m where 0.55 m are expected: a hand of 0.7 m would be needed.
    hand = truth()
    assert refine_with_depth(hand, tilted_wall(2.0), CAMERA, TEMPLATE) is hand


def test_scattered_depths_are_no_hand():
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.2, 1.5, (CAMERA.height, CAMERA.width)).astype(np.float32)
    hand = truth()
    assert refine_with_depth(hand, depth, CAMERA, TEMPLATE) is hand


def test_a_hand_outside_the_image_or_behind_it_is_left_alone():
    depth = tilted_wall(0.55)
    beside = posed_hand(at=(3.0, 0, 0.55))
    at_the_lens = posed_hand(at=(0, 0, 0.0))
    for hand in (beside, at_the_lens):
        assert refine_with_depth(hand, depth, CAMERA, TEMPLATE) is hand


def test_other_sizes_and_meshes_are_refused_in_one_line():
    hand = truth()
    with pytest.raises(ImageError, match="aligned to colour"):
        refine_with_depth(hand, np.zeros((10, 10), np.float32), CAMERA, TEMPLATE)
    with pytest.raises(DataError, match="load_template"):
        short = replace(hand, vertices=hand.vertices[:100])
        refine_with_depth(short, tilted_wall(0.5), CAMERA, TEMPLATE)


# -- surface -------------------------------------------------------------------------------------


def test_the_nearer_of_two_triangles_is_seen():
    square = np.array([[0, 0], [10, 0], [0, 10.0]])
    points = np.concatenate([square, square])
    depth = np.array([1.0] * 3 + [0.5] * 3)
    faces = np.array([[0, 1, 2], [3, 5, 4]])
    column, row, face, z = visible_surface(points, depth, faces, 20, 20)
    # Whole numbers x, y >= 0 with x + y <= 10: 11 * 12 / 2.
    assert len(column) == 66 and (column + row).max() == 10
    assert set(face) == {1}
    np.testing.assert_allclose(z, 0.5)


def test_depth_in_a_slanted_triangle_is_linear_in_its_inverse():
    points = np.array([[0, 0], [8, 0], [0, 8.0]])
    column, row, _, z = visible_surface(
        points, np.array([1.0, 0.5, 0.25]), np.array([[0, 1, 2]]), 9, 9
    )
    np.testing.assert_allclose(1 / z, 1 + column / 8 + 3 * row / 8)


def test_the_surface_ends_at_the_window():
    points = np.array([[-5, -5], [50, -5], [-5, 50.0]])
    column, row, *_ = visible_surface(points, np.ones(3), np.array([[0, 1, 2]]), 4, 3)
    assert sorted(zip(column.tolist(), row.tolist(), strict=True)) == [
        (x, y) for x in range(4) for y in range(3)
    ]


# -- size ----------------------------------------------------------------------------------------


def test_hand_length_is_the_bones_whatever_the_pose():
    k = TEMPLATE.keypoints.astype(float)
    expected = sum(np.linalg.norm(k[b] - k[a]) for a, b in ((0, 9), (9, 10), (10, 11), (11, 12)))
    assert hand_length(make_hand(), TEMPLATE) == pytest.approx(expected, rel=1e-5)
    # A keypoint is skin, which leaves the joint by up to a millimetre at four of the five points.
    assert hand_length(truth(), TEMPLATE) == pytest.approx(expected, abs=4e-3)
    assert hand_length(truth(scale=1.1), TEMPLATE) == pytest.approx(
        1.1 * hand_length(truth(), TEMPLATE), rel=1e-5
    )


def test_a_known_length_places_the_hand():
    true = truth(scale=0.8)  # a child
    guess = scaled(true, 1.25)  # the network takes it for an adult farther away
    found = scale_to_hand_length(guess, hand_length(true, TEMPLATE), CAMERA, TEMPLATE)
    np.testing.assert_allclose(found.vertices, true.vertices, atol=1e-5)
    np.testing.assert_allclose(found.wrist.translation, true.wrist.translation, atol=1e-5)
    assert found.position_covariance.shape == (3, 3)


@pytest.mark.parametrize("length", [0.0, -0.19, 1.9, 190.0, np.nan])
def test_lengths_no_hand_has_are_refused(length):
    with pytest.raises(DataError, match="give metres"):
        scale_to_hand_length(truth(), length, CAMERA, TEMPLATE)


def test_a_length_is_measured_over_a_second_of_noisy_depth():
    estimator = HandLengthEstimator(TEMPLATE)
    rng = np.random.default_rng(5)
    expected = hand_length(truth(scale=0.93), TEMPLATE)
    for k in range(32):
        assert estimator.measurement() is None
        true = truth(at=(0.002 * k, 0, 0.5 + 0.003 * k), scale=0.93)
        depth = noisy(draw_depth([true], CAMERA, TEMPLATE, 1.4), k)
        start = scaled(true, rng.uniform(0.85, 1.15))
        assert estimator.add(refine_with_depth(start, depth, CAMERA, TEMPLATE), k / 30)
        if k >= 30:
            break
    found = estimator.measurement()
    assert found.count == 31
    # Each hand's distance within 1 % (assert_found), so its length.
    assert found.metres == pytest.approx(expected, rel=0.01)
    assert found.spread_m < 0.01 * expected


def test_hands_without_depth_measure_nothing():
    estimator = HandLengthEstimator(TEMPLATE)
    hand = truth()
    assert not estimator.add(hand, 0.0)
    vague = replace(hand, position_covariance=ray_covariance(hand.wrist.translation, 0.04, 0.002))
    assert not estimator.add(vague, 0.1)
    assert estimator.measurement() is None


def test_a_jump_back_in_time_starts_the_measurement_anew():
    estimator = HandLengthEstimator(TEMPLATE, duration_s=1.0, least_hands=2)
    hand = truth()
    sure = replace(hand, position_covariance=ray_covariance(hand.wrist.translation, 1e-3, 1e-3))
    for stamp in (10.0, 11.0):
        estimator.add(sure, stamp)
    assert estimator.measurement().count == 2
    estimator.add(sure, 3.0)
    assert estimator.measurement() is None


def test_scaling_scales_what_is_not_known():
    covariance = ray_covariance(np.array([0.1, 0, 0.5]), 0.02, 0.001)
    out = scaled(replace(truth(), position_covariance=covariance, shape_std=0.01), 1.5)
    np.testing.assert_allclose(out.position_covariance, covariance * 2.25)
    assert out.shape_std == pytest.approx(0.015)
