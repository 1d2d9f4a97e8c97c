"""Small networks as model folders, sure of the hands they see everywhere, and a GPU for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from models.tiny import tiny_model
from runtime.fake_gpu import FakeGpu, fake_cubin

from hand_perception.export import engine
from hand_perception.export.crop_export import export_crops
from hand_perception.export.onnx_export import export_model
from hand_perception.models.handar.config import HandARConfig
from hand_perception.models.handar.model import HandAR
from hand_perception.models.handos.model import HandOS
from hand_perception.models.mobrecon.config import MobReconConfig
from hand_perception.models.mobrecon.model import MobRecon
from hand_perception.runtime.backend import ModelFolder
from hand_perception.template import load_template

# Choices of a HandOS that tells all that one can.
OPINIONS = {
    "joints": "posterior",
    "side": "opinion",
    "side_tuning": "light",
    "whole_hand": True,
}


def sure_model(**decoder) -> HandOS:
    model = tiny_model(**decoder)
    # Scores near 0.9 instead of near 0.01: its queries count as hands.
    torch.nn.init.constant_(model.detector.scores[-1].bias, 2.0)
    return model


def export_tiny(path: Path, **decoder) -> ModelFolder:
    card = {"recipe": None, "seed": 0, "data": "none, random weights"}
    export_model(sure_model(**decoder), path, card)
    return ModelFolder.open(path)


def export_tiny_crops(path: Path, network: str = "mobrecon") -> ModelFolder:
    """The shipped configuration of a network that reads crops, but narrower."""
    torch.manual_seed(0)
    if network == "handar":
        model = HandAR(HandARConfig(width=16, graph_width=8), load_template())
    else:
        narrow = MobReconConfig(encoder="light", features=16, widths=(16, 8, 8, 4))
        model = MobRecon(narrow, load_template())
    torch.nn.init.constant_(model.judge[-1].bias, 3.0)
    export_crops(model.eval(), sure_model(), path, {"data": "none, random weights"})
    return ModelFolder.open(path)


def prepare(patch, gpu: FakeGpu) -> FakeGpu:
    """Installs it, and lets engines be built without nvcc and checked on two small pictures."""
    gpu.install(patch)
    patch.setattr(engine, "compile_kernels", fake_cubin)
    patch.setattr(engine, "check_frames", lambda: [picture(seed) for seed in range(2)])
    return gpu


def picture(seed: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
