"""The 2D encoders: stacked hourglasses (section 3.1), and a light one for short trainings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.models.handos.backbone import LIGHT_WIDTH, LightPyramid
from hand_perception.models.layers import ConvNorm, ResidualBlock
from hand_perception.models.mobrecon.blocks import (
    Bottleneck,
    DenseBlock,
    DenseMiddle,
    GhostBottleneck,
    GhostUnit,
    SeparableUnit,
    SqueezeExcite,
)


@dataclass
class Encoded:
    """features: F^e [B, C^e, h, w]. maps: [B, MAP_WIDTH, S / 8, S / 8], global and local at once,
    which 2D positions are read from. fine: [B, fine_width, S / 4, S / 4], for heatmaps."""

    features: Tensor
    maps: Tensor
    fine: Tensor


MAP_WIDTH = 24


@dataclass(frozen=True)
class Plan:
    """Of a stacked encoder. unit: what its blocks are made of. width: channels at a quarter of the
    crop's side. middle: what is at the bottom of the second dense hourglass, so many times.
    blocks: of residual stages, at a quarter of the side and after each halving."""

    unit: type[nn.Module]
    width: int
    middle: type[nn.Module] = nn.Identity
    middles: int = 0
    blocks: tuple[int, int, int, int] | None = None


# Widths and depths that meet the paper's counts (Table 1).
STACKED = {
    "dense": Plan(SeparableUnit, 128, DenseMiddle, 2),
    "ghost": Plan(GhostUnit, 64, GhostBottleneck, 3),
    "resnet18": Plan(ResidualBlock, 64, blocks=(2, 2, 2, 2)),
    "resnet50": Plan(Bottleneck, 256, blocks=(3, 4, 6, 3)),
}


class Hourglass(nn.Module):
    """[B, C, H, W] -> its middle [B, 8 C, H / 8, W / 8] and maps [B, MAP_WIDTH, H / 2, W / 2].

    down: three modules that halve the side and double the width. shrink: three that narrow it on
    the way up. skips: whether what was seen on the way down joins on the way up.
    """

    def __init__(
        self,
        down: list[nn.Module],
        shrink: list[nn.Module],
        middle: nn.Module,
        skips: bool = True,
    ) -> None:
        super().__init__()
        self.down, self.shrink = nn.ModuleList(down), nn.ModuleList(shrink)
        self.middle, self.skips = middle, skips

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        seen = []
        for block in self.down:
            x = block(x)
            seen.append(x)
        middle = self.middle(seen.pop())
        x = middle
        for narrow in self.shrink[:-1]:
            x, skip = F.interpolate(narrow(x), scale_factor=2.0, mode="nearest"), seen.pop()
            x = x + skip if self.skips else x
        return middle, self.shrink[-1](x)


def _dense_hourglass(plan: Plan, last: bool, skips: bool) -> Hourglass:
    """Of separable or ghost units. Only the last one thinks at its bottom: the first one's goes
    nowhere but up."""
    unit, width = plan.unit, plan.width
    sizes = (width, 2 * width, 4 * width)
    down = []
    for w, steps in zip(sizes, (2, 4, 4), strict=True):
        weigh = w < sizes[-1] or last
        gate = [SqueezeExcite(2 * w, min(w, 256))] if weigh else []
        down.append(nn.Sequential(DenseBlock(unit, w, steps), *gate, nn.AvgPool2d(2)))
    shrink = [
        nn.Sequential(unit(2 * w, w), unit(w, w, 2), SqueezeExcite(w, 3 * w // 8))
        for w in sizes[:0:-1]
    ]
    shrink.append(nn.Sequential(unit(2 * width, 2 * width), unit(2 * width, MAP_WIDTH, 2)))
    count = plan.middles if last else 0
    middle = nn.Sequential(*(plan.middle(8 * width) for _ in range(count)))
    return Hourglass(down, shrink, middle, skips)


def _residual_hourglass(plan: Plan, skips: bool) -> Hourglass:
    """Of residual stages. The first block of a stage still sees the larger map."""
    unit, width = plan.unit, plan.width
    sizes = (width, 2 * width, 4 * width)
    down = [
        nn.Sequential(
            unit(w, 2 * w), nn.AvgPool2d(2), *(unit(2 * w, 2 * w) for _ in range(count - 1))
        )
        for w, count in zip(sizes, plan.blocks[1:], strict=True)
    ]
    shrink = [unit(8 * width, 4 * width), unit(4 * width, 2 * width), unit(2 * width, MAP_WIDTH)]
    return Hourglass(down, shrink, nn.Identity(), skips)


class StackedEncoder(nn.Module):
    """Crops [B, 3, S, S], S a multiple of 32 -> Encoded; F^e is the second hourglass's middle.

    skips: of the second hourglass (Table 2, "w/o skip").
    """

    def __init__(self, plan: Plan, features: int, skips: bool = True) -> None:
        super().__init__()
        width, unit = plan.width, plan.unit
        self.fine_width = width
        narrow = width // 2 if plan.blocks is None else 32
        wide = width if plan.blocks is None else 64
        self.stem = nn.Sequential(
            ConvNorm(3, narrow, 3, stride=2),
            unit(narrow, wide),
            nn.PixelUnshuffle(2),
            ConvNorm(4 * wide, width, 1),
            *(unit(width, width) for _ in range(plan.blocks[0] if plan.blocks else 0)),
        )
        if plan.blocks is None:
            self.first = _dense_hourglass(plan, last=False, skips=True)
            self.second = _dense_hourglass(plan, last=True, skips=skips)
        else:
            self.first = _residual_hourglass(plan, skips=True)
            self.second = _residual_hourglass(plan, skips=skips)
        self.between = ConvNorm(MAP_WIDTH, MAP_WIDTH, 1)
        self.merge = ConvNorm(width + MAP_WIDTH, width, 1)
        self.project = nn.Conv2d(8 * width, features, 1)

    def forward(self, crops: Tensor) -> Encoded:
        x = self.stem(crops)
        _, maps = self.first(x)
        maps = F.interpolate(self.between(maps), scale_factor=2.0, mode="nearest")
        fine = self.merge(torch.cat([maps, x], 1))
        middle, maps = self.second(fine)
        return Encoded(self.project(middle), maps, fine)


class LightEncoder(LightPyramid):
    """Of the light pyramid F^e is the map at stride 8, which knows all above it.

    Beyond the paper: it starts from what the detector's backbone has learned about hands, and
    plain convolutions train several times faster on a CPU than the stacked blocks.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.maps = ConvNorm(LIGHT_WIDTH, MAP_WIDTH, 1)
        self.project = nn.Conv2d(LIGHT_WIDTH, features, 1)

    def forward(self, crops: Tensor) -> Encoded:
        fine, x, *_ = super().forward(crops)
        return Encoded(self.project(x), self.maps(x), fine)


def build_encoder(kind: str, features: int, skips: bool = True) -> nn.Module:
    """kind: "light" or a key of ``STACKED``. skips: of the way up to the maps."""
    if kind == "light":
        return LightEncoder(features)
    return StackedEncoder(STACKED[kind], features, skips)
