"""The interactive 2D-3D decoder (section 3.3, Fig. 2 right and Fig. 3).

Shapes as in queries.py. Everything 3D is relative to the middle finger's MCP and in units of
UNIT metres, so that the network's numbers are of order one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hand_perception.hands import NUM_KEYPOINTS
from hand_perception.models.detectors.protocol import (
    BACKBONE_STRIDES,
    ENCODER_STRIDES,
    Detections,
)
from hand_perception.models.handos.config import DecoderConfig
from hand_perception.models.handos.queries import (
    GRID_MARGIN,
    BoxRelativePosition,
    GridExpansion,
    LiteralExpansion,
    QueryLifting,
)
from hand_perception.models.handos.side_tuning import LightSide, ScratchSwin, SideTuning
from hand_perception.models.layers import (
    Attention,
    DeformableAttention,
    laplace_scale,
    mlp,
    zeroed,
)
from hand_perception.models.posterior import posterior_shift
from hand_perception.models.precision import mixed_precision
from hand_perception.template import Template

UNIT = 0.1  # metres
# Usual errors, where learning how far off an answer may be starts: of a 2D joint in sides of its
# hand's box, of the mesh in UNIT.
SPREAD_2D, SPREAD_3D = 0.05, 0.1

JOINTS, CAMERA = slice(0, NUM_KEYPOINTS), slice(-1, None)
VERTICES, GEOMETRY, ALL = slice(NUM_KEYPOINTS, -1), slice(0, -1), slice(None)
# Fig. 8: which tokens attend to which, as (queries, keys) in the order of the tokens. Attending in
# groups gives the same as a mask and needs none.
VISIBILITY = {
    # Each kind for itself.
    "a": ((JOINTS, JOINTS), (VERTICES, VERTICES), (CAMERA, CAMERA)),
    # One way: vertices also see joints, the camera sees all.
    "b": ((JOINTS, JOINTS), (VERTICES, GEOMETRY), (CAMERA, ALL)),
    # Hierarchical: joints and vertices see each other, the camera sees all.
    "c": ((GEOMETRY, GEOMETRY), (CAMERA, ALL)),
    # Full.
    "d": ((ALL, ALL),),
}


@dataclass
class DecoderOutput:
    """joints2d: [B, M, 21, 2] in 0..1, one for the reference and one a layer.
    joints3d: [B, M, 21, 3]. vertices: [B, M, 778, 3] and camera: [B, M, 3], one an interactive
    layer; camera.py says what the three numbers are.

    Of the grid expansion: heatmaps, evidence and their grids; logits presence [B, M + judged] and
    side [B, M], of a right hand. Of joints "posterior": answer [B, M, 21, 2], where the last of
    joints2d and the evidence meet; scales of Laplace distributions, how far off each may be:
    prior_spread and spread2d [B, M, 21] in sides of the box, spread3d [B, M] of the last vertices.
    """

    joints2d: list[Tensor] = field(default_factory=list)
    joints3d: Tensor | None = None
    vertices: list[Tensor] = field(default_factory=list)
    camera: list[Tensor] = field(default_factory=list)
    heatmaps: Tensor | None = None
    grid: Tensor | None = None
    evidence: Tensor | None = None
    evidence_grid: Tensor | None = None
    presence: Tensor | None = None
    side: Tensor | None = None
    answer: Tensor | None = None
    prior_spread: Tensor | None = None
    spread2d: Tensor | None = None
    spread3d: Tensor | None = None

    @property
    def final2d(self) -> Tensor:
        """[B, M, 21, 2]: the answer, or the last layer's positions."""
        return self.joints2d[-1] if self.answer is None else self.answer


class DecoderLayer(nn.Module):
    """Self-attention, deformable attention, feed-forward (Fig. 3a); pre-norm.

    In an interactive layer (Fig. 3b) the tokens are joints, vertices and the camera, and ``mask``
    is one of VISIBILITY; (c) is the hierarchical attention.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int, ratio: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.self_attention = Attention(dim, heads)
        self.cross_attention = DeformableAttention(dim, heads, levels, points)
        self.ffn = mlp(dim, dim * ratio, dim)

    def forward(
        self, q: Tensor, position: Tensor, boxes: Tensor, values: list[Tensor], mask: str = "d"
    ) -> Tensor:
        """q and position [B, M, T, d], boxes [B, M, T, 4] -> [B, M, T, d]."""
        batch, slots, count, dim = q.shape
        normed = self.norms[0](q).reshape(-1, count, dim)
        placed = normed + position.reshape(-1, count, dim)
        attended = [
            self.self_attention(placed[:, who], placed[:, whom], normed[:, whom])
            for who, whom in VISIBILITY[mask]
        ]
        q = q + torch.cat(attended, 1).reshape(q.shape)
        # Hands fold into the query axis, so that the maps are not copied for each.
        looking = (self.norms[1](q) + position).reshape(batch, slots * count, dim)
        seen = self.cross_attention(looking, boxes.reshape(batch, slots * count, 4), values)
        q = q + seen.reshape(q.shape)
        return q + self.ffn(self.norms[2](q))


class InteractiveDecoder(nn.Module):
    """Detector features, instance queries and boxes -> 2D joints, mesh, camera for each hand.

    backbone_widths, encoder_dim, query_dim: the detector's.
    """

    def __init__(
        self,
        config: DecoderConfig,
        backbone_widths: tuple[int, ...],
        encoder_dim: int,
        query_dim: int,
        template: Template,
    ) -> None:
        super().__init__()
        c, dim = config, config.dim
        self.config = config
        self.scratch = None
        if c.side_tuning != "backbone":
            self.scratch = LightSide() if c.side_tuning == "light" else ScratchSwin(c.swin)
            backbone_widths = self.scratch.widths
        strides = c.value_strides if c.expansion == "literal" else (4, *c.value_strides)
        widths = c.side_widths[-len(strides) :]
        # A stride beyond the backbone's coarsest map is made from that.
        self._shallow = [BACKBONE_STRIDES.index(min(s, BACKBONE_STRIDES[-1])) for s in strides]
        self._deep = [ENCODER_STRIDES.index(s) for s in c.value_strides]
        self.side_tuning = SideTuning(
            [backbone_widths[k] for k in self._shallow],
            widths,
            [max(1, s // BACKBONE_STRIDES[-1]) for s in strides],
        )
        value_widths = widths[-len(c.value_strides) :]
        self.values = nn.ModuleList(nn.Conv2d(encoder_dim + w, dim, 1) for w in value_widths)
        if c.queries == "unified":
            self.unified = nn.Parameter(torch.randn(dim))
        else:
            self.instance = nn.Linear(2 * query_dim, dim)
        if c.expansion == "grid":
            self.expansion = GridExpansion(
                dim,
                [c.side_widths[0], dim],
                c.grid_size,
                sides=c.side == "opinion",
                finer=c.joints == "posterior",
                whole_hand=c.whole_hand,
            )
        else:
            self.expansion = LiteralExpansion(dim)
        self.position = BoxRelativePosition(dim)
        levels, total = len(c.value_strides), c.layers_2d + c.layers_interactive

        def layers(count: int, points: int) -> nn.ModuleList:
            make = (DecoderLayer(dim, c.heads, levels, points, c.ffn_ratio) for _ in range(count))
            return nn.ModuleList(make)

        self.layers_2d = layers(c.layers_2d, c.points)
        self.layers_interactive = layers(c.layers_interactive, c.points_interactive)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(total))
        self.head_2d = nn.ModuleList(mlp(dim, dim, 2, last_scale=0.1) for _ in range(total))
        self.head_joints3d = mlp(dim, dim, 3, last_scale=0.3) if c.lift_coordinates else None
        self.lifting = QueryLifting(dim, template, c.vertex_queries, c.lifting)
        interactive = range(c.layers_interactive)
        self.head_vertices = nn.ModuleList(mlp(dim, dim, 3, last_scale=0.1) for _ in interactive)
        self.head_camera = nn.ModuleList(mlp(dim, dim, 3, last_scale=0.1) for _ in interactive)
        self.doubt2d = self.doubt3d = None
        if c.joints == "posterior":
            self.doubt2d = zeroed(nn.Linear(dim, 2))
            self.doubt3d = zeroed(nn.Linear(dim, 1))

    @property
    def map_names(self) -> tuple[list[str], list[str]]:
        """The backbone and encoder maps that ``forward`` reads, by stride."""
        shallow = dict.fromkeys(f"backbone_{BACKBONE_STRIDES[k]}" for k in self._shallow)
        return list(shallow), [f"encoder_{ENCODER_STRIDES[k]}" for k in self._deep]

    def read(self, images: Tensor, found: Detections) -> tuple[list[Tensor], list[Tensor]]:
        """What ``forward`` takes as backbone and encoder: which maps Table 6 varies."""
        backbone = found.backbone if self.scratch is None else self.scratch(images)
        return backbone, found.encoder if self.config.features == "F6" else found.encoder_middle

    def forward(
        self,
        backbone: list[Tensor],
        encoder: list[Tensor],
        instances: Tensor,
        boxes: Tensor,
        with_mesh: bool = True,
        judged: int = 0,
    ) -> DecoderOutput:
        """backbone, encoder: of ``read``. instances [B, M, 2 * query_dim] = [Q0, Q6]; boxes
        [B, M, 4], cx, cy, w, h in 0..1.

        ``with_mesh=False`` is the 2D model of supplement VI.2, which the first stage of training
        uses: it stops after the 2D layers or, as printed, makes 2D layers of all. The last
        ``judged`` slots are asked for their presence alone: in training they are no hands.
        """
        side, values = self._maps(backbone, encoder)
        joints = self.expansion(self._instances(instances), boxes, [side[0], values[0]])
        presence = joints.presence
        if judged:
            boxes = boxes[:, :-judged]
            joints = joints.first(boxes.shape[1])
        output = DecoderOutput(
            heatmaps=joints.heatmaps,
            grid=joints.grid,
            evidence=joints.evidence,
            evidence_grid=joints.evidence_grid,
            presence=presence,
            side=joints.side,
        )
        output.joints2d.append(joints.boxes[..., :2])

        q, reference = joints.queries, joints.boxes
        deep = self.config.all_layers_2d and not with_mesh
        for k, layer in enumerate([*self.layers_2d, *(self.layers_interactive if deep else ())]):
            reference = reference.detach()
            q = layer(q, self.position(reference, boxes), reference, values)
            reference = self._move_joints(k, q, reference, boxes)
            output.joints2d.append(reference[..., :2])

        base = None
        last = len(output.joints2d) - 2  # the first are the references
        if self.head_joints3d is not None:
            output.joints3d = self.head_joints3d(self.norms[last](q))
            base = self.lifting.to_mesh(self.lifting.lift_points(output.joints3d))
        if not with_mesh:
            self._answer(output, self.norms[last](q), boxes)
            return output

        lifted, lifted_boxes = self.lifting(q, reference.detach(), boxes)
        q = torch.cat([q, lifted], 2)
        for k, layer in enumerate(self.layers_interactive):
            # Joint references move layer by layer and are detached; those of vertices stay where
            # lifting put them, and learn through what is sampled there.
            everything = torch.cat([reference.detach(), lifted_boxes], 2)
            q = layer(q, self.position(everything, boxes), everything, values, self.config.mask)
            at = self.config.layers_2d + k
            reference = self._move_joints(at, q[:, :, JOINTS], reference.detach(), boxes)
            output.joints2d.append(reference[..., :2])
            normed = self.norms[at](q)
            mesh = self.lifting.to_mesh(self.head_vertices[k](normed[:, :, VERTICES]))
            output.vertices.append(mesh if base is None else base + mesh)
            output.camera.append(self.head_camera[k](normed[:, :, -1]))
        self._answer(output, normed[:, :, JOINTS], boxes)
        if self.doubt3d is not None:
            # The camera's token sees all others.
            logits = self.doubt3d(normed[:, :, -1])[..., 0]
            output.spread3d = laplace_scale(logits, SPREAD_3D)
        return output

    def _answer(self, output: DecoderOutput, q: Tensor, boxes: Tensor) -> None:
        """q [B, M, 21, d]: of the joints, normed."""
        if self.doubt2d is None:
            return
        spreads = laplace_scale(self.doubt2d(q), SPREAD_2D)
        output.prior_spread, output.spread2d = spreads.unbind(-1)
        whole = (boxes[..., 2:].amax(-1) * GRID_MARGIN)[..., None, None]
        prior = output.joints2d[-1]
        within = (prior - boxes[:, :, None, :2]) / whole + 0.5
        shift = posterior_shift(
            output.evidence.flatten(0, 1),
            within.flatten(0, 1),
            (output.prior_spread / GRID_MARGIN).flatten(0, 1),
        )
        output.answer = prior + shift.reshape(prior.shape) * whole

    def _instances(self, found: Tensor) -> Tensor:
        """Q^inst, or Q^uni for every instance (section 4.3); [B, M, d]."""
        if self.config.queries == "unified":
            return self.unified.expand(*found.shape[:2], -1)
        return self.instance(found)

    def _maps(
        self, backbone: list[Tensor], encoder: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """F^s, from stride 4 on; F^GD = [F^e, F^s] projected, one a value stride."""
        device = backbone[0].device.type
        with mixed_precision(device, self.training):
            side = self.side_tuning([backbone[k] for k in self._shallow])
            beside = side[-len(self._deep) :]
            values = [
                project(torch.cat([encoder[k].to(s.dtype), s], 1))
                for project, k, s in zip(self.values, self._deep, beside, strict=True)
            ]
        return [s.float() for s in side], [v.float() for v in values]

    def _move_joints(self, k: int, q: Tensor, reference: Tensor, boxes: Tensor) -> Tensor:
        step = self.head_2d[k](self.norms[k](q)) * boxes[:, :, None, 2:]
        return torch.cat([reference[..., :2] + step, reference[..., 2:]], -1)
