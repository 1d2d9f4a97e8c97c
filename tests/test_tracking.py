from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from open_hand import CAMERA, TEMPLATE, make_hand

from hand_perception.geometry import project, signed_volume
from hand_perception.hands import Side
from hand_perception.tracking import (
    HandTracker,
    TrackerParameters,
    reflected,
    without_duplicates,
)
from hand_perception.uncertainty import ray_covariance

FRAME = 1 / 30
RAW = TrackerParameters(smoothing=False)


def play(tracker: HandTracker, frames, start_s: float = 100.0) -> list:
    return [tracker(hands, start_s + k * FRAME) for k, hands in enumerate(frames)]


def crossing(k: int) -> tuple[float, float]:
    """x of two hands that pass each other in 40 frames, 0.6 m apart at the ends."""
    return -0.3 + 0.015 * k, 0.3 - 0.015 * k


def test_ids_are_positive_and_persist():
    frames = [
        [make_hand(at=(-0.2 + 0.005 * k, 0, 0.6)), make_hand(Side.LEFT, (0.2, 0, 0.6))]
        for k in range(20)
    ]
    out = play(HandTracker(RAW), frames)
    ids = {tuple(hand.track_id for hand in hands) for hands in out}
    assert len(ids) == 1 and min(*ids) > 0 and len(set(*ids)) == 2


def test_order_of_the_detector_does_not_matter():
    a, b = make_hand(at=(-0.15, 0, 0.6)), make_hand(at=(0.15, 0, 0.6))
    tracker = HandTracker(RAW)
    first = {h.box[0]: h.track_id for h in tracker([a, b], 0.0)}
    second = {h.box[0]: h.track_id for h in tracker([b, a], FRAME)}
    assert first == second


def test_crossing_hands_of_two_sides_keep_their_ids():
    frames = [
        [make_hand(Side.RIGHT, (x, 0, 0.6)), make_hand(Side.LEFT, (y, 0.01, 0.6))]
        for x, y in map(crossing, range(40))
    ]
    out = play(HandTracker(RAW), frames)
    # Right over left for a frame or two, one of them may count as a duplicate.
    assert min(len(hands) for hands in out) >= 1
    assert {h.side: h.track_id for h in out[0]} == {h.side: h.track_id for h in out[-1]}
    assert max(h.track_id for hands in out for h in hands) == 2


def test_crossing_hands_of_one_side_are_told_apart_by_motion():
    frames = [
        [make_hand(at=(x, -0.03, 0.6)), make_hand(at=(y, 0.03, 0.6))]
        for x, y in map(crossing, range(40))
    ]
    out = play(HandTracker(RAW), frames)
    assert [h.track_id for h in out[0]] == [h.track_id for h in out[-1]] == [1, 2]


def test_a_short_occlusion_keeps_the_id_and_outputs_nothing():
    hand = make_hand()
    frames = [[hand]] * 20 + [[]] * 40 + [[hand]] * 5  # 41 frame periods: 1.37 s
    out = play(HandTracker(RAW), frames)
    assert [len(hands) for hands in out] == [1] * 20 + [0] * 40 + [1] * 5
    assert {h.track_id for hands in out for h in hands} == {1}


def test_re_entry_after_the_gap_is_a_new_hand():
    hand = make_hand()
    out = play(HandTracker(RAW), [[hand]] * 20 + [[]] * 50 + [[hand]])
    assert out[0][0].track_id == 1 and out[-1][0].track_id == 2


def test_what_was_seen_for_a_moment_is_forgotten_soon():
    # Two frames are 0.033 s: three times that is less than the least of 0.2 s, six periods.
    for missed, identity in ((5, 1), (7, 2)):
        out = play(HandTracker(RAW), [[make_hand()]] * 2 + [[]] * missed + [[make_hand()]])
        assert out[-1][0].track_id == identity


def test_a_hand_that_comes_back_elsewhere_keeps_its_id():
    # Away for a second; 0.27 m are 1.2 of its boxes, the gate is 0.5 and 1.5 * 3 / 1.15 more.
    frames = [[make_hand(at=(-0.2, 0, 0.6))]] * 20 + [[]] * 29 + [[make_hand(at=(0.07, 0, 0.6))]]
    assert play(HandTracker(RAW), frames)[-1][0].track_id == 1


def test_something_else_that_took_the_id_for_a_moment_gives_it_back():
    """The hand is missed in one frame, in which something 0.4 boxes away looks like it."""
    hand = make_hand(at=(0, 0, 0.6))
    size = float((hand.box[2:] - hand.box[:2]).max())
    shift = np.float32([0.4 * size, 0])
    other = replace(hand, keypoints2d=hand.keypoints2d + shift, box=hand.box + np.tile(shift, 2))
    out = play(HandTracker(RAW), [[hand]] * 20 + [[other]] + [[hand]] * 3)
    assert [h.track_id for (h,) in out] == [1] * 24


def test_the_other_side_does_not_come_back_in_its_place():
    frames = [[make_hand(Side.RIGHT)]] * 10 + [[]] * 15 + [[make_hand(Side.LEFT)]]
    (hand,) = play(HandTracker(RAW), frames)[-1]
    assert hand.track_id == 2 and hand.side is Side.LEFT


def test_a_lost_track_takes_no_hand_from_one_that_is_seen():
    lost, seen = make_hand(at=(-0.1, 0, 0.6)), make_hand(at=(0.1, 0, 0.6))
    tracker = HandTracker(RAW)
    play(tracker, [[lost, seen]] * 20)
    # The seen one makes a quick step of 5 cm towards where the lost one was a second ago.
    play(tracker, [[seen]] * 30, 100.0 + 20 * FRAME)
    (hand,) = tracker([make_hand(at=(0.05, 0, 0.6))], 100.0 + 50 * FRAME)
    assert hand.track_id == 2


def test_a_hand_elsewhere_is_another_hand():
    tracker = HandTracker(RAW)
    tracker([make_hand(at=(-0.3, 0, 0.6))], 0.0)
    assert tracker([make_hand(at=(0.3, 0, 0.6))], FRAME)[0].track_id == 2


def test_duplicates_leave_the_better_one():
    hand = make_hand()
    shadow = replace(hand, score=0.6, side=Side.LEFT, keypoints2d=hand.keypoints2d + 8)
    other = make_hand(at=(0.25, 0, 0.6))
    kept = without_duplicates([shadow, hand, other], 0.2)
    assert [id(h) for h in kept] == [id(hand), id(other)]
    assert len(HandTracker(RAW)([shadow, hand, other], 0.0)) == 2


def test_time_that_jumps_back_starts_anew_without_reusing_ids():
    hand, tracker = make_hand(), HandTracker(RAW)
    assert tracker([hand], 50.0)[0].track_id == 1
    assert tracker([hand], 10.0)[0].track_id == 2
    assert tracker([hand], 10.0 + FRAME)[0].track_id == 2


def test_a_single_contrary_frame_does_not_turn_the_side():
    right = make_hand(Side.RIGHT, side_confidence=0.9)
    wrong = replace(reflected(right), side_confidence=0.9)
    out = play(HandTracker(RAW), [[right]] * 5 + [[wrong]] + [[right]] * 3)
    assert {h.side for hands in out for h in hands} == {Side.RIGHT}
    assert {h.track_id for hands in out for h in hands} == {1}
    # The frame's mesh is turned with its label: same shape as before, wound outwards.
    np.testing.assert_allclose(out[5][0].vertices, right.vertices, atol=1e-6)
    np.testing.assert_allclose(out[5][0].wrist.rotation, right.wrist.rotation, atol=1e-5)


def test_a_side_that_was_wrong_at_first_is_corrected():
    right = make_hand(Side.RIGHT, side_confidence=0.9)
    wrong = replace(reflected(right), side_confidence=0.6)
    out = play(HandTracker(RAW), [[wrong]] * 3 + [[right]] * 3)
    # Evidence: 3 ln(0.6 / 0.4) = 1.2 for the left, then ln 9 = 2.2 a frame for the right.
    assert [h.side for (h,) in out] == [Side.LEFT] * 3 + [Side.RIGHT] * 3


def test_held_sides_give_way_to_lasting_evidence():
    right = make_hand(Side.RIGHT, side_confidence=0.95)
    left = replace(reflected(right), side_confidence=0.95)
    out = play(HandTracker(RAW), [[right]] * 100 + [[left]] * 40)
    # 90 log-odds against ln 19 = 2.94 a frame: the 31st turns it, after a second.
    assert [h.side for (h,) in out[100:]] == [Side.RIGHT] * 30 + [Side.LEFT] * 10


def test_confidence_grows_with_evidence():
    hand = make_hand(side_confidence=0.7)
    out = [h for (h,) in play(HandTracker(RAW), [[hand]] * 4)]
    # Odds multiply: (0.7 / 0.3)^n.
    odds = (0.7 / 0.3) ** np.arange(1, 5)
    np.testing.assert_allclose([h.side_confidence for h in out], odds / (1 + odds))


@pytest.mark.parametrize("side", Side)
def test_reflection_turns_the_chirality_and_hardly_the_joints(side):
    hand = make_hand(side, at=(0.05, -0.03, 0.8))
    other = reflected(hand)
    assert other.side is side.opposite
    volume = signed_volume(np.stack([hand.vertices, other.vertices]), TEMPLATE.faces)
    assert volume[1] == pytest.approx(-volume[0], rel=1e-3)  # float32 vertices
    np.testing.assert_allclose(other.keypoints3d[0], hand.keypoints3d[0], atol=1e-7)
    # An open hand is flat: no other mirror plane through the wrist moves its joints less.
    offsets = (hand.keypoints3d - hand.keypoints3d[0]).astype(float)
    moved = np.sum((other.keypoints3d - hand.keypoints3d) ** 2)
    normals = np.random.default_rng(0).normal(size=(100, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    assert moved <= (4 * (offsets @ normals.T) ** 2).sum(0).min() + 1e-9
    # Seen from its back, what moves moves along the ray: twice the distance from the plane, which
    # leans by less than half a radian from the image's, as the hand's joints do.
    lean = 2 * np.abs(offsets[:, 2]).max() * np.sin(0.5) + 0.2 * 2 * np.abs(offsets[:, 2]).max()
    shift = project(other.keypoints3d, CAMERA) - project(hand.keypoints3d, CAMERA)
    assert np.linalg.norm(shift, axis=1).max() < 500 * lean / 0.75


def test_reflecting_twice_gives_the_hand_back():
    hand = make_hand(at=(0.05, -0.03, 0.8))
    again = reflected(reflected(hand))
    assert again.side is hand.side
    np.testing.assert_allclose(again.vertices, hand.vertices, atol=1e-6)


def noisy(rng: np.random.Generator, x: float = 0.0):
    hand = make_hand(at=(x, 0, 0.6))
    return replace(
        hand,
        keypoints2d=hand.keypoints2d + rng.normal(0, 2, (21, 2)).astype(np.float32),
        keypoints3d=hand.keypoints3d + rng.normal(0, 2e-3, (21, 3)).astype(np.float32),
    )


def test_smoothing_steadies_a_resting_hand():
    rng = np.random.default_rng(0)
    frames = [[noisy(rng)] for _ in range(120)]
    out = play(HandTracker(TrackerParameters(beta=0.0)), frames)
    for name, sigma in (("keypoints2d", 2.0), ("keypoints3d", 2e-3)):
        late = np.array([getattr(h, name) for (h,) in out[30:]])
        # 1.5 Hz at 30 fps keeps g / (2 - g) = 0.14 of the variance (test_smoothing), 0.37 of the
        # deviation; joints in 3D are a sum of two filtered parts, as noisy as their sum was.
        assert late.std(0).mean() < 0.45 * sigma


def test_smoothed_pose_agrees_with_its_joints():
    rng = np.random.default_rng(1)
    (hand,) = play(HandTracker(), [[noisy(rng)] for _ in range(10)])[-1]
    np.testing.assert_allclose(hand.wrist.translation, hand.keypoints3d[0], atol=1e-6)
    assert hand.keypoints2d.dtype == hand.vertices.dtype == np.float32


def test_smoothing_follows_a_moving_hand():
    frames = [[make_hand(at=(-0.3 + 0.01 * k, 0, 0.6))] for k in range(60)]  # 0.3 m/s
    (hand,) = play(HandTracker(), frames)[-1]
    # OneEuroFilter's bound: scale / (2 pi beta) with 0.18 m and the default of 3.
    lag = frames[-1][0].keypoints3d[0, 0] - hand.keypoints3d[0, 0]
    assert 0 <= lag < 0.18 / (2 * np.pi * 3)


def test_smoothing_follows_an_approaching_hand():
    frames = [[make_hand(at=(0.1, 0, 1.2 - 0.01 * k))] for k in range(60)]
    (hand,) = play(HandTracker(), frames)[-1]
    lag = hand.keypoints3d[0, 2] - frames[-1][0].keypoints3d[0, 2]
    assert 0 <= lag < 0.6 / (2 * np.pi * 3)
    # The direction is filtered on its own: it does not lag behind for the sake of the depth.
    before, after = frames[-1][0].keypoints3d[0], hand.keypoints3d[0]
    bound = 0.18 / before[2] / (2 * np.pi * 3)
    assert abs(after[0] / after[2] - before[0] / before[2]) < bound


def test_a_measured_depth_is_followed_closely():
    frames = [[make_hand(at=(0.1, 0, 1.2 - 0.01 * k))] for k in range(60)]
    for (hand,) in frames:
        hand.position_covariance = ray_covariance(hand.wrist.translation, 0.004, 0.002)
    (hand,) = play(HandTracker(), frames)[-1]
    lag = hand.keypoints3d[0, 2] - frames[-1][0].keypoints3d[0, 2]
    assert 0 <= lag < 0.18 / (2 * np.pi * 3)


def test_a_hand_that_was_away_is_not_blended_with_what_it_was():
    before, after = make_hand(at=(0, 0, 0.6)), make_hand(at=(0.1, 0, 0.6))
    (hand,) = play(HandTracker(), [[before]] * 6 + [[]] * 8 + [[after]])[-1]
    assert hand.track_id == 1
    np.testing.assert_allclose(hand.keypoints3d, after.keypoints3d, atol=1e-6)


def test_a_steady_motion_is_predicted():
    # 0.3 m/s to the right, 0.15 m/s away, without smoothing's lag; long enough to forget the start.
    step = np.array([0.01, 0, 0.005])
    frames = [[make_hand(at=(-0.3, 0.02, 0.5) + k * step)] for k in range(60)]
    tracker = HandTracker(RAW)
    play(tracker, frames)
    (now,) = frames[-1]
    (later,) = tracker.predict(FRAME)
    # Motions fade with a time of 0.2 s: of a frame's 33 ms that is 1 - 33 / 400 = 92 %.
    share = 0.2 * (1 - np.exp(-FRAME / 0.2)) / FRAME
    moved = later.keypoints3d - now.keypoints3d
    # x / z and ln z are what moves steadily, not x and z: they bend by v^2 / z within a frame.
    np.testing.assert_allclose(moved, np.tile(share * step, (21, 1)), atol=5e-4)
    np.testing.assert_allclose(later.vertices - now.vertices, moved[:1].repeat(778, 0), atol=1e-6)
    np.testing.assert_allclose(later.wrist.translation, later.keypoints3d[0], atol=1e-6)
    marked = TEMPLATE.landmarks @ now.vertices
    pixels = project(marked + share * step, CAMERA) - now.keypoints2d
    np.testing.assert_allclose(
        (later.keypoints2d - now.keypoints2d).mean(0), pixels.mean(0), atol=0.3
    )
    np.testing.assert_allclose(later.box - now.box, np.tile(pixels.mean(0), 2), atol=0.3)


def test_predictions_are_the_last_hands_in_their_order_and_stop_somewhere():
    tracker = HandTracker(RAW)
    assert tracker.predict(0.1) == []
    a, b = make_hand(at=(-0.15, 0, 0.6)), make_hand(Side.LEFT, at=(0.15, 0, 0.6))
    play(tracker, [[a, b]] * 3)
    (out,) = play(tracker, [[b, a]], 100.1)
    assert [h.track_id for h in tracker.predict(0.05)] == [h.track_id for h in out]
    play(tracker, [[make_hand(at=(0.01 * k, 0, 0.6))] for k in range(30)], 200.0)
    far = [tracker.predict(s)[0].keypoints3d[0, 0] for s in (0.0, 0.2, 2.0, 200.0)]
    # 0.3 m/s for 0.2 s at most: 6 cm.
    assert far[0] < far[1] < far[2] <= far[3] < far[0] + 0.3 * 0.2 * 1.01
    tracker([], 300.0)
    assert tracker.predict(0.1) == []


def test_input_hands_are_not_changed():
    hand = make_hand()
    before = hand.keypoints3d.copy()
    play(HandTracker(), [[hand], [make_hand(at=(0.02, 0, 0.5))]])
    assert hand.track_id == 0
    np.testing.assert_array_equal(hand.keypoints3d, before)
