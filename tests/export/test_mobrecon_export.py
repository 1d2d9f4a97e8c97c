"""MobRecon as ONNX: the same numbers as torch, through the engine that cuts crops."""

import numpy as np
import onnxruntime
import pytest
import torch
from models.tiny import tiny_model
from open_hand import CAMERA

from hand_perception.export.crop_export import export_crops
from hand_perception.imaging import Crop, normalise
from hand_perception.models.mobrecon.config import MobReconConfig
from hand_perception.models.mobrecon.model import UNIT, MobRecon
from hand_perception.reconstructor import HandReconstructor
from hand_perception.runtime.backend import SPREADS, ModelFolder
from hand_perception.runtime.crops import CROP_OUTPUTS
from hand_perception.runtime.select import open_backend
from hand_perception.template import load_template

SMALL = {"features": 16, "widths": (16, 8, 8, 4)}
# As export.onnx_export.TOLERANCE: sums of up to 9 * 192 float32 products, some 60 layers deep.
CLOSE = 5e-4


def mobrecon(**changes) -> MobRecon:
    torch.manual_seed(0)
    model = MobRecon(MobReconConfig(**(SMALL | changes)), load_template()).eval()
    torch.nn.init.constant_(model.judge[-1].bias, 3.0)
    if model.config.pose == "posterior":
        for head in (model.pose.doubt, model.doubt[-1]):  # they start as zeros
            torch.nn.init.normal_(head.weight)
    return model


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The shipped configuration, but narrower: light, posterior, dsconv."""
    detector = tiny_model()
    torch.nn.init.constant_(detector.detector.scores[-1].bias, 2.0)
    model = mobrecon(encoder="light", pose="posterior")
    path = tmp_path_factory.mktemp("mobrecon")
    differences = export_crops(model, detector, path, {"data": "none, random weights"})
    assert max(differences.values()) < CLOSE
    return model, ModelFolder.open(path)


def test_the_card_says_what_the_engine_needs(shipped):
    _, folder = shipped
    assert folder.network == "mobrecon"
    assert folder.card["config"]["crop_size"] == 128
    assert folder.card["config"]["crop_scale"] == 1.3


def test_the_engine_says_of_a_crop_what_torch_says(shipped):
    model, folder = shipped
    backend = open_backend(folder, "onnxruntime", threads=1)
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    _, _, fit = backend.prepare(image)
    boxes = np.array([[20.0, 10, 80, 90], [100, 60, 170, 130]])
    decoded = backend.decode(backend.given(image, fit, boxes), np.array([0, 1]))
    for k, box in enumerate(boxes):
        crop = Crop.around(box, 1.3, 128)
        pixels = normalise(crop.cut(image), folder.mean, folder.std)
        with torch.no_grad():
            out = model(torch.from_numpy(pixels))
        seen = crop.points_to_image(out.joints2d[0].numpy())
        canvas = (fit.points_to_network(seen) + 0.5) / folder.image_size
        np.testing.assert_allclose(decoded.joints2d[k], canvas, atol=CLOSE)
        np.testing.assert_allclose(decoded.vertices[k], out.vertices[0] * UNIT, atol=CLOSE)
        assert decoded.presence[k] == pytest.approx(float(out.presence.sigmoid()), abs=CLOSE)
        assert decoded.right[k] == pytest.approx(float(out.side.sigmoid()), abs=CLOSE)
        pixels = decoded.spread2d[k] * folder.image_size / fit.scale[0]
        np.testing.assert_allclose(pixels, out.spread2d[0] * 128 / crop.scale, rtol=CLOSE)
        assert decoded.spread3d[k] == pytest.approx(float(out.spread3d * UNIT), rel=CLOSE)
        centre = fit.points_to_image(decoded.gaze[k] * folder.image_size - 0.5)
        np.testing.assert_allclose(centre, (box[:2] + box[2:]) / 2, atol=1e-6)


@pytest.fixture(scope="module")
def looking_twice(tmp_path_factory):
    path = tmp_path_factory.mktemp("twice")
    model = mobrecon(encoder="light", pose="posterior")
    differences = export_crops(model, tiny_model(), path, {}, looks=2)
    assert max(differences.values()) < CLOSE
    return model, ModelFolder.open(path)


@pytest.mark.parametrize("count", [1, 3])
def test_two_looks_are_the_mean_of_a_crop_and_its_mirror_image(looking_twice, count):
    model, folder = looking_twice
    assert folder.card["looks"] == 2
    session = onnxruntime.InferenceSession(folder.path / "decoder.onnx")
    crops = torch.randn(count, 3, 128, 128)
    names = CROP_OUTPUTS + SPREADS
    found = session.run(names, {"crops": crops.numpy()})
    joints, vertices, presence, right, spread2d, spread3d = found
    with torch.no_grad():
        one, other = model(crops), model(crops.flip(-1))
    x, y = other.joints2d.unbind(-1)
    expected = (one.joints2d + torch.stack([1 - x, y], -1)) / 2
    np.testing.assert_allclose(joints, expected, atol=CLOSE)
    mirrored = other.vertices * torch.tensor([-1.0, 1, 1])
    np.testing.assert_allclose(vertices, (one.vertices + mirrored) / 2 * UNIT, atol=CLOSE)
    np.testing.assert_allclose(
        presence, ((one.presence + other.presence) / 2).sigmoid(), atol=CLOSE
    )
    np.testing.assert_allclose(right, ((one.side - other.side) / 2).sigmoid(), atol=CLOSE)
    np.testing.assert_allclose(spread2d, (one.spread2d + other.spread2d) / 2, rtol=CLOSE)
    np.testing.assert_allclose(spread3d, (one.spread3d + other.spread3d) / 2 * UNIT, rtol=CLOSE)


def test_two_looks_see_a_mirrored_crop_mirrored(looking_twice):
    """Whatever the network has learnt: left and right hands are treated alike."""
    _, folder = looking_twice
    session = onnxruntime.InferenceSession(folder.path / "decoder.onnx")
    crops = np.random.default_rng(0).normal(size=(1, 3, 128, 128)).astype(np.float32)
    seen, mirrored = (
        dict(zip(CROP_OUTPUTS, session.run(CROP_OUTPUTS, {"crops": c}), strict=True))
        for c in (crops, np.ascontiguousarray(crops[..., ::-1]))
    )
    np.testing.assert_allclose(mirrored["right"], 1 - seen["right"], atol=CLOSE)
    np.testing.assert_allclose(mirrored["presence"], seen["presence"], atol=CLOSE)
    np.testing.assert_allclose(
        mirrored["joints2d"][..., 0], 1 - seen["joints2d"][..., 0], atol=CLOSE
    )
    np.testing.assert_allclose(mirrored["vertices"], seen["vertices"] * [-1, 1, 1], atol=CLOSE)


def test_hands_come_out_of_the_whole_path(shipped):
    _, folder = shipped
    reconstruct = HandReconstructor(folder, open_backend(folder, "onnxruntime", threads=1))
    image = np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)
    hands = reconstruct(image, CAMERA, score_threshold=0.1).hands
    assert hands
    for hand in hands:
        assert hand.vertices.shape == (778, 3) and np.isfinite(hand.vertices).all()
        assert hand.keypoints3d[:, 2].min() > 0 and hand.metric


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": "ghost", "pose": "heatmap"},
        {"encoder": "ghost", "pose": "softargmax", "graph": "spiralconv++"},
        {"encoder": "dense", "pose": "regression"},
    ],
    ids=lambda c: "-".join(c.values()),
)
def test_the_paper_s_configurations_export(changes, tmp_path):
    # Itself compares each output with torch and raises when they differ.
    differences = export_crops(mobrecon(**changes), tiny_model(), tmp_path, {})
    assert set(differences) == {"joints2d", "vertices", "presence", "right"}
