"""Points from line features: a distribution over each axis, and its mean (eq. 1).

Points are (x, y, depth): x and y in 0..1 of the crop, depth in UNIT behind the middle MCP.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Half of the range of depths in UNIT: a stretched hand reaches little more than one from the MCP.
DEPTH_RANGE = 1.5
# Beyond the paper: lines reach beyond the crop by this share of it, as hands that the image's
# border cuts do.
MARGIN = 0.25


def soft_argmax(logits: Tensor, low: float, high: float) -> Tensor:
    """Mean position [B, N] of distributions [B, N, L] over L cells of low..high."""
    length = logits.shape[-1]
    cells = torch.arange(length, device=logits.device, dtype=torch.float32)
    centres = low + (cells + 0.5) * ((high - low) / length)
    return logits.softmax(-1) @ centres


class LineHead(nn.Sequential):
    """Line features [B, C, L] -> logits [B, N, L]: dilated 1D convolutions, then one a point."""

    def __init__(self, width: int, points: int) -> None:
        layers: list[nn.Module] = []
        for dilation in (1, 2):
            layers += [
                nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers, nn.Conv1d(width, points, 1))


class Lixels(nn.Module):
    """maps [B, C, H, H] and a global vector [B, D] -> points [B, N, 3].

    x from the mean of the maps' columns, y from that of their rows, depth from the vector by psi:
    a fully connected layer, batch norm, and a reshape to a line of H cells.
    """

    def __init__(self, width: int, deep: int, size: int, points: int) -> None:
        super().__init__()
        self.width, self.pad = width, round(size * MARGIN)
        self.psi = nn.Sequential(
            nn.Linear(deep, width * size),
            nn.BatchNorm1d(width * size),
            nn.ReLU(inplace=True),
        )
        self.heads = nn.ModuleList(LineHead(width, points) for _ in "xyz")

    def forward(self, maps: Tensor, deep: Tensor) -> Tensor:
        # Half precision would round positions to a tenth of a pixel.
        with torch.autocast(maps.device.type, enabled=False):
            means = (maps.float().mean(axis) for axis in (-2, -1))
            lines = [F.pad(line, (self.pad, self.pad)) for line in means]
            lines.append(self.psi(deep.float()).reshape(-1, self.width, maps.shape[-1]))
            reach = self.pad / maps.shape[-1]
            ranges = ((-reach, 1 + reach), (-reach, 1 + reach), (-DEPTH_RANGE, DEPTH_RANGE))
            axes = zip(self.heads, lines, ranges, strict=True)
            return torch.stack([soft_argmax(h(line), *limits) for h, line, limits in axes], -1)
