"""A training sample: one image with its hands, and the similarity warp that augments it exactly.

Arrays are numpy; pixel centres are integers, 3D is in metres with the camera's axes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import cv2
import numpy as np

from hand_perception.geometry import joint_boxes
from hand_perception.hands import NUM_KEYPOINTS, Camera

PADDING = 114

NO_BOXES = np.zeros((0, 4), np.float32)


@dataclass
class HandLabels:
    """n hands. keypoints2d [n, 21, 2] px. joints3d [n, 21, 3] and vertices [n, 778, 3]: relative to
    the middle MCP. translation [n, 3]: of that root, valid where ``metric``. weight2d, weight3d:
    [n], 0 where a label is absent; weight_mesh: [n], the same of the vertices where it differs from
    weight3d. side: [n], +1 right, -1 left, 0 unknown.

    known: [n, 21] bool, joints that are labelled, by default all; the others' pixels are the mean
    of the known ones, so that bounds stay true. occluded: [n, 21] bool, by default none.
    """

    keypoints2d: np.ndarray
    weight2d: np.ndarray
    joints3d: np.ndarray
    vertices: np.ndarray
    weight3d: np.ndarray
    translation: np.ndarray
    metric: np.ndarray
    side: np.ndarray
    weight_mesh: np.ndarray | None = None
    known: np.ndarray | None = None
    occluded: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = (len(self.side), NUM_KEYPOINTS)
        if self.weight_mesh is None:
            self.weight_mesh = self.weight3d
        if self.known is None:
            self.known = np.ones(shape, bool)
        if self.occluded is None:
            self.occluded = np.zeros(shape, bool)

    def __len__(self) -> int:
        return len(self.side)

    def take(self, index: np.ndarray) -> HandLabels:
        return HandLabels(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass
class Sample:
    """image: uint8 [H, W, 3] RGB. ignore_boxes: [m, 4] x0, y0, x1, y1: neither hand nor background.
    impostor_boxes: [k, 4], no hands for sure, but a detector took them for some.
    exhaustive: false when some hands may be unlabelled. topology: of the vertices, "open778" or
    "mano". name: which sample of its data set this is.
    """

    image: np.ndarray
    camera: Camera
    hands: HandLabels
    ignore_boxes: np.ndarray = field(default_factory=NO_BOXES.copy)
    impostor_boxes: np.ndarray = field(default_factory=NO_BOXES.copy)
    exhaustive: bool = True
    topology: str = "open778"
    name: str = ""


def hand_boxes(keypoints2d: np.ndarray, width: int, height: int) -> np.ndarray:
    """[n, 21, 2] -> [n, 4] x0, y0, x1, y1: geometry.joint_boxes, clipped to the image."""
    limit = np.array([width, height] * 2, np.float32) - 0.5
    return np.clip(joint_boxes(keypoints2d), -0.5, limit).astype(np.float32)


@dataclass(frozen=True)
class Similarity:
    """Pixels x -> scale * R(angle) x + offset, after an optional mirror x -> width - 1 - x."""

    scale: float
    angle: float
    offset: tuple[float, float]
    mirror_width: int = 0

    def matrix(self) -> np.ndarray:
        """[2, 3], mirror included."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        rotation = np.array([[cos, -sin], [sin, cos]])
        linear, shift = self.scale * rotation, np.array(self.offset)
        if self.mirror_width:
            shift = shift + linear @ [self.mirror_width - 1, 0]
            linear = linear @ np.diag([-1.0, 1.0])
        return np.concatenate([linear, shift[:, None]], 1)

    def axes(self) -> np.ndarray:
        """[3, 3]: how camera-frame vectors turn along (a rotation about z, after the mirror)."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
        return turn @ np.diag([-1.0, 1, 1]) if self.mirror_width else turn


def warp(sample: Sample, similarity: Similarity, size: int) -> Sample:
    """The sample as a size x size image seen through a turned, zoomed camera.

    Exact for a pinhole with square pixels: u' = s R u + b is the pinhole with focal length s f and
    principal point s R c + b looking at the scene turned by R. A mirror swaps the sides.
    """
    matrix, axes = similarity.matrix(), similarity.axes().astype(np.float32)
    image, from_image = sample.image, matrix
    while np.sqrt(abs(np.linalg.det(from_image[:, :2]))) < 0.6:
        # Bilinear sampling skips pixels when it shrinks: halve by area first.
        # The size is given: by a factor, an odd side is halved and a half pixel is left over.
        half = (image.shape[1] + 1) // 2, (image.shape[0] + 1) // 2
        image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
        from_image = _after_resize(matrix, sample.image.shape, image.shape)
    image = cv2.warpAffine(
        image,
        from_image,
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PADDING,) * 3,
    )
    linear, shift = matrix[:, :2].astype(np.float32), matrix[:, 2].astype(np.float32)
    hands = sample.hands
    moved = replace(
        hands,
        keypoints2d=hands.keypoints2d @ linear.T + shift,
        joints3d=hands.joints3d @ axes.T,
        vertices=hands.vertices @ axes.T,
        translation=hands.translation @ axes.T,
        side=-hands.side if similarity.mirror_width else hands.side,
    )
    camera = sample.camera
    focal = camera.fx * similarity.scale
    centre = matrix[:, :2] @ [camera.cx, camera.cy] + matrix[:, 2]
    return replace(
        sample,
        image=image,
        camera=Camera(focal, focal, *centre, size, size, metric=camera.metric),
        hands=moved,
        ignore_boxes=_warp_boxes(sample.ignore_boxes, matrix),
        impostor_boxes=_warp_boxes(sample.impostor_boxes, matrix),
    )


def _after_resize(matrix: np.ndarray, before: tuple, after: tuple) -> np.ndarray:
    """The matrix that maps the resized image's pixels to where ``matrix`` maps the original's."""
    fy, fx = before[0] / after[0], before[1] / after[1]
    # Pixel centres: original = (resized + 0.5) * f - 0.5.
    grow = np.array([[fx, 0, 0.5 * fx - 0.5], [0, fy, 0.5 * fy - 0.5], [0, 0, 1]])
    return np.vstack([matrix, [0, 0, 1]])[:2] @ grow


def _warp_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    if not len(boxes):
        return boxes
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([corners.min(1), corners.max(1)], -1).astype(np.float32)
