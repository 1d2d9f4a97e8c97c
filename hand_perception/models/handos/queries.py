"""From instances to joints to vertices: the query transformations of section 3.3.

Shapes: B images, M hand slots an image, J = 21 joints, V vertex queries; boxes and points are in
0..1 of the network's image, boxes as cx, cy, w, h.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.hands import NUM_KEYPOINTS
from hand_perception.models.layers import (
    ConvNorm,
    ResidualBlock,
    mlp,
    sample_map,
    sine_embedding,
    zeroed,
)
from hand_perception.models.posterior import FineHeatmaps
from hand_perception.models.precision import mixed_precision
from hand_perception.template import KEYPOINT_OF_JOINT, Template

# The square sampled around a hand is this much larger than its box.
GRID_MARGIN = 1.15
# A joint's influence on a vertex query fades over this distance when L starts (metres).
LIFT_SIGMA = 0.018


@dataclass
class JointQueries:
    """queries [B, M, J, d], boxes [B, M, J, 4]; heatmaps [B, M, J, G*G] on grid [B, M, G*G, 2];
    evidence [B, M, J, 2G, 2G]: finer heatmaps over the same square, on evidence_grid
    [B, M, 4*G*G, 2]. Logits [B, M]: presence, that there is a hand at all; side, that it is a
    right one.
    """

    queries: Tensor
    boxes: Tensor
    heatmaps: Tensor | None = None
    grid: Tensor | None = None
    evidence: Tensor | None = None
    evidence_grid: Tensor | None = None
    presence: Tensor | None = None
    side: Tensor | None = None

    def first(self, slots: int) -> JointQueries:
        """The first ``slots`` of M."""
        whole = (getattr(self, field.name) for field in fields(self))
        return JointQueries(*(None if x is None else x[:, :slots] for x in whole))


class LiteralExpansion(nn.Module):
    """Instance-to-joint expansion exactly as printed (eq. 6 and 7)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # N(0, 1) and not the usual 0.02: with small embeddings the joints stay alike for long.
        self.joint = nn.Parameter(torch.randn(NUM_KEYPOINTS, dim))
        self.centre = mlp(dim, dim, 2, last_scale=0.1)
        self.size = nn.Parameter(torch.full((NUM_KEYPOINTS, 2), 0.5))

    def forward(self, instances: Tensor, boxes: Tensor, _maps: list[Tensor]) -> JointQueries:
        queries = instances[:, :, None] + self.joint
        size = boxes[:, :, None, 2:]
        centre = boxes[:, :, None, :2] + self.centre(queries) * size
        return JointQueries(queries, torch.cat([centre, size * self.size], -1))


class WholeHand(nn.Module):
    """[N, d, h, w], a grid over a hand of any size -> the same, each cell knowing of all others:
    the maps' receptive fields are of so many pixels, not of a hand. Starts by giving back what
    it gets from a ReLU.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        wide = 2 * dim
        self.far = nn.Sequential(
            ConvNorm(dim, wide, 3, stride=2), ResidualBlock(wide, wide), ResidualBlock(wide, wide)
        )
        self.back = zeroed(nn.Conv2d(wide, dim, 1))
        self.near = nn.Sequential(ResidualBlock(dim, dim), ResidualBlock(dim, dim))
        for block in self.near:
            zeroed(block.body[-1][1])

    def forward(self, x: Tensor) -> Tensor:
        far = F.interpolate(self.back(self.far(x)), size=x.shape[-2:], mode="nearest")
        return self.near(x + far)


class GridExpansion(nn.Module):
    """Expansion whose reference centres (eq. 7) are read from the image.

    Deformable attention weighs samples by the query alone, so a joint query that starts at the box
    centre has no evidence to move by. A small grid sampled inside the box gives each joint a
    heatmap, its soft-argmax the reference centre, and the pooled features a first look.

    The same look tells a hand from what the detector took for one, ``presence``, and a right hand
    from a left one. sides: whether it tells that; finer: whether finer heatmaps are made, too;
    whole_hand: whether each cell is told of all others.
    """

    def __init__(
        self,
        dim: int,
        map_widths: list[int],
        grid_size: int,
        sides: bool = False,
        finer: bool = False,
        whole_hand: bool = False,
    ) -> None:
        super().__init__()
        self.size_grid = grid_size
        self.joint = nn.Parameter(torch.randn(NUM_KEYPOINTS, dim))
        self.size = nn.Parameter(torch.full((NUM_KEYPOINTS, 2), 0.5))
        self.enter = ConvNorm(sum(map_widths), dim, 1)
        self.body = nn.Sequential(ResidualBlock(dim, dim), ResidualBlock(dim, dim))
        self.coarse = nn.Sequential(
            ConvNorm(dim, dim, 3, stride=2),
            ResidualBlock(dim, dim),
            *([WholeHand(dim)] if whole_hand else []),
        )
        self.fuse = ConvNorm(2 * dim, dim, 1)
        half = (grid_size + 1) // 2
        self.summary = nn.Sequential(
            nn.Conv2d(dim, 32, 1),
            nn.Flatten(),
            nn.ReLU(),
            nn.Linear(32 * half * half, 2 * dim),
            nn.ReLU(),
            nn.Linear(2 * dim, dim),
        )
        self.heatmap = nn.Conv2d(dim, NUM_KEYPOINTS, 1)
        self.pooled = nn.Linear(dim, dim)
        self.presence = mlp(2 * dim, dim, 1)
        self.side = mlp(2 * dim, dim, 1) if sides else None
        self.evidence = FineHeatmaps(dim, map_widths[0]) if finer else None

    def forward(self, instances: Tensor, boxes: Tensor, maps: list[Tensor]) -> JointQueries:
        batch, slots = boxes.shape[:2]
        grid = self.grid(boxes, self.size_grid)
        sampled = [sample_map(m, grid.flatten(1, 2)) for m in maps]
        x = torch.cat(sampled, -1).reshape(batch * slots, self.size_grid, self.size_grid, -1)
        x = x.permute(0, 3, 1, 2)
        with mixed_precision(x.device.type, self.training):
            x = self.body(self.enter(x))
            coarse = self.coarse(x)
            up = F.interpolate(coarse, size=x.shape[-2:], mode="nearest")
            x = self.fuse(torch.cat([x, up], 1))
            heatmaps = self.heatmap(x).flatten(2)
            summary = self.summary(coarse)
            evidence = finer = None
            if self.evidence is not None:
                finer = self.grid(boxes, 2 * self.size_grid)
                evidence = self._evidence(x, finer, maps[0])
        x, heatmaps, summary = x.float().flatten(2), heatmaps.float(), summary.float()
        probability = heatmaps.softmax(-1)
        pooled = torch.bmm(probability, x.transpose(1, 2))
        centre = torch.bmm(probability, grid.reshape(batch * slots, -1, 2))
        summary = summary.reshape(batch, slots, -1)
        look = torch.cat([summary, instances], -1)
        presence = self.presence(look)[..., 0]
        side = None if self.side is None else self.side(look)[..., 0]
        queries = (
            instances[:, :, None]
            + self.joint
            + self.pooled(pooled).reshape(batch, slots, NUM_KEYPOINTS, -1)
            + summary[:, :, None]
        )
        centre = centre.reshape(batch, slots, NUM_KEYPOINTS, 2)
        size = (boxes[:, :, None, 2:] * self.size).expand_as(centre)
        return JointQueries(
            queries,
            torch.cat([centre, size], -1),
            heatmaps.reshape(batch, slots, NUM_KEYPOINTS, -1),
            grid,
            evidence,
            finer,
            presence,
            side,
        )

    def _evidence(self, x: Tensor, grid: Tensor, finest: Tensor) -> Tensor:
        """x [B * M, d, G, G], and the finest map sampled twice as densely."""
        size = 2 * self.size_grid
        fine = sample_map(finest, grid.flatten(1, 2)).reshape(-1, size, size, finest.shape[1])
        logits = self.evidence.logits(x, fine.permute(0, 3, 1, 2))
        return logits.float().reshape(*grid.shape[:2], *logits.shape[1:])

    def grid(self, boxes: Tensor, count: int) -> Tensor:
        """Sample points of each box's square, row by row, [B, M, count * count, 2].

        The square is one in the 0..1 coordinates of the network's image, which is square itself
        or nearly so.
        """
        side = boxes[..., 2:].amax(-1)[..., None] * GRID_MARGIN
        steps = (torch.arange(count, device=boxes.device) + 0.5) / count - 0.5
        x = boxes[..., :1] + side * steps
        y = boxes[..., 1:2] + side * steps
        x = x[:, :, None, :].expand(-1, -1, count, -1)
        y = y[:, :, :, None].expand(-1, -1, -1, count)
        return torch.stack([x, y], -1).flatten(2, 3)


class QueryLifting(nn.Module):
    """2D-to-3D query lifting (eq. 8): vertices and camera from a linear mix of joint queries."""

    def __init__(
        self, dim: int, template: Template, vertex_queries: int, start: str = "distance"
    ) -> None:
        super().__init__()
        vertices = torch.from_numpy(np.asarray(template.vertices, np.float32))
        chosen = farthest_points(vertices, vertex_queries)
        initial = skinning_lifting if start == "skinning" else initial_lifting
        self.matrix = nn.Parameter(initial(template, chosen))
        self.centre = mlp(dim, dim, 2, last_scale=0.1)
        self.size = nn.Parameter(torch.ones(vertex_queries + 1, 2))
        self.upsample = None
        if vertex_queries < len(vertices):
            self.upsample = nn.Parameter(initial_upsampling(vertices, chosen))

    def forward(self, queries: Tensor, boxes: Tensor, instance_boxes: Tensor):
        """-> queries [B, M, V + 1, d] and boxes [B, M, V + 1, 4]; the last one is the camera's."""
        lifted = self.matrix @ queries
        reference = self.matrix @ boxes
        centre = reference[..., :2] + self.centre(lifted) * instance_boxes[:, :, None, 2:]
        return lifted, torch.cat([centre, reference[..., 2:] * self.size], -1)

    def lift_points(self, joints3d: Tensor) -> Tensor:
        """Joints [B, M, J, 3] -> vertex query positions [B, M, V, 3] by the same matrix."""
        return self.matrix[:-1] @ joints3d

    def to_mesh(self, points: Tensor) -> Tensor:
        """[B, M, V, 3] -> [B, M, 778, 3]."""
        return points if self.upsample is None else self.upsample @ points


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Indices of ``count`` well-spread points [N, 3]; all of them in order when count = N."""
    if count == len(points):
        return torch.arange(count)
    chosen = [0]
    distance = (points - points[0]).norm(dim=-1)
    for _ in range(count - 1):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=-1))
    return torch.tensor(chosen)


def initial_lifting(template: Template, chosen: Tensor) -> Tensor:
    """L, [V + 1, J]: skinning-like weights of the chosen vertices to the 21 rest keypoints.

    The paper starts from MANO's skinning weights; those know 16 joints and no fingertips, so the
    same fall-off is taken to all 21 keypoints. The camera's row is the mean of the joints.
    """
    vertices = torch.from_numpy(np.asarray(template.vertices, np.float32))[chosen]
    keypoints = torch.from_numpy(np.asarray(template.keypoints, np.float32))
    distance = torch.cdist(vertices, keypoints)
    weights = (-((distance / LIFT_SIGMA) ** 2) / 2).softmax(-1)
    camera = torch.full((1, NUM_KEYPOINTS), 1 / NUM_KEYPOINTS)
    return torch.cat([weights, camera])


def skinning_lifting(template: Template, chosen: Tensor) -> Tensor:
    """L, [V + 1, J], from the template's skinning weights, as printed; fingertips weigh nothing."""
    weights = torch.zeros(len(chosen), NUM_KEYPOINTS)
    weights[:, list(KEYPOINT_OF_JOINT)] = torch.from_numpy(template.weights)[chosen]
    camera = torch.full((1, NUM_KEYPOINTS), 1 / NUM_KEYPOINTS)
    return torch.cat([weights, camera])


def initial_upsampling(vertices: Tensor, chosen: Tensor) -> Tensor:
    """[N, V]: inverse-square weights of the four nearest chosen vertices."""
    distance, nearest = torch.cdist(vertices, vertices[chosen]).topk(4, largest=False)
    weights = 1 / (distance + 1e-3) ** 2
    weights = weights / weights.sum(1, keepdim=True)
    return torch.zeros(len(vertices), len(chosen)).scatter_(1, nearest, weights)


class BoxRelativePosition(nn.Module):
    """Positions of reference boxes inside their instance box, as an embedding."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embed = mlp(26 + 2 + 4, dim, dim)

    def forward(self, boxes: Tensor, instance_boxes: Tensor) -> Tensor:
        """boxes [B, M, T, 4], instance_boxes [B, M, 4] -> [B, M, T, d]."""
        whole = instance_boxes[:, :, None]
        centre = (boxes[..., :2] - whole[..., :2]) / whole[..., 2:]
        size = boxes[..., 2:] / whole[..., 2:]
        context = whole.expand(*boxes.shape[:3], 4)
        return self.embed(torch.cat([sine_embedding(centre), size, context], -1))
