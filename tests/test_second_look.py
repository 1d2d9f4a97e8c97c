"""Hands that the detector frames badly are looked at twice, all others once."""

from dataclasses import replace

import numpy as np
import pytest
from shipped_clip import joint_errors, shipped_clip

from hand_perception import reconstructor
from hand_perception.imaging import Letterbox
from hand_perception.postprocess import InImage, image_boxes
from hand_perception.reconstructor import HandReconstructor
from hand_perception.runtime.backend import Decoded, Detected
from hand_perception.second_look import badly_framed, joined, kept, reframed
from hand_perception.view import View

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


def test_a_badly_framed_hand_is_read_better_the_second_time(engine, clip, monkeypatch):
    detect = engine._backend.detect

    def askew(prepared):
        found = detect(prepared)
        moved = found.boxes + found.boxes[:, [2, 3, 2, 3]] * np.float32([0.15, 0.1, 0.3, 0.3])
        return replace(found, boxes=moved)

    monkeypatch.setattr(engine._backend, "detect", askew)
    twice = joint_errors(engine, clip)
    monkeypatch.setattr(reconstructor, "badly_framed", lambda seen: np.zeros(len(seen.boxes), bool))
    once = joint_errors(engine, clip)
    assert len(twice) >= len(once) > 5
    assert np.mean(twice) < np.mean(once)
