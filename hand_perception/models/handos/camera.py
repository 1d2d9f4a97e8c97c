"""What the camera query predicts, and how it becomes a translation in metres.

A translation cannot be read from pixels without the intrinsics. The head therefore predicts three
numbers that can: where the hand's root lies inside its box, and the logarithm of how many box sizes
one UNIT spans. With any K they give t, so that one network serves every camera.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hand_perception.models.handos.decoder import UNIT


def translation(camera: Tensor, boxes: Tensor, intrinsics: Tensor) -> Tensor:
    """camera [..., 3], boxes [..., 4] (cx, cy, w, h, pixels), intrinsics [..., 4] -> t [..., 3] m.

    intrinsics are fx, fy, cx, cy in pixels of the same image, square pixels assumed.
    """
    size = boxes[..., 2:].amax(-1)
    pixels_per_unit = size * camera[..., 2].clamp(-4, 4).exp() * 0.5
    depth = intrinsics[..., 0] * UNIT / pixels_per_unit
    root = boxes[..., :2] + camera[..., :2] * size[..., None]
    xy = (root - intrinsics[..., 2:]) / intrinsics[..., :2] * depth[..., None]
    return torch.cat([xy, depth[..., None]], -1)


def project(points: Tensor, intrinsics: Tensor) -> Tensor:
    """points [..., N, 3] m, intrinsics [..., 4] -> pixels [..., N, 2]; depth is kept positive."""
    depth = points[..., 2:].clamp(min=0.01)
    focal, centre = intrinsics[..., None, :2], intrinsics[..., None, 2:]
    return points[..., :2] / depth * focal + centre
