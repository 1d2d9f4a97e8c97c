"""Box arithmetic in torch; boxes are cx, cy, w, h."""

from __future__ import annotations

import torch
from torch import Tensor


def corners(boxes: Tensor) -> Tensor:
    """cx, cy, w, h -> x0, y0, x1, y1."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def iou_and_giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Elementwise over broadcast shapes [..., 4] -> IoU and generalised IoU (Rezatofighi 2019)."""
    a, b = corners(a), corners(b)
    inter = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(0)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    overlap, around = inter.prod(-1), hull.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - overlap
    iou = overlap / union.clamp(min=1e-9)
    return iou, iou - (around - union) / around.clamp(min=1e-9)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """a [B, N, 4], b [B, M, 4] -> [B, N, M]."""
    return iou_and_giou(a[:, :, None], b[:, None])[0]
