"""Small geometry that the scene shares: rotations, projection, boxes, a sphere."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def turn_about(axis: int, angle: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] about a coordinate axis."""
    c, s, o, i = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    rows = {
        0: (i, o, o, o, c, -s, o, s, c),
        1: (c, o, s, o, i, o, -s, o, c),
        2: (c, -s, o, s, c, o, o, o, i),
    }[axis]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def quaternion_rotation(q: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions (w, x, y, z) of any length."""
    w, x, y, z = F.normalize(q, dim=-1).unbind(-1)
    rows = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def project(points: Tensor, K: Tensor) -> Tensor:
    """[N, P, 3] metres to [N, P, 2] pixels with K [N, 3, 3]."""
    depth = points[..., 2:].clamp(min=1e-4)
    focal = torch.stack([K[:, 0, 0], K[:, 1, 1]], -1)[:, None]
    return points[..., :2] / depth * focal + K[:, None, :2, 2]


def project_boxes(vertices: Tensor, K: Tensor) -> Tensor:
    """Tight boxes [N, 4] of projected vertices [N, V, 3]."""
    pixels = project(vertices, K)
    return torch.cat([pixels.amin(1), pixels.amax(1)], 1)


def clip_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Clips to the pixels' area, whose edges lie half a pixel outside of the outer centres."""
    limit = torch.tensor([width, height, width, height], device=boxes.device) - 0.5
    return torch.minimum(boxes.clamp(min=-0.5), limit)


def sphere(columns: int, rows: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Unit sphere: vertices [P, 3] and outward faces [M, 3]."""
    theta = torch.linspace(0, math.pi, rows + 1)[1:-1, None]
    phi = torch.arange(columns) * (2 * math.pi / columns)
    ring = torch.stack(
        [
            theta.sin() * phi.cos(),
            theta.sin() * phi.sin(),
            theta.cos().expand(-1, columns),
        ],
        -1,
    ).reshape(-1, 3)
    vertices = torch.cat([torch.tensor([[0.0, 0, 1]]), ring, torch.tensor([[0.0, 0, -1]])])
    this, following = torch.arange(columns), (torch.arange(columns) + 1) % columns
    bottom, last = len(vertices) - 1, 1 + (rows - 2) * columns
    faces = [torch.stack([torch.zeros_like(this), 1 + this, 1 + following], 1)]
    for r in range(rows - 2):
        a, b = 1 + r * columns + this, 1 + r * columns + following
        faces += [torch.stack([a, a + columns, b], 1)]
        faces += [torch.stack([b, a + columns, b + columns], 1)]
    faces.append(torch.stack([torch.full_like(this, bottom), last + following, last + this], 1))
    return vertices.to(device), torch.cat(faces).to(device)


def first_above(scores: Tensor, threshold: float | Tensor) -> Tensor:
    """Index [N] of each row's first score [N, C] above the threshold, or of its best score."""
    good = scores > threshold
    return torch.where(good.any(1), good.float().argmax(1), scores.argmax(1))
