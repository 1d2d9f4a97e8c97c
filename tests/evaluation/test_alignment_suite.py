from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pytest
from open_hand import CAMERA, TEMPLATE, make_hand

from hand_perception.errors import DataError
from hand_perception.evaluation import alignment, command
from hand_perception.hands import Reconstruction, Side

TRUTH = [make_hand(Side.RIGHT, (-0.15, 0, 0.5)), make_hand(Side.LEFT, (0.15, 0, 0.8))]
SAMPLE = {
    "image": np.zeros((480, 640, 3), np.uint8),
    "K": CAMERA.matrix,
    "boxes": np.array([hand.box for hand in TRUTH]),
    "vertices": np.array([hand.vertices for hand in TRUTH]),
    "visible": np.array([5000, 5000]),
}


def rectangle(x0: int, y0: int, x1: int, y1: int, label: int = 1) -> np.ndarray:
    out = np.zeros((100, 100), np.uint8)
    out[y0:y1, x0:x1] = label
    return out


class Always:
    """A model that finds the same hands in any image."""

    topology = TEMPLATE

    def __init__(self, *hands):
        self.hands = hands

    def __call__(self, image, camera, *, score_threshold):
        return Reconstruction(list(self.hands))


def test_iou_of_shifted_squares():
    a, b = rectangle(10, 10, 30, 30) > 0, rectangle(20, 10, 40, 30) > 0
    assert alignment.iou(a, b) == pytest.approx(200 / 600)
    assert alignment.iou(a, a) == 1
    assert np.isnan(alignment.iou(a & ~a, a & ~a))


def test_hausdorff_distance_is_the_larger_way():
    a = rectangle(10, 10, 30, 30) > 0
    assert alignment.hausdorff(a, a) == 0
    # A square and a single pixel 3 right and 4 below of its last one: to reach the pixel, its
    # first corner has 22 and 23 to go.
    b = rectangle(32, 33, 33, 34) > 0
    assert alignment.hausdorff(a, b) == pytest.approx(np.hypot(22, 23))
    assert alignment.hausdorff(b, a) == alignment.hausdorff(a, b)
    # Inside of the square the pixel has no way to go, the square's corner has.
    c = rectangle(10, 10, 11, 11) > 0
    assert alignment.hausdorff(a, c) == pytest.approx(np.hypot(19, 19))
    assert np.isnan(alignment.hausdorff(a, a & ~a))


def test_fingers_that_change_places_show_at_finger_level_only():
    true = rectangle(0, 0, 10, 20, 1) + rectangle(10, 0, 20, 20, 2)
    swapped = rectangle(0, 0, 10, 20, 2) + rectangle(10, 0, 20, 20, 1)
    found = alignment.align(true, swapped)
    assert (found.hand_iou, found.hand_distance) == (1, 0)
    assert (found.finger_iou, found.finger_distance) == (0, 10)


def test_a_part_that_one_shows_counts_as_no_overlap():
    true = rectangle(0, 0, 10, 20, 1) + rectangle(10, 0, 20, 20, 2)
    found = alignment.align(true, np.minimum(true, 1))
    assert found.hand_iou == 1
    # The palm is twice as large as in truth, the finger is gone.
    assert found.finger_iou == pytest.approx((0.5 + 0) / 2)
    assert found.finger_distance == 10


def test_the_window_shows_the_box_in_its_middle():
    box = np.array([100.0, 200, 164, 232])
    view = alignment.window(CAMERA, box)
    factor = alignment.WINDOW_PX / (64 * alignment.WINDOW_SCALE)
    assert view.fx == pytest.approx(CAMERA.fx * factor)
    # The ray through the middle of the box is at the middle of the window, between its pixels.
    ray = np.linalg.inv(CAMERA.matrix) @ [132, 216, 1]
    middle = (alignment.WINDOW_PX - 1) / 2
    assert (view.matrix @ ray)[:2] == pytest.approx([middle, middle])


def test_truth_lies_on_itself_and_models_stand_side_by_side():
    # Sideways by as much as 20 pixels of the right hand's window: its scale is that of its box.
    side = alignment.WINDOW_SCALE * max(TRUTH[0].box[2:] - TRUTH[0].box[:2])
    shift = 20 * side / alignment.WINDOW_PX / CAMERA.fx * 0.5
    moved = replace(TRUTH[0], vertices=TRUTH[0].vertices + np.float32([shift, 0, 0]))
    rows = alignment.evaluate([SAMPLE], [0], {"truth": Always(*TRUTH), "moved": Always(moved)})
    assert rows["truth"]["hands"] == 2 and rows["moved"]["recall"] == 0.5
    for name in ("truth", "truth, in common"):
        assert rows[name]["hand IoU"] == rows[name]["finger IoU"] == 100
        assert rows[name]["hand HD"] == rows[name]["finger HD"] == 0
    assert rows["truth, in common"]["hands"] == 1
    # A flat outline moved by 20 px; depth differs a little over the open hand, and so does the
    # shift: within a tenth of it, and the pixels' half.
    assert rows["moved"]["hand HD"] == pytest.approx(20, abs=2.5)
    assert rows["moved"]["finger IoU"] < rows["moved"]["hand IoU"] < 90


def test_a_left_hand_is_seen_like_a_right_one():
    rows = alignment.evaluate([SAMPLE], [0], {"left": Always(TRUTH[1])})
    assert rows["left"]["recall"] == 0.5 and rows["left"]["hand IoU"] == 100


def test_the_command_shows_models_side_by_side(monkeypatch, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    monkeypatch.setattr("hand_perception.evaluation.synthetic.read_samples", lambda root: [SAMPLE])
    models = {"first": Always(*TRUTH), "second": Always(TRUTH[0])}
    words = ["--suite", "alignment", "--data", str(tmp_path), "--model", "first"]
    assert command.evaluate(parser.parse_args([*words, "--beside", "second"]), models.get) == 0
    printed = capsys.readouterr().out
    for name in ("first", "second", "first, in common", "second, in common"):
        assert f"| {name} " in printed
    words[1] = "synthetic"
    with pytest.raises(DataError, match="alignment"):
        command.evaluate(parser.parse_args([*words, "--beside", "second"]), models.get)
