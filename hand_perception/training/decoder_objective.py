"""What the interactive decoder is trained for, on instances of the frozen detector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hand_perception.models.detectors.protocol import Detections
from hand_perception.models.handos.camera import project, translation
from hand_perception.models.handos.decoder import SPREAD_2D, SPREAD_3D, UNIT, DecoderOutput
from hand_perception.models.mesh_prior import MeshPrior
from hand_perception.training.assignment import inside_ignored, sim_ota
from hand_perception.training.batches import Batch
from hand_perception.training.boxes import pairwise_iou
from hand_perception.training.losses import (
    MeshTerms,
    answer_loss,
    heatmap_loss,
    joint_l1,
    known_mean,
    laplace_loss,
    oks_loss,
    point_l1,
)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; supplement VI.2 has other units (see losses.py)."""

    joints2d: float = 5.0
    oks2d: float = 1.0
    heatmap: float = 0.3
    joints3d: float = 10.0
    vertices: float = 10.0
    edge: float = 10.0
    normal: float = 1.0
    projection: float = 5.0
    oks_projection: float = 1.0
    consistency: float = 0.1
    camera: float = 1.0
    presence: float = 1.0
    side: float = 0.5
    prior: float = 0.0  # needs a file of `hand-perception train-prior`


@dataclass
class Instances:
    """Chosen queries: queries [B, K, 2d], boxes [B, K, 4]; slot [B, K]: their hand in the batch;
    valid: [B, K]."""

    queries: Tensor
    boxes: Tensor
    slot: Tensor
    valid: Tensor


def choose_instances(
    found: Detections, batch: Batch, count: int, iou_cost: float = 3.0, true_boxes: float = 0.4
) -> Instances:
    """Query filtering in training (eq. 5): ``count`` random positives of SimOTA an image.

    Boxes are the detector's or, at the rate ``true_boxes`` and where it missed, jittered true
    ones: in use the boxes come from a detector too. At rate 0 they are always the detector's.
    """
    hand, iou = sim_ota(found.logits, found.boxes, batch.boxes, batch.present, iou_cost)
    draw = torch.rand(hand.shape, device=hand.device) + (hand >= 0)
    chosen = draw.topk(count, dim=1).indices
    slot = hand.gather(1, chosen)
    valid = slot >= 0
    slot = slot.clamp(min=0)
    queries, boxes = _take(found, chosen)
    truth = batch.boxes.gather(1, slot[..., None].expand(-1, -1, 4))
    # An image without hands fills its slots with this box, so that nothing divides by zero.
    truth = torch.where(valid[..., None], truth, truth.new_tensor(0.5))
    noise = torch.randn_like(truth)
    jittered = torch.cat(
        [
            truth[..., :2] + 0.04 * noise[..., :2] * truth[..., 2:],
            truth[..., 2:] * (0.07 * noise[..., 2:]).exp(),
        ],
        -1,
    )
    own = torch.rand_like(truth[..., 0]) < 1 - true_boxes
    if true_boxes:
        own &= iou.gather(1, chosen) > 0.5
    return Instances(queries, torch.where(own[..., None], boxes, jittered), slot, valid)


# Below this overlap with every hand a query is not one; above it, it may be a part of one.
IMPOSTOR_IOU = 0.3


def choose_impostors(found: Detections, batch: Batch, count: int) -> Instances:
    """The best-scoring queries that are no hands, for the presence head; ``slot`` is unused.

    Not valid: queries in ignored regions, and in images where hands may be unlabelled.
    """
    iou = (pairwise_iou(found.boxes, batch.boxes) * batch.present[:, None]).amax(-1)
    known = ~inside_ignored(found.boxes[..., :2], batch.ignore)
    known = known & (batch.background[:, None] == 1) & (iou < IMPOSTOR_IOU)
    scores = found.logits.masked_fill(~known, -1e4)
    chosen = scores.topk(count, dim=1).indices
    queries, boxes = _take(found, chosen)
    return Instances(queries, boxes, torch.zeros_like(chosen), known.gather(1, chosen))


def _take(found: Detections, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """[Q0, Q6] and boxes of the chosen queries [B, K]."""
    expand = chosen[..., None].expand
    both = (found.q0, found.q6)
    queries = torch.cat([q.gather(1, expand(-1, -1, q.shape[-1])) for q in both], -1)
    return queries, found.boxes.gather(1, expand(-1, -1, 4))


def presence_loss(presence: Tensor, hands: Tensor, impostors: Tensor) -> Tensor:
    """Cross-entropy of presence logits [B, M + N]; validity of hands [B, M], impostors [B, N]."""
    target = torch.cat([torch.ones_like(hands), torch.zeros_like(impostors)], 1).float()
    valid = torch.cat([hands, impostors], 1).float()
    error = F.binary_cross_entropy_with_logits(presence, target, valid, reduction="sum")
    return error / valid.sum().clamp(min=1)


def decoder_losses(
    out: DecoderOutput,
    chosen: Instances,
    batch: Batch,
    mesh: MeshTerms,
    regressor: Tensor,
    landmarks: Tensor,
    weights: LossWeights,
    every_layer: bool = True,
    prior: MeshPrior | None = None,
) -> dict[str, Tensor]:
    """Weighted terms by name; each a mean over the valid instances that have the label.

    ``every_layer``: surface terms on each interactive layer's mesh, else on the last one's.
    prior: what keeps meshes to those of hands, also where no mesh is labelled.
    """

    def pick(x: Tensor) -> Tensor:
        index = chosen.slot.reshape(*chosen.slot.shape, *[1] * (x.dim() - 2))
        return x.gather(1, index.expand(*chosen.slot.shape, *x.shape[2:]))

    boxes, joints2d = pick(batch.boxes), pick(batch.keypoints2d)
    boxes = torch.where(chosen.valid[..., None], boxes, boxes.new_tensor(0.5))
    side, area = boxes[..., 2:].amax(-1), boxes[..., 2:].prod(-1)
    weight2d = pick(batch.weight2d) * chosen.valid
    weight3d = pick(batch.weight3d) * chosen.valid
    weight_mesh, known = pick(batch.weight_mesh) * chosen.valid, pick(batch.known)

    def mean(values: Tensor, by: Tensor) -> Tensor:
        return (values * by).sum() / by.sum().clamp(min=1e-3)

    w = weights
    losses: dict[str, Tensor] = {}
    importance = torch.linspace(0.5, 1, len(out.joints2d))
    for k, predicted in enumerate(out.joints2d):
        if out.answer is not None and k == len(out.joints2d) - 1:
            # Of the last layer's positions and of where they meet the evidence, half each.
            answers = (predicted, out.prior_spread), (out.answer, out.spread2d)
            errors = answer_loss(answers, joints2d, SPREAD_2D, side[..., None, None])
            error = known_mean(errors, known) * w.joints2d
            predicted = out.answer
        else:
            error = joint_l1(predicted, joints2d, side, known) * w.joints2d
        error = error + oks_loss(predicted, joints2d, area, known) * w.oks2d
        losses[f"joints2d_{k}"] = mean(error, weight2d) * float(importance[k])
    if out.heatmaps is not None:
        error = heatmap_loss(out.heatmaps, out.grid, joints2d, side, known)
        losses["heatmap"] = mean(error, weight2d) * w.heatmap
    if out.evidence is not None:
        error = heatmap_loss(out.evidence.flatten(-2), out.evidence_grid, joints2d, side, known)
        losses["evidence"] = mean(error, weight2d) * w.heatmap
    if out.side is not None:
        own = pick(batch.side)
        error = F.binary_cross_entropy_with_logits(out.side, (own > 0).float(), reduction="none")
        losses["side"] = mean(error, ((own != 0) & chosen.valid).float()) * w.side
    joints3d, vertices = pick(batch.joints3d) / UNIT, pick(batch.vertices) / UNIT
    if out.joints3d is not None:
        error = point_l1(out.joints3d, joints3d, known)
        losses["lifted_joints3d"] = mean(error, weight3d) * w.joints3d
    for k, (predicted, camera) in enumerate(zip(out.vertices, out.camera, strict=True)):
        errors = [
            point_l1(predicted, vertices),
            point_l1(regressor @ predicted, joints3d, known),
        ]
        if out.spread3d is not None and k == len(out.vertices) - 1:
            errors = [laplace_loss(error, out.spread3d, SPREAD_3D) for error in errors]
        losses[f"mesh_{k}"] = mean(errors[0], weight_mesh) * w.vertices
        losses[f"joints3d_{k}"] = mean(errors[1], weight3d) * w.joints3d
        if every_layer or k == len(out.vertices) - 1:
            surface = mesh.edge(predicted, vertices) * w.edge
            surface = surface + mesh.normal(predicted, vertices) * w.normal
            losses[f"surface_{k}"] = mean(surface, weight_mesh)
            smooth = mesh.consistency(predicted) * w.consistency
            losses[f"consistency_{k}"] = mean(smooth, chosen.valid.float())
        if prior is not None:
            off = prior.distance(predicted)
            losses[f"prior_{k}"] = mean(off, chosen.valid.float()) * w.prior
        intrinsics = batch.intrinsics[:, None].expand(-1, camera.shape[1], -1)
        moved = (
            landmarks @ predicted * UNIT
            + translation(camera, chosen.boxes, intrinsics)[..., None, :]
        )
        projected = project(moved, intrinsics)
        error = joint_l1(projected, joints2d, side, known).clamp(max=3) * w.projection
        error = error + oks_loss(projected, joints2d, area, known) * w.oks_projection
        losses[f"projection_{k}"] = mean(error, weight2d)
        goal = _true_camera(pick(batch.translation), chosen.boxes, intrinsics)
        metric = (pick(batch.metric) & chosen.valid).float()
        off = (camera - goal).abs().mean(-1).clamp(max=3)
        losses[f"camera_{k}"] = mean(off, metric) * w.camera
    return losses


def _true_camera(t: Tensor, boxes: Tensor, intrinsics: Tensor) -> Tensor:
    """The camera head's numbers for a known translation: the inverse of camera.translation."""
    depth = t[..., 2].clamp(min=0.05)
    size = boxes[..., 2:].amax(-1)
    root = t[..., :2] / depth[..., None] * intrinsics[..., :2] + intrinsics[..., 2:]
    scale = torch.log(intrinsics[..., 0] * UNIT / depth / (0.5 * size))
    return torch.cat([(root - boxes[..., :2]) / size[..., None], scale[..., None]], -1)
