"""Side tuning (section 3.2, supplement VI.1): learnable maps beside the frozen detector."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hand_perception.errors import ModelError
from hand_perception.models.handos.backbone import LIGHT_WIDTH, LightPyramid
from hand_perception.models.layers import ConvNorm
from hand_perception.models.precision import mixed_precision


class SideTuning(nn.Module):
    """F^s: three convolutions on each backbone map that the decoder reads.

    strides: of each map's first convolution; 2 makes a scale that the backbone does not have.
    """

    def __init__(self, inputs: list[int], widths: list[int], strides: list[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Sequential(
                ConvNorm(before, width, 3, stride),
                ConvNorm(width, width, 3),
                ConvNorm(width, width, 1, act=False),
            )
            for before, width, stride in zip(inputs, widths, strides, strict=True)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [scale(m) for scale, m in zip(self.scales, maps, strict=True)]


class ScratchSwin(nn.Module):
    """The Swin Transformer that Table 6 compares the backbone's maps with; it learns from nothing.

    architecture: differs from transformers' SwinConfig, whose defaults are SwinT's. widths:
    channels at strides 4, 8, 16, 32. Raises ModelError without transformers.
    """

    def __init__(self, architecture: dict[str, Any]) -> None:
        super().__init__()
        try:
            from transformers import SwinBackbone, SwinConfig
        except ImportError as error:
            raise ModelError(
                f"side_tuning: swin_t needs transformers ({error}): "
                "pip install 'hand_perception[detectors]'"
            ) from error
        self.swin = SwinBackbone(SwinConfig(out_indices=[1, 2, 3, 4], **architecture))
        self.widths = tuple(self.swin.channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, 3, H, W] -> maps at strides 4, 8, 16, 32."""
        return list(self.swin(images).feature_maps)


class LightSide(LightPyramid):
    """A light pyramid beside the frozen detector, and learning: what tells a hand from a chair need
    not tell one joint from the next. widths: channels at strides 4, 8, 16, 32."""

    def __init__(self) -> None:
        super().__init__()
        self.widths = (self.fine_width, LIGHT_WIDTH, LIGHT_WIDTH, LIGHT_WIDTH)

    def forward(self, images: Tensor) -> list[Tensor]:
        with mixed_precision(images.device.type, self.training):
            return super().forward(images)
