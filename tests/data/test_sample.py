import numpy as np
import pytest

from hand_perception.data.sample import HandLabels, Sample, Similarity, hand_boxes, warp
from hand_perception.geometry import project
from hand_perception.hands import Camera
from hand_perception.template import load_template

CAMERA = Camera(300.0, 300.0, 79.5, 59.5, 160, 120)


def a_sample() -> Sample:
    template = load_template()
    joints = template.keypoints - template.keypoints[9]
    t = np.array([0.03, -0.02, 0.6], np.float32)
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:50, 60:80] = 255
    return Sample(
        image,
        CAMERA,
        HandLabels(
            keypoints2d=project(joints + t, CAMERA)[None].astype(np.float32),
            weight2d=np.ones(1, np.float32),
            joints3d=joints[None],
            vertices=(template.vertices - template.keypoints[9])[None],
            weight3d=np.ones(1, np.float32),
            translation=t[None],
            metric=np.ones(1, bool),
            side=np.ones(1, np.float32),
        ),
        np.array([[60.0, 40, 79, 49]], np.float32),
    )


@pytest.mark.parametrize("mirror", [0, 160], ids=["turned", "mirrored"])
@pytest.mark.parametrize("scale", [1.3, 0.4], ids=["grown", "shrunk"])
def test_a_warp_is_exactly_another_camera(mirror, scale):
    """The warped 3D hand seen by the warped camera lies on the warped joints."""
    sample = a_sample()
    moved = warp(sample, Similarity(scale, 0.7, (20.0, -10.0), mirror), 128)
    seen = project(moved.hands.joints3d + moved.hands.translation[:, None], moved.camera)
    # float32 pixels of a few hundred: 300 * 2^-23 = 4e-5, a few roundings of it.
    np.testing.assert_allclose(seen, moved.hands.keypoints2d, atol=5e-4)
    assert moved.hands.side[0] == (-1 if mirror else 1)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3])
def test_the_image_moves_with_the_labels(scale):
    sample = a_sample()
    moved = warp(sample, Similarity(scale, 0.0, (5.0, 3.0)), 200)
    ys, xs = np.nonzero(moved.image[..., 0] > 200)
    box = moved.ignore_boxes[0]
    # The white patch spans its own ignore box; bilinear edges blur by about a pixel.
    middle = [box[[0, 2]].mean(), box[[1, 3]].mean()]
    np.testing.assert_allclose([xs.mean(), ys.mean()], middle, atol=0.6)


def test_hand_boxes_add_a_tenth_and_stay_inside():
    points = np.zeros((1, 21, 2), np.float32)
    points[0, 0] = (100, 50)
    np.testing.assert_allclose(hand_boxes(points, 90, 200), [[-0.5, -0.5, 89.5, 60.0]])
