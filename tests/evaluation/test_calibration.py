import numpy as np

from hand_perception.evaluation.calibration import fit, tolerant_bias
from hand_perception.postprocess import ScoreCalibration


def test_the_fit_recovers_the_odds_that_made_the_labels():
    rng = np.random.default_rng(0)
    features = rng.uniform(0.02, 0.98, (20_000, 5))
    numbers = (-0.4, 1.2, 0.7, 0.5, 0.9, 0.3)
    is_hand = rng.random(len(features)) < ScoreCalibration(*numbers).score(features)
    found = fit(features, is_hand)
    # Each number's standard error is about 1 / sqrt(N p (1 - p) var(x)): below 0.03 here; four.
    np.testing.assert_allclose(found, numbers, atol=0.12)


def test_what_a_network_does_not_tell_weighs_nothing():
    rng = np.random.default_rng(1)
    features = np.full((500, 5), 0.5)
    features[:, 0] = rng.uniform(0.1, 0.9, 500)
    _, detector, *others = fit(features, rng.random(500) < features[:, 0])
    assert detector > 0.5 and np.abs(others).max() < 1e-6


def test_classes_that_part_without_error_stay_finite():
    features = np.array([[0.9, 0.9], [0.1, 0.1]] * 10)
    assert np.isfinite(fit(features, np.array([True, False] * 10))).all()


def test_the_bias_leaves_one_of_four_hundred_pictures_without_hands_a_false_one():
    rng = np.random.default_rng(0)
    weights = (1.5, 0.5, 0.2, 0.3, 0.1)
    # Nothing, one candidate or two a picture.
    negatives = [rng.uniform(0.1, 0.9, (k % 3, 5)) for k in range(400)]
    score = ScoreCalibration(tolerant_bias(negatives, np.array(weights)), *weights).score
    false = [(score(found) >= 0.5).any() for found in negatives]
    assert sum(false) == 1
