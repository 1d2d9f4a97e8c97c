"""Side tuning (section 3.2, supplement VI.1): learnable maps beside the frozen detector."""

from __future__ import annotations

from torch import Tensor, nn

from hand_perception.models.layers import ConvNorm


class SideTuning(nn.Module):
    """F^s: three convolutions on each backbone map that the decoder reads."""

    def __init__(self, inputs: list[int], widths: list[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Sequential(
                ConvNorm(before, width, 3),
                ConvNorm(width, width, 3),
                ConvNorm(width, width, 1, act=False),
            )
            for before, width in zip(inputs, widths, strict=True)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [scale(m) for scale, m in zip(self.scales, maps, strict=True)]
