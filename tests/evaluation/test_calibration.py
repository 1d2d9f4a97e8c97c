import numpy as np

from hand_perception.evaluation.calibration import fit, tolerant_bias
from hand_perception.postprocess import ScoreCalibration


def test_the_fit_recovers_the_odds_that_made_the_labels():
    rng = np.random.default_rng(0)
    features = rng.uniform(0.02, 0.98, (20_000, 2))
    truth = ScoreCalibration(bias=-0.4, detector=1.2, presence=0.7)
    is_hand = rng.random(len(features)) < truth.score(features[:, 0], features[:, 1])
    found = fit(features, is_hand)
    # Each number's standard error is about 1 / sqrt(N p (1 - p) var(x)): below 0.03 here; four.
    np.testing.assert_allclose(found, (-0.4, 1.2, 0.7), atol=0.12)


def test_classes_that_part_without_error_stay_finite():
    features = np.array([[0.9, 0.9], [0.1, 0.1]] * 10)
    assert np.isfinite(fit(features, np.array([True, False] * 10))).all()


def test_the_bias_leaves_one_of_four_hundred_pictures_without_hands_a_false_one():
    rng = np.random.default_rng(0)
    negatives = [[(d, p, False)] for d, p in rng.uniform(0.1, 0.9, (400, 2))]
    score = ScoreCalibration(tolerant_bias(negatives, 1.5, 0.5), 1.5, 0.5).score
    false = [score(np.array(d), np.array(p)) >= 0.5 for ((d, p, _),) in negatives]
    assert sum(false) == 1
