"""HandAR's losses (section 3.4), in two stages: the joint stage first, then all of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.errors import DataError
from hand_perception.models.handar.config import HandARConfig
from hand_perception.models.handar.crop_camera import fit_camera
from hand_perception.models.handar.model import HandAR, HandAROutput, JointStageOutput
from hand_perception.models.handos.model import normalise
from hand_perception.models.mobrecon.model import UNIT
from hand_perception.models.precision import mixed_precision
from hand_perception.settings import build
from hand_perception.template import Template, load_template
from hand_perception.training.config import StageConfig
from hand_perception.training.crop_objective import CropObjective
from hand_perception.training.crops import VIEWS, CropBatch
from hand_perception.training.losses import MeshTerms, known_mean, point_l1
from hand_perception.training.mobrecon_objective import mean
from hand_perception.training.part_rendering import PartPainter, face_parts

# About what a crop's side is at the hand, in UNIT: x and y of the image count like depth.
CROP_SIDE = 2.0
# The render loss compares pictures at this share of the crop's resolution, as masks are predicted.
PICTURE = 2
# Painting is half the cost of a step on a CPU, so of a hand's crops only the first is painted.
PAINTED = slice(None, None, VIEWS)


@dataclass(frozen=True)
class HandARWeights:
    """joints: of the joint stage. rough, final: both meshes' vertices and joints, in the image.
    space: vertices and joints of the final mesh, in metres (ours: the paper's is told the scale).
    render: 0 is Table 3's last row. side, presence: of the heads that the paper has not."""

    joints: float = 5.0
    rough: float = 5.0
    final: float = 5.0
    space: float = 5.0
    edge: float = 2.0
    normal: float = 0.1
    segmentation: float = 0.5
    render: float = 2.0
    side: float = 0.5
    presence: float = 0.5


class Learner(nn.Module):
    """All that learns is shipped, save the branches that export cuts away."""

    def __init__(self, config: HandARConfig, template: Template) -> None:
        super().__init__()
        self.network = HandAR(config, template)


@dataclass
class Truth:
    """Labels of B crops. joints, vertices: [B, N, 3] in the image, as models/handar/lixels.py has
    points. picture: [B / VIEWS, P, s, s], the parts of the true mesh in each hand's first crop."""

    joints: Tensor
    vertices: Tensor
    picture: Tensor


class HandARObjective(CropObjective):
    """``joints``: the joint stage, nothing of it where that is left out. ``mesh``: all of it.
    template: whose mesh is learnt, ours unless given.

    Raises DataError for an unknown term.
    """

    def __init__(
        self,
        config: HandARConfig,
        losses: dict[str, float],
        seed: int = 0,
        template: Template | None = None,
    ) -> None:
        super().__init__(config)
        self.template = template or load_template()
        self.weights = build(HandARWeights, losses, DataError)
        self.stages = ("joints", "mesh") if config.has("joint_stage") else ("mesh",)
        torch.manual_seed(seed)
        self.learner = Learner(config, self.template)

    def to(self, device: torch.device) -> None:
        self.learner.to(device, memory_format=torch.channels_last)
        faces = torch.from_numpy(self.template.faces).long().to(device)
        self.mesh = MeshTerms(faces)
        self.painter = PartPainter(faces, torch.from_numpy(face_parts(self.template)).to(device))
        self.regressor = torch.from_numpy(self.template.regressor).to(device)
        self.landmarks = torch.from_numpy(self.template.landmarks).to(device)

    def prepare(self, stage: StageConfig) -> list[nn.Module]:
        self.learner.requires_grad_(True)
        self.learner.train()
        network = self.learner.network
        if stage.name == "mesh":
            return [self.learner]
        parts = (network.encoder, network.joint_branch, network.segmentation)
        return [part for part in parts if part is not None]

    def losses(self, stage: StageConfig, batch: CropBatch) -> dict[str, Tensor]:
        crops = normalise(batch.images).contiguous(memory_format=torch.channels_last)
        truth = self.truth(batch)
        network = self.learner.network
        with mixed_precision(crops.device.type):
            out = network(crops, teach=True) if stage.name == "mesh" else network.look(crops)
        if stage.name == "joints":
            return self._joint_losses(out, truth, batch)
        return self._joint_losses(out.stage, truth, batch) | self._mesh_losses(out, truth, batch)

    @torch.no_grad()
    def truth(self, batch: CropBatch) -> Truth:
        """Where labelled joints and meshes lie in the crop, and the picture of their parts."""
        joints3d, vertices = batch.joints3d / UNIT, batch.vertices / UNIT
        # Labelled where joints are marked, as far as a mesh tells where that is.
        meshed = (batch.weight_mesh > 0)[:, None, None]
        marked = torch.where(meshed, self.landmarks @ vertices, joints3d)
        camera, root = fit_camera(batch.joints2d, marked, batch.known)
        placed = camera.to_image(vertices + root[:, None])
        picture = self.painter(placed[PAINTED], self.config.crop_size // PICTURE)
        return Truth(torch.cat([batch.joints2d, joints3d[..., 2:]], -1), placed, picture)

    def _joint_losses(
        self, stage: JointStageOutput, truth: Truth, batch: CropBatch
    ) -> dict[str, Tensor]:
        w, losses = self.weights, {}
        if stage.joints is not None:
            losses["joints"] = w.joints * self._joint_error(
                stage.joints[..., :2], stage.joints[..., 2], truth, batch
            )
        if stage.mask is not None:
            # Crops without a hand teach that there is none of it.
            present = batch.present[PAINTED]
            told = torch.where(present > 0, batch.weight_mesh[PAINTED], 1.0)
            goal = truth.picture.sum(1).clamp(max=1) * present[:, None, None]
            error = F.binary_cross_entropy_with_logits(stage.mask[PAINTED], goal, reduction="none")
            losses["segmentation"] = w.segmentation * mean(error.mean((1, 2)), told)
        return losses

    def _joint_error(
        self, places: Tensor, depths: Tensor, truth: Truth, batch: CropBatch
    ) -> Tensor:
        """L1 of joints in the image, at places [B, 21, 2] and depths [B, 21]; depth counts where 3D
        is labelled."""
        apart = (places - truth.joints[..., :2]).abs()
        flat = known_mean(CROP_SIDE * apart.mean(-1), batch.known)
        depth = known_mean((depths - truth.joints[..., 2]).abs(), batch.known)
        return mean(flat, batch.weight2d) + 0.5 * mean(depth, batch.weight3d)

    def _mesh_losses(self, out: HandAROutput, truth: Truth, batch: CropBatch) -> dict[str, Tensor]:
        w, labelled = self.weights, batch.weight_mesh
        network, space_truth = self.learner.network, batch.vertices / UNIT
        scale = out.final.new_tensor([CROP_SIDE, CROP_SIDE, 1.0])
        losses = {}
        meshes = {"rough": out.rough, "final": out.final}
        if network.refine_stage is None:
            del meshes["final"]
        for name, mesh in meshes.items():
            weight = getattr(w, name)
            vertices = mean(point_l1(mesh * scale, truth.vertices * scale), labelled)
            places, depths = self.landmarks @ mesh[..., :2], self.regressor @ mesh[..., 2:]
            joints = self._joint_error(places, depths[..., 0], truth, batch)
            losses[name] = weight * (vertices + joints)
        space = [out.vertices]
        if "final" in meshes:
            space.append(network.to_root(out.rough, out.camera))
        losses["space"] = w.space * (
            mean(point_l1(out.vertices, space_truth), labelled)
            + mean(
                point_l1(self.regressor @ out.vertices, batch.joints3d / UNIT, batch.known),
                batch.weight3d,
            )
        )
        for name, term in (("edge", self.mesh.edge), ("normal", self.mesh.normal)):
            losses[name] = getattr(w, name) * sum(
                mean(term(vertices, space_truth), labelled) for vertices in space
            )
        if w.render:
            losses["render"] = w.render * self._render_loss(out.final, truth, labelled)
        side = F.binary_cross_entropy_with_logits(
            out.side, (batch.side > 0).float(), reduction="none"
        )
        losses["side"] = w.side * mean(side, (batch.side != 0).float())
        losses["presence"] = w.presence * F.binary_cross_entropy_with_logits(
            out.presence, batch.present
        )
        return losses

    def _render_loss(self, mesh: Tensor, truth: Truth, labelled: Tensor) -> Tensor:
        """eq. 8, each part a colour of its own: squared difference of the pictures, relative to
        what the true hand covers, so that a small hand counts like a large one."""
        mesh, labelled = mesh[PAINTED], labelled[PAINTED]
        chosen = labelled > 0
        if not chosen.any():
            return mesh.sum() * 0
        goal = truth.picture[chosen]
        painted = self.painter(mesh[chosen], goal.shape[-1])
        covered = goal.sum((1, 2, 3)).clamp(min=1)
        error = (painted - goal).square().sum((1, 2, 3)) / covered
        return mean(error, labelled[chosen])
