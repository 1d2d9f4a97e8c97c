"""From network outputs to Hands: which slots are hands, their side, where they are in metres."""

from __future__ import annotations

import numpy as np

from hand_perception.geometry import nms, signed_volume, solve_translation, wrist_frame
from hand_perception.hands import Camera, Hand, Side
from hand_perception.imaging import Letterbox
from hand_perception.runtime.backend import Decoded, Detected
from hand_perception.template import Template

# The detector's queries rarely repeat a hand; these remove the rest: boxes that overlap this much
# before the decoder, joints that lie this close (in box sides, on average) after it.
NMS_IOU = 0.6
SAME_JOINTS = 0.2
MAX_HANDS = 10
# A joint is as uncertain as its 2D and its projected 3D position disagree, in box sides.
AGREEMENT = 0.06
# A mesh with this share of the template's volume is certainly of the side its sign says.
CERTAIN_VOLUME = 0.5


def choose_hands(detected: Detected, score_threshold: float) -> np.ndarray:
    """Query filtering at inference (HandOS 3.3): indices [H] by detector score, best first.

    A hand's score is the geometric mean of detector score and presence, which is at most one:
    below the threshold squared no query can reach it.
    """
    candidates = np.flatnonzero(detected.scores >= score_threshold**2)
    boxes = corners(detected.boxes[candidates])
    kept = nms(boxes, detected.scores[candidates], NMS_IOU)[:MAX_HANDS]
    return candidates[kept]


def corners(boxes: np.ndarray) -> np.ndarray:
    """cx, cy, w, h -> x0, y0, x1, y1, [..., 4]."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def build_hands(
    detected: Detected,
    chosen: np.ndarray,
    decoded: Decoded,
    letterbox: Letterbox,
    canvas: int,
    camera: Camera,
    template: Template,
    score_threshold: float,
) -> list[Hand]:
    """Hands with that score or more, best first. canvas: side of the network's image in pixels."""
    scores = np.sqrt(detected.scores[chosen].astype(np.float64) * decoded.presence)
    # 0..1 over the canvas to pixel centres.
    joints2d = letterbox.points_to_image(decoded.joints2d.astype(np.float64) * canvas - 0.5)
    boxes = corners(detected.boxes[chosen].astype(np.float64)) * canvas - 0.5
    boxes = letterbox.boxes_to_image(boxes)
    limit = [camera.width - 0.5, camera.height - 0.5] * 2
    boxes = np.clip(boxes, -0.5, limit)
    return [
        _build_hand(
            float(scores[k]),
            boxes[k],
            joints2d[k],
            decoded.vertices[k].astype(np.float64),
            camera,
            template,
        )
        for k in _distinct(scores, joints2d, boxes)
        if scores[k] >= score_threshold
    ]


def _distinct(scores: np.ndarray, joints2d: np.ndarray, boxes: np.ndarray) -> list[int]:
    """Indices by score, best first, without those that repeat a better one's joints."""
    sizes = (boxes[:, 2:] - boxes[:, :2]).max(-1)
    kept: list[int] = []
    for k in np.argsort(-scores, kind="stable"):
        distances = np.linalg.norm(joints2d[kept] - joints2d[k], axis=-1).mean(-1)
        if not np.any(distances < SAME_JOINTS * sizes[k]):
            kept.append(int(k))
    return kept


def side_of(vertices: np.ndarray, template: Template) -> tuple[Side, float]:
    """Left or right from the mesh's normals (HandOS 3.5), and how sure that is, 0..1.

    With right-hand faces the normals of a left hand point inwards: its signed volume is negative.
    That sums all normals with the area they stand for, so a few flipped faces do not decide.
    """
    volume = float(signed_volume(vertices, template.faces))
    expected = float(signed_volume(template.vertices, template.faces)) * CERTAIN_VOLUME
    confidence = float(np.clip(0.5 + 0.5 * abs(volume) / expected, 0.5, 1.0))
    return (Side.RIGHT if volume > 0 else Side.LEFT), confidence


def _build_hand(
    score: float,
    box: np.ndarray,
    joints2d: np.ndarray,
    vertices: np.ndarray,
    camera: Camera,
    template: Template,
) -> Hand:
    side, side_confidence = side_of(vertices, template)
    joints3d = template.regressor.astype(np.float64) @ vertices
    translation, residual = solve_translation(joints3d, joints2d, camera)
    size = max(box[2] - box[0], box[3] - box[1], 1.0)
    agreement = np.exp(-((residual / (AGREEMENT * size)) ** 2) / 2)
    keypoints3d = joints3d + translation
    return Hand(
        side=side,
        score=score,
        box=box.astype(np.float32),
        keypoints2d=joints2d.astype(np.float32),
        confidences=(score * agreement).astype(np.float32),
        keypoints3d=keypoints3d.astype(np.float32),
        vertices=(vertices + translation).astype(np.float32),
        wrist=wrist_frame(keypoints3d, side),
        topology=template.name,
        side_confidence=side_confidence,
        metric=camera.metric,
    )
