"""What crop networks say of a crop beyond their papers: whether it holds a hand, and which."""

from __future__ import annotations

from torch import nn


class Judge(nn.Sequential):
    """Features [B, C, h, w], h and w multiples of 4 -> logits [B, 2]: a right hand, a hand."""

    def __init__(self, features: int) -> None:
        super().__init__(
            nn.Conv2d(features, 32, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(32 * 16, 64),
            nn.ReLU(),
            nn.Linear(64, 2),
        )
