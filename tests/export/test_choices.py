"""Every choice of Tables 6 and 7 exports to what it is in torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from models.tiny import tiny_model

from hand_perception.export.onnx_export import export_model
from hand_perception.postprocess import ScoreCalibration
from hand_perception.reconstructor import HandReconstructor
from hand_perception.runtime.backend import ModelFolder

SWIN = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}


@pytest.mark.parametrize(
    "choices",
    [
        {"queries": "unified", "features": "F4", "mask": "a", "expansion": "literal"},
        {"mask": "b", "lift_coordinates": False, "lifting": "skinning", "vertex_queries": 778},
        {"mask": "d", "side_tuning": "swin_t", "swin": SWIN, "value_strides": [8, 16]},
        {"side_tuning": "light", "side": "opinion"},
        {"joints": "posterior"},
        {"whole_hand": True},
    ],
    ids=["a", "b", "d", "light", "posterior", "whole hand"],
)
def test_choices_export(choices, tmp_path):
    if choices.get("side_tuning") == "swin_t":
        pytest.importorskip("transformers", reason="needs transformers")
    model = tiny_model(**choices)
    torch.nn.init.zeros_(model.detector.scores[-1].bias)
    if choices.get("whole_hand"):  # which starts as nothing
        torch.nn.init.normal_(model.decoder.expansion.coarse[-1].back.weight)
    # Raises when ONNX Runtime differs from torch.
    export_model(model, tmp_path, {"recipe": None, "seed": 0, "data": "none"})
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    hands = HandReconstructor.from_pretrained(tmp_path, threads=1)(image, score_threshold=0.0).hands
    assert hands and all(np.isfinite(h.vertices).all() for h in hands)


def test_without_a_look_at_the_image_the_score_is_the_detectors(tmp_path):
    """Eq. 7 as printed knows no presence: T_S is then a bound on the detector's score."""
    model = tiny_model(expansion="literal", lift_coordinates=False)
    torch.nn.init.zeros_(model.detector.scores[-1].bias)
    export_model(model, tmp_path, {"recipe": None, "seed": 0, "data": "none"})
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    told = HandReconstructor.from_pretrained(tmp_path, threads=1).candidates(image).evidence
    assert len(told) and (0.1 < told[:, 0]).all() and (told[:, 0] < 0.99).all()
    scores = ScoreCalibration(*ModelFolder.open(tmp_path).score_calibration).score(told)
    # Through log odds and back in float64, of float32 scores.
    np.testing.assert_allclose(scores, told[:, 0], atol=1e-6)


def test_the_cards_nms_is_the_models(tmp_path):

    model = tiny_model()
    model.config = replace(model.config, nms_iou=0.9)
    export_model(model, tmp_path, {"recipe": None, "seed": 0, "data": "none"})
    assert ModelFolder.open(tmp_path).nms_iou == 0.9
    assert ModelFolder.open("handos_s").nms_iou == 0.6
