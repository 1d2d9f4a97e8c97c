from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from open_hand import CAMERA, make_hand

from hand_perception.evaluation import synthetic
from hand_perception.hands import Reconstruction, Side

TRUTH = [make_hand(Side.RIGHT, (-0.15, 0, 0.5)), make_hand(Side.LEFT, (0.15, 0, 0.8))]
SAMPLE = {
    "image": np.zeros((480, 640, 3), np.uint8),
    "K": CAMERA.matrix,
    "boxes": np.array([hand.box for hand in TRUTH]),
    "is_left": np.array([False, True]),
    "keypoints3d": np.array([hand.keypoints3d for hand in TRUTH]),
    "vertices": np.array([hand.vertices for hand in TRUTH]),
    "visible": np.array([5000, 5000]),
    "streak": 0.0,
}
# float32 coordinates below 1 m.
ROUNDING_MM = 1e-3


def evaluate(*hands, sample: dict = SAMPLE) -> dict:
    cameras = []

    def reconstructor(image, camera, *, score_threshold):
        cameras.append(camera)
        return Reconstruction(list(hands))

    rows = synthetic.evaluate([sample], [0], reconstructor)
    assert cameras == [CAMERA]
    return rows


def moved(hand, scale: float = 1.0, shift=(0.0, 0.0, 0.0)):
    wrist = hand.keypoints3d[0]
    return replace(
        hand,
        keypoints3d=(hand.keypoints3d - wrist) * scale + wrist + shift,
        vertices=(hand.vertices - wrist) * scale + wrist + shift,
    )


def test_the_truth_has_no_error():
    row = evaluate(*TRUTH)["all"]
    assert (row["hands"], row["recall"], row["side"]) == (2, 1.0, 1.0)
    for key in ("PA-MPJPE", "PA-MPVPE", "MPJPE", "camera MPJPE", "PA-MPJPE, missed as 0"):
        assert row[key] == pytest.approx(0, abs=ROUNDING_MM)


def test_each_metric_sees_its_own_error():
    rows = evaluate(moved(TRUTH[0], shift=(0, 0, 0.05)), moved(TRUTH[1], scale=1.1))
    right, left = rows["right"], rows["left"]
    assert right["camera MPJPE"] == pytest.approx(50, abs=ROUNDING_MM)
    assert right["depth"] == pytest.approx(0.05 / 0.5, rel=1e-5)
    assert right["MPJPE"] == pytest.approx(0, abs=ROUNDING_MM)
    # 10 % larger: a tenth of the mean distance from the wrist, gone after the similarity.
    reach = np.linalg.norm(TRUTH[1].keypoints3d - TRUTH[1].keypoints3d[0], axis=1).mean()
    assert left["MPJPE"] == pytest.approx(100 * reach, abs=ROUNDING_MM)
    assert left["depth"] == pytest.approx(0, abs=1e-6)
    assert left["PA-MPJPE"] == pytest.approx(0, abs=ROUNDING_MM)


def test_a_missed_hand_counts_as_zeros_in_one_column():
    row = evaluate(TRUTH[0])["all"]
    joints = TRUTH[1].keypoints3d
    spread = 1000 * np.linalg.norm(joints - joints.mean(0), axis=1).mean()
    assert row["recall"] == 0.5
    assert row["PA-MPJPE"] == pytest.approx(0, abs=ROUNDING_MM)
    assert row["PA-MPJPE, missed as 0"] == pytest.approx(spread / 2, rel=1e-4)


def test_another_trackers_joints_are_judged_without_mesh_or_place():
    bare = [replace(hand, vertices=np.zeros((0, 3)), metric=False) for hand in TRUTH]
    row = evaluate(*bare)["all"]
    assert row["recall"] == 1.0 and row["PA-MPJPE"] == pytest.approx(0, abs=ROUNDING_MM)
    for key in ("PA-MPVPE", "camera MPJPE", "depth"):
        assert np.isnan(row[key])


def test_wrong_sides_show():
    row = evaluate(replace(TRUTH[0], side=Side.LEFT), TRUTH[1])["all"]
    assert row["side"] == 0.5


def test_hands_that_hardly_show_are_not_counted():
    area = np.prod(TRUTH[1].box[2:] - TRUTH[1].box[:2])
    rows = evaluate(TRUTH[0], sample=SAMPLE | {"visible": np.array([5000, 0.09 * area])})
    assert rows["all"]["hands"] == 1 and rows["all"]["recall"] == 1.0


def test_rows_by_what_makes_a_hand_hard():
    areas = [synthetic.whole_area(hand.vertices, CAMERA) for hand in TRUTH]
    visible = np.array([0.9 * areas[0], 0.4 * areas[1]])
    rows = evaluate(TRUTH[0], sample=SAMPLE | {"visible": visible, "streak": 2.5})
    recall = {name: row["recall"] for name, row in rows.items() if row["hands"]}
    assert recall["less hidden"] == 1.0 and recall["a fifth hidden or more"] == 0.0
    assert recall["moving"] == 0.5 and "still" not in recall
    sizes = [(hand.box[2:] - hand.box[:2]).max() for hand in TRUTH]
    assert min(sizes) > 96 and rows["over 96 px"]["hands"] == 2


def test_a_hands_whole_area_falls_with_the_square_of_its_distance():
    near = TRUTH[0].vertices
    ratio = synthetic.whole_area(near, CAMERA) / synthetic.whole_area(2 * near, CAMERA)
    assert ratio == pytest.approx(1)  # twice as large, twice as far
    far = near - near.mean(0) + (0, 0, 1.0)
    farther = far + (0, 0, 1.0)
    # The hand is 0.1 m deep at most: its near and far ends differ by a twentieth at 1 m.
    ratio = synthetic.whole_area(far, CAMERA) / synthetic.whole_area(farther, CAMERA)
    assert ratio == pytest.approx(4, rel=0.1)


def test_a_folder_that_does_not_tell_of_motion_has_no_such_rows():
    rows = evaluate(*TRUTH, sample=SAMPLE | {"streak": np.nan})
    assert rows["moving"]["hands"] == rows["still"]["hands"] == 0
