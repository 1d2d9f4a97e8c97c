"""The visual backbone B^v (eq. 1): residual stages at strides 4, 8, 16 and 32."""

from __future__ import annotations

from torch import Tensor, nn

from hand_perception.models.layers import ConvNorm, ResidualBlock


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
