"""The camera of a crop: between points of its image and points in space.

A crop is taken as the view of a camera that looks at its centre. Two numbers of it matter to a
hand: how much a crop's side is at the hand, and how near the hand is. Lengths are in UNIT, points
of the image (x, y, depth) as in lixels.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Side of a crop at the hand, and the inverse distance of a hand, that labels may lead to.
SIDES, NEARNESS = (0.2, 20.0), (0.0, 0.7)
# Prior of the fit, in UNIT of error: it decides only where points do not (a flat hand has no
# perspective; a crop without a hand has nothing).
_PRIOR_SIDE, _PRIOR_NEARNESS, _PRIOR_WEIGHT = 2.0, 0.1, 1e-3


@dataclass
class CropCamera:
    """side [B]: length of a crop's side at the middle MCP's depth. nearness [B]: the MCP's inverse
    depth."""

    side: Tensor
    nearness: Tensor

    def _scale(self, depth: Tensor) -> Tensor:
        """A crop's side [B, N] at depths [B, N] behind the MCP."""
        return self.side[:, None] * (1 + self.nearness[:, None] * depth).clamp(min=0.05)

    def to_space(self, points: Tensor) -> Tensor:
        """Points of the image [B, N, 3] -> [B, N, 3] about where the crop's axis meets the MCP's
        depth."""
        depth = points[..., 2:]
        return torch.cat(
            [(points[..., :2] - 0.5) * self._scale(points[..., 2])[..., None], depth], -1
        )

    def to_image(self, points: Tensor) -> Tensor:
        """The way back."""
        depth = points[..., 2:]
        return torch.cat(
            [0.5 + points[..., :2] / self._scale(points[..., 2])[..., None], depth], -1
        )


def fit_camera(joints2d: Tensor, joints3d: Tensor, known: Tensor) -> tuple[CropCamera, Tensor]:
    """The camera that sees labelled joints where they are, and the MCP [B, 3] before it.

    joints2d [B, N, 2] in 0..1 of the crop; joints3d [B, N, 3] in UNIT about the MCP; known: bool
    [B, N]. Linear least squares: with u = x - 1/2, side u + (side nearness) u Z - x0 = X, and the
    same for y.
    """
    u = (joints2d - 0.5).double()
    space, weight = joints3d.double(), known.double()
    zero, one = torch.zeros_like(u[..., 0]), torch.ones_like(u[..., 0])
    rows = [
        torch.stack([u[..., k], u[..., k] * space[..., 2], -axis[0], -axis[1]], -1)
        for k, axis in ((0, (one, zero)), (1, (zero, one)))
    ]
    left = torch.cat(rows, 1) * weight.repeat(1, 2)[..., None]
    right = torch.cat([space[..., 0], space[..., 1]], 1) * weight.repeat(1, 2)
    prior = torch.diag(u.new_full((4,), _PRIOR_WEIGHT)).expand(len(u), 4, 4).clone()
    prior[:, 1, 0] = -_PRIOR_NEARNESS * _PRIOR_WEIGHT
    goal = u.new_tensor([_PRIOR_SIDE * _PRIOR_WEIGHT, 0, 0, 0]).expand(len(u), 4)
    a, b = torch.cat([left, prior], 1), torch.cat([right, goal], 1)
    solution = torch.linalg.solve(a.mT @ a, (a.mT @ b[..., None])[..., 0])
    side = solution[:, 0].clamp(*SIDES)
    nearness = (solution[:, 1] / side).clamp(*NEARNESS)
    root = torch.cat([solution[:, 2:], torch.zeros_like(solution[:, :1])], -1)
    kind = joints3d.dtype
    return CropCamera(side.to(kind), nearness.to(kind)), root.to(kind)
