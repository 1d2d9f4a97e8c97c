from dataclasses import replace

import numpy as np
import pytest
from one_hand import one_hand

from hand_perception.data.sample import Similarity, hand_boxes, warp
from hand_perception.geometry import project
from hand_perception.template import load_template


@pytest.mark.parametrize("mirror", [0, 160], ids=["turned", "mirrored"])
@pytest.mark.parametrize("scale", [1.3, 0.4], ids=["grown", "shrunk"])
def test_a_warp_is_exactly_another_camera(mirror, scale):
    """The warped 3D hand seen by the warped camera lies on the warped joints."""
    sample = one_hand()
    moved = warp(sample, Similarity(scale, 0.7, (20.0, -10.0), mirror), 128)
    vertices = moved.hands.vertices + moved.hands.translation[:, None]
    seen = project(load_template().landmarks @ vertices, moved.camera)
    # float32 pixels of a few hundred: 300 * 2^-23 = 4e-5, a few roundings of it.
    np.testing.assert_allclose(seen, moved.hands.keypoints2d, atol=5e-4)
    assert moved.hands.side[0] == (-1 if mirror else 1)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3])
def test_the_image_moves_with_the_labels(scale):
    sample = one_hand()
    moved = warp(sample, Similarity(scale, 0.0, (5.0, 3.0)), 200)
    ys, xs = np.nonzero(moved.image[..., 0] > 200)
    box = moved.ignore_boxes[0]
    # The white patch spans its own ignore box; bilinear edges blur by about a pixel.
    middle = [box[[0, 2]].mean(), box[[1, 3]].mean()]
    np.testing.assert_allclose([xs.mean(), ys.mean()], middle, atol=0.6)


def test_images_of_odd_sides_move_with_the_labels_too():
    # A ramp of one grey level a pixel: what is read at a place is that place.
    ramp = np.broadcast_to(np.arange(231, dtype=np.uint8)[None, :, None], (173, 231, 3))
    sample = replace(one_hand(), image=np.ascontiguousarray(ramp))
    moved = warp(sample, Similarity(0.2, 0.0, (3.0, 2.0)), 60)
    columns = np.arange(6, 44)
    # Five pixels in one, in whole levels: rounded at each of three steps.
    np.testing.assert_allclose(moved.image[15, columns, 0], (columns - 3) / 0.2, atol=1.5)


def test_hand_boxes_add_a_tenth_and_stay_inside():
    points = np.zeros((1, 21, 2), np.float32)
    points[0, 0] = (100, 50)
    np.testing.assert_allclose(hand_boxes(points, 90, 200), [[-0.5, -0.5, 89.5, 60.0]])
