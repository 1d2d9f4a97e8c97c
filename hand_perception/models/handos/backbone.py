"""The visual backbone B^v (eq. 1): residual stages at strides 4, 8, 16 and 32; a way back up."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.models.handos.config import DetectorConfig
from hand_perception.models.layers import ConvNorm, ResidualBlock

LIGHT_WIDTH = 128


class Backbone(nn.Module):
    """[B, 3, H, W], sides multiples of 32 -> F^v: maps at strides 4, 8, 16, 32."""

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = ConvNorm(3, widths[0], 3, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(before, width, stride=2),
                *(ResidualBlock(width, width) for _ in range(count - 1)),
            )
            for before, width, count in zip(widths[:-1], widths[1:], blocks, strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class LightPyramid(nn.Module):
    """The light detector's backbone and one way back up: [B, 3, H, W] as Backbone takes it -> its
    map at stride 4, and maps at strides 8, 16 and 32 that know what is above them.

    fine_width: channels of the first; the others have LIGHT_WIDTH.
    """

    def __init__(self) -> None:
        super().__init__()
        config = DetectorConfig()
        self.backbone = Backbone(config.widths, config.blocks)
        self.fine_width, widths = config.widths[1], config.widths[2:]
        self.lateral = nn.ModuleList(ConvNorm(w, LIGHT_WIDTH, 1, act=False) for w in widths)
        self.fuse = nn.ModuleList(ResidualBlock(LIGHT_WIDTH, LIGHT_WIDTH) for _ in widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine, *maps = self.backbone(images)
        fused: list[Tensor] = []
        for lateral, fuse, m in zip(self.lateral[::-1], self.fuse[::-1], maps[::-1], strict=True):
            level = lateral(m)
            if fused:
                level = level + F.interpolate(fused[0], scale_factor=2.0)
            fused.insert(0, fuse(level))
        return [fine, *fused]
