import argparse
import json

import cv2
import numpy as np
import pytest
from labelled_folder import hand_label, picture_label, write_labels
from one_hand import one_hand

from hand_perception.data.sample import hand_boxes
from hand_perception.errors import DataError
from hand_perception.evaluation import calibration
from hand_perception.evaluation.calibration import (
    FALSE_PICTURES,
    fit,
    judge_sample,
    tolerant_bias,
)
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


@pytest.mark.parametrize(("share", "count"), [(FALSE_PICTURES, 1), (0.02, 8)])
def test_the_bias_leaves_a_share_of_pictures_without_hands_a_false_one(share, count):
    rng = np.random.default_rng(0)
    weights = (1.5, 0.5, 0.2, 0.3, 0.1)
    # Nothing, one candidate or two a picture.
    negatives = [rng.uniform(0.1, 0.9, (k % 3, 5)) for k in range(400)]
    score = ScoreCalibration(tolerant_bias(negatives, np.array(weights), share), *weights).score
    false = [(score(found) >= 0.5).any() for found in negatives]
    assert sum(false) == count


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


@pytest.fixture
def calibrated(tmp_path, monkeypatch):
    """Calibrates a model and says with what score it takes what fools it for a hand. Of ten
    labelled pictures without hands none does, of ten others all do."""
    evidence = {"hand": 0.9, "seen": 0.1, "unseen": 0.6}
    grey = {name: 60 + 50 * k for k, name in enumerate(evidence)}

    class Looking:
        def candidates(self, image):
            (name,) = (n for n, value in grey.items() if value == image[0, 0, 0])
            return Candidates(np.float32([[0, 0, 40, 40]]), np.full((1, 5), evidence[name]))

    def picture(folder, name, k):
        cv2.imwrite(str(folder / f"{name}{k}.png"), np.full((60, 80, 3), grey[name], np.uint8))
        return f"{name}{k}.png"

    for name in ("data", "unseen", "model"):
        (tmp_path / name).mkdir()
    hand = hand_label(np.linspace((0, 0), (40, 40), 21), [0, 0, 40, 40])
    rows = []
    for k in range(10):
        for name, hands in (("hand", [hand]), ("seen", [])):
            rows.append(picture_label(picture(tmp_path / "data", name, k), hands))
        picture(tmp_path / "unseen", "unseen", k)
    write_labels(tmp_path / "data", rows)
    (tmp_path / "model" / "model.json").write_text('{"kept": 1}')
    monkeypatch.setattr(calibration.HandReconstructor, "from_pretrained", lambda name: Looking())

    class Folder:
        path = tmp_path / "model"
        card = {"kept": 1}
        score_calibration = ()

    monkeypatch.setattr(calibration.ModelFolder, "open", lambda name: Folder)

    def score(*options):
        parser = argparse.ArgumentParser()
        calibration.add_arguments(parser)
        args = parser.parse_args(
            ["model", *(str(tmp_path / o) if o[0] != "-" else o for o in options)]
        )
        calibration.run(args)
        card = json.loads(((args.output or Folder.path) / "model.json").read_text())
        assert card["kept"] == 1
        Folder.score_calibration = tuple(card["score_calibration"])
        return ScoreCalibration(*Folder.score_calibration).score(np.full((1, 5), 0.6))[0]

    return score


def test_pictures_that_training_has_not_seen_set_the_bias(calibrated):
    assert calibrated("--data", "data") > 0.9
    # The highest of 10 is at the threshold; of 400 one may be above it.
    assert abs(calibrated("--data", "data", "--without-hands", "unseen") - 0.5) < 1e-3


def test_pictures_without_hands_alone_make_a_copy_stricter_and_never_more_tolerant(
    calibrated, tmp_path, capsys
):
    before = calibrated("--data", "data")
    after = calibrated("--without-hands", "unseen", "--output", "strict")
    assert before > 0.9 and abs(after - 0.5) < 1e-3
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    assert "of 10 pictures without hands 10 showed one, now " in capsys.readouterr().out
    # The model that was there is as it was, and what its weights say of a hand stays.
    assert ScoreCalibration(*card["score_calibration"]).score(np.full((1, 5), 0.6))[0] == before
    strict = json.loads((tmp_path / "strict" / "model.json").read_text())
    assert strict["score_calibration"][1:] == card["score_calibration"][1:]
    (tmp_path / "data" / "labels.jsonl").unlink()
    for picture in (tmp_path / "data").glob("hand*"):
        picture.unlink()
    assert calibrated("--without-hands", "data") == after
    with pytest.raises(DataError, match="exists"):
        calibrated("--without-hands", "unseen", "--output", "strict")


def test_a_share_beyond_all_is_refused(calibrated):
    with pytest.raises(DataError, match="share"):
        calibrated("--data", "data", "--false-pictures=2")


def test_a_first_fit_needs_labels(calibrated):
    with pytest.raises(DataError, match="--data"):
        calibrated("--without-hands", "unseen")
