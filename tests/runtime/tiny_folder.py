"""The tests' small network as a model folder, sure of the hands it sees everywhere."""

from __future__ import annotations

from pathlib import Path

import torch
from models.tiny import tiny_model

from hand_perception.export.onnx_export import export_model
from hand_perception.models.handos.model import HandOS
from hand_perception.runtime.backend import ModelFolder


def sure_model() -> HandOS:
    model = tiny_model()
    # Scores near 0.9 instead of near 0.01: its queries count as hands.
    torch.nn.init.constant_(model.detector.scores[-1].bias, 2.0)
    return model


def export_tiny(path: Path) -> ModelFolder:
    export_model(sure_model(), path, {"recipe": None, "seed": 0, "data": "none, random weights"})
    return ModelFolder.open(path)
