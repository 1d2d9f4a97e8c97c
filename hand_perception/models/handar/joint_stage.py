"""The joint stage (section 3.1): encoder, joint features, and the two branches of training."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.hands import NUM_KEYPOINTS
from hand_perception.models.handar.encoders import Pyramid, Widths
from hand_perception.models.handar.lixels import Lixels
from hand_perception.models.layers import ConvNorm


class FeatureDecoder(nn.Module):
    """Deep features at stride 32 -> maps [B, width, S / 4, S / 4] in three steps."""

    def __init__(self, deep: int, width: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(ConvNorm(i, width, 3) for i in (deep, width, width))

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class Segmentation(nn.Module):
    """A U-Net's way back up (Ronneberger et al. 2015): Pyramid -> logits [B, S / 2, S / 2]."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        """widths: of the maps from stride 2 to 32."""
        super().__init__()
        rising = widths[::-1]
        self.narrow = nn.ModuleList(
            nn.Conv2d(before, after, 1)
            for before, after in zip(rising[:-1], rising[1:], strict=True)
        )
        self.fuse = nn.ModuleList(ConvNorm(width, width, 3) for width in rising[1:])
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, stem: Tensor, maps: list[Tensor]) -> Tensor:
        x, *skips = maps[::-1]
        for narrow, fuse, skip in zip(self.narrow, self.fuse, [*skips, stem], strict=True):
            x = fuse(F.interpolate(narrow(x), scale_factor=2.0, mode="bilinear") + skip)
        return self.head(x)[:, 0]


@dataclass
class JointOutput:
    """features: F_J [B, width, S / 4, S / 4]. joints: [B, 21, 3] as in lixels.py."""

    features: Tensor
    joints: Tensor | None


class JointBranch(nn.Module):
    """The branch of the hand's joints; the mesh stage reads its features, not its joints."""

    def __init__(self, widths: Widths, width: int, size: int) -> None:
        super().__init__()
        deep = widths.maps[-1]
        self.decoder = FeatureDecoder(deep, width)
        self.lixels = Lixels(width, deep, size, NUM_KEYPOINTS)

    def forward(self, pyramid: Pyramid, teach: bool) -> JointOutput:
        """teach: whether joints are asked for, which only training does."""
        deep = pyramid.maps[-1]
        features = self.decoder(deep)
        joints = self.lixels(features, deep.mean((-2, -1))) if teach else None
        return JointOutput(features, joints)
