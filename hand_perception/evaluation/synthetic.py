"""Suite "synthetic": rendered hands with full 3D truth and the true intrinsics.

Protocol, at score >= 0.5 and box IoU >= 0.3, best score first, each hand once. Millimetres:

- PA-MPJPE, PA-MPVPE: joints and vertices after the best similarity; over matched hands, and with a
  missed hand counted as all zeros (HandOS, section 4).
- MPJPE: joints with both wrists at the origin. camera MPJPE: joints in the camera frame.
- depth: median of |wrist depth - true| / true. side: share of matched hands on the right side.
- Hands of which less than a tenth of the box shows hand (cut off, covered) are not counted.
- "large" rows: hands whose true box is longer than 48 px. Other rows: by the longer side of the
  true box; by how much of the hand is seen, of what the camera would see of it with nothing in
  front and no border; by whether motion has drawn the image out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from hand_perception.evaluation.metrics import (
    match_boxes,
    mean,
    median,
    procrustes_errors,
    root_relative_errors,
)
from hand_perception.geometry import project
from hand_perception.hands import WRIST, Camera, Hand, Reconstruction, Side
from hand_perception.template import load_template

MIN_IOU = 0.3
MIN_SCORE = 0.5
LARGE_PX = 48
MIN_VISIBLE = 0.1
MOSTLY_SEEN = 0.8
# Side of the mask in which a hand is measured.
_RASTER_PX = 256
_MM = 1000.0


@dataclass(frozen=True)
class Outcome:
    """One true hand; errors in millimetres, NaN where it was missed or nothing of the kind was
    told. depth: relative. seen: share of the hand; streak: pixels that motion draws a point over,
    NaN where that is not known."""

    side: Side
    size: float
    found: bool
    pa_joints: float
    pa_vertices: float
    root_relative: float = np.nan
    camera_space: float = np.nan
    depth: float = np.nan
    side_right: float = np.nan
    seen: float = np.nan
    streak: float = np.nan


def read_samples(root: Path) -> Sequence[dict]:
    """What ``hand-perception synthesize`` wrote. Raises DataError when it is missing."""
    from hand_perception.synthesis.dataset import SyntheticDataset

    return SyntheticDataset(root)


def evaluate(
    samples: Sequence[dict],
    indices: Iterable[int],
    reconstructor: Callable[..., Reconstruction],
) -> dict[str, dict[str, float]]:
    """One row of numbers by name.

    A sample holds image [H, W, 3] RGB, K [3, 3], boxes [N, 4], is_left [N], visible [N] pixels,
    keypoints3d [N, 21, 3] and vertices [N, V, 3], metres in the camera frame; streak, pixels.
    """
    outcomes: list[Outcome] = []
    for index in tqdm(list(indices), "reconstruct", unit="image", disable=None):
        sample = samples[index]
        result = reconstructor(sample["image"], camera_of(sample), score_threshold=MIN_SCORE)
        outcomes += judge(sample, result.hands)
    return rows(outcomes)


def rows(outcomes: list[Outcome]) -> dict[str, dict[str, float]]:
    """One row of numbers by name, of all hands and of some."""
    kinds = {
        "all": lambda o: True,
        "all, large": lambda o: o.size > LARGE_PX,
        "left": lambda o: o.side is Side.LEFT,
        "right": lambda o: o.side is Side.RIGHT,
        f"to {LARGE_PX} px": lambda o: o.size <= LARGE_PX,
        f"{LARGE_PX} to {2 * LARGE_PX} px": lambda o: LARGE_PX < o.size <= 2 * LARGE_PX,
        f"over {2 * LARGE_PX} px": lambda o: o.size > 2 * LARGE_PX,
        "a fifth hidden or more": lambda o: o.seen < MOSTLY_SEEN,
        "less hidden": lambda o: o.seen >= MOSTLY_SEEN,
        "moving": lambda o: o.streak > 0,
        "still": lambda o: o.streak == 0,
    }
    return {name: summary(list(filter(kind, outcomes))) for name, kind in kinds.items()}


def camera_of(sample: dict) -> Camera:
    """The true one."""
    height, width = sample["image"].shape[:2]
    K = np.asarray(sample["K"], np.float64)
    return Camera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], width, height)


def whole_area(vertices: np.ndarray, camera: Camera) -> float:
    """Square pixels that a mesh [V, 3] covers with nothing in front of it and no border."""
    points = project(vertices, camera)
    low = points.min(0)
    factor = _RASTER_PX / max(np.ptp(points, axis=0).max(), 1e-6)
    mask = np.zeros((_RASTER_PX + 1, _RASTER_PX + 1), np.uint8)
    for corners in ((points - low) * factor).round().astype(np.int32)[load_template().faces]:
        cv2.fillConvexPoly(mask, corners, 1)
    return np.count_nonzero(mask) / factor**2


def matched(sample: dict, hands: list[Hand]) -> Iterator[tuple[int, Hand | None]]:
    """The index of each true hand of the image that counts, and the hand found there."""
    hands = sorted(hands, key=lambda hand: -hand.score)
    boxes = np.array([hand.box for hand in hands]).reshape(-1, 4)
    for n, p in enumerate(match_boxes(boxes, sample["boxes"], MIN_IOU)):
        box = sample["boxes"][n]
        if sample["visible"][n] >= MIN_VISIBLE * np.prod(box[2:] - box[:2]):
            yield n, hands[p] if p >= 0 else None


def judge(sample: dict, hands: list[Hand]) -> list[Outcome]:
    """One image's predictions against its true hands. Hands without vertices have no errors of the
    mesh, those that are not metric none of their place in the camera frame."""
    outcomes, camera = [], camera_of(sample)
    for n, hand in matched(sample, hands):
        box, joints, vertices = (sample[k][n] for k in ("boxes", "keypoints3d", "vertices"))
        side = Side.LEFT if sample["is_left"][n] else Side.RIGHT
        size = float(np.max(box[2:] - box[:2]))
        predicted = np.zeros_like(joints) if hand is None else hand.keypoints3d
        mesh = np.zeros_like(vertices) if hand is None else hand.vertices
        pa_joints = _MM * mean(procrustes_errors(predicted, joints))
        told = len(mesh) == len(vertices)
        pa_vertices = _MM * mean(procrustes_errors(mesh, vertices)) if told else np.nan
        seen = min(1.0, float(sample["visible"][n]) / whole_area(vertices, camera))
        conditions = {"seen": seen, "streak": float(sample["streak"])}
        if hand is None:
            outcomes.append(Outcome(side, size, False, pa_joints, pa_vertices, **conditions))
            continue
        camera_space = depth = np.nan
        if hand.metric:
            true_depth = float(joints[WRIST, 2])
            camera_space = _MM * mean(np.linalg.norm(predicted - joints, axis=-1))
            depth = abs(float(predicted[WRIST, 2]) - true_depth) / true_depth
        outcomes.append(
            Outcome(
                side,
                size,
                True,
                pa_joints,
                pa_vertices,
                root_relative=_MM * mean(root_relative_errors(predicted, joints)),
                camera_space=camera_space,
                depth=depth,
                side_right=float(hand.side is side),
                **conditions,
            )
        )
    return outcomes


def summary(outcomes: list[Outcome]) -> dict[str, float]:
    found = [outcome for outcome in outcomes if outcome.found]
    return {
        "hands": len(outcomes),
        "recall": mean([o.found for o in outcomes]),
        "PA-MPJPE": mean([o.pa_joints for o in found]),
        "PA-MPVPE": mean([o.pa_vertices for o in found]),
        "PA-MPJPE, missed as 0": mean([o.pa_joints for o in outcomes]),
        "PA-MPVPE, missed as 0": mean([o.pa_vertices for o in outcomes]),
        "MPJPE": mean([o.root_relative for o in found]),
        "camera MPJPE": mean([o.camera_space for o in found]),
        "depth": median([o.depth for o in found]),
        "side": mean([o.side_right for o in found]),
    }
