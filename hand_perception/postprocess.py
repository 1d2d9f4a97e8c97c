"""From network outputs to Hands: which slots are hands, their side, where they are in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hand_perception.geometry import (
    box_cover,
    box_iou,
    joint_boxes,
    nms,
    project,
    rotation_to_axis,
    signed_volume,
    slopes,
    solve_translation,
    wrist_frame,
)
from hand_perception.hands import Camera, Hand, Side
from hand_perception.imaging import Letterbox
from hand_perception.runtime.backend import NMS_IOU, Decoded, Detected
from hand_perception.template import Template
from hand_perception.uncertainty import monocular_covariance

# The detector's queries rarely repeat a hand; what does is removed by the overlap of boxes before
# the decoder, and after it where joints lie this close (in box sides, on average).
SAME_JOINTS = 0.2
# Joints' bounds of which this share lies in those of a better hand are a part of it, or the same
# hand once more: of thirty such pairs on labelled images none were two hands. Clasped ones share
# less.
SAME_PLACE = 0.75
MAX_HANDS = 10
# No query below this is looked at (T^S in HandOS 4.1).
CANDIDATE_SCORE = 0.1
# Nor one with less than this share of the score that is asked for: of the hands on photographs four
# in a thousand more are found with 0.3, of rendered ones, small or hidden, twelve, and there is a
# quarter more to decode.
LEAST_SHARE = 0.4
# A keypoint's confidence is that it lies this near, in box sides: where its network does not tell
# how far off it may be, its 2D and its projected 3D position tell by how they disagree.
NEAR = 0.06
# A mesh with this share of the template's volume is certainly of the side its sign says.
CERTAIN_VOLUME = 0.5
# How much the box says of a hand's size beside its joints, as an exponent: where MobRecon's median
# error of depth on rendered hands, not those of any table, is the least.
BOX_SHARE = 0.12
# What is beyond this is an error of the box, such as a hand at the image's border.
_SHRINKAGE = (0.85, 1.4)


@dataclass(frozen=True)
class ScoreCalibration:
    """score = sigmoid(bias + weighed log odds of all that speaks for a hand, see ``evidence``).

    evaluation.calibration fits the numbers; these defaults are the geometric mean of the odds of
    detector and presence.
    """

    bias: float = 0.0
    detector: float = 0.5
    presence: float = 0.5
    joints: float = 0.0
    box: float = 0.0
    side: float = 0.0

    @property
    def weights(self) -> np.ndarray:
        """[5], in the order of ``evidence``."""
        return np.array([self.detector, self.presence, self.joints, self.box, self.side])

    def score(self, evidence: np.ndarray) -> np.ndarray:
        """[..., 5] in 0..1 -> [...] in 0..1."""
        return 1 / (1 + np.exp(-(self.bias + logit(evidence) @ self.weights)))

    def lowest_detector_score(self, threshold: float) -> float:
        """Below this nothing can lift a hand over the threshold, or hardly ever does; at least
        CANDIDATE_SCORE."""
        best = self.bias + np.abs(self.weights[1:]).sum() * logit(np.array(1.0))
        wanted = (logit(np.array(threshold)) - best) / max(self.detector, 1e-6)
        possible = float(1 / (1 + np.exp(-wanted)))
        return max(CANDIDATE_SCORE, LEAST_SHARE * threshold, possible)


def logit(x: np.ndarray) -> np.ndarray:
    """Log odds, of probabilities held within 0.01 and 0.99: nobody is surer than that."""
    x = np.clip(np.asarray(x, np.float64), 0.01, 0.99)
    return np.log(x / (1 - x))


def choose_hands(detected: Detected, lowest: float, nms_iou: float = NMS_IOU) -> np.ndarray:
    """Query filtering at inference (HandOS 3.3): indices [H] with that detector score or more, best
    first, without repeats.
    """
    candidates = np.flatnonzero(detected.scores >= lowest)
    boxes = corners(detected.boxes[candidates])
    kept = nms(boxes, detected.scores[candidates], nms_iou)[:MAX_HANDS]
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
    calibration: ScoreCalibration,
    score_threshold: float,
) -> list[Hand]:
    """Hands with that score or more, best first. canvas: side of the network's image in pixels."""
    seen = in_image(detected, chosen, decoded, letterbox, canvas)
    scores = calibration.score(evidence(detected.scores[chosen], decoded, seen))
    gaze = None
    if decoded.gaze is not None:
        gaze = letterbox.points_to_image(decoded.gaze.astype(np.float64) * canvas - 0.5)
    expected = [None] * len(scores)
    if seen.spread2d is not None:
        expected = list(zip(seen.spread2d, decoded.spread3d.astype(float), strict=True))
    return [
        _build_hand(
            float(scores[k]),
            seen.boxes[k],
            seen.joints2d[k],
            expected[k],
            decoded.vertices[k].astype(np.float64),
            None if decoded.right is None else float(decoded.right[k]),
            None if gaze is None else gaze[k],
            camera,
            template,
        )
        for k in distinct(scores, seen.joints2d, seen.boxes)
        if scores[k] >= score_threshold
    ]


@dataclass(frozen=True)
class InImage:
    """What detector and decoder say of H hands, in pixels of the image: boxes [H, 4] (x0, y0, x1,
    y1), clipped to it; joints2d [H, 21, 2]; bounds [H, 4], the box that the joints would have;
    spread2d [H, 21], of a decoder that tells it."""

    boxes: np.ndarray
    joints2d: np.ndarray
    bounds: np.ndarray
    spread2d: np.ndarray | None

    @property
    def overlap(self) -> np.ndarray:
        """[H]: the intersection over union of each hand's box and bounds."""
        return np.diagonal(box_iou(self.boxes, self.bounds))


def in_image(
    detected: Detected, chosen: np.ndarray, decoded: Decoded, letterbox: Letterbox, canvas: int
) -> InImage:
    # 0..1 over the canvas to pixel centres.
    joints2d = letterbox.points_to_image(decoded.joints2d.astype(np.float64) * canvas - 0.5)
    spread2d = None
    if decoded.spread2d is not None:
        spread2d = decoded.spread2d.astype(np.float64) * canvas / letterbox.scale[0]
    return InImage(
        image_boxes(detected, chosen, letterbox, canvas),
        joints2d,
        _clipped(joint_boxes(joints2d), letterbox),
        spread2d,
    )


def evidence(detector: np.ndarray, decoded: Decoded, seen: InImage) -> np.ndarray:
    """All that speaks for H hands, [H, 5] in 0..1, a half where nothing is told: the detector's
    score, [H]; the decoder's presence; how sure it is of its joints, since of what is no hand it
    knows no place; how well they fill the detector's box; how sure it is of the side."""
    unknown = np.full(len(detector), 0.5)
    joints, side = unknown, unknown
    if seen.spread2d is not None:
        joints = certainty(seen.spread2d, _near(seen.boxes)[:, None]).mean(-1)
    if decoded.right is not None:
        side = np.maximum(decoded.right, 1 - decoded.right)
    return np.stack([detector, decoded.presence, joints, seen.overlap, side], -1).astype(np.float64)


def certainty(spread: np.ndarray, near: np.ndarray | float) -> np.ndarray:
    """The chance that a joint lies so near, of its mean absolute error per axis in the same unit.

    In the plane, of a density that falls as exp(-r / c), that error is 4 c / pi."""
    reach = 4 / np.pi * near / spread
    return 1 - (1 + reach) * np.exp(-reach)


def _near(boxes: np.ndarray) -> np.ndarray:
    """[..., 4] -> [...]: how near is near."""
    return NEAR * (boxes[..., 2:] - boxes[..., :2]).max(-1).clip(min=1.0)


def turn_to_camera(vertices: np.ndarray, gaze: np.ndarray, camera: Camera) -> np.ndarray:
    """[V, 3] in the axes of a camera that looks at pixel ``gaze`` [2] -> in the camera's."""
    return vertices @ rotation_to_axis(np.append(slopes(gaze, camera), 1.0))


def image_boxes(
    detected: Detected, chosen: np.ndarray, letterbox: Letterbox, canvas: int
) -> np.ndarray:
    """Boxes [H, 4] x0, y0, x1, y1 of the chosen queries in pixels of the image, clipped to it."""
    boxes = corners(detected.boxes[chosen].astype(np.float64)) * canvas - 0.5
    return _clipped(letterbox.boxes_to_image(boxes), letterbox)


def _clipped(boxes: np.ndarray, letterbox: Letterbox) -> np.ndarray:
    limit = [letterbox.width - 0.5, letterbox.height - 0.5] * 2
    return np.clip(boxes, -0.5, limit)


def distinct(scores: np.ndarray, joints2d: np.ndarray, boxes: np.ndarray) -> list[int]:
    """Indices by score, best first, without those that repeat a better one: its joints, or its
    place with other joints, as when a hand is taken for a right and a left one at once, or a part
    of a large hand for one more."""
    sizes = (boxes[:, 2:] - boxes[:, :2]).max(-1)
    bounds = np.concatenate([joints2d.min(1), joints2d.max(1)], -1)
    cover = box_cover(bounds, bounds)
    shared = np.maximum(cover, cover.T)
    kept: list[int] = []
    for k in np.argsort(-scores, kind="stable"):
        distances = np.linalg.norm(joints2d[kept] - joints2d[k], axis=-1).mean(-1)
        same_joints = np.any(distances < SAME_JOINTS * sizes[k])
        same_place = np.any(shared[k, kept] > SAME_PLACE)
        if not (same_joints or same_place):
            kept.append(int(k))
    return kept


def without_repeats(hands: list[Hand]) -> list[Hand]:
    """Of several looks at one image, best first: each hand as the look of the best score has it."""
    if not hands:
        return []
    scores = np.array([hand.score for hand in hands])
    joints2d = np.stack([hand.keypoints2d for hand in hands])
    boxes = np.stack([hand.box for hand in hands])
    return [hands[k] for k in distinct(scores, joints2d, boxes)]


def side_of(vertices: np.ndarray, template: Template) -> tuple[Side, float]:
    """Left or right from the mesh's normals (HandOS 3.5), and how sure that is, 0..1.

    With right-hand faces the normals of a left hand point inwards: its signed volume is negative.
    That sums all normals with the area they stand for, so a few flipped faces do not decide.
    """
    volume = float(signed_volume(vertices, template.faces, template.rim))
    expected = template.volume * CERTAIN_VOLUME
    confidence = float(np.clip(0.5 + 0.5 * abs(volume) / expected, 0.5, 1.0))
    return (Side.RIGHT if volume > 0 else Side.LEFT), confidence


def with_opinion(side: Side, confidence: float, right: float) -> tuple[Side, float]:
    """The mesh's side and a network's opinion, 0..1 for a right hand, as odds that multiply."""
    mesh_right = confidence if side is Side.RIGHT else 1 - confidence
    evidence = float(logit(right) + logit(mesh_right))
    return (Side.RIGHT if evidence > 0 else Side.LEFT), float(1 / (1 + np.exp(-abs(evidence))))


def spread(points: np.ndarray) -> float:
    """Mean distance of [N, 2] from their mean: squares would follow a stray joint."""
    return float(np.linalg.norm(points - points.mean(0), axis=1).mean())


def outgrowth(joints2d: np.ndarray, projected: np.ndarray) -> float:
    """How many times as far the 2D joints spread as the mesh's: least squares draw a noisy mesh
    smaller than the joints that they fit it to."""
    return spread(joints2d) / max(spread(projected), 1e-6)


def grown(projected: np.ndarray, joints2d: np.ndarray) -> np.ndarray:
    """The mesh's joints [21, 2] about their mean, spread as the 2D joints are."""
    middle = projected.mean(0)
    factor = np.clip(outgrowth(joints2d, projected), *_SHRINKAGE)
    return middle + (projected - middle) * factor


def shrinkage(
    joints2d: np.ndarray, projected: np.ndarray, box: np.ndarray, camera: Camera
) -> float:
    """How much larger a hand is in the image than its mesh, fitted to its 2D joints, appears.

    The fit draws the mesh smaller (see ``outgrowth``), and joints that are guessed lie too close
    together: both put a hand too far away. The detector's box [4] is another look at its size, if a
    coarse one. joints2d, projected: [21, 2] pixels.
    """
    # Boxes end where the image does.
    limit = np.array([camera.width, camera.height] * 2) - 0.5
    seen = np.clip(joint_boxes(joints2d), -0.5, limit)
    by_box = float((box[2:] - box[:2]).max()) / max(float((seen[2:] - seen[:2]).max()), 1.0)
    by_joints = outgrowth(joints2d, projected)
    return float(np.clip(by_joints * by_box**BOX_SHARE, *_SHRINKAGE))


def mirror_in_depth(vertices: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """The hand of the other side that looks almost the same: [V, 3] with its depth along the line
    of sight, ray [3], turned over.

    A palm and a back have the same outline; a mesh whose side is not the one that the image shows
    is wrong about just that.
    """
    along = ray / np.linalg.norm(ray)
    return vertices - 2 * np.outer(vertices @ along, along)


def _build_hand(
    score: float,
    box: np.ndarray,
    joints2d: np.ndarray,
    expected: tuple[np.ndarray, float] | None,
    vertices: np.ndarray,
    right: float | None,
    gaze: np.ndarray | None,
    camera: Camera,
    template: Template,
) -> Hand:
    side, side_confidence = side_of(vertices, template)
    if right is not None:
        told, side_confidence = with_opinion(side, side_confidence, right)
        if told is not side:
            # Vertices are in the camera's axes, or in those of one that looks at the hand.
            middle = (box[:2] + box[2:]) / 2
            ray = np.append(slopes(middle, camera) if gaze is None else (0.0, 0.0), 1.0)
            side, vertices = told, mirror_in_depth(vertices, ray)
    if gaze is not None:
        vertices = turn_to_camera(vertices, gaze, camera)
    joints3d = template.regressor.astype(np.float64) @ vertices
    marked = template.landmarks.astype(np.float64) @ vertices
    translation, residual = solve_translation(marked, joints2d, camera)
    if right is not None:
        projected = project(marked + translation, camera)
        translation = translation / shrinkage(joints2d, projected, box, camera)
        # Two looks at the same joints, by a regression and by the mesh: their mean errs less.
        joints2d = (joints2d + grown(projected, joints2d)) / 2
    near = _near(box)
    if expected is None:
        sure, shape_std = np.exp(-((residual / near) ** 2) / 2), None
    else:
        # Of a Laplace distribution the deviation is sqrt(2) times the mean absolute error.
        sure, shape_std = certainty(expected[0], near), 2**0.5 * expected[1]
    keypoints3d = joints3d + translation
    covariance = None
    if camera.metric:
        covariance = monocular_covariance(keypoints3d, joints2d, camera, shape_std=shape_std)
    return Hand(
        side=side,
        score=score,
        box=box.astype(np.float32),
        keypoints2d=joints2d.astype(np.float32),
        confidences=(score * sure).astype(np.float32),
        keypoints3d=keypoints3d.astype(np.float32),
        vertices=(vertices + translation).astype(np.float32),
        wrist=wrist_frame(keypoints3d, side),
        topology=template.name,
        side_confidence=side_confidence,
        metric=camera.metric,
        position_covariance=covariance,
        shape_std=shape_std,
    )
