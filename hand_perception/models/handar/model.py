"""HandAR whole (Fig. 2): a crop around one hand -> a mesh that lies on the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.hands import MIDDLE_MCP
from hand_perception.models.handar.config import HandARConfig
from hand_perception.models.handar.crop_camera import CropCamera
from hand_perception.models.handar.encoders import KINDS
from hand_perception.models.handar.joint_stage import JointBranch, JointOutput, Segmentation
from hand_perception.models.handar.mesh_stage import MeshStage
from hand_perception.models.handar.refine_stage import RefineStage
from hand_perception.models.mobrecon.judge import Judge
from hand_perception.template import Template


@dataclass
class JointStageOutput:
    """What training asks of the joint stage: joints [B, 21, 3] as in lixels.py and mask, logits
    [B, S / 2, S / 2]; None where that branch is cut away."""

    joints: Tensor | None
    mask: Tensor | None


@dataclass
class HandAROutput:
    """joints2d [B, 21, 2] in 0..1 of the crop: those of the final mesh, where it lies. vertices
    [B, V, 3] in UNIT about the middle MCP, in the axes of a camera that looks at the crop's centre.
    side, presence [B]: logits of a right hand and of a hand.

    rough, final: [B, V, 3], the meshes in the image, as in lixels.py; camera: between those and
    ``vertices``. stage: of the joint stage, for training.
    """

    joints2d: Tensor
    vertices: Tensor
    side: Tensor
    presence: Tensor
    rough: Tensor
    final: Tensor
    camera: CropCamera
    stage: JointStageOutput
    # Of networks that tell how far off they may be.
    spread2d: None = None
    spread3d: None = None


class HandAR(nn.Module):
    """Beyond the paper it tells metres, presence and side: the paper's is told the root's depth
    and K, and that there is a right hand."""

    def __init__(self, config: HandARConfig, template: Template) -> None:
        super().__init__()
        self.config = config
        encoder, stages = KINDS[config.encoder]
        widths, size = encoder.widths, config.crop_size // 4
        count, deep = len(template.vertices), widths.inner[-1]
        self.encoder = encoder()
        self.joint_branch = (
            JointBranch(widths, config.width, size) if config.has("joint_stage") else None
        )
        # Without a joint stage the mask is predicted in the mesh stage (section 4.4).
        read = widths.maps if self.joint_branch else widths.inner
        self.segmentation = (
            Segmentation((widths.stem, *read)) if config.has("segmentation") else None
        )
        self.mesh_stage = MeshStage(stages(), widths, config.width, size, count)
        local = 3 + widths.stem + widths.shallow + widths.inner[0]
        self.refine_stage = (
            RefineStage(
                template.faces,
                count,
                local,
                deep,
                config.graph_width,
                *(config.has(part) for part in ("local", "global", "offset")),
            )
            if config.has("refine_stage")
            else None
        )
        self.camera = nn.Linear(deep, 2)
        self.judge = Judge(deep)
        self.register_buffer("regressor", torch.from_numpy(template.regressor), persistent=False)
        self.register_buffer("landmarks", torch.from_numpy(template.landmarks), persistent=False)

    def forward(self, crops: Tensor, teach: bool = False) -> HandAROutput:
        """crops: normalised [B, 3, S, S]. teach: whether the branches that only training needs are
        run: the joints' and the mask's (the scissors in Fig. 2)."""
        pyramid = self.encoder(crops)
        joints = self.joint_branch(pyramid, teach) if self.joint_branch else None
        mesh = self.mesh_stage(pyramid.shallow, joints and joints.features)
        stage = JointStageOutput(joints and joints.joints, None)
        if teach and self.segmentation:
            maps = pyramid.maps if joints else mesh.maps
            stage.mask = self.segmentation(pyramid.stem, maps).float()
        side, presence = self.judge(mesh.maps[-1]).float().unbind(-1)
        # In half precision the graph's small products are slower, and coarser than a pixel.
        with torch.autocast(crops.device.type, enabled=False):
            deep = mesh.deep.float()
            final = mesh.rough
            if self.refine_stage:
                read = (crops, pyramid.stem, pyramid.shallow, mesh.maps[0])
                final = self.refine_stage(final, [m.float() for m in read], deep)
            camera = self._camera(deep)
            space = camera.to_space(final)
            joints2d = camera.to_image(self.landmarks @ space)[..., :2]
            vertices = self._about_root(space)
        return HandAROutput(joints2d, vertices, side, presence, mesh.rough, final, camera, stage)

    def look(self, crops: Tensor) -> JointStageOutput:
        """The joint stage alone, to train it first."""
        pyramid = self.encoder(crops)
        joints: JointOutput = self.joint_branch(pyramid, True)
        mask = None
        if self.segmentation:
            mask = self.segmentation(pyramid.stem, pyramid.maps).float()
        return JointStageOutput(joints.joints, mask)

    def to_root(self, points: Tensor, camera: CropCamera) -> Tensor:
        """A mesh in the image [B, V, 3] -> in UNIT about its middle MCP."""
        return self._about_root(camera.to_space(points))

    def _about_root(self, space: Tensor) -> Tensor:
        return space - (self.regressor[MIDDLE_MCP] @ space)[:, None]

    def _camera(self, deep: Tensor) -> CropCamera:
        """Starts at a crop two UNIT wide, ten away."""
        side, nearness = self.camera(deep).unbind(-1)
        return CropCamera(2 * side.clamp(-2, 2).exp(), F.softplus(nearness - 2.25))
