"""MobRecon whole (Fig. 2): a crop around one hand -> 2D joints and mesh."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hand_perception.models.layers import laplace_scale, zeroed
from hand_perception.models.mobrecon.config import MobReconConfig
from hand_perception.models.mobrecon.decoder import MeshDecoder
from hand_perception.models.mobrecon.encoder import build_encoder
from hand_perception.models.mobrecon.judge import Judge
from hand_perception.models.mobrecon.lifting import (
    FullyConnected,
    PoseToVertex,
    grid_sampling,
    joint_wise_pooling,
)
from hand_perception.models.mobrecon.mesh_pyramid import pyramid
from hand_perception.models.mobrecon.pose2d import Pose2D, build_pose
from hand_perception.template import Template

# The network's unit of length in metres: about the size of a hand, so that numbers are near one.
UNIT = 0.1
# A mesh's usual error in UNIT, where learning its spread starts.
SPREAD = 0.1


@dataclass
class MobReconOutput:
    """pose: 2D, from maps [B, MAP_WIDTH, S / 8, S / 8]. vertices [B, 778, 3] in UNIT about the
    middle MCP, in the axes of a camera that looks at the crop's centre; None where not asked for.
    side [B]: logit of a right hand. presence [B]: logit of a hand. spread3d [B]: how far off the
    vertices may be, the scale of a Laplace distribution, in UNIT; of pose "posterior".
    """

    pose: Pose2D
    maps: Tensor
    vertices: Tensor | None
    side: Tensor
    presence: Tensor
    spread3d: Tensor | None = None

    @property
    def joints2d(self) -> Tensor:
        """[B, 21, 2] in 0..1 of the crop, as every network of crops has them."""
        return self.pose.joints

    @property
    def spread2d(self) -> Tensor | None:
        """[B, 21] in sides of the crop: how far off each joint may be, where the network tells."""
        return self.pose.spread


class MobRecon(nn.Module):
    """Beyond the paper it says itself whether the crop holds a hand, and which side it is of: the
    paper is told, a robot is not."""

    def __init__(self, config: MobReconConfig, template: Template) -> None:
        super().__init__()
        self.config = config
        levels = pyramid(template, len(config.widths), config.spiral)
        features, coarsest = config.features, len(levels[-1].vertices)
        self.encoder = build_encoder(config.encoder, features, config.skips)
        self.pose = build_pose(
            config.pose, features, config.crop_size // 8, self.encoder.fine_width, config.skips
        )
        self.lifting = (
            PoseToVertex(coarsest)
            if config.lifting == "pvl"
            else FullyConnected(features, coarsest)
        )
        self.decoder = MeshDecoder(config.features, config.widths, config.graph, levels)
        self.judge = Judge(config.features)
        self.doubt = None
        if config.pose == "posterior":
            self.doubt = Judge(config.features, answers=1)
            zeroed(self.doubt[-1])

    def forward(self, crops: Tensor, with_mesh: bool = True) -> MobReconOutput:
        """crops: normalised [B, 3, S, S]."""
        encoded = self.encoder(crops)
        pose = self.pose(encoded)
        side, presence = self.judge(encoded.features).unbind(-1)
        # In half precision the spirals' small products are slower, and coarser.
        with torch.autocast(crops.device.type, enabled=False):
            pose = pose.float()
            vertices = self._mesh(encoded.features.float(), pose) if with_mesh else None
        spread3d = None
        if self.doubt is not None:
            spread3d = laplace_scale(self.doubt(encoded.features)[..., 0].float(), SPREAD)
        return MobReconOutput(
            pose, encoded.maps, vertices, side.float(), presence.float(), spread3d
        )

    def _mesh(self, features: Tensor, pose: Pose2D) -> Tensor:
        if self.config.lifting == "fc":
            return self.decoder(self.lifting(features))
        pool = joint_wise_pooling if self.config.pose == "heatmap" else grid_sampling
        return self.decoder(self.lifting(pool(features, pose)))
