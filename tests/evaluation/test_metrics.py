from __future__ import annotations

import numpy as np
import pytest

from hand_perception.evaluation import metrics as m

SPREAD = np.random.default_rng(0).normal(size=(21, 3))


def test_matching_takes_the_best_score_first_and_each_hand_once():
    true = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]])
    predicted = np.array([[1, 0, 11, 10], [0, 0, 10, 10], [22, 0, 32, 10], [80, 80, 90, 90]])
    np.testing.assert_array_equal(m.match_boxes(predicted, true, 0.3), [0, 2, -1])


@pytest.mark.parametrize("count", [0, 2])
def test_matching_with_nothing_on_one_side(count):
    boxes = np.tile([0.0, 0, 10, 10], (count, 1))
    np.testing.assert_array_equal(m.match_boxes(np.zeros((0, 4)), boxes, 0.3), [-1] * count)
    assert len(m.match_boxes(boxes, np.zeros((0, 4)), 0.3)) == 0


def test_matching_keeps_to_the_threshold():
    # Overlap 5 of 15: IoU 1/3.
    true, predicted = [[0, 0, 10, 10]], [[5, 0, 15, 10]]
    assert m.match_boxes(predicted, true, 0.33)[0] == 0
    assert m.match_boxes(predicted, true, 0.34)[0] == -1


def test_covered_is_the_share_of_the_box():
    boxes = [[0, 0, 10, 10], [100, 0, 110, 10]]
    np.testing.assert_allclose(m.covered(boxes, [[5, 0, 500, 4], [8, 0, 20, 10]]), (0.2, 0.4))
    np.testing.assert_array_equal(m.covered(boxes, np.zeros((0, 4))), (0, 0))


def test_errors_are_over_the_longer_side_of_the_tight_box():
    true = np.zeros((21, 2))
    true[1] = (40, 80)
    errors = m.normalised_errors(true + (0, 8), true)
    np.testing.assert_allclose(errors, 0.1)
    assert m.pck(errors, 0.11) == 1.0 and m.pck(errors, 0.09) == 0.0


def test_missed_joints_count_as_wrong():
    assert m.pck(np.array([[0.0] * 21, [np.inf] * 21]), 0.1) == 0.5
    assert np.isnan(m.pck(np.zeros((0, 21)), 0.1))


def test_root_relative_errors_forget_the_position_alone():
    np.testing.assert_allclose(m.root_relative_errors(SPREAD + (1, 2, 3), SPREAD), 0, atol=1e-12)
    doubled = m.root_relative_errors(2 * SPREAD, SPREAD)
    np.testing.assert_allclose(doubled, np.linalg.norm(SPREAD - SPREAD[0], axis=1))


def test_procrustes_forgets_similarities_but_not_reflections():
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    moved = 3 * SPREAD @ turn.T + (5, 6, 7)
    np.testing.assert_allclose(m.procrustes_errors(moved, SPREAD), 0, atol=1e-12)
    assert m.procrustes_errors(SPREAD * (-1, 1, 1), SPREAD).mean() > 0.1


def test_procrustes_of_a_missed_hand_is_the_spread_around_the_centroid():
    expected = np.linalg.norm(SPREAD - SPREAD.mean(0), axis=1)
    np.testing.assert_allclose(m.procrustes_errors(np.zeros((21, 3)), SPREAD), expected)


def test_jitter_ignores_steady_motion_and_measures_shaking():
    times = np.arange(10.0)[:, None, None]
    steady = SPREAD[None, :, :2] + times * (3, -2)
    assert m.jitter(steady, np.full(10, 50.0)) == pytest.approx(0, abs=1e-12)
    # x alternates by +-1: second differences of 4 px, over a box of 50.
    shaken = steady + np.where(times % 2 == 0, 1.0, -1.0) * (1, 0)
    assert m.jitter(shaken, np.full(10, 50.0)) == pytest.approx(4 / 50)


def test_jitter_skips_gaps():
    keypoints = np.tile(SPREAD[None], (9, 1, 1))
    keypoints[4] = np.nan
    keypoints[5:] += 100  # the jump across the gap is no jitter
    assert m.jitter(keypoints, np.ones(9)) == 0.0
    assert np.isnan(m.jitter(keypoints[:2], np.ones(2)))


def test_straightness_of_a_finger_bent_twice_by_thirty_degrees():
    points = np.zeros((21, 3))
    for finger, bend in enumerate(np.radians([0, 30, 90, 120])):
        steps = [[np.sin(k * bend), np.cos(k * bend), 0] for k in range(3)]
        points[6 + 4 * finger : 9 + 4 * finger] = np.cumsum(steps, 0)
    expected = [
        np.hypot(*sum(np.array([np.sin(k * b), np.cos(k * b)]) for k in range(3))) / 3
        for b in np.radians([0, 30, 90, 120])
    ]
    np.testing.assert_allclose(m.straightness(points), expected)
    assert expected[1] == pytest.approx(0.911, abs=1e-3) and expected[3] == pytest.approx(0)
