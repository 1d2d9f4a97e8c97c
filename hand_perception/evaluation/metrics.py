"""The numbers, as small pure functions. NaN where there is nothing to measure."""

from __future__ import annotations

import numpy as np

from hand_perception.geometry import box_cover, box_iou, similarity_fit
from hand_perception.hands import WRIST


def match_boxes(predicted: np.ndarray, true: np.ndarray, min_iou: float) -> np.ndarray:
    """For each true box [T, 4] the index of its prediction, or -1. -> [T] int

    predicted: [P, 4], best score first. Each prediction in turn takes the free true box it
    overlaps most, if by min_iou or more (COCO's rule).
    """
    iou = box_iou(predicted, true)
    matches = np.full(len(iou[0]) if len(iou) else len(np.reshape(true, (-1, 4))), -1)
    for p, row in enumerate(iou):
        free = np.where(matches < 0, row, -1.0)
        if len(free) and free.max() >= min_iou:
            matches[free.argmax()] = p
    return matches


def covered(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The largest share of each box's own area that lies in one of the regions. [N] in 0..1"""
    return box_cover(boxes, regions).max(1, initial=0.0)


def normalised_errors(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """2D joint errors [..., 21] over the longer side of the true joints' tight bounding box."""
    true = np.asarray(true, np.float64)
    size = (true.max(-2) - true.min(-2)).max(-1)
    return np.linalg.norm(predicted - true, axis=-1) / np.maximum(size, 1e-9)[..., None]


def pck(errors: np.ndarray, threshold: float) -> float:
    """Share of joints with a normalised error of at most the threshold; missed joints are inf."""
    return mean(np.asarray(errors) <= threshold)


def root_relative_errors(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Distances [..., 21] of joints [..., 21, 3] with both wrists moved to the origin."""
    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    relative = predicted - predicted[..., WRIST : WRIST + 1, :]
    return np.linalg.norm(relative - (true - true[..., WRIST : WRIST + 1, :]), axis=-1)


def procrustes_errors(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Distances [..., N] after the similarity that fits predicted onto true best (PA).

    A prediction on one spot (a missed hand counted as zeros) lands on the true centroid.
    """
    return np.linalg.norm(aligned(predicted, predicted, true) - true, axis=-1)


def aligned(points: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """points [..., N, 3] moved by the similarity that fits ``predicted`` onto ``true`` best."""
    scale, rotation, translation = similarity_fit(predicted, true)
    moved = scale[..., None, None] * points @ np.swapaxes(rotation, -1, -2)
    return moved + translation[..., None, :]


def straightness(keypoints3d: np.ndarray) -> np.ndarray:
    """Of index to little finger [4]: the distance from MCP to tip over the lengths of the bones
    between, 1 for a straight finger. keypoints3d: [21, 3]."""
    chains = np.asarray(keypoints3d, np.float64)[5:].reshape(4, 4, 3)
    bones = np.linalg.norm(np.diff(chains, axis=1), axis=-1).sum(1)
    return np.linalg.norm(chains[:, -1] - chains[:, 0], axis=-1) / np.maximum(bones, 1e-9)


def f_score(predicted: np.ndarray, true: np.ndarray, threshold: float) -> float:
    """F-score of two point clouds [N, 3] and [M, 3] (Knapitsch et al. 2017, as FreiHAND has it).

    The harmonic mean of the shares of points of each that lie nearer than the threshold to some
    point of the other; 0 when both are.
    """
    squared = (
        (predicted**2).sum(-1)[:, None] + (true**2).sum(-1) - 2 * (predicted @ np.transpose(true))
    )
    # By the difference itself where the short cut's rounding could decide.
    close = np.argwhere(np.abs(squared - threshold**2) < 1e-9)
    a, b = close.T
    squared[a, b] = ((np.asarray(predicted)[a] - np.asarray(true)[b]) ** 2).sum(-1)
    distances = np.sqrt(np.maximum(squared, 0))
    precision = np.mean(distances.min(1) < threshold)
    recall = np.mean(distances.min(0) < threshold)
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def auc(errors: np.ndarray, limit: float = 0.05, steps: int = 100) -> float:
    """Area under the curve of PCK over thresholds from 0 to the limit, over that of 1 (HandOS,
    supplement VII; FreiHAND's evaluation).

    errors: [N, J] in metres, inf for a missed hand. Thresholds are ``steps`` points, both ends
    among them; the area is the trapezoidal rule's, of each joint, then their mean.
    """
    errors = np.asarray(errors, np.float64)
    if not errors.size:
        return float("nan")
    thresholds = np.linspace(0, limit, steps)
    # Of each joint, how many errors are at most a threshold.
    curve = np.stack([(errors <= t).mean(0) for t in thresholds])
    heights = (curve[1:] + curve[:-1]) / 2
    return float((heights * np.diff(thresholds)[:, None]).sum(0).mean() / limit)


def pck_by_joint(errors: np.ndarray, counted: np.ndarray, threshold: float) -> float:
    """PCK as HInt has it: of each joint over the hands in which it counts, then their mean.

    errors, counted: [N, 21]; a missed hand's errors are inf. NaN when no joint counts.
    """
    counted = np.asarray(counted, bool)
    right = (np.asarray(errors) <= threshold) & counted
    hands = counted.sum(0)
    return mean(right.sum(0)[hands > 0] / hands[hands > 0])


def acceleration_error(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean distance of the joints' second differences over time (VIBE's Acc, per frame squared).

    predicted, true: [T, N, 3], NaN where there is no hand.
    """
    both = np.stack([np.asarray(predicted, np.float64), np.asarray(true, np.float64)])
    second = both[:, 2:] - 2 * both[:, 1:-1] + both[:, :-2]
    lengths = np.linalg.norm(second[0] - second[1], axis=-1)
    return mean(lengths[np.isfinite(lengths)])


def acceleration(keypoints: np.ndarray) -> float:
    """Mean length of the joints' second differences over time: MobRecon's Acc (4.2), per frame
    squared, in the unit of keypoints [T, N, D], NaN where there is no hand."""
    return jitter(keypoints, np.ones(len(keypoints)))


def jitter(keypoints: np.ndarray, sizes: np.ndarray) -> float:
    """Mean length of the joints' second differences over time, over the box's size.

    keypoints: [T, 21, D] frame by frame, NaN where there is no hand; three frames in a row give a
    difference. sizes: [T]. Zero for any steady motion.
    """
    keypoints = np.asarray(keypoints, np.float64)
    second = keypoints[2:] - 2 * keypoints[1:-1] + keypoints[:-2]
    lengths = np.linalg.norm(second, axis=-1) / np.asarray(sizes)[1:-1, None]
    return mean(lengths[np.isfinite(lengths)])


def mean(values: np.ndarray) -> float:
    values = np.asarray(values, np.float64)
    return float(values.mean()) if values.size else float("nan")


def median(values: np.ndarray) -> float:
    values = np.asarray(values, np.float64)
    return float(np.median(values)) if values.size else float("nan")
