"""Two backends that differ by a known amount are said to differ by it."""

from __future__ import annotations

import numpy as np
import pytest

from hand_perception.errors import ModelError
from hand_perception.export.agreement import Limits, compare
from hand_perception.runtime.backend import Decoded, Detected

CANVAS = 100


class Known:
    """Two hands and a background query, with everything moved by given amounts."""

    identity = "known"
    images_at_once = 1

    def __init__(self, order=(0, 1, 2), joints=0.0, vertices=0.0, score=0.0, side=0.0, lost=()):
        self.order, self.joints, self.vertices = list(order), joints, vertices
        self.score, self.side, self.lost = score, side, list(lost)

    def prepare(self, image):
        return image

    def detect(self, prepared):
        boxes = np.array([[0.2, 0.2, 0.2, 0.2], [0.7, 0.7, 0.3, 0.2], [0.5, 0.1, 0.1, 0.1]])
        scores = np.array([0.9, 0.8, 0.02]) - self.score
        scores[self.lost] = 0.0
        return Detected(boxes[self.order], scores[self.order], None)

    def decode(self, detected, chosen):
        centre = detected.boxes[chosen, None, :2]
        joints = np.broadcast_to(centre, (len(chosen), 21, 2)) + [self.joints / CANVAS, 0]
        vertices = np.full((len(chosen), 778, 3), centre[:, :, :1])
        vertices = vertices + [0, 0, self.vertices / 1e3]
        ones = np.ones(len(chosen))
        return Decoded(joints, vertices, np.zeros((len(chosen), 3)), ones, ones - self.side)


IMAGES = [np.zeros((16, 16, 3), np.uint8)] * 2


def test_known_differences_are_measured_whatever_the_order_of_queries():
    other = Known(order=(2, 1, 0), joints=1.5, vertices=2.5, score=0.01, side=0.02)
    found = compare(Known(), other, IMAGES, CANVAS)
    assert (found.images, found.hands, found.missing) == (2, 4, 0)
    assert found.joints_px == pytest.approx(1.5) and found.joints_px_median == pytest.approx(1.5)
    assert found.vertices_mm == pytest.approx(2.5) and found.score == pytest.approx(0.01)
    assert found.side == pytest.approx(0.02) and found.box_px == 0


def test_limits_name_what_exceeds_them():
    limits = Limits(score=0.1, joints_px=1.0, vertices_mm=1.0)
    limits.check(compare(Known(), Known(joints=0.9), IMAGES, CANVAS), "the engine")
    with pytest.raises(ModelError, match="the engine disagrees.*joints differ by 1.1 px"):
        limits.check(compare(Known(), Known(joints=1.1), IMAGES, CANVAS), "the engine")
    with pytest.raises(ModelError, match="meshes differ by 2 mm"):
        limits.check(compare(Known(), Known(vertices=2), IMAGES, CANVAS), "the engine")
    with pytest.raises(ModelError, match="sides differ by 0.3"):
        limits.check(compare(Known(), Known(side=0.3), IMAGES, CANVAS), "the engine")
    with pytest.raises(ModelError, match="2 of 4 hands are missing"):
        limits.check(compare(Known(), Known(lost=[1]), IMAGES, CANVAS), "the engine")


def test_nan_and_nothing_do_not_pass():
    limits = Limits(score=0.1, joints_px=1.0, vertices_mm=1.0)
    with pytest.raises(ModelError, match="meshes differ by nan"):
        limits.check(compare(Known(), Known(vertices=np.nan), IMAGES, CANVAS), "the engine")
    with pytest.raises(ModelError, match="no hand to compare"):
        limits.check(compare(Known(lost=[0, 1]), Known(), IMAGES, CANVAS), "the engine")
