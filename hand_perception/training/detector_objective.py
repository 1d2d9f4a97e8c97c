"""What the detector is trained for: boxes and scores, and to know poses already.

The paper's detector comes with features learned on vast data. Ours starts from nothing and is
frozen afterwards, so it is also asked for each hand's joints and side (a pretext that is thrown
away): what it learns for that is what the decoder finds in F^e, Q0 and Q6.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.models.handos.decoder import UNIT
from hand_perception.models.handos.detector import SupervisedDetections, cell_centres
from hand_perception.models.layers import mlp
from hand_perception.training.assignment import hungarian, inside_ignored, task_aligned
from hand_perception.training.batches import Batch
from hand_perception.training.boxes import iou_and_giou


class PosePretext(nn.Module):
    """Tokens or queries -> 21 joints in the hand's box, 21 root-relative 3D joints, side."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense, self.query = mlp(dim, 2 * dim, 106), mlp(dim, 2 * dim, 106)

    def loss(self, predicted: Tensor, boxes: Tensor, batch: Batch, where: tuple) -> Tensor:
        """predicted [P, 106], boxes [P, 4] of the hands at ``where`` = (image, slot) indices."""
        size = batch.boxes[where][:, 2:].amax(-1)[:, None, None]
        goal2d = (batch.keypoints2d[where] - boxes[:, None, :2]) / size
        goal3d = batch.joints3d[where] / UNIT
        side = batch.side[where]
        joints2d = predicted[:, :42].reshape(-1, 21, 2)
        joints3d = predicted[:, 42:105].reshape(-1, 21, 3)
        error2d = (joints2d - goal2d).abs().mean((1, 2)) * batch.weight2d[where]
        error3d = (joints3d - goal3d).abs().mean((1, 2)) * (batch.weight3d[where] > 0)
        wrong = F.binary_cross_entropy_with_logits(
            predicted[:, 105], (side > 0).float(), reduction="none"
        ) * (side != 0)
        return (4 * error2d + 2 * error3d + 0.5 * wrong).mean()


def detector_losses(
    found: SupervisedDetections, batch: Batch, pretext: PosePretext
) -> dict[str, Tensor]:
    """Weighted loss terms by name."""
    losses = _dense_losses(found, batch, pretext)
    layers = zip(found.layer_logits, found.layer_boxes, strict=True)
    for k, (logits, boxes) in enumerate(layers):
        hand = hungarian(logits.detach(), boxes.detach(), batch.boxes, batch.present)
        skip = inside_ignored(boxes.detach()[..., :2], batch.ignore)
        for name, value in _matched_losses(logits, boxes, hand, None, skip, batch).items():
            losses[f"{name}_{k}"] = value
    where_query = (hand >= 0).nonzero(as_tuple=True)
    if len(where_query[0]):
        where = (where_query[0], hand[where_query])
        predicted = pretext.query(found.q6[where_query])
        losses["pose_query"] = pretext.loss(
            predicted, found.boxes[where_query].detach(), batch, where
        )
    return losses


def _dense_losses(
    found: SupervisedDetections, batch: Batch, pretext: PosePretext
) -> dict[str, Tensor]:
    centres = torch.cat([cell_centres(*m.shape[-2:], m) for m in found.encoder])
    hand, iou = task_aligned(
        found.dense_logits.detach(), found.dense_boxes.detach(), centres, batch.boxes, batch.present
    )
    skip = inside_ignored(centres.expand(len(hand), -1, -1), batch.ignore)
    losses = _matched_losses(found.dense_logits, found.dense_boxes, hand, iou, skip, batch)
    losses = {f"{name}_dense": value for name, value in losses.items()}
    where_token = (hand >= 0).nonzero(as_tuple=True)
    if len(where_token[0]):
        where = (where_token[0], hand[where_token])
        predicted = pretext.dense(found.tokens[where_token])
        boxes = found.dense_boxes[where_token].detach()
        losses["pose_dense"] = pretext.loss(predicted, boxes, batch, where)
    return losses


def _matched_losses(
    logits: Tensor, boxes: Tensor, hand: Tensor, iou: Tensor | None, skip: Tensor, batch: Batch
) -> dict[str, Tensor]:
    """Varifocal classification, L1 and GIoU. hand [B, N]: slot or -1; skip: nobody knows."""
    positive = hand >= 0
    slot = hand.clamp(min=0)
    truth = batch.boxes.gather(1, slot[..., None].expand(-1, -1, 4))
    matched_iou, giou = iou_and_giou(boxes, truth)
    quality = matched_iou.detach() if iou is None else iou
    if iou is not None:
        # Normalised as in TOOD: the best token of each hand is worth its IoU, at least.
        quality = quality.clamp(min=0.1)
    target = torch.where(positive, quality.clamp(0, 1), 0.0)
    probability = logits.detach().sigmoid()
    weight = torch.where(positive, target.clamp(min=0.2), 0.75 * probability**2)
    weight = weight * torch.where(positive, 1.0, batch.background[:, None])
    weight = weight * (positive | ~skip)
    count = positive.sum().clamp(min=1)
    score = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    return {
        "score": score / count,
        "l1": 5 * ((boxes - truth).abs().sum(-1) * positive).sum() / count,
        "giou": 2 * ((1 - giou) * positive).sum() / count,
    }
