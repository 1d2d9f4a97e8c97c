import json

import numpy as np
import pytest
import torch
from models.tiny import tiny_model

from hand_perception.errors import ModelError
from hand_perception.export.onnx_export import export_model
from hand_perception.hands import Camera
from hand_perception.reconstructor import HandReconstructor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    model = tiny_model()
    # Untrained scores stand near 0.01; near 0.5 its queries count as candidates.
    torch.nn.init.zeros_(model.detector.scores[-1].bias)
    # Itself compares each output with torch and raises when they differ.
    export_model(model, path, {"recipe": None, "seed": 0, "data": "none, random weights"})
    return path


def picture(height=48, width=64):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_the_exported_model_reconstructs_any_number_of_hands(folder):
    reconstruct = HandReconstructor.from_pretrained(folder, threads=1)
    # A share of the score that is asked for is worth a closer look; this is beyond that, too.
    none = reconstruct(picture(), score_threshold=4.0)
    assert none.hands == [] and none.stage_ms["decoder"] == 0
    some = reconstruct(picture(), score_threshold=0.0)
    assert len(some.hands) >= 1
    for hand in some.hands:
        assert hand.vertices.shape == (778, 3) and np.isfinite(hand.vertices).all()
        assert hand.keypoints3d[:, 2].mean() > 0 and not hand.metric
        x0, y0, x1, y1 = hand.box
        assert -0.5 <= x0 <= x1 <= 63.5 and -0.5 <= y0 <= y1 <= 47.5


def test_a_camera_makes_it_metric(folder):
    reconstruct = HandReconstructor.from_pretrained(folder, threads=1)
    camera = Camera(60.0, 60.0, 31.5, 23.5, 64, 48)
    assert all(h.metric for h in reconstruct(picture(), camera, score_threshold=0.0).hands)


@pytest.mark.parametrize("name", ["detector.onnx", "decoder.onnx", "model.json"])
def test_missing_cut_and_foreign_files_are_refused(folder, tmp_path, name):
    for other in folder.iterdir():
        (tmp_path / other.name).write_bytes(other.read_bytes())
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="reinstall"):
        HandReconstructor.from_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match="reinstall"):
        HandReconstructor.from_pretrained(tmp_path)


def test_the_card_says_what_was_exported(folder):
    card = json.loads((folder / "model.json").read_text())
    assert card["name"] == "tiny" and card["image_size"] == 64 and card["opset"] == 18
    assert set(card["sha256"]) == {"detector.onnx", "decoder.onnx"}


def test_an_unknown_model_names_the_shipped_ones():
    with pytest.raises(ModelError, match="use one of"):
        HandReconstructor.from_pretrained("no_such_model")
