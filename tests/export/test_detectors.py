"""Pretrained detectors through the same export and the same reconstructor as ours."""

import numpy as np
import onnx
import pytest
import torch
from models.tiny_detectors import PRETRAINED, tiny_pretrained
from torch import nn

from hand_perception.export.onnx_export import export_model
from hand_perception.reconstructor import HandReconstructor

pytest.importorskip("transformers", reason="needs transformers")


@pytest.mark.parametrize("kind", PRETRAINED)
def test_exported_and_chained_with_our_decoder(kind, tmp_path):
    model = tiny_pretrained(kind)
    for name, part in model.detector.named_modules():
        # Random scores can all lie under the lowest that is looked at.
        if "class_embed" in name and isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
    # Raises when ONNX Runtime differs from torch by more than its derived tolerance.
    differences = export_model(model, tmp_path, {"recipe": None, "seed": 0, "data": "none"})
    strides = model.config.decoder.value_strides
    assert {f"encoder_{s}" for s in strides} | {"backbone_4", "vertices"} <= set(differences)
    for graph in ("detector", "decoder"):
        operations = {node.op_type for node in onnx.load(tmp_path / f"{graph}.onnx").graph.node}
        assert "GridSample" not in operations and "Loop" not in operations

    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    hands = HandReconstructor.from_pretrained(tmp_path, threads=1)(image, score_threshold=0.0).hands
    assert len(hands) >= 1
    assert all(np.isfinite(h.vertices).all() and h.vertices.shape == (778, 3) for h in hands)


def test_maps_are_of_order_one_so_that_the_comparison_means_something():
    for kind in PRETRAINED:
        found = tiny_pretrained(kind).detector(torch.randn(1, 3, 64, 64))
        for m in (*found.encoder, *found.encoder_middle, found.q6):
            assert 1e-3 < float(m.std()) < 1e3, kind
