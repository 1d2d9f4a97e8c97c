"""The 2D encoders: stacked hourglasses (section 3.1), and a light one for short trainings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.models.handos.backbone import Backbone
from hand_perception.models.handos.config import DetectorConfig
from hand_perception.models.layers import ConvNorm, ResidualBlock
from hand_perception.models.mobrecon.blocks import (
    DenseBlock,
    GhostUnit,
    SeparableUnit,
    SqueezeExcite,
)


@dataclass
class Encoded:
    """features: F^e [B, C^e, h, w]. maps: [B, MAP_WIDTH, S / 8, S / 8], global and local at once,
    which 2D positions are read from."""

    features: Tensor
    maps: Tensor


MAP_WIDTH = 24
LIGHT_WIDTH = 128


@dataclass(frozen=True)
class Plan:
    """unit: of the light blocks, None for residual ones. width: before the first hourglass.
    deep: units in the middle of each hourglass."""

    unit: type[nn.Module] | None
    width: int
    deep: tuple[int, int] = (0, 0)


STACKED = {
    "dense": Plan(SeparableUnit, 128, (1, 2)),
    "ghost": Plan(GhostUnit, 80, (0, 2)),
    "resnet18": Plan(None, 64),
}


class Hourglass(nn.Module):
    """[B, C, H, W] -> its middle [B, 8 C, H / 8, W / 8] and maps [B, MAP_WIDTH, H / 2, W / 2].

    down: three blocks that double the width. shrink: three that narrow it on the way up.
    """

    def __init__(self, down: list[nn.Module], shrink: list[nn.Module], middle: nn.Module) -> None:
        super().__init__()
        self.down, self.shrink = nn.ModuleList(down), nn.ModuleList(shrink)
        self.middle = middle

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skips = []
        for block in self.down:
            x = F.avg_pool2d(block(x), 2)
            skips.append(x)
        middle = self.middle(skips.pop())
        x = middle
        for narrow in self.shrink[:-1]:
            x = F.interpolate(narrow(x), scale_factor=2.0, mode="nearest") + skips.pop()
        return middle, self.shrink[-1](x)


def _light_hourglass(unit: type[nn.Module], width: int, deep: int) -> Hourglass:
    """Of separable or ghost units; ``deep``: units at the lowest resolution."""
    sizes = (width, 2 * width, 4 * width)
    down = [
        nn.Sequential(DenseBlock(unit, w, steps), SqueezeExcite(2 * w, min(w, 128)))
        for w, steps in zip(sizes, (2, 4, 4), strict=True)
    ]
    shrink = [
        nn.Sequential(unit(before, after), unit(after, after, 2), SqueezeExcite(after, after // 2))
        for before, after in ((8 * width, 4 * width), (4 * width, 2 * width))
    ]
    shrink.append(nn.Sequential(unit(2 * width, 2 * width), unit(2 * width, MAP_WIDTH, 2)))
    middle = nn.Sequential(*(unit(8 * width, 8 * width) for _ in range(deep)))
    return Hourglass(down, shrink, middle)


def _residual_hourglass(width: int) -> Hourglass:
    """Of basic residual blocks: ResNet18-Stack."""
    sizes = (width, 2 * width, 4 * width)
    down = [nn.Sequential(ResidualBlock(w, 2 * w), ResidualBlock(2 * w, 2 * w)) for w in sizes]
    shrink = [ResidualBlock(8 * width, 4 * width), ResidualBlock(4 * width, 2 * width)]
    shrink.append(ResidualBlock(2 * width, MAP_WIDTH))
    return Hourglass(down, shrink, nn.Identity())


class SpaceToDepth(nn.Module):
    """2 x 2 pixels become channels."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, 2)


class StackedEncoder(nn.Module):
    """Crops [B, 3, S, S], S a multiple of 32 -> Encoded; F^e is the second hourglass's middle."""

    def __init__(self, plan: Plan, features: int) -> None:
        super().__init__()
        width = plan.width
        unit = plan.unit
        self.stem = nn.Sequential(
            ConvNorm(3, width // 2, 3, stride=2),
            ResidualBlock(width // 2, width) if unit is None else unit(width // 2, width),
            SpaceToDepth(),
            ConvNorm(4 * width, width, 1),
        )

        def hourglass(deep: int) -> Hourglass:
            return (
                _residual_hourglass(width) if unit is None else _light_hourglass(unit, width, deep)
            )

        self.first, self.second = hourglass(plan.deep[0]), hourglass(plan.deep[1])
        self.between = ConvNorm(MAP_WIDTH, MAP_WIDTH, 1)
        self.merge = ConvNorm(width + MAP_WIDTH, width, 1)
        self.project = nn.Conv2d(8 * width, features, 1)

    def forward(self, crops: Tensor) -> Encoded:
        x = self.stem(crops)
        _, maps = self.first(x)
        maps = F.interpolate(self.between(maps), scale_factor=2.0, mode="nearest")
        middle, maps = self.second(self.merge(torch.cat([maps, x], 1)))
        return Encoded(self.project(middle), maps)


class LightEncoder(nn.Module):
    """The detector's backbone and one way back up; F^e is its top, at stride 8.

    Beyond the paper: it starts from what the detector's backbone has learned about hands, and
    plain convolutions train several times faster on a CPU than the stacked blocks.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        config = DetectorConfig()
        self.backbone = Backbone(config.widths, config.blocks)
        widths = config.widths[2:]
        self.lateral = nn.ModuleList(ConvNorm(w, LIGHT_WIDTH, 1, act=False) for w in widths)
        self.fuse = nn.ModuleList(ResidualBlock(LIGHT_WIDTH, LIGHT_WIDTH) for _ in widths)
        self.maps = ConvNorm(LIGHT_WIDTH, MAP_WIDTH, 1)
        self.project = nn.Conv2d(LIGHT_WIDTH, features, 1)

    def forward(self, crops: Tensor) -> Encoded:
        maps = self.backbone(crops)[1:]
        x = None
        for lateral, fuse, m in zip(self.lateral[::-1], self.fuse[::-1], maps[::-1], strict=True):
            level = lateral(m)
            x = fuse(level if x is None else level + F.interpolate(x, scale_factor=2.0))
        return Encoded(self.project(x), self.maps(x))


def build_encoder(kind: str, features: int) -> nn.Module:
    """kind: "light" or a key of ``STACKED``."""
    return LightEncoder(features) if kind == "light" else StackedEncoder(STACKED[kind], features)
