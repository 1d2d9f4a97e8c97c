from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from open_hand import CAMERA, TEMPLATE, make_hand

from hand_perception.geometry import project, signed_volume
from hand_perception.hands import Side
from hand_perception.tracking import HandTracker, TrackerParameters, reflected, without_duplicates

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
    frames = [[hand]] * 5 + [[]] * 10 + [[hand]] * 5  # 11 frame periods: 0.37 s
    out = play(HandTracker(RAW), frames)
    assert [len(hands) for hands in out] == [1] * 5 + [0] * 10 + [1] * 5
    assert {h.track_id for hands in out for h in hands} == {1}


def test_re_entry_after_the_gap_is_a_new_hand():
    hand = make_hand()
    out = play(HandTracker(RAW), [[hand]] * 3 + [[]] * 15 + [[hand]])
    assert out[0][0].track_id == 1 and out[-1][0].track_id == 2


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
    out = play(HandTracker(RAW), [[right]] * 100 + [[left]] * 10)
    # 14 log-odds against ln 19 = 2.94 a frame: the fifth turns it.
    assert [h.side for (h,) in out[100:]] == [Side.RIGHT] * 4 + [Side.LEFT] * 6


def test_confidence_grows_with_evidence():
    hand = make_hand(side_confidence=0.7)
    out = [h for (h,) in play(HandTracker(RAW), [[hand]] * 4)]
    # Odds multiply: (0.7 / 0.3)^n.
    odds = (0.7 / 0.3) ** np.arange(1, 5)
    np.testing.assert_allclose([h.side_confidence for h in out], odds / (1 + odds))


@pytest.mark.parametrize("side", Side)
def test_reflection_keeps_the_picture_and_turns_the_chirality(side):
    hand = make_hand(side, at=(0.05, -0.03, 0.8))
    other = reflected(hand)
    assert other.side is side.opposite
    volume = signed_volume(np.stack([hand.vertices, other.vertices]), TEMPLATE.faces)
    assert volume[1] == pytest.approx(-volume[0], rel=1e-3)  # float32 vertices
    np.testing.assert_allclose(other.keypoints3d[0], hand.keypoints3d[0], atol=1e-7)
    # A point r off the ray whose depth changes by 2 d shifts by f r 2 d / z^2; r < 0.2 m.
    depth = np.abs(hand.vertices[:, 2] - hand.keypoints3d[0, 2]).max()
    bound = 500 * 0.2 * 2 * depth / 0.8**2
    moved = project(other.vertices, CAMERA) - project(hand.vertices, CAMERA)
    assert np.linalg.norm(moved, axis=1).max() < bound


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
    # OneEuroFilter's bound: scale / (2 pi beta) with 0.18 m and 4.
    lag = frames[-1][0].keypoints3d[0, 0] - hand.keypoints3d[0, 0]
    assert 0 <= lag < 0.18 / (2 * np.pi * 4)


def test_smoothing_follows_an_approaching_hand():
    frames = [[make_hand(at=(0.1, 0, 1.2 - 0.01 * k))] for k in range(60)]
    (hand,) = play(HandTracker(), frames)[-1]
    lag = hand.keypoints3d[0, 2] - frames[-1][0].keypoints3d[0, 2]
    assert 0 <= lag < 0.6 / (2 * np.pi * 4)
    # The direction is filtered on its own: it does not lag behind for the sake of the depth.
    before, after = frames[-1][0].keypoints3d[0], hand.keypoints3d[0]
    bound = 0.18 / before[2] / (2 * np.pi * 4)
    assert abs(after[0] / after[2] - before[0] / before[2]) < bound


def test_input_hands_are_not_changed():
    hand = make_hand()
    before = hand.keypoints3d.copy()
    play(HandTracker(), [[hand], [make_hand(at=(0.02, 0, 0.5))]])
    assert hand.track_id == 0
    np.testing.assert_array_equal(hand.keypoints3d, before)
