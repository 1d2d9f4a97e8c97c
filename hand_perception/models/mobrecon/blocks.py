"""The blocks of the stacked encoders (section 3.1, Fig. 3). Feature maps are [B, C, H, W]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.models.layers import ConvNorm


class DepthwiseNorm(nn.Sequential):
    """3x3 convolution of each channel by itself, batch norm, ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )


class SeparableUnit(nn.Module):
    """``depth`` depth-wise 3x3 convolutions and a point-wise one; a shortcut where widths allow."""

    def __init__(self, inputs: int, outputs: int, depth: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(DepthwiseNorm(inputs) for _ in range(depth)), ConvNorm(inputs, outputs, 1)
        )
        self.shortcut = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


class GhostUnit(nn.Module):
    """Half of the channels by a point-wise convolution, their ghosts by a cheap depth-wise one
    (Han et al. 2020); a shortcut where widths allow."""

    def __init__(self, inputs: int, outputs: int, depth: int = 1) -> None:
        super().__init__()
        primary = (outputs + 1) // 2
        self.outputs = outputs
        self.primary = ConvNorm(inputs, primary, 1)
        self.ghosts = nn.Sequential(*(DepthwiseNorm(primary) for _ in range(depth)))
        self.shortcut = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(x)
        both = torch.cat([primary, self.ghosts(primary)], 1)[:, : self.outputs]
        return x + both if self.shortcut else both


class SqueezeExcite(nn.Module):
    """Channels weighed by what the whole map says (Hu et al. 2018)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class DenseBlock(nn.Module):
    """Units that each see all before them (Huang et al. 2017) and together double the width."""

    def __init__(self, unit: type[nn.Module], width: int, steps: int) -> None:
        super().__init__()
        growth = width // steps
        self.units = nn.ModuleList(unit(width + k * growth, growth) for k in range(steps))

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            x = torch.cat([x, unit(x)], 1)
        return x


class DenseMiddle(nn.Module):
    """Two dense units that keep the width: three quarters of it from all channels, the last one
    from these and all channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        most = 3 * width // 4
        self.most = SeparableUnit(width, most)
        self.rest = SeparableUnit(width + most, width - most)

    def forward(self, x: Tensor) -> Tensor:
        most = self.most(x)
        return torch.cat([most, self.rest(torch.cat([x, most], 1))], 1)


class GhostBottleneck(nn.Module):
    """Ghost units that widen and narrow, weighed in between; a shortcut (Han et al. 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 3 * width
        self.body = nn.Sequential(
            GhostUnit(width, wide), SqueezeExcite(wide, width // 3), GhostUnit(wide, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Bottleneck(nn.Module):
    """A 3x3 convolution of a quarter of the channels between two point-wise ones, around a
    shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        narrow = outputs // 4
        self.body = nn.Sequential(
            ConvNorm(inputs, narrow, 1),
            ConvNorm(narrow, narrow, 3),
            ConvNorm(narrow, outputs, 1, act=False),
        )
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))
