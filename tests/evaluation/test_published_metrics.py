"""F-score, AUC and PCK against closed forms and their published definitions, written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hand_perception.evaluation import metrics as m

POINTS = np.random.default_rng(0).normal(0, 0.03, (60, 3))


def clouds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 0.02, (40, 3))
    return true + rng.normal(0, 0.004, true.shape), true


def published_f_score(true: np.ndarray, predicted: np.ndarray, threshold: float) -> float:
    """FreiHAND's and HO-3D's definition, point by point."""
    d1 = [min(np.linalg.norm(g - p) for p in predicted) for g in true]
    d2 = [min(np.linalg.norm(p - g) for g in true) for p in predicted]
    recall = sum(d < threshold for d in d2) / len(d2)
    precision = sum(d < threshold for d in d1) / len(d1)
    return 2 * recall * precision / (recall + precision) if recall + precision > 0 else 0.0


def published_auc(errors: np.ndarray) -> float:
    """FreiHAND's definition: joint by joint, 100 thresholds from 0 to 50 mm, trapezoids."""
    thresholds = np.linspace(0.0, 0.05, 100)
    areas = []
    for joint in errors.T:
        curve = [np.mean([float(e <= t) for e in joint]) for t in thresholds]
        norm = np.trapezoid(np.ones_like(thresholds), thresholds)
        areas.append(np.trapezoid(curve, thresholds) / norm)
    return float(np.mean(areas))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [0.003, 0.005, 0.015])
def test_f_score_is_the_published_one_to_the_sample(seed, threshold):
    predicted, true = clouds(seed)
    assert m.f_score(predicted, true, threshold) == pytest.approx(
        published_f_score(true, predicted, threshold), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_the_published_one_to_the_sample(seed):
    errors = np.abs(np.random.default_rng(seed).normal(0, 0.03, (17, 21)))
    errors[0] = np.inf
    assert m.auc(errors) == pytest.approx(published_auc(errors), abs=1e-12)


def test_auc_of_constant_errors():
    # The curve jumps at the first of the 100 thresholds (49.5 to a millimetre... 99 steps over
    # 50 mm) at or above the error; the trapezoid before it counts half.
    step = 0.05 / 99
    assert m.auc(np.zeros((3, 21))) == pytest.approx(1.0)
    assert m.auc(np.full((3, 21), 10.5 * step)) == pytest.approx((99 - 10.5) / 99)
    assert m.auc(np.full((3, 21), 0.051)) == 0.0
    assert m.auc(np.full((2, 21), np.inf)) == 0.0
    assert np.isnan(m.auc(np.zeros((0, 21))))


def test_f_score_of_a_shift_along_a_line_of_points():
    """Points a millimetre apart on a line, shifted by half: every neighbour is 0.5 mm away, but
    for the two ends, whose nearest is 0.5 mm away as well on one side only.
    """
    line = np.arange(10)[:, None] * np.array([0.001, 0, 0])
    assert m.f_score(line + (0.0005, 0, 0), line, 0.0006) == 1.0
    assert m.f_score(line + (0.0005, 0, 0), line, 0.0004) == 0.0
    # Shifted by 3.5 mm: of each cloud 7 of 10 have a neighbour at 0.5 mm.
    assert m.f_score(line + (0.0035, 0, 0), line, 0.0006) == pytest.approx(0.7)


def test_f_score_weighs_both_directions():
    """All predicted points on one true point of two: precision of the true cloud 1/2, recall 1."""
    true = np.array([[0.0, 0, 0], [1, 0, 0]])
    predicted = np.zeros((5, 3))
    assert m.f_score(predicted, true, 0.1) == pytest.approx(2 * 0.5 * 1 / 1.5)
    # A distance of exactly the threshold does not count.
    assert m.f_score(np.array([[0.25, 0, 0]]), np.array([[0.0, 0, 0]]), 0.25) == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.001, 0.02))
def test_f_score_is_symmetric_and_grows_with_the_threshold(seed, threshold):
    predicted, true = clouds(seed)
    value = m.f_score(predicted, true, threshold)
    assert value == pytest.approx(m.f_score(true, predicted, threshold))
    assert value <= m.f_score(predicted, true, 1.5 * threshold) + 1e-12
    assert 0 <= value <= 1
    order = np.random.default_rng(seed).permutation(len(true))
    assert value == pytest.approx(m.f_score(predicted[order], true, threshold))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 5.0))
def test_procrustes_does_not_see_similarities(seed, scale):
    predicted, true = clouds(seed)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn = turn * np.sign(np.linalg.det(turn))
    moved = scale * predicted @ turn.T + rng.normal(size=3)
    np.testing.assert_allclose(
        m.procrustes_errors(moved, true), m.procrustes_errors(predicted, true), atol=1e-9
    )
    # The best similarity is not worse than none.
    raw = np.square(np.linalg.norm(predicted - true, axis=-1)).sum()
    assert np.square(m.procrustes_errors(predicted, true)).sum() <= raw + 1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_auc_falls_when_an_error_grows(seed):
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0, 0.06, (5, 21))
    worse = errors + rng.uniform(0, 0.02, errors.shape)
    assert m.auc(worse) <= m.auc(errors)
    order = rng.permutation(5)
    assert m.auc(errors[order]) == pytest.approx(m.auc(errors))


def test_aligned_moves_other_points_along():
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    true = 2 * POINTS @ turn.T + (1, 2, 3)
    np.testing.assert_allclose(m.aligned(POINTS[:5], POINTS, true), true[:5], atol=1e-12)


def test_pck_is_of_each_joint_then_their_mean():
    """Joint 0 counts in both hands and is right in one; joint 1 in one and is right: 3/4, not 2/3.
    The others never count.
    """
    errors, counted = np.full((2, 21), np.inf), np.zeros((2, 21), bool)
    counted[:, 0], counted[0, 1] = True, True
    errors[0, 0], errors[0, 1] = 0.04, 0.05
    assert m.pck_by_joint(errors, counted, 0.05) == 0.75
    assert m.pck_by_joint(errors, counted, 0.045) == 0.25
    assert np.isnan(m.pck_by_joint(errors, np.zeros((2, 21), bool), 0.05))


def test_acceleration_error_is_of_second_differences():
    t = np.arange(8.0)[:, None, None]
    true = np.zeros((8, 21, 3)) + t * (1, 2, 3)
    assert m.acceleration_error(true + 5 * t, true) == pytest.approx(0)
    # x = t^2 / 2 has a second difference of 1 in each frame.
    curved = true + 0.5 * t**2 * (1, 0, 0)
    assert m.acceleration_error(curved, true) == pytest.approx(1)
    curved[3] = np.nan
    assert m.acceleration_error(curved, true) == pytest.approx(1)
