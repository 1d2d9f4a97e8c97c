"""The image encoder of the joint stage and the joint encoder of the mesh stage (Fig. 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.models.handos.backbone import Backbone
from hand_perception.models.handos.config import DetectorConfig
from hand_perception.models.layers import ConvNorm, ResidualBlock


@dataclass
class Pyramid:
    """stem: at stride 2. shallow: the first layer, at stride 4. maps: at strides 4 to 32."""

    stem: Tensor
    shallow: Tensor
    maps: list[Tensor]


@dataclass(frozen=True)
class Widths:
    """Channels of a Pyramid; ``inner``: of the joint encoder's maps."""

    stem: int
    shallow: int
    maps: tuple[int, ...]
    inner: tuple[int, ...]


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut (He et al. 2016), four times as wide out."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNorm(inputs, width, 1),
            ConvNorm(width, width, 3, stride),
            ConvNorm(width, 4 * width, 1, act=False),
        )
        same = stride == 1 and inputs == 4 * width
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, 4 * width, 1, stride, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def resnet50_stages() -> nn.ModuleList:
    """The four stages of ResNet-50 over a map of 64 channels."""
    stages, inputs = [], 64
    for width, blocks, stride in zip((64, 128, 256, 512), (3, 4, 6, 3), (1, 2, 2, 2), strict=True):
        first = Bottleneck(inputs, width, stride)
        rest = (Bottleneck(4 * width, width) for _ in range(blocks - 1))
        stages.append(nn.Sequential(first, *rest))
        inputs = 4 * width
    return nn.ModuleList(stages)


class ResNet50(nn.Module):
    """Crops [B, 3, S, S] -> Pyramid; the stem has a 7x7 convolution and a pooling."""

    widths = Widths(64, 64, (256, 512, 1024, 2048), (256, 512, 1024, 2048))

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 64, 7, stride=2)
        self.stages = resnet50_stages()

    def forward(self, crops: Tensor) -> Pyramid:
        stem = self.stem(crops)
        shallow = F.max_pool2d(stem, 3, 2, 1)
        return Pyramid(stem, shallow, run(self.stages, shallow))


class LightEncoder(nn.Module):
    """Beyond the paper: our detector's backbone, from whose weights it can start."""

    _config = DetectorConfig()
    widths = Widths(_config.widths[0], _config.widths[1], _config.widths[1:], _config.widths[1:])

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone(self._config.widths, self._config.blocks)

    def forward(self, crops: Tensor) -> Pyramid:
        stem = self.backbone.stem(crops)
        maps = run(self.backbone.stages, stem)
        return Pyramid(stem, maps[0], maps)


def light_stages() -> nn.ModuleList:
    """A residual block a stage over the light encoder's shallow map."""
    widths = LightEncoder.widths
    before = (widths.shallow, *widths.inner[:-1])
    return nn.ModuleList(
        ResidualBlock(i, o, stride)
        for i, o, stride in zip(before, widths.inner, (1, 2, 2, 2), strict=True)
    )


def run(stages: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """What each stage gives."""
    maps = []
    for stage in stages:
        x = stage(x)
        maps.append(x)
    return maps


# Of each encoder: the image's, and the stages of the joint encoder.
KINDS = {"light": (LightEncoder, light_stages), "resnet50": (ResNet50, resnet50_stages)}
