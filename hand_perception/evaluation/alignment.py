"""Suite "alignment": how well meshes lie on the image (HandAR, sections 4.1 and 4.3).

Protocol, on rendered hands with full truth, at score >= 0.5 and box IoU >= 0.3 as in the suite
"synthetic". Meshes of truth and prediction go through the same rasteriser with the true K, into
a window of 256 x 256 px around the true hand:

- hand IoU, hand HD: of the silhouettes. IoU in percent, HD (Hausdorff distance) in the window's
  pixels: the largest distance of a pixel of either to the nearest of the other.
- finger IoU, finger HD: the same for the palm and each finger as far as they are seen, so that
  what hides what counts; means over the parts of a hand. A part that only one of both shows has
  IoU 0 and no distance.
- Means over found hands. "in common" rows: over the hands that every model found, which is what
  models are to be compared by.
- What else covers the hand in the picture (objects, other hands) does not count: whole meshes are
  compared. Hands of which less than a tenth of the box shows hand are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

import cv2
import numpy as np
from tqdm import tqdm

from hand_perception.errors import DataError
from hand_perception.evaluation.metrics import mean
from hand_perception.evaluation.synthetic import MIN_SCORE, camera_of, matched
from hand_perception.geometry import project
from hand_perception.hands import Camera, Hand, Reconstruction
from hand_perception.template import Template, load_template

WINDOW_PX = 256
# Side of the window in sides of the true hand's box.
WINDOW_SCALE = 1.3


class Model(Protocol):
    """A HandReconstructor, or what answers like one. topology: of the meshes that it gives."""

    topology: Template

    def __call__(
        self, image: np.ndarray, camera: Camera, *, score_threshold: float
    ) -> Reconstruction: ...


@dataclass(frozen=True)
class Alignment:
    """Of one hand: IoU in 0..1, Hausdorff distances in pixels; NaN where there is nothing."""

    hand_iou: float
    hand_distance: float
    finger_iou: float
    finger_distance: float


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of masks [H, W]; NaN when both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else np.nan


def hausdorff(a: np.ndarray, b: np.ndarray) -> float:
    """Hausdorff distance of masks [H, W] in pixels; NaN when one is empty."""
    if not a.any() or not b.any():
        return np.nan
    return float(max(_distance_to(b)[a].max(), _distance_to(a)[b].max()))


def _distance_to(mask: np.ndarray) -> np.ndarray:
    """Of each pixel [H, W] to the nearest one of a mask."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def align(true: np.ndarray, predicted: np.ndarray) -> Alignment:
    """Of part maps [H, W]: 0 nothing, 1 palm, 2 to 6 the fingers."""
    seen = [k for k in range(1, 7) if (true == k).any() or (predicted == k).any()]
    distances = [hausdorff(true == k, predicted == k) for k in seen]
    return Alignment(
        iou(true > 0, predicted > 0),
        hausdorff(true > 0, predicted > 0),
        mean([iou(true == k, predicted == k) for k in seen]),
        mean([d for d in distances if not np.isnan(d)]),
    )


def evaluate(
    samples: Sequence[dict],
    indices: Iterable[int],
    models: dict[str, Model],
) -> dict[str, dict[str, float]]:
    """Two rows of numbers a model, by its name: over what it found, and what all found.

    samples: as of evaluation.synthetic.evaluate. Raises DataError without what renders the masks.
    """
    found: dict[str, list[Alignment | None]] = {name: [] for name in models}
    for index in tqdm(list(indices), "reconstruct", unit="image", disable=None):
        sample = samples[index]
        camera = camera_of(sample)
        for name, model in models.items():
            result = model(sample["image"], camera, score_threshold=MIN_SCORE)
            found[name] += judge(sample, camera, result.hands, model.topology)
    common = [all(hands) for hands in zip(*found.values(), strict=True)]
    rows = {name: summary(hands) for name, hands in found.items()}
    for name, hands in found.items():
        shared = [hand for hand, kept in zip(hands, common, strict=True) if kept]
        rows[f"{name}, in common"] = summary(shared)
    return rows


def judge(
    sample: dict, camera: Camera, hands: list[Hand], template: Template
) -> list[Alignment | None]:
    """One a true hand of the image that counts; None where it was missed."""
    truth = load_template()  # rendered hands have its mesh
    out: list[Alignment | None] = []
    for n, hand in matched(sample, hands):
        if hand is None:
            out.append(None)
            continue
        view = window(camera, sample["boxes"][n])
        true = _parts(sample["vertices"][n], view, truth)
        out.append(align(true, _parts(hand.vertices, view, template)))
    return out


def window(camera: Camera, box: np.ndarray) -> Camera:
    """The camera that sees a square around a box as WINDOW_PX x WINDOW_PX pixels."""
    low, high = np.asarray(box[:2], np.float64), np.asarray(box[2:], np.float64)
    side = WINDOW_SCALE * max((high - low).max(), 1.0)
    factor = WINDOW_PX / side
    corner = (low + high - side) / 2
    cx, cy = ((camera.cx, camera.cy) - corner) * factor - 0.5
    return Camera(camera.fx * factor, camera.fy * factor, cx, cy, WINDOW_PX, WINDOW_PX)


def _parts(vertices: np.ndarray, camera: Camera, template: Template) -> np.ndarray:
    """The part map of a mesh [V, 3] in the camera's frame."""
    try:
        from hand_perception.training.part_rendering import part_map
    except ImportError as error:
        raise DataError(
            "--suite alignment renders masks, which needs torch: pip install "
            "'hand_perception[train]'"
        ) from error
    points = project(vertices, camera)
    return part_map(points, vertices[:, 2], template, camera.height, camera.width)


def summary(hands: list[Alignment | None]) -> dict[str, float]:
    """The row of numbers of some hands, None a missed one."""
    table = np.array([astuple(hand) for hand in hands if hand is not None]).reshape(-1, 4)
    columns = ("hand IoU", "hand HD", "finger IoU", "finger HD")
    numbers = {
        name: mean(column[~np.isnan(column)]) * (100 if name.endswith("IoU") else 1)
        for name, column in zip(columns, table.T, strict=True)
    }
    recall = mean([hand is not None for hand in hands])
    return {"hands": len(hands), "recall": recall, **numbers}
