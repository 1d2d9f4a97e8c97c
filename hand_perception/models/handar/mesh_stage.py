"""The mesh stage (section 3.2): a rough mesh from joint features and shallow image features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from hand_perception.models.handar.encoders import Widths, run
from hand_perception.models.handar.joint_stage import FeatureDecoder
from hand_perception.models.handar.lixels import Lixels
from hand_perception.models.layers import ConvNorm


@dataclass
class MeshOutput:
    """maps: of the joint encoder, strides 4 to 32. deep: [B, D], its global feature. rough: [B, V,
    3] as in lixels.py."""

    maps: list[Tensor]
    deep: Tensor
    rough: Tensor


class MeshStage(nn.Module):
    """shallow [B, C, S / 4, S / 4] and F_J, where there is one, -> MeshOutput."""

    def __init__(
        self, stages: nn.ModuleList, widths: Widths, width: int, size: int, vertices: int
    ) -> None:
        super().__init__()
        self.fuse = ConvNorm(width, widths.shallow, 3)
        self.stages = stages
        self.decoder = FeatureDecoder(widths.inner[-1], width)
        self.lixels = Lixels(width, widths.inner[-1], size, vertices)

    def forward(self, shallow: Tensor, joint_features: Tensor | None) -> MeshOutput:
        fused = shallow if joint_features is None else shallow + self.fuse(joint_features)
        maps = run(self.stages, fused)
        deep = maps[-1].mean((-2, -1))
        return MeshOutput(maps, deep, self.lixels(self.decoder(maps[-1]), deep))
