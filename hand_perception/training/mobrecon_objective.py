"""MobRecon's stages: 2D pre-training, then the mesh (section 3.4, supplement 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.errors import DataError
from hand_perception.hands import NUM_KEYPOINTS
from hand_perception.models.handos.model import normalise
from hand_perception.models.mobrecon.config import MobReconConfig
from hand_perception.models.mobrecon.encoder import MAP_WIDTH, StackedEncoder
from hand_perception.models.mobrecon.model import SPREAD, UNIT, MobRecon, MobReconOutput
from hand_perception.models.mobrecon.pose2d import SPREAD as SPREAD_2D
from hand_perception.models.mobrecon.pose2d import Pose2D
from hand_perception.models.precision import mixed_precision
from hand_perception.settings import build
from hand_perception.template import Template, load_template
from hand_perception.training.config import StageConfig
from hand_perception.training.crop_objective import CropObjective
from hand_perception.training.crops import CropBatch
from hand_perception.training.losses import (
    MeshTerms,
    answer_loss,
    heatmap_loss,
    known_mean,
    laplace_loss,
    point_l1,
)
from hand_perception.training.spiral_sums import use_spiral_sums


@dataclass(frozen=True)
class MobReconWeights:
    """Weights of the terms (eq. 9 and 10; there all are one, in other units). heatmap: of the
    pre-training's second head (supplement 6). side, presence: of the heads the paper has not."""

    pose2d: float = 10.0
    heatmap: float = 0.2
    mesh: float = 5.0
    joints3d: float = 5.0
    edge: float = 2.0
    normal: float = 0.1
    consistency2d: float = 2.0
    consistency3d: float = 0.5
    side: float = 0.5
    presence: float = 0.5


class Learner(nn.Module):
    """The network, and the heatmap head of its pre-training. A network whose positions are the
    peaks of heatmaps has that head itself."""

    def __init__(self, config: MobReconConfig, template: Template) -> None:
        super().__init__()
        self.network = MobRecon(config, template)
        self.heatmap = nn.Conv2d(MAP_WIDTH, NUM_KEYPOINTS, 1)

    def forward(self, crops: Tensor, with_mesh: bool) -> tuple[MobReconOutput, Tensor]:
        """What the network says, and the heatmaps to be taught, logits [B, 21, H, W]."""
        out = self.network(crops, with_mesh)
        own = self.network.config.pose in ("heatmap", "posterior")
        return out, (out.pose.heatmaps if own else self.heatmap(out.maps))


class MobReconObjective(CropObjective):
    """``pose``: encoder and 2D positions, heatmaps beside them. ``mesh``: all of it.
    template: whose mesh is learnt, ours unless given.

    Raises DataError for an unknown term.
    """

    stages = ("pose", "mesh")

    def __init__(
        self,
        config: MobReconConfig,
        losses: dict[str, float],
        seed: int = 0,
        template: Template | None = None,
    ) -> None:
        super().__init__(config)
        self.template = template or load_template()
        self.weights = build(MobReconWeights, losses, DataError)
        torch.manual_seed(seed)
        self.learner = Learner(config, self.template)

    def to(self, device: torch.device) -> None:
        self.learner.to(device, memory_format=torch.channels_last)
        if device.type == "cpu":
            use_spiral_sums(self.learner.network.decoder)
        self.mesh = MeshTerms(torch.from_numpy(self.template.faces).long().to(device))
        self.regressor = torch.from_numpy(self.template.regressor).to(device)

    @property
    def fusible(self) -> tuple[nn.Module, ...]:
        """The mesh decoder: many small products over gathered rows. The paper's encoders: gates,
        norms and joined channels between cheap convolutions."""
        network = self.learner.network
        stacked = isinstance(network.encoder, StackedEncoder)
        return (network.encoder, network.decoder) if stacked else (network.decoder,)

    def prepare(self, stage: StageConfig) -> list[nn.Module]:
        self.learner.requires_grad_(True)
        self.learner.train()
        network = self.learner.network
        if stage.name == "mesh":
            return [self.learner]
        return [network.encoder, network.pose, network.judge, self.learner.heatmap]

    def losses(self, stage: StageConfig, batch: CropBatch) -> dict[str, Tensor]:
        crops = normalise(batch.images).contiguous(memory_format=torch.channels_last)
        with mixed_precision(crops.device.type):
            out, heatmaps = self.learner(crops, stage.name == "mesh")
        losses = self._pose_losses(out, heatmaps.float(), batch)
        if stage.name == "mesh":
            losses |= self._mesh_losses(out, batch)
        return losses

    def _pose_losses(
        self, out: MobReconOutput, heatmaps: Tensor, batch: CropBatch
    ) -> dict[str, Tensor]:
        w, joints = self.weights, out.pose.joints
        whole = joints.new_ones(len(joints))
        error = known_mean(joint_errors(out.pose, batch.joints2d), batch.known)
        grid = cell_centres(heatmaps.shape[-1], joints.device).expand(len(joints), -1, -1)
        box = whole / self.config.crop_scale
        maps = heatmap_loss(heatmaps.flatten(2), grid, batch.joints2d, box, batch.known)
        known_side = (batch.side != 0).float()
        side = F.binary_cross_entropy_with_logits(
            out.side, (batch.side > 0).float(), reduction="none"
        )
        losses = {
            "pose2d": w.pose2d * mean(error, batch.weight2d),
            "heatmap": w.heatmap * mean(maps, batch.weight2d),
            "side": w.side * mean(side, known_side),
            "presence": w.presence
            * F.binary_cross_entropy_with_logits(out.presence, batch.present),
        }
        if w.consistency2d:
            moved = into_second_view(joints[::2], batch.to_crop)
            apart = (moved - joints[1::2]).abs().mean((1, 2))
            losses["consistency2d"] = w.consistency2d * mean(apart, batch.present[1::2])
        return losses

    def _mesh_losses(self, out: MobReconOutput, batch: CropBatch) -> dict[str, Tensor]:
        w, vertices = self.weights, out.vertices
        truth = batch.vertices / UNIT
        joints = self.regressor @ vertices
        errors = [
            point_l1(vertices, truth),
            point_l1(joints, batch.joints3d / UNIT, batch.known),
        ]
        if out.spread3d is not None:
            errors = [laplace_loss(error, out.spread3d, SPREAD) for error in errors]
        losses = {
            "mesh": w.mesh * mean(errors[0], batch.weight_mesh),
            "joints3d": w.joints3d * mean(errors[1], batch.weight3d),
        }
        if w.edge:
            losses["edge"] = w.edge * mean(self.mesh.edge(vertices, truth), batch.weight_mesh)
        if w.normal:
            losses["normal"] = w.normal * mean(self.mesh.normal(vertices, truth), batch.weight_mesh)
        if w.consistency3d:
            turn = batch.axes[1::2] @ batch.axes[::2].mT
            apart = point_l1(vertices[::2] @ turn.mT, vertices[1::2])
            losses["consistency3d"] = w.consistency3d * mean(apart, batch.present[1::2])
        return losses


def joint_errors(pose: Pose2D, truth: Tensor) -> Tensor:
    """|predicted - truth| [B, 21], truth [B, 21, 2]. Where a network tells how far off it may be,
    how true that is, of its prior and its answer alike."""
    if pose.spread is None:
        return (pose.joints - truth).abs().mean(-1)
    answers = (pose.prior, pose.prior_spread), (pose.joints, pose.spread)
    return answer_loss(answers, truth, SPREAD_2D)


def cell_centres(size: int, device: torch.device) -> Tensor:
    """[size * size, 2]: x, y in 0..1 of a square map's cells, row by row."""
    centres = (torch.arange(size, device=device) + 0.5) / size
    return torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1).flatten(0, 1)


def mean(values: Tensor, by: Tensor) -> Tensor:
    """The mean of [B] weighted by [B]; zero without any weight."""
    return (values * by).sum() / by.sum().clamp(min=1e-3)


def into_second_view(joints: Tensor, to_crop: Tensor) -> Tensor:
    """T_{1->2} (eq. 10): joints [B / 2, 21, 2] of the first views where the second have them."""
    first, second = to_crop[::2], to_crop[1::2]
    back = torch.linalg.inv(first[..., :2])
    image = (joints - first[:, None, :, 2]) @ back.mT
    return image @ second[..., :2].mT + second[:, None, :, 2]
