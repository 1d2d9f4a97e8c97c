"""What crop networks say of a crop beyond their papers: is it a hand, which one, how clear."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PoolToFour(nn.Module):
    """Means over a grid of 4 x 4 parts."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export() and int(x.shape[-1]) % 4 == 0:
            # The exporter may have lost the size of the map, which the adaptive form asks for.
            return F.avg_pool2d(x, int(x.shape[-1]) // 4)
        return F.adaptive_avg_pool2d(x, 4)


class Judge(nn.Sequential):
    """Features [B, C, h, w], h and w multiples of 4 -> logits [B, answers], by default two: a right
    hand, a hand."""

    def __init__(self, features: int, answers: int = 2) -> None:
        super().__init__(
            nn.Conv2d(features, 32, 1),
            nn.ReLU(),
            PoolToFour(),
            nn.Flatten(),
            nn.Linear(32 * 16, 64),
            nn.ReLU(),
            nn.Linear(64, answers),
        )
