from __future__ import annotations

import numpy as np
import pytest

from hand_perception.evaluation.box_ap import box_ap

pytest.importorskip("pycocotools")
BOX = np.array([[10.0, 10, 110, 110]])
NONE = np.zeros((0, 4))


def test_perfect_boxes_have_an_ap_of_one():
    row = box_ap([(BOX, np.array([0.3]))] * 2, [(BOX, NONE)] * 2)
    assert row == pytest.approx({"box AP": 1.0, "AP50": 1.0, "AP75": 1.0})


def test_a_box_of_iou_four_fifths_counts_up_to_its_overlap():
    # 100 x 80 inside 100 x 100: IoU 0.8, right at .5, .55, ..., .75 (and .8: equal counts).
    smaller = np.array([[10.0, 10, 110, 90]])
    row = box_ap([(smaller, np.array([0.9]))], [(BOX, NONE)])
    assert row["AP50"] == row["AP75"] == pytest.approx(1)
    assert row["box AP"] == pytest.approx(0.7)


def test_a_better_scored_false_box_halves_the_precision():
    found = np.concatenate([BOX + 300, BOX]), np.array([0.9, 0.5])
    assert box_ap([found], [(BOX, NONE)])["box AP"] == pytest.approx(0.5)
    worse = found[0], np.array([0.4, 0.5])
    assert box_ap([worse], [(BOX, NONE)])["box AP"] == pytest.approx(1)


def test_boxes_in_crowds_are_not_false():
    found = np.concatenate([BOX + 300, BOX]), np.array([0.9, 0.5])
    assert box_ap([found], [(BOX, BOX + 300)])["box AP"] == pytest.approx(1)


def test_nothing_found_and_nothing_to_find():
    assert box_ap([(NONE, np.zeros(0))], [(BOX, NONE)])["box AP"] == 0
    assert np.isnan(box_ap([(BOX, np.ones(1))], [(NONE, NONE)])["box AP"])
