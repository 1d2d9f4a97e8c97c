"""Which predictions answer for which hand."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from hand_perception.training.boxes import corners, iou_and_giou, pairwise_iou


def sim_ota(
    logits: Tensor,
    boxes: Tensor,
    truth: Tensor,
    present: Tensor,
    iou_cost: float = 3.0,
    most: int = 10,
) -> tuple[Tensor, Tensor]:
    """SimOTA (HandOS eq. 5; Ge et al. 2021): cost = BCE - iou_cost * log IoU, of which each hand
    takes as many of the cheapest as its ``most`` best IoUs sum to. iou_cost is 1 in eq. 5, 3 in Ge.

    logits [B, Q], boxes [B, Q, 4], truth [B, M, 4], present [B, M].
    Returns hand [B, Q] int64 (-1: none) and IoU [B, Q] with that hand.
    """
    iou = pairwise_iou(boxes, truth) * present[:, None]
    quality = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits), reduction="none")
    cost = quality[..., None] - iou_cost * torch.log(iou.clamp(min=1e-8))
    cost = cost.masked_fill(~present[:, None], 1e9)
    best = min(most, boxes.shape[1])
    wanted = iou.topk(best, dim=1).values.sum(1).round().clamp(min=1)  # [B, M]
    rank = cost.argsort(1).argsort(1)
    chosen = (rank < wanted[:, None]) & present[:, None]
    return _cheapest_hand(chosen, cost, iou)


def task_aligned(
    logits: Tensor, boxes: Tensor, centres: Tensor, truth: Tensor, present: Tensor, count: int = 8
) -> tuple[Tensor, Tensor]:
    """The ``count`` encoder tokens inside each hand's box with the best score^0.5 * IoU^4 (TOOD).

    centres [T, 2]; the rest as in sim_ota. Token centres near a small box's middle count as inside.
    """
    iou = pairwise_iou(boxes, truth) * present[:, None]
    bounds = corners(truth)[:, None]
    inside = ((centres[:, None] > bounds[..., :2]) & (centres[:, None] < bounds[..., 2:])).all(-1)
    near = (centres[:, None] - truth[:, None, :, :2]).abs().amax(-1) < 0.02
    allowed = (inside | near) & present[:, None]
    aligned = logits.sigmoid()[..., None].sqrt() * (iou + 1e-3) ** 4 * allowed
    rank = (-aligned).argsort(1).argsort(1)
    chosen = (rank < count) & allowed
    return _cheapest_hand(chosen, -aligned, iou)


def _cheapest_hand(chosen: Tensor, cost: Tensor, iou: Tensor) -> tuple[Tensor, Tensor]:
    hand = cost.masked_fill(~chosen, float("inf")).argmin(-1)
    matched = iou.gather(-1, hand[..., None])[..., 0]
    return torch.where(chosen.any(-1), hand, -1), matched


def hungarian(logits: Tensor, boxes: Tensor, truth: Tensor, present: Tensor) -> Tensor:
    """One query a hand (DETR): cost 2 * class + 5 * L1 + 2 * (1 - GIoU). -> hand [B, Q] or -1."""
    _, giou = iou_and_giou(boxes[:, :, None], truth[:, None])
    distance = (boxes[:, :, None] - truth[:, None]).abs().sum(-1)
    cost = (-2 * logits.sigmoid()[..., None] + 5 * distance + 2 * (1 - giou)).cpu().numpy()
    hand = np.full(logits.shape, -1, np.int64)
    for k, count in enumerate(present.sum(1).tolist()):
        if count:
            # Present slots come first.
            rows, columns = linear_sum_assignment(cost[k, :, :count])
            hand[k, rows] = columns
    return torch.from_numpy(hand).to(logits.device)


def inside_ignored(centres: Tensor, ignore: Tensor) -> Tensor:
    """centres [B, N, 2], ignore [B, I, 4] -> [B, N] bool."""
    bounds = corners(ignore)[:, None]
    point = centres[:, :, None]
    return ((point > bounds[..., :2]) & (point < bounds[..., 2:])).all(-1).any(-1)
