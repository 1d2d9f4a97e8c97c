"""What the detectors of Hugging Face transformers share: loading, freezing, pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hand_perception.errors import ModelError
from hand_perception.models.detectors.config import PretrainedDetectorConfig
from hand_perception.models.detectors.protocol import Detections


class PretrainedDetector(nn.Module):
    """Frozen for good: it runs without gradients and is never in training mode.

    mean, std: what the network was trained with, of pixels in 0..1.
    """

    backbone_widths: tuple[int, ...]
    encoder_dim: int
    query_dim: int

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        # normalise() gives 4 x - 2 of a pixel x in 0..1.
        mean, std = torch.tensor(mean), torch.tensor(std)
        self.register_buffer("gain", (0.25 / std)[:, None, None], persistent=False)
        self.register_buffer("offset", ((0.5 - mean) / std)[:, None, None], persistent=False)
        self.train(False)

    def train(self, _mode: bool = True) -> PretrainedDetector:
        return super().train(False)

    def forward(self, images: Tensor) -> Detections:
        # float32 throughout: these networks mask with the largest number of their type.
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return self.detect(images.float() * self.gain + self.offset)

    def detect(self, pixels: Tensor) -> Detections:
        """pixels [B, 3, H, W] as the network was trained with."""
        raise NotImplementedError


def load_pretrained(model_class: type, config_class: type, config: PretrainedDetectorConfig) -> Any:
    """The transformers model. Raises ModelError where its weights are not on this machine."""
    # Attention as the library chooses it: written out ("eager"), BERT adds its masks of truth
    # values to the scores, and Grounding DINO's text features come out wrong.
    if not config.weights:
        return model_class(config_class(**config.architecture))
    try:
        return model_class.from_pretrained(config.weights, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"no weights of {config.kind} at {config.weights!r}: give a folder written by "
            f"save_pretrained, or fetch them once with `hf download {config.weights}`"
        ) from error
