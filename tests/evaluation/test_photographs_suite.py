from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hand_perception.data.photograph_labels import LabelledHand, LabelledPhotograph
from hand_perception.evaluation.photographs import (
    Outcomes,
    judge,
)
from hand_perception.hands import Hand, Pose, Side

# 21 joints on a diagonal: their tight box is 100 x 50.
DIAGONAL = np.linspace((0, 0), (100, 50), 21)


def labelled(x: float = 0.0, scale: float = 1.0, **fields) -> LabelledHand:
    points = DIAGONAL * scale + (x, 0)
    box = np.concatenate([points.min(0), points.max(0)])
    return LabelledHand(**{"box": box, "keypoints2d": points, "side": Side.RIGHT} | fields)


def label(x: float = 0.0, reliable: bool = True, **fields) -> LabelledHand:
    return labelled(x, reliable=reliable, **fields)


def photograph(*hands, ignore=(), exhaustive=True, negative=False, file="a", set="s"):
    boxes = np.array(ignore, float).reshape(-1, 4)
    return LabelledPhotograph(file, set, list(hands), boxes, exhaustive, negative)


def predicted(x: float = 0.0, y: float = 0.0, side=Side.RIGHT, score=0.9) -> Hand:
    points = DIAGONAL + (x, y)
    return Hand(
        side=side,
        score=score,
        box=np.concatenate([points.min(0), points.max(0)]),
        keypoints2d=points,
        confidences=np.ones(21),
        keypoints3d=np.zeros((21, 3)),
        vertices=np.zeros((0, 3)),
        wrist=Pose(np.eye(3), np.zeros(3)),
    )


def test_a_hand_found_with_a_known_error():
    # 7 px of 100: inside 0.1, outside 0.05.
    outcomes = Outcomes.of([photograph(label())], {"a": [predicted(y=7)]})
    row = outcomes.summary()
    assert (row["hands"], row["recall"], row["precision"], row["side"]) == (1, 1.0, 1.0, 1.0)
    assert (row["PCK@0.05"], row["PCK@0.1"], row["PCK@0.15"]) == (0.0, 1.0, 1.0)


def test_missed_hands_halve_one_column_and_not_the_other():
    row = Outcomes.of([photograph(label(), label(300))], {"a": [predicted()]}).summary()
    assert row["recall"] == 0.5
    assert row["PCK@0.1"] == 0.5 and row["PCK@0.1 matched"] == 1.0


def test_sides_count_only_where_the_label_knows():
    photo = photograph(label(), label(300, side=None), label(600, side=Side.LEFT))
    hands = [predicted(), predicted(300), predicted(600)]
    assert Outcomes.of([photo], {"a": hands}).summary()["side"] == 0.5


def test_fingers_are_judged_by_the_sign():
    """Index and middle finger stretched, the others folded back onto their knuckles."""
    points = np.zeros((21, 3))
    for finger, reach in enumerate([3, 3, 0.5, 0.5]):
        points[5 + 4 * finger : 9 + 4 * finger, 1] = 0, 1, 2 - (reach < 1), reach
    hand = replace(predicted(), keypoints3d=points)
    scissors = replace(photograph(label()), stretched=(True, True, False, False))
    paper = replace(scissors, stretched=(True,) * 4)
    assert Outcomes.of([scissors], {"a": [hand]}).summary()["fingers"] == 1.0
    assert Outcomes.of([paper], {"a": [hand]}).summary()["fingers"] == 0.5
    assert np.isnan(Outcomes.of([photograph(label())], {"a": [hand]}).summary()["fingers"])
    assert np.isnan(Outcomes.of([paper], {"a": []}).summary()["fingers"])


def test_weak_predictions_are_not_looked_at():
    row = Outcomes.of([photograph(label())], {"a": [predicted(score=0.49)]}).summary()
    assert row["recall"] == 0.0 and np.isnan(row["precision"])


def test_false_hands_and_second_boxes_on_one_hand_are_wrong():
    hands = [predicted(), predicted(y=3, score=0.8), predicted(500, score=0.7)]
    _, verdicts = judge(photograph(label()), hands)
    assert [v.right for v in verdicts] == [True, False, False]


def test_unreliable_labels_and_ignore_boxes_are_neither_right_nor_wrong():
    photo = photograph(label(0, reliable=False), ignore=[(300, -10, 450, 60)])
    hands, verdicts = judge(photo, [predicted(), predicted(320)])
    assert hands == [] and verdicts == []
    # Half inside an ignore box is enough: 55 % are, 45 % are not.
    _, verdicts = judge(photo, [predicted(255), predicted(245, score=0.8)])
    assert [(v.right, v.score) for v in verdicts] == [(False, 0.8)]


def test_pictures_that_are_not_exhaustive_leave_precision_alone():
    photo = photograph(label(), exhaustive=False)
    row = Outcomes.of([photo], {"a": [predicted(), predicted(500)]}).summary()
    assert row["recall"] == 1.0 and np.isnan(row["precision"])


def test_negatives_count_pictures_with_a_false_hand():
    photos = [photograph(file=f, negative=True, exhaustive=False) for f in "abc"]
    predictions = {"a": [], "b": [predicted(), predicted(300)], "c": []}
    row = Outcomes.of(photos, predictions).summary()
    assert (row["negatives"], row["false on negatives"]) == (3, 1)
    assert np.isnan(row["precision"])


def test_rows_for_large_hands_and_for_each_set():
    small = labelled(500, scale=0.4, reliable=True)  # 40 px
    photos = [
        photograph(label(), small, file="a", set="x"),
        photograph(label(), file="b", set="y"),
    ]
    rows = Outcomes.of(photos, {"a": [predicted()], "b": [predicted()]}).rows()
    assert list(rows) == ["all", "all, large", "x", "y"]
    assert [rows[name]["hands"] for name in rows] == [3, 2, 2, 1]
    assert rows["all"]["recall"] == pytest.approx(2 / 3) and rows["all, large"]["recall"] == 1.0
