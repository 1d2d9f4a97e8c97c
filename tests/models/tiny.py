"""A HandOS small enough for tests: the same graph, a fiftieth of the weights."""

from __future__ import annotations

import torch

from hand_perception.models.handos.config import HandOSConfig
from hand_perception.models.handos.model import HandOS
from hand_perception.template import load_template

TINY = HandOSConfig.from_dict(
    {
        "name": "tiny",
        "image_size": 64,
        "detector": {
            "widths": [8, 8, 16, 16, 16],
            "blocks": [1, 1, 1, 1],
            "dim": 16,
            "heads": 2,
            "points": 2,
            "queries": 12,
            "layers": 2,
        },
        "decoder": {
            "dim": 16,
            "heads": 2,
            "points": 2,
            "side_widths": [8, 16, 16],
            "layers_2d": 1,
            "layers_interactive": 2,
            "vertex_queries": 30,
            "grid_size": 6,
        },
    }
)


def tiny_config(**decoder) -> HandOSConfig:
    values = TINY.to_dict()
    values["decoder"] = values["decoder"] | decoder
    return HandOSConfig.from_dict(values)


def tiny_model(**decoder) -> HandOS:
    torch.manual_seed(0)
    return HandOS(tiny_config(**decoder), load_template()).eval()
