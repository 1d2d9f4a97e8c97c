from __future__ import annotations

import numpy as np
import pytest

from hand_perception.evaluation.sequences import (
    CAMERA,
    SCENES,
    Actor,
    Noise,
    Scene,
    play,
)
from hand_perception.geometry import project, signed_volume
from hand_perception.hands import Side
from hand_perception.template import load_template

TEMPLATE = load_template()
EXACT = Noise(joints=0, shape_m=0, depth=0, size=0, wrong_side=0, missed=0, doubled=0, false=0)


def one(side=Side.RIGHT, path=((0.0, 0.0, 0.1, 0.6),), noise=EXACT, seconds=0.5, **script):
    return Scene((Actor(side, path, **script),), seconds=seconds, noise=noise)


@pytest.mark.parametrize("palm", [False, True])
@pytest.mark.parametrize("side", Side)
def test_without_noise_what_is_seen_is_the_truth(side, palm):
    for frame in play(one(side, palm=palm), TEMPLATE, 0):
        (hand,), true = frame.seen, frame.truth[0]
        assert hand.side is side
        np.testing.assert_allclose(hand.keypoints3d, true.keypoints3d, atol=1e-6)
        np.testing.assert_allclose(hand.keypoints2d, project(true.keypoints3d, CAMERA), atol=1e-3)
        volume = float(signed_volume(hand.vertices, TEMPLATE.faces))
        assert volume == pytest.approx(
            TEMPLATE.volume * (1 if side is Side.RIGHT else -1), rel=0.05
        )
        # Fingers up in the picture, the back or the palm to the viewer.
        assert true.keypoints2d[12, 1] < true.keypoints2d[0, 1]
        assert (true.wrist.rotation[2, 2] < 0) != palm


def test_the_wrist_goes_where_the_script_says():
    path = ((0.1, -0.1, 0.1, 0.6), (0.4, 0.1, 0.05, 0.8))
    frames = play(one(path=path), TEMPLATE, 1)
    places = [frame.truth[0].keypoints3d[0] for frame in frames]
    # A sway of 3 mm per axis is added.
    np.testing.assert_allclose(places[0], path[0][1:], atol=3.1e-3)
    np.testing.assert_allclose(places[-1], path[1][1:], atol=3.1e-3)
    x = np.array(places)[:, 0]
    assert np.all(np.diff(x[4:11]) > 0)


def test_gestures_bend_the_fingers():
    frames = play(one(gestures=((0.0, "open"), (0.4, "fist"))), TEMPLATE, 0)
    reach = [np.linalg.norm(f.truth[0].keypoints3d[12] - f.truth[0].keypoints3d[0]) for f in frames]
    assert reach[0] > 0.17 and reach[-1] < 0.1


def test_the_same_seed_gives_the_same_frames():
    scene = SCENES["crossing"]
    a, b, c = (play(scene, TEMPLATE, seed)[5].seen for seed in (0, 0, 1))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.vertices, y.vertices)
    assert not np.array_equal(a[0].keypoints2d, c[0].keypoints2d)


def test_hidden_hands_and_hands_out_of_the_picture_are_not_seen():
    hidden = play(one(hidden=((0.2, 0.3),)), TEMPLATE, 0)
    assert [len(f.seen) for f in hidden] == [0 if 0.2 <= f.stamp_s < 0.3 else 1 for f in hidden]
    outside = play(one(path=((0.0, 0.7, 0.1, 0.6),)), TEMPLATE, 0)
    assert all(not f.truth and not f.seen for f in outside)


def test_a_covered_hand_is_not_seen():
    behind = Actor(Side.LEFT, ((0, 0.0, 0.1, 0.8),))
    scene = Scene((Actor(Side.RIGHT, ((0, 0.0, 0.1, 0.5),)), behind), seconds=0.2, noise=EXACT)
    assert all(list(frame.truth) == [0] for frame in play(scene, TEMPLATE, 0))


def test_noise_is_as_large_as_asked_for():
    noise = Noise(0.02, 0.008, 0.04, 0.0, wrong_side=0.2, missed=0.3, doubled=0.0, false=0.0)
    frames = play(one(noise=noise, seconds=20.0), TEMPLATE, 0)
    found = [(f.seen[0], f.truth[0]) for f in frames if f.seen]
    # 600 frames: shares within 3 sqrt(0.3 * 0.7 / 600) = 6 %.
    assert len(found) / len(frames) == pytest.approx(0.7, abs=0.06)
    assert np.mean([h.side is not t.side for h, t in found]) == pytest.approx(0.2, abs=0.06)
    size = np.mean([(t.box[2:] - t.box[:2]).max() for _, t in found])
    pixels = np.array([h.keypoints2d - t.keypoints2d for h, t in found]) / size
    # Own and common parts, old and new: 0.7^2 (2 + 1) = 1.47 of the square asked for.
    assert np.sqrt((pixels**2).mean()) == pytest.approx(0.02 * np.sqrt(1.47), rel=0.1)
    depths = [np.log(h.keypoints3d[0, 2] / t.keypoints3d[0, 2]) for h, t in found]
    # 400 samples: their deviation is off by 1 / sqrt(800) = 3.5 %, three times.
    assert np.std(depths) == pytest.approx(0.04, rel=0.11)


def test_doubles_and_false_hands_come_along():
    noise = Noise(doubled=1.0, false=1.0, missed=0.0)
    frames = play(one(noise=noise, seconds=1.0), TEMPLATE, 0)
    assert all(len(frame.seen) == 3 and len(frame.truth) == 1 for frame in frames)
