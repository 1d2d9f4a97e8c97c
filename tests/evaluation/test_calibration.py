import argparse
import json

import cv2
import numpy as np
from one_hand import one_hand

from hand_perception.data.sample import hand_boxes
from hand_perception.evaluation import calibration
from hand_perception.evaluation.calibration import fit, judge_sample, tolerant_bias
from hand_perception.postprocess import ScoreCalibration
from hand_perception.reconstructor import Candidates


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


def test_of_a_rendered_image_all_is_decided_but_what_is_ignored():
    sample = one_hand()
    height, width = sample.image.shape[:2]
    (hand,) = hand_boxes(sample.hands.keypoints2d, width, height)
    elsewhere, ignored = np.array([0.0, 0, 8, 8]), np.array([width - 9.0, 0, width - 1, 8])
    beside = hand + 0.4 * (hand[2] - hand[0]) * np.array([1, 0, 1, 0])  # an IoU of 0.43
    evidence = np.linspace(0.1, 0.8, 20).reshape(4, 5)
    found = Candidates(np.stack([hand, elsewhere, ignored, beside]), evidence)

    class Proposing:
        def candidates(self, image):
            assert image is sample.image
            return found

    sample.ignore_boxes = ignored[None]
    told, is_hand = judge_sample(sample, Proposing())
    np.testing.assert_array_equal(told, evidence[:2])
    assert is_hand.tolist() == [True, False]


def test_pictures_that_training_has_not_seen_set_the_bias(tmp_path, monkeypatch):
    """Of ten labelled pictures without hands none fools the network, of ten others all do."""
    evidence = {"hand": 0.9, "seen": 0.1, "unseen": 0.6}
    grey = {name: 60 + 50 * k for k, name in enumerate(evidence)}

    class Looking:
        def candidates(self, image):
            (name,) = (n for n, value in grey.items() if value == image[0, 0, 0])
            return Candidates(np.float32([[0, 0, 40, 40]]), np.full((1, 5), evidence[name]))

    def picture(folder, name, k):
        folder.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"{name}{k}.png"), np.full((60, 80, 3), grey[name], np.uint8))
        return f"{name}{k}.png"

    data, unseen = tmp_path / "data", tmp_path / "unseen"
    hand = {
        "keypoints2d": np.linspace((0, 0), (40, 40), 21).tolist(),
        "box": [0, 0, 40, 40],
        "handedness": "Left",
        "handedness_reliable": True,
        "reliability": "high",
    }
    rows = []
    for k in range(10):
        for name, hands in (("hand", [hand]), ("seen", [])):
            row = {"file": picture(data, name, k), "set": "s", "split": "train", "hands": hands}
            row |= {"ignore_boxes": [], "boxes_exhaustive": True, "negative": not hands}
            rows.append(json.dumps(row))
        picture(unseen, "unseen", k)
    (data / "labels.jsonl").write_text("\n".join(rows))
    (tmp_path / "model.json").write_text("{}")

    class Folder:
        path = tmp_path

    monkeypatch.setattr(calibration.HandReconstructor, "from_pretrained", lambda name: Looking())
    monkeypatch.setattr(calibration.ModelFolder, "open", lambda name: Folder)

    def score(*options):
        parser = argparse.ArgumentParser()
        calibration.add_arguments(parser)
        calibration.run(parser.parse_args(["m", "--data", str(data), *options]))
        numbers = json.loads((tmp_path / "model.json").read_text())["score_calibration"]
        return ScoreCalibration(*numbers).score(np.full((1, 5), evidence["unseen"]))[0]

    assert score() > 0.9
    # The highest of 10 is at the threshold; of 400 one may be above it.
    assert abs(score("--without-hands", str(unseen)) - 0.5) < 1e-3
