from dataclasses import replace

import numpy as np
import pytest

from hand_perception.geometry import BOX_MARGIN, project, slopes
from hand_perception.hands import Camera, Hand, Side
from hand_perception.imaging import Letterbox
from hand_perception.postprocess import (
    CANDIDATE_SCORE,
    LEAST_SHARE,
    NEAR,
    ScoreCalibration,
    build_hands,
    choose_hands,
    evidence,
    grown,
    in_image,
    mirror_in_depth,
    shrinkage,
    side_of,
    with_opinion,
)
from hand_perception.runtime.backend import Decoded, Detected
from hand_perception.template import load_template
from hand_perception.uncertainty import depth_std

TEMPLATE = load_template()
MEAN = ScoreCalibration()
CAMERA = Camera(600.0, 600.0, 319.5, 239.5, 640, 480)
ABOUT_MCP = (TEMPLATE.vertices - TEMPLATE.keypoints[9]).astype(np.float64)
LEFT_HAND = ABOUT_MCP * (-1, 1, 1)


def found(boxes, scores) -> Detected:
    boxes = np.array(boxes, np.float32)
    return Detected(boxes, np.array(scores, np.float32), None)


def built(
    detected: Detected, decoded: Decoded, letterbox: Letterbox, threshold: float = 0.5
) -> list[Hand]:
    """Of all that was decoded, in CAMERA's image."""
    chosen = np.arange(len(decoded.presence))
    return build_hands(detected, chosen, decoded, letterbox, 320, CAMERA, TEMPLATE, MEAN, threshold)


def test_low_scores_and_repeats_are_left_out_best_first():
    same = [0.3, 0.3, 0.2, 0.2]
    detected = found(
        [same, [0.7, 0.7, 0.2, 0.2], same, [0.5, 0.1, 0.1, 0.1]], [0.6, 0.9, 0.8, 0.45]
    )
    assert choose_hands(detected, 0.5).tolist() == [1, 2]


def test_side_is_the_sign_of_the_volume():
    assert side_of(ABOUT_MCP, TEMPLATE) == (Side.RIGHT, 1.0)
    assert side_of(LEFT_HAND, TEMPLATE) == (Side.LEFT, 1.0)
    # A hand pressed flat has no inside: nobody can tell.
    _, confidence = side_of(ABOUT_MCP * (1, 1, 1e-3), TEMPLATE)
    assert confidence < 0.51


@pytest.mark.parametrize("mesh, side", [(ABOUT_MCP, Side.RIGHT), (LEFT_HAND, Side.LEFT)])
def test_true_joints_and_intrinsics_give_the_true_place(mesh, side):
    place = np.array([0.05, -0.03, 0.62])
    pixels = project(TEMPLATE.landmarks @ mesh + place, CAMERA)
    letterbox = Letterbox.fit(640, 480, (320, 320))
    # Network coordinates: 0..1 over the canvas, pixel centres half a pixel in.
    joints2d = (letterbox.points_to_network(pixels) + 0.5) / 320
    decoded = Decoded(joints2d[None], mesh[None], np.zeros((1, 3)), np.ones(1))
    detected = found([[0.5, 0.4, 0.2, 0.2]], [0.9])
    (hand,) = built(detected, decoded, letterbox)
    assert hand.side is side and hand.metric and hand.topology == "open778"
    # Exact input: what is left is float32 of metres, 0.7 * 2^-23 through the regressor's sums.
    np.testing.assert_allclose(hand.vertices, mesh + place, atol=2e-6)
    np.testing.assert_allclose(hand.keypoints2d, pixels, atol=1e-3)
    # Odds of 9 and (held at) 99: their geometric mean.
    odds = (9 * 99) ** 0.5
    assert hand.score == pytest.approx(odds / (1 + odds))
    np.testing.assert_allclose(hand.confidences, hand.score, atol=1e-3)
    np.testing.assert_allclose(hand.wrist.translation, hand.keypoints3d[0], atol=1e-6)


def test_joints_that_contradict_the_mesh_lose_confidence():
    place = np.array([0.0, 0.0, 0.6])
    pixels = project(TEMPLATE.landmarks @ ABOUT_MCP + place, CAMERA)
    pixels[8] += 60  # one fingertip elsewhere
    letterbox = Letterbox.fit(640, 480, (320, 320))
    decoded = Decoded(
        ((letterbox.points_to_network(pixels) + 0.5) / 320)[None],
        ABOUT_MCP[None],
        np.zeros((1, 3)),
        np.ones(1),
    )
    detected = found([[0.5, 0.4, 0.2, 0.2]], [0.9])
    (hand,) = built(detected, decoded, letterbox)
    assert hand.confidences[8] < 0.1 < 0.8 < np.delete(hand.confidences, 8).min()


def test_a_network_that_tells_how_far_off_it_may_be_is_believed():
    place = np.array([0.0, 0.0, 0.6])
    pixels = project(TEMPLATE.landmarks @ ABOUT_MCP + place, CAMERA)
    letterbox = Letterbox.fit(640, 480, (320, 320))
    side_px = 0.2 * 640  # of the box below
    # Nine of ten within 6 % of the box: (1 + r) exp(-r) is a tenth at r = 3.89.
    spread = np.full((1, 21), 4 / np.pi * 0.06 * 0.2 / 3.88972)
    spread[0, 8] = 4 / np.pi * 0.06 * 0.2  # r = 1
    hands = []
    for spread3d in (0.005, 0.03):
        decoded = Decoded(
            ((letterbox.points_to_network(pixels) + 0.5) / 320)[None],
            ABOUT_MCP[None],
            np.zeros((1, 3)),
            np.ones(1),
            spread2d=spread,
            spread3d=np.array([spread3d]),
        )
        hands += built(found([[0.5, 0.4, 0.2, 0.2]], [0.9]), decoded, letterbox)
    sure, unsure = hands
    assert (sure.box[2:] - sure.box[:2]).max() == pytest.approx(side_px)
    np.testing.assert_allclose(np.delete(sure.confidences, 8), 0.9 * sure.score, rtol=1e-4)
    assert sure.confidences[8] == pytest.approx((1 - 2 / np.e) * sure.score, rel=1e-4)
    # A Laplace distribution's standard deviation is its mean absolute error times sqrt(2).
    assert (sure.shape_std, unsure.shape_std) == pytest.approx((0.005 * 2**0.5, 0.03 * 2**0.5))
    assert depth_std(sure.position_covariance) < depth_std(unsure.position_covariance)


def test_presence_decides_with_the_detector_and_repeats_are_dropped():
    """Four candidates: a hand, the same joints again, a hand elsewhere, and an impostor."""
    place = np.array([0.0, 0.0, 0.6])
    pixels = project(TEMPLATE.landmarks @ ABOUT_MCP + place, CAMERA)
    letterbox = Letterbox.fit(640, 480, (320, 320))

    def seen(shift):
        return (letterbox.points_to_network(pixels + shift) + 0.5) / 320

    joints2d = np.stack([seen((0, 0)), seen((4, 0)), seen((200, 0)), seen((-200, 0))])
    presence = np.array([0.9, 0.9, 0.8, 0.1])
    decoded = Decoded(joints2d, np.stack([ABOUT_MCP] * 4), np.zeros((4, 3)), presence)
    boxes = [[0.5, 0.4, 0.3, 0.3]] * 4
    detected = found(boxes, [0.9, 0.8, 0.5, 0.9])
    hands = built(detected, decoded, letterbox, 0.51)
    # Odds of 9 and 9, then of 1 and 4; the impostor's 9 and 1/9 make 1, a score of 0.5, left out
    # by the 0.51 asked for.
    assert [hand.score for hand in hands] == pytest.approx([0.9, 2 / 3])


def test_a_part_of_a_better_hand_is_no_hand_of_its_own():
    pixels = project(TEMPLATE.landmarks @ ABOUT_MCP + np.array([0.0, 0.0, 0.4]), CAMERA)
    letterbox = Letterbox.fit(640, 480, (320, 320))
    low, high = pixels.min(0), pixels.max(0)

    def seen(shift):
        """Half as large: where the hand's upper left quarter is, and moved by its own sides."""
        small = low + (pixels - low) / 2 + shift * (high - low) / 2
        return (letterbox.points_to_network(small) + 0.5) / 320

    whole = (letterbox.points_to_network(pixels) + 0.5) / 320
    # Moved by 0.3 of its width beyond the border, 70 % of it lies in the whole one; by 0.2, 80 %.
    joints2d = np.stack([whole, seen((0, 0)), seen((-0.2, 0)), seen((-0.3, 0))])
    decoded = Decoded(joints2d, np.stack([ABOUT_MCP] * 4), np.zeros((4, 3)), np.full(4, 0.9))
    detected = found([[0.5, 0.4, 0.3, 0.3]] * 4, [0.9, 0.8, 0.8, 0.8])
    hands = built(detected, decoded, letterbox)
    corners = [h.keypoints2d[:, 0].min() for h in hands]
    assert corners == pytest.approx([low[0], low[0] - 0.15 * (high - low)[0]], abs=0.01)


def test_no_query_below_the_lowest_detector_score_could_become_a_hand():
    calibration = ScoreCalibration(0.1, 0.8, presence=0.2, joints=0.1, box=0.15, side=-0.05)
    lowest = calibration.lowest_detector_score(0.9)
    # All else for it; what weighs against it, not told.
    best = np.array([[lowest, 1.0, 1.0, 1.0, 0.0]])
    assert calibration.score(best)[0] == pytest.approx(0.9)
    assert calibration.lowest_detector_score(0.05) == CANDIDATE_SCORE
    # Where all else could make a hand of anything, the detector has to see a little of it.
    eager = ScoreCalibration(bias=9.0)
    assert eager.lowest_detector_score(0.5) == pytest.approx(LEAST_SHARE * 0.5)


def test_what_speaks_for_a_hand():
    letterbox = Letterbox.fit(640, 480, (320, 320))
    detected = found([[0.5, 0.4, 0.2, 0.2], [0.5, 0.4, 0.2, 0.2]], [0.9, 0.8])
    # The box's middle joints, a square of 0.1 whose margins make 0.12 of the 0.2 square.
    square = 0.05 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    joints = np.array([0.5, 0.4]) + square[np.arange(21) % 4]
    decoded = Decoded(
        np.stack([joints] * 2),
        np.stack([ABOUT_MCP] * 2),
        np.zeros((2, 3)),
        np.array([0.7, 0.6]),
    )
    chosen, margin = np.arange(2), 1 + 2 * BOX_MARGIN
    silent = evidence(detected.scores, decoded, in_image(detected, chosen, decoded, letterbox, 320))
    covered = (0.1 * margin / 0.2) ** 2
    np.testing.assert_allclose(silent[0], [0.9, 0.7, 0.5, covered, 0.5], atol=1e-6)

    decoded = replace(
        decoded,
        right=np.array([0.1, 0.8]),
        spread2d=np.array([[1e-5] * 21, [0.02] * 21]),
        spread3d=np.full(2, 0.01),
    )
    told = evidence(detected.scores, decoded, in_image(detected, chosen, decoded, letterbox, 320))
    # A joint as near as told is within NEAR of the box's side, 0.012 of the canvas, for sure; one
    # that is 0.02 off along each axis is with the chance of a density exp(-r / c), c = pi / 4 0.02.
    reach = NEAR * 0.2 / (np.pi / 4 * 0.02)
    np.testing.assert_allclose(told[:, 2], [1, 1 - (1 + reach) * np.exp(-reach)], atol=1e-6)
    np.testing.assert_allclose(told[:, 4], [0.9, 0.8])


@pytest.mark.parametrize(
    "side, confidence, right, expected",
    [
        (Side.RIGHT, 0.9, 0.5, (Side.RIGHT, 0.9)),
        (Side.LEFT, 0.5, 0.8, (Side.RIGHT, 0.8)),
        # Odds of 9 to 1 for the left against 4 to 1 for the right.
        (Side.LEFT, 0.9, 0.8, (Side.LEFT, 9 / 13)),
        # Odds of 4 to 1, twice.
        (Side.RIGHT, 0.8, 0.8, (Side.RIGHT, 16 / 17)),
    ],
)
def test_mesh_and_opinion_on_the_side_multiply_their_odds(side, confidence, right, expected):
    told, sure = with_opinion(side, confidence, right)
    assert told is expected[0] and sure == pytest.approx(expected[1])


def test_a_mesh_of_the_wrong_side_is_turned_over_along_the_line_of_sight():
    """Of a network whose axes are the camera's, with a hand far from the image's middle."""
    letterbox = Letterbox.fit(640, 480, (320, 320))
    box = np.array([0.8, 0.35, 0.2, 0.2])
    ray = np.append(slopes(letterbox.points_to_image(box[:2] * 320 - 0.5), CAMERA), 1.0)
    along = ray / np.linalg.norm(ray)
    # So flat along the ray that its volume says little.
    flat = ABOUT_MCP - 0.9 * np.outer(ABOUT_MCP @ along, along)
    joints2d = project(TEMPLATE.landmarks @ flat + 0.6 * ray, CAMERA)
    decoded = Decoded(
        ((letterbox.points_to_network(joints2d) + 0.5) / 320)[None],
        mirror_in_depth(flat, ray)[None],
        np.zeros((1, 3)),
        np.ones(1),
        right=np.array([0.99]),
    )
    (hand,) = built(found([box], [0.9]), decoded, letterbox)
    assert hand.side is Side.RIGHT
    # Float32 of metres, and of the box through its ray.
    shape = hand.vertices - hand.vertices.mean(0)
    np.testing.assert_allclose(shape, flat - flat.mean(0), atol=2e-6)


def test_joints_of_a_crop_are_the_mean_of_what_is_seen_and_what_the_mesh_says():
    """One joint is astray, which the solve leaves aside."""
    place = np.array([0.0, 0.0, 0.6])
    true = project(TEMPLATE.landmarks @ ABOUT_MCP + place, CAMERA)
    seen = true.copy()
    seen[8] += (40.0, 0.0)
    letterbox = Letterbox.fit(640, 480, (320, 320))
    decoded = Decoded(
        ((letterbox.points_to_network(seen) + 0.5) / 320)[None],
        ABOUT_MCP[None],
        np.zeros((1, 3)),
        np.ones(1),
        right=np.array([0.9]),
        gaze=np.array([[0.5, 0.375]]),
    )
    detected = found([[0.5, 0.4, 0.3, 0.3]], [0.9])
    (hand,) = built(detected, decoded, letterbox, 0.3)
    assert hand.side is Side.RIGHT
    # One stray joint of 21 hardly moves a robust fit, so the mesh stays, but for its size.
    expected = (seen + grown(true, seen)) / 2
    np.testing.assert_allclose(hand.keypoints2d, expected, atol=1.0)
    assert abs(hand.keypoints2d[8, 0] - true[8, 0]) < 25


def test_a_mesh_drawn_too_small_is_grown_to_its_joints():
    pixels = project(TEMPLATE.landmarks @ ABOUT_MCP + (0.0, 0.0, 0.6), CAMERA)
    about = pixels.mean(0)
    np.testing.assert_allclose(grown(about + (pixels - about) / 1.2, pixels), pixels)
    moved = pixels + (5.0, 3.0)
    np.testing.assert_allclose(grown(moved, pixels), moved)


def test_a_hand_that_looks_smaller_in_its_joints_than_in_its_box_is_nearer():
    place = np.array([0.0, 0.0, 0.6])
    pixels = project(TEMPLATE.landmarks @ ABOUT_MCP + place, CAMERA)
    low, high = pixels.min(0), pixels.max(0)
    margin = 0.1 * (high - low).max()
    box = np.concatenate([low - margin, high + margin])
    assert shrinkage(pixels, pixels, box, CAMERA) == pytest.approx(1.0)
    # A mesh that appears a tenth too small beside its joints.
    about = pixels.mean(0)
    assert shrinkage(pixels, about + (pixels - about) / 1.1, box, CAMERA) == pytest.approx(1.1)
    # A box a fifth larger than the joints' says a quarter of that, as a logarithm.
    middle = (box[:2] + box[2:]) / 2
    larger = np.concatenate([middle + 1.2 * (box[:2] - middle), middle + 1.2 * (box[2:] - middle)])
    assert shrinkage(pixels, pixels, larger, CAMERA) == pytest.approx(1.2**0.12)
    # Half out of the image, joints and box are cut alike.
    moved = pixels + (319.5 - pixels[:, 0].mean() + 320, 0)
    cut = np.clip(box + (moved - pixels)[0, [0, 1, 0, 1]], -0.5, [639.5, 479.5, 639.5, 479.5])
    assert shrinkage(moved, moved, cut, CAMERA) == pytest.approx(1.0)


def test_one_hand_is_not_a_left_and_a_right_one():
    place = np.array([0.0, 0.0, 0.6])
    pixels = project(TEMPLATE.landmarks @ ABOUT_MCP + place, CAMERA)
    turned = pixels.min(0) + pixels.max(0) - pixels
    letterbox = Letterbox.fit(640, 480, (320, 320))
    joints2d = np.stack([(letterbox.points_to_network(p) + 0.5) / 320 for p in (pixels, turned)])
    decoded = Decoded(joints2d, np.stack([ABOUT_MCP] * 2), np.zeros((2, 3)), np.array([0.8, 0.9]))
    detected = found([[0.5, 0.4, 0.3, 0.3]] * 2, [0.9, 0.9])
    (hand,) = built(detected, decoded, letterbox)
    np.testing.assert_allclose(hand.keypoints2d, turned, atol=1e-3)
