"""Public data sets, measured as their papers do.

Protocols: ``handos`` finds hands itself, at score >= 0.1 (T^S, HandOS 4.1); ``gt-box`` is given
the true boxes (joints' bounds plus a tenth), as older papers do.

- Where a set shows one hand a picture, the best-scoring prediction answers for it. Elsewhere
  predictions match labelled hands at a box IoU >= 0.3, best score first, each hand once.
- A missed hand counts as V = 0 in millimetres and F-scores, as wrong in PCK and AUC (HandOS 4.2).
- PJ, PV: PA-MPJPE and PA-MPVPE in millimetres, after the best similarity (no reflection) of the
  joints and of the vertices. F@5, F@15: of aligned meshes. AUC: of aligned joints, 0 to 50 mm.
- MPJPE: both wrists at the origin, millimetres, V = 0 too where the hand was missed.
- Of found hands alone: camera MPJPE, as the hand stands before a measured camera; depth, the median
  of |wrist depth - true| / true.
- PCK@t: share of joints within t times the longer side of the tight box around the labelled joints,
  of each joint and then their mean; 2D: the network's 2D joints, proj: its 3D joints projected.
- recall: labelled hands that were found. side: share of found hands on the right side (supplement
  VIII). box AP: COCO's, over IoU .5 to .95.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from hand_perception.evaluation.metrics import (
    aligned,
    auc,
    f_score,
    match_boxes,
    mean,
    median,
    normalised_errors,
    pck_by_joint,
    procrustes_errors,
    root_relative_errors,
)
from hand_perception.geometry import project
from hand_perception.hands import NUM_KEYPOINTS, NUM_VERTICES, WRIST, Camera, Hand, Side

SCORE = 0.1
MIN_IOU = 0.3
F_THRESHOLDS = (0.005, 0.015)
PCK_THRESHOLDS = (0.05, 0.1, 0.15)
_MM = 1000.0
# Predicts the hands of an image; of its boxes [N, 4] where they are given, in their order.
Predict = Callable[[np.ndarray, Camera, np.ndarray | None], list[Hand]]


@dataclass(frozen=True)
class Outcome:
    """One labelled hand. Errors are None where it has no such label.

    pa_joints [21], pa_vertices [778], root_relative [21], camera_space [21]: metres. f_scores: at
    F_THRESHOLDS. flat, projected: [21] over the box, inf when missed. depth: relative.
    """

    found: bool
    side_right: bool | None
    known: np.ndarray
    occluded: np.ndarray
    flat: np.ndarray
    projected: np.ndarray
    pa_joints: np.ndarray | None = None
    pa_vertices: np.ndarray | None = None
    f_scores: tuple[float, ...] | None = None
    root_relative: np.ndarray | None = None
    camera_space: np.ndarray | None = None
    depth: float | None = None


@dataclass(frozen=True)
class Judged:
    """One picture: its outcomes, the hand that answers for it in a submission, and all boxes."""

    name: str
    outcomes: list[Outcome]
    answer: Hand | None
    boxes: np.ndarray
    scores: np.ndarray
    true_boxes: np.ndarray
    ignored_boxes: np.ndarray


class MeshReader:
    """Joints and vertices of predictions in the truth's terms.

    correspondence, regressor: from the network's topology to the truth's and that one's joints
    [21, V], where both are known. Without them, vertices of another topology are only good for
    F-scores.
    """

    def __init__(
        self,
        correspondence: Callable[[np.ndarray], np.ndarray] | None = None,
        regressor: np.ndarray | None = None,
    ) -> None:
        self._carry, self._regressor = correspondence, regressor

    def __call__(self, hand: Hand, topology: str) -> tuple[np.ndarray, np.ndarray, bool]:
        """Joints [21, 3], vertices [V, 3], and whether the vertices are the truth's."""
        joints, vertices = (np.asarray(p, np.float64) for p in (hand.keypoints3d, hand.vertices))
        if hand.topology == topology:
            return joints, vertices, True
        if self._carry is None:
            return joints, vertices, False
        vertices = self._carry(vertices)
        return self._regressor @ vertices, vertices, True


def evaluate(
    dataset: Sequence, indices: Iterable[int], predict: Predict, protocol: str, read: MeshReader
) -> Iterator[Judged]:
    """One by one, in order. A picture that cannot be read is an error: all of them count."""
    # The readers live with the training data, whose libraries a deployed system lacks.
    from hand_perception.data.sample import hand_boxes

    for index in tqdm(list(indices), "evaluate", unit="image", disable=None):
        sample = dataset[index]
        height, width = sample.image.shape[:2]
        boxes = hand_boxes(sample.hands.keypoints2d, width, height)
        given = boxes if protocol == "gt-box" else None
        hands = predict(sample.image, sample.camera, given)
        truth = getattr(dataset, "true_boxes", None)
        true_boxes, ignored = truth(index) if truth else (boxes, sample.ignore_boxes)
        yield judge(sample, boxes, hands, given is not None, read, true_boxes, ignored)


def judge(
    sample,
    boxes: np.ndarray,
    hands: list[Hand],
    in_order: bool,
    read: MeshReader,
    true_boxes: np.ndarray,
    ignored: np.ndarray,
) -> Judged:
    """Who answers for which labelled hand, and how well. in_order: hand k is box k's."""
    if not in_order:
        hands = sorted(hands, key=lambda hand: -hand.score)
    found = np.array([hand.box for hand in hands]).reshape(-1, 4)
    count = len(boxes)
    if in_order:
        matches = np.arange(count)
    elif count == 1 and sample.exhaustive:
        matches = np.array([0 if hands else -1])
    else:
        matches = match_boxes(found, boxes, MIN_IOU)
    outcomes = [
        outcome(sample, k, hands[p] if p >= 0 else None, read) for k, p in enumerate(matches)
    ]
    return Judged(
        sample.name,
        outcomes,
        hands[0] if hands else None,
        found,
        np.array([hand.score for hand in hands]),
        np.asarray(true_boxes).reshape(-1, 4),
        np.asarray(ignored).reshape(-1, 4),
    )


def outcome(sample, k: int, hand: Hand | None, read: MeshReader) -> Outcome:
    """The k-th labelled hand of a sample against a prediction, None when it was missed."""
    labels, camera = sample.hands, sample.camera
    known = labels.known[k]
    missed = np.full(NUM_KEYPOINTS, np.inf)
    side = {1.0: Side.RIGHT, -1.0: Side.LEFT}.get(float(labels.side[k]))
    flat = projected = missed
    if hand is not None:
        goal = labels.keypoints2d[k]
        flat = normalised_errors(hand.keypoints2d, goal)
        projected = normalised_errors(project(hand.keypoints3d, camera), goal)
    common = {
        "found": hand is not None,
        "side_right": None if hand is None or side is None else hand.side is side,
        "known": known,
        "occluded": labels.occluded[k],
        "flat": flat,
        "projected": projected,
    }
    if not labels.weight3d[k] or not known.all():
        return Outcome(**common)
    true = labels.joints3d[k].astype(np.float64)
    if hand is None:
        joints, vertices, same = np.zeros((NUM_KEYPOINTS, 3)), np.zeros((NUM_VERTICES, 3)), True
    else:
        joints, vertices, same = read(hand, sample.topology)
    common["pa_joints"] = procrustes_errors(joints, true)
    if labels.weight_mesh[k]:
        mesh = labels.vertices[k].astype(np.float64)
        if same:
            moved = aligned(vertices, vertices, mesh)
            common["pa_vertices"] = np.linalg.norm(moved - mesh, axis=-1)
        else:
            moved = aligned(vertices, joints, true)
        common["f_scores"] = tuple(f_score(moved, mesh, t) for t in F_THRESHOLDS)
    common["root_relative"] = root_relative_errors(joints, true)
    if hand is not None and labels.metric[k] and camera.metric:
        placed = true + labels.translation[k]
        common["camera_space"] = np.linalg.norm(joints - placed, axis=-1)
        depth = placed[WRIST, 2]
        common["depth"] = float(abs(joints[WRIST, 2] - depth) / depth)
    return Outcome(**common)


def summary(outcomes: list[Outcome]) -> dict[str, float]:
    """All numbers that the labels allow; the rest are NaN."""

    def collect(name: str) -> list:
        return [getattr(o, name) for o in outcomes if getattr(o, name) is not None]

    def as_missed(name: str) -> np.ndarray:
        """Errors [N, J], inf for missed hands."""
        rows = [
            getattr(o, name) if o.found else np.full_like(getattr(o, name), np.inf)
            for o in outcomes
            if getattr(o, name) is not None
        ]
        return np.array(rows)

    f_scores = np.array(collect("f_scores")).reshape(-1, len(F_THRESHOLDS))
    row = {
        "hands": len(outcomes),
        "recall": mean([o.found for o in outcomes]),
        "side": mean(collect("side_right")),
        "PJ": _MM * mean(collect("pa_joints")),
        "PV": _MM * mean(collect("pa_vertices")),
        "F@5": mean(f_scores[:, 0]),
        "F@15": mean(f_scores[:, 1]),
        "AUC": auc(as_missed("pa_joints")),
        "AUC vertices": auc(as_missed("pa_vertices")),
        "MPJPE": _MM * mean(collect("root_relative")),
        "camera MPJPE": _MM * mean(collect("camera_space")),
        "depth": median(collect("depth")),
    }
    row |= {
        f"{what} {key}": value
        for what, pck in pck_rows(outcomes).items()
        for key, value in pck.items()
    }
    return row


def pck_rows(outcomes: list[Outcome]) -> dict[str, dict[str, float]]:
    """PCK in percent by "2D, all" and so on: HInt's table."""
    shape = (-1, NUM_KEYPOINTS)
    known = np.array([o.known for o in outcomes], bool).reshape(shape)
    occluded = np.array([o.occluded for o in outcomes], bool).reshape(shape)
    rows = {}
    for which, counted in (
        ("all", known),
        ("visible", known & ~occluded),
        ("occluded", known & occluded),
    ):
        for what, name in (("2D", "flat"), ("proj", "projected")):
            errors = np.array([getattr(o, name) for o in outcomes]).reshape(shape)
            rows[f"{what}, {which}"] = {
                f"PCK@{t}": 100 * pck_by_joint(errors, counted, t) for t in PCK_THRESHOLDS
            }
    return rows
