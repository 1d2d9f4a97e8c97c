"""A hand at the image's border through the engine of crops, with a decoder that says the truth.

Networks of crops speak in the axes of a camera that looks at the crop; what comes out must be in
the axes of the real one.
"""

import hashlib
import json

import numpy as np
import pytest
import torch
from torch import nn

from hand_perception.export.onnx_export import MEAN, STD, export_graph
from hand_perception.geometry import (
    project,
    rotation_to_axis,
    signed_volume,
    undistort_points,
)
from hand_perception.hands import Camera, Side
from hand_perception.imaging import Crop
from hand_perception.postprocess import (
    ScoreCalibration,
    build_hands,
    mirror_in_depth,
    turn_to_camera,
)
from hand_perception.runtime.backend import ModelFolder
from hand_perception.runtime.onnxruntime_crops import OnnxRuntimeCropBackend
from hand_perception.template import load_template

TEMPLATE = load_template()
# A lens of 90 degrees: at the border it looks 45 degrees aside.
CAMERA = Camera(320.0, 320.0, 319.5, 239.5, 640, 480)
LENS = Camera(320.0, 320.0, 319.5, 239.5, 640, 480, (-0.05, 0.01, 1e-3, -5e-4, 0.0), "plumb_bob")
CANVAS, SIZE, SCALE = 160, 64, 1.3
# Right hands at rest, palm to the camera, in a corner, at a border, in the middle.
PLACES = {"corner": (0.42, 0.28, 0.55), "left": (-0.42, 0.02, 0.5), "middle": (0.01, 0.0, 0.6)}
RIGHT_HAND = (TEMPLATE.vertices - TEMPLATE.keypoints[9]).astype(np.float64)


class Says(nn.Module):
    """The same for each input."""

    def __init__(self, *answers: np.ndarray) -> None:
        super().__init__()
        for k, answer in enumerate(answers):
            self.register_buffer(f"answer{k}", torch.from_numpy(np.asarray(answer, np.float32)))
        self.count = len(answers)

    def forward(self, x):
        nothing = x.flatten(1).sum(1) * 0
        answers = (getattr(self, f"answer{k}") for k in range(self.count))
        return tuple(a + nothing.reshape(-1, *[1] * a.dim()) for a in answers)


def truth(place, camera):
    """Joints in pixels, and the detector's box around them."""
    pixels = project(TEMPLATE.landmarks @ RIGHT_HAND + place, camera)
    low, high = pixels.min(0), pixels.max(0)
    margin = 0.1 * (high - low).max()
    limit = np.array([camera.width, camera.height]) - 0.5
    return pixels, np.clip(np.concatenate([low - margin, high + margin]), -0.5, [*limit, *limit])


def folder_of(path, place, camera, right, hand=RIGHT_HAND):
    """A model that knows where the hand is, and says so in the crop's terms."""
    pixels, box = truth(place, camera)
    crop = Crop.around(box, SCALE, SIZE)
    joints = (pixels + 0.5 - crop.corner) * crop.scale / SIZE
    slopes = (undistort_points(crop.centre, camera) - (camera.cx, camera.cy)) / camera.fx
    ray = np.append(slopes, 1.0)
    vertices = hand @ rotation_to_axis(ray).T
    # The image of 640 x 480 lies in the canvas shrunk by four.
    low, high = (box[:2] + 0.5) / 640, (box[2:] + 0.5) / 640
    boxes = np.concatenate([(low + high) / 2, high - low])[None]
    detector, decoder = Says(boxes, [0.9]), Says(joints, vertices, 0.99, right)
    image, crops = torch.zeros(1, 3, CANVAS, CANVAS), torch.zeros(2, 3, SIZE, SIZE)
    outputs = ["joints2d", "vertices", "presence", "right"]
    files = path / "detector.onnx", path / "decoder.onnx"
    export_graph(detector, (image,), files[0], ["image"], ["boxes", "scores"], {})
    axes = {name: {0: "hands"} for name in ("crops", *outputs)}
    export_graph(decoder, (crops,), files[1], ["crops"], outputs, axes)
    card = {
        "name": "knows",
        "network": "mobrecon",
        "image_size": CANVAS,
        "mean": MEAN,
        "std": STD,
        "topology": "open778",
        "config": {"crop_scale": SCALE},
        "sha256": {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files},
    }
    (path / "model.json").write_text(json.dumps(card))
    return ModelFolder.open(path)


def reconstruct(folder, camera):
    backend = OnnxRuntimeCropBackend(folder, threads=1)
    prepared = backend.prepare(np.zeros((480, 640, 3), np.uint8))
    detected = backend.detect(prepared)
    chosen = np.array([0])
    decoded = backend.decode(detected, chosen)
    fit = prepared[2]
    (hand,) = build_hands(
        detected, chosen, decoded, fit, CANVAS, camera, TEMPLATE, ScoreCalibration(), 0.5
    )
    return hand


@pytest.mark.parametrize("camera", [CAMERA, LENS], ids=["pinhole", "lens"])
@pytest.mark.parametrize("place", PLACES)
def test_orientation_and_place_come_back_at_the_border(place, camera, tmp_path):
    place = np.array(PLACES[place])
    hand = reconstruct(folder_of(tmp_path, place, camera, right=0.9), camera)
    # The mesh is as sure as anything may be, 99 to 1, and the network says 9 to 1.
    assert hand.side is Side.RIGHT
    assert hand.side_confidence == pytest.approx(99 * 9 / (99 * 9 + 1), abs=1e-6)
    pixels, _ = truth(place, camera)
    # 640 pixels in float32 of 0..1, through scales of four: 640 * 2^-24 a few times.
    np.testing.assert_allclose(hand.keypoints2d, pixels, atol=1e-3)
    # A thousandth of a pixel at 320 px focal length and 0.6 m: 2e-6 m aside, and in depth that
    # times the distance over the hand's size, about four.
    np.testing.assert_allclose(hand.vertices, RIGHT_HAND + place, atol=1e-5)


def test_a_mesh_of_the_other_side_is_turned_over_in_depth(tmp_path):
    place = np.array(PLACES["middle"])
    # Flattened to a quarter of its depth, it has a quarter of the volume: half of what makes it
    # certain, so odds of 3 to 1 for the right against 9 to 1 for the left.
    flat = RIGHT_HAND * (1, 1, 0.25)
    hand = reconstruct(folder_of(tmp_path, place, CAMERA, 0.1, flat), CAMERA)
    assert hand.side is Side.LEFT and hand.side_confidence == pytest.approx(0.75, abs=1e-5)
    assert signed_volume(hand.vertices, TEMPLATE.faces) < 0
    # Near the optical axis the outline stays: within depth over distance of the joints' offsets,
    # 0.04 m / 0.6 m of up to 0.1 m at 320 px / 0.6 m.
    pixels = project(hand.keypoints3d, CAMERA)
    limit = 0.04 / 0.6 * 0.1 * 320 / 0.6
    assert np.abs(pixels - hand.keypoints2d).mean() < limit


def test_turning_to_the_camera_is_closed_form():
    # What lies a metre ahead of the gaze lies a metre along the pixel's ray.
    half = 0.5**0.5
    ahead = np.array([[0.0, 0.0, 1.0]])
    for gaze, expected in (
        ((319.5, 239.5), (0, 0, 1)),
        ((639.5, 239.5), (half, 0, half)),
        ((319.5, 559.5), (0, half, half)),
    ):
        turned = turn_to_camera(ahead, np.array(gaze), CAMERA)
        np.testing.assert_allclose(turned, [expected], atol=1e-12)
    # Turned by 45 degrees about y: right of the gaze is to the right and nearer.
    beside = turn_to_camera(np.array([[1.0, 0, 0]]), np.array([639.5, 239.5]), CAMERA)
    np.testing.assert_allclose(beside, [[half, 0, -half]], atol=1e-12)


def test_the_depth_mirror_makes_the_other_side_of_the_same_outline():
    axis = np.array([0.0, 0.0, 1.0])
    mirrored = mirror_in_depth(RIGHT_HAND, axis)
    np.testing.assert_array_equal(mirrored[:, :2], RIGHT_HAND[:, :2])
    np.testing.assert_array_equal(mirror_in_depth(mirrored, axis), RIGHT_HAND)
    volumes = [signed_volume(v, TEMPLATE.faces) for v in (RIGHT_HAND, mirrored)]
    assert volumes[0] == pytest.approx(-volumes[1]) and volumes[0] > 0


def test_the_mirror_stands_across_any_line_of_sight():
    ray = np.array([0.6, -0.2, 1.0])
    mirrored = mirror_in_depth(RIGHT_HAND, ray)
    # Seen from far away along the ray both look the same, and only the depth is another.
    turn = rotation_to_axis(ray)
    seen, other = RIGHT_HAND @ turn.T, mirrored @ turn.T
    np.testing.assert_allclose(other, seen * [1, 1, -1], atol=1e-12)
