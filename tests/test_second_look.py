"""Hands that the detector frames badly are looked at twice, all others once."""

from dataclasses import replace

import numpy as np
import pytest
from open_hand import make_hand
from shipped_clip import shipped_clip

from hand_perception import reconstructor
from hand_perception.hands import Side
from hand_perception.imaging import Letterbox
from hand_perception.postprocess import InImage, image_boxes
from hand_perception.reconstructor import HandReconstructor, View
from hand_perception.runtime.backend import Decoded, Detected
from hand_perception.second_look import badly_framed, joined, kept, reframed, seen_closely

CANVAS = 64


def told(count: int, seed: int, sure: float) -> Decoded:
    """Random outputs for some hands. sure: how far off all of them may be."""
    rng = np.random.default_rng(seed)
    return Decoded(
        joints2d=rng.random((count, 21, 2)),
        vertices=rng.normal(0, 0.1, (count, 778, 3)),
        camera=np.zeros((count, 3)),
        presence=rng.uniform(0.2, 0.8, count),
        right=rng.uniform(0.2, 0.8, count),
        gaze=rng.random((count, 2)),
        spread2d=np.full((count, 21), sure),
        spread3d=np.full(count, sure),
    )


def odds(p):
    return p / (1 - p)


def test_two_looks_count_by_the_inverse_of_their_variances():
    first, second = told(3, 0, 0.02), told(1, 1, 0.01)
    both = joined(first, np.array([1]), second)
    for name in ("joints2d", "vertices"):
        a, b = getattr(first, name), getattr(second, name)
        np.testing.assert_allclose(getattr(both, name)[1], 0.2 * a[1] + 0.8 * b[0])
    for name in ("presence", "right"):
        product = odds(getattr(first, name)[1]) * odds(getattr(second, name)[0])
        assert odds(getattr(both, name)[1]) == pytest.approx(product**0.5)
    for name in ("joints2d", "vertices", "gaze", "spread2d", "spread3d", "presence", "right"):
        rest = [0, 2]
        np.testing.assert_allclose(getattr(both, name)[rest], getattr(first, name)[rest])


def test_networks_that_do_not_tell_how_far_off_they_are_are_averaged():
    first, second = (replace(told(1, k, 1.0), spread2d=None, spread3d=None) for k in (0, 1))
    both = joined(first, np.array([0]), second)
    np.testing.assert_allclose(both.joints2d, (first.joints2d + second.joints2d) / 2)
    assert both.spread2d is None and both.spread3d is None


def test_what_a_backend_overwrites_is_kept():
    first = told(1, 0, 1.0)
    copy = kept(first)
    first.vertices[:] = 0
    assert copy.vertices.any() and copy.camera.shape == (1, 3)


def test_boxes_that_differ_from_the_joints_bounds_frame_badly():
    boxes = np.array([[0.0, 0, 10, 10]] * 3)
    bounds = np.array([[0.0, 0, 10, 9], [0, 0, 10, 7], [20, 20, 30, 30]])
    seen = InImage(boxes, np.zeros((3, 21, 2)), bounds, None)
    assert badly_framed(seen).tolist() == [False, True, True]


def test_a_second_look_is_at_the_bounds():
    fit = Letterbox.fit(120, 80, (CANVAS, CANVAS))
    detected = Detected(np.full((4, 4), 0.5), np.ones(4), None)
    bounds = np.array([[10.0, 20, 50, 70]])
    moved, rows = reframed((detected, np.array([3, 1])), np.array([1]), bounds, fit, CANVAS)
    assert rows.tolist() == [1]
    np.testing.assert_allclose(image_boxes(moved, rows, fit, CANVAS), bounds)
    assert (detected.boxes == 0.5).all() and (moved.boxes[[0, 2, 3]] == 0.5).all()


def test_a_closer_look_tells_where_a_hand_is_and_both_how_sure_that_is():
    right = replace(make_hand(), score=0.6)
    left = replace(make_hand(Side.LEFT, at=(0.1, 0.0, 0.7)), score=0.6)
    near = replace(left, score=0.9, confidences=np.full(21, 0.45), keypoints2d=left.keypoints2d + 1)
    elsewhere = replace(left, box=left.box + 500, score=0.99)
    # One without a window, one seen in its own, one that is not there in it, nor anything else.
    alone, seen, gone, none = seen_closely(
        [right, left, left, left], [None, [elsewhere, near], [elsewhere], []]
    )
    assert alone is right
    np.testing.assert_array_equal(seen.keypoints2d, near.keypoints2d)
    assert odds(seen.score) == pytest.approx((odds(0.6) * odds(0.9)) ** 0.5)
    np.testing.assert_allclose(seen.confidences, 0.45 * seen.score / 0.9)
    assert gone.score == none.score and odds(gone.score) == pytest.approx(
        (odds(0.6) * odds(0.01)) ** 0.5
    )
    np.testing.assert_array_equal(gone.keypoints2d, left.keypoints2d)


def test_networks_of_whole_images_read_hands_better_in_windows(clip):
    handos = HandReconstructor.from_pretrained("handos_s", threads=1, backend="onnxruntime")
    size = clip[0][0].shape[1::-1]

    def once(image, camera):
        # Whoever gives a window has looked closely.
        return handos.together([View(image, camera, window=(0, 0, *size))])[0]

    close, whole = errors(handos, clip), errors(once, clip)
    assert len(close) == len(whole)
    assert np.median(close) < np.median(whole)


def test_and_hands_that_fill_the_image_from_further_away(clip):
    handos = HandReconstructor.from_pretrained("handos_s", threads=1, backend="onnxruntime")
    frames, joints = [], []
    for frame, hands in zip(clip[0], clip[2], strict=True):
        for hand in hands:
            low, high = hand.min(0), hand.max(0)
            if np.isfinite(hand).all() and (low >= 0).all() and (high < (640, 480)).all():
                margin = 0.1 * (high - low).max()
                x0, y0 = np.maximum(low - margin, 0).astype(int)
                x1, y1 = np.ceil(high + margin).astype(int)
                frames.append(np.ascontiguousarray(frame[y0:y1, x0:x1]))
                joints.append([hand - (x0, y0)])
    pictures = frames, None, joints

    def once(image, camera):
        return handos.together([View(image, window=(0, 0, *image.shape[1::-1]))])[0]

    far, whole = errors(handos, pictures), errors(once, pictures)
    assert len(far) >= len(whole) > 5
    assert np.median(far) < np.median(whole)


@pytest.fixture(scope="module")
def engine():
    return HandReconstructor.from_pretrained("mobrecon", threads=1, backend="onnxruntime")


@pytest.fixture(scope="module")
def clip():
    return shipped_clip(every=15)


@pytest.fixture
def counted(engine, monkeypatch):
    """How many hands each call of the decoder reads."""
    calls = []
    decode = engine._backend.decode_together

    def count(jobs):
        calls.append(sum(len(chosen) for _, chosen in jobs))
        return decode(jobs)

    monkeypatch.setattr(engine._backend, "decode_together", count)
    return calls


def test_only_hands_that_the_detector_found_are_looked_at_twice(engine, clip, counted):
    frame, camera = clip[0][0], clip[1]
    boxes = np.array([[200.0, 100, 300, 200]])
    engine.together([View(frame, camera, 0.0, boxes)])
    assert counted == [1]
    counted.clear()
    for image in clip[0]:
        engine(image, camera)
    assert len(clip[0]) < len(counted) <= 2 * len(clip[0])


def errors(engine, clip) -> list[float]:
    """Of each true joint of the clip, to the nearest hand's, in sides of the hand's bounds."""
    found = []
    for frame, hands in zip(clip[0], clip[2], strict=True):
        told = [hand.keypoints2d for hand in engine(frame, clip[1]).hands]
        for joints in hands:
            if np.isfinite(joints).all() and told:
                off = [np.linalg.norm(hand - joints, axis=1).mean() for hand in told]
                found.append(min(off) / np.ptp(joints, axis=0).max())
    return found


def test_a_badly_framed_hand_is_read_better_the_second_time(engine, clip, monkeypatch):
    detect = engine._backend.detect

    def askew(prepared):
        found = detect(prepared)
        moved = found.boxes + found.boxes[:, [2, 3, 2, 3]] * np.float32([0.15, 0.1, 0.3, 0.3])
        return replace(found, boxes=moved)

    monkeypatch.setattr(engine._backend, "detect", askew)
    twice = errors(engine, clip)
    monkeypatch.setattr(reconstructor, "badly_framed", lambda seen: np.zeros(len(seen.boxes), bool))
    once = errors(engine, clip)
    assert len(twice) >= len(once) > 5
    assert np.mean(twice) < np.mean(once)
