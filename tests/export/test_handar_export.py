from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from models.tiny import tiny_model
from open_hand import CAMERA

from hand_perception.export.crop_export import export_crops
from hand_perception.models.handar.config import HandARConfig
from hand_perception.models.handar.model import HandAR
from hand_perception.reconstructor import HandReconstructor
from hand_perception.runtime.backend import ModelFolder
from hand_perception.runtime.select import open_backend
from hand_perception.template import load_template


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    detector = tiny_model()
    # Scores near 0.9 instead of near 0.01: its queries count as hands.
    torch.nn.init.constant_(detector.detector.scores[-1].bias, 2.0)
    torch.manual_seed(0)
    model = HandAR(HandARConfig(width=16, graph_width=8), load_template()).eval()
    torch.nn.init.constant_(model.judge[-1].bias, 4.0)
    path = tmp_path_factory.mktemp("handar")
    differences = export_crops(model, detector, path, {"data": "none, random weights"})
    # Sums of up to 9 * 192 terms, some 60 layers deep: as export.onnx_export.TOLERANCE.
    assert max(differences.values()) < 5e-4
    return ModelFolder.open(path)


def test_the_card_names_the_network(folder):
    assert folder.network == "handar" and folder.card["config"]["crop_size"] == 128


def test_the_graph_lacks_the_branches_of_training(folder):
    names = {t.name for t in onnx.load(folder.path / "decoder.onnx").graph.initializer}
    assert any("mesh_stage.lixels" in name for name in names)
    assert not any("segmentation" in n or "joint_branch.lixels" in n for n in names)


def test_hands_come_out_of_the_whole_path(folder):
    backend = open_backend(folder, "onnxruntime", threads=1)
    reconstructor = HandReconstructor(folder, backend)
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    hands = reconstructor(image, CAMERA, score_threshold=0.1).hands
    assert hands
    for hand in hands:
        assert hand.vertices.shape == (778, 3) and np.isfinite(hand.vertices).all()
        assert hand.keypoints3d[:, 2].min() > 0
