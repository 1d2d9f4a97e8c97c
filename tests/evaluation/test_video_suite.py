from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from open_hand import make_hand

from hand_perception.errors import DataError
from hand_perception.evaluation import video
from hand_perception.evaluation.metrics import acceleration
from hand_perception.hands import Reconstruction, Side
from hand_perception.tracking import reflected


def tracked(identity: int, at=(0.0, 0.0, 0.6), side=Side.RIGHT):
    return make_hand(side, at, track_id=identity)


def test_a_still_hand_that_drops_out_and_comes_back():
    frames = [[tracked(1)]] * 6 + [[]] * 2 + [[tracked(2)]] * 2
    row = video.summary(frames)
    assert (row["frames"], row["ids"]) == (10, 2)
    assert row["seen"] == 0.8 and row["longest"] == 0.75
    assert row["jitter 2D"] == 0.0 and row["side flips"] == 0.0
    assert np.isnan(row["PCK@0.1"])


def test_shaking_in_depth_is_3d_jitter_only_within_the_hand():
    # The whole hand moves by 1 cm to and fro: the wrist takes all of it.
    frames = [[tracked(1, (0, 0, 0.6 + 0.01 * (k % 2)))] for k in range(8)]
    row = video.summary(frames)
    assert row["jitter 3D"] == pytest.approx(0, abs=1e-3) and row["jitter 2D"] > 0


def test_acceleration_is_in_pixels_and_millimetres_per_frame_squared():
    # Along x = k^2 px a frame each second difference is two, along a line none.
    steps = np.arange(8)
    path = np.zeros((8, 21, 2))
    path[..., 0], path[..., 1] = (steps**2)[:, None], 5 * steps[:, None]
    assert acceleration(path) == pytest.approx(2.0)
    frames = [[tracked(1)] for _ in steps]
    for k, (hand,) in enumerate(frames):
        hand.keypoints2d = (hand.keypoints2d + path[k]).astype(np.float32)
        hand.keypoints3d = hand.keypoints3d.copy()
        hand.keypoints3d[1:, 2] += 0.001 * k**2
    row = video.summary(frames)
    # Pixels of some hundreds in float32, differenced twice; millimetres of 0.7 m likewise. The
    # wrist, one of 21 joints, is the origin.
    assert row["acc 2D"] == pytest.approx(2.0, abs=1e-3)
    assert row["jitter 3D"] == pytest.approx(2.0 * 20 / 21, abs=1e-3)


def test_side_flips_are_per_100_frames():
    frames = [[tracked(1, side=Side.LEFT if k in (3, 4) else Side.RIGHT)] for k in range(10)]
    assert video.summary(frames)["side flips"] == 20.0


def test_golden_joints_count_frames_without_a_hand():
    hand = tracked(1)
    truth = np.tile(hand.keypoints2d, (4, 1, 1))
    assert video.summary([[hand], [hand], [], [hand]], truth)["PCK@0.1"] == 0.75


def test_nothing_seen():
    row = video.summary([[], []])
    assert row["seen"] == 0.0 and row["ids"] == 0 and np.isnan(row["jitter 2D"])


@pytest.fixture
def clip(tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / "clip.25fps.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (640, 480)
    )
    for _ in range(10):
        writer.write(np.full((480, 640, 3), 128, np.uint8))
    writer.release()
    return tmp_path


def test_the_suite_reads_videos_and_holds_sides(clip):
    hand = make_hand(side_confidence=0.8)
    (clip / "clip.full.json").write_text(json.dumps(np.tile(hand.keypoints2d, (10, 1, 1)).tolist()))
    calls = []

    def reconstructor(image, camera, *, score_threshold):
        assert image.shape == (480, 640, 3)
        calls.append(camera)
        return Reconstruction([reflected(hand) if len(calls) == 6 else hand])

    rows = video.evaluate(clip, reconstructor)
    assert len(calls) == 10
    assert rows["clip.25fps, frame by frame"]["side flips"] == 20.0
    assert rows["clip.25fps, tracked"]["side flips"] == 0.0
    assert rows["clip.25fps, tracked"]["PCK@0.1"] == 1.0
    assert rows["clip.25fps, labels"]["jitter 2D"] == 0.0


def test_the_labels_jitter_is_over_the_same_box_as_a_hands():
    hand = tracked(1)
    low, high = hand.keypoints2d.min(0), hand.keypoints2d.max(0)
    margin = 0.1 * (high - low).max()
    box = np.concatenate([low - margin, high + margin])
    frames, truth = [], []
    for k in range(8):
        shift = 3.0 * (k % 2)
        moved = replace(hand, keypoints2d=hand.keypoints2d + shift, box=box + shift)
        frames.append([moved])
        truth.append(moved.keypoints2d)
    expected = video.summary(frames)["jitter 2D"]
    assert video.steadiness(np.array(truth))["jitter 2D"] == pytest.approx(expected)


def test_limit_stops_early(clip):
    calls = []
    video.evaluate(clip, lambda *a, **k: calls.append(1) or Reconstruction([]), limit=3)
    assert len(calls) == 3


def test_folders_without_videos_and_broken_ones(tmp_path):
    with pytest.raises(DataError, match="no videos"):
        video.evaluate(tmp_path, None)
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x\.mp4 cannot be decoded"):
        video.evaluate(tmp_path, None)
