"""The vocabulary: what a hand is, what a camera is, which keypoints there are.

Units are metres, radians and pixels. The camera frame is ROS's optical frame (REP-103): x right,
y down, z forward. Pixel coordinates follow OpenCV: the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from hand_perception.errors import CameraError

# OpenPose / FreiHAND order: the wrist, then each finger from its root to its tip.
FINGERS = ("thumb", "index", "middle", "ring", "pinky")
KEYPOINT_NAMES = (
    "wrist",
    "thumb_cmc",
    "thumb_mcp",
    "thumb_ip",
    "thumb_tip",
    *(f"{f}_{j}" for f in FINGERS[1:] for j in ("mcp", "pip", "dip", "tip")),
)
NUM_KEYPOINTS = len(KEYPOINT_NAMES)
# (parent, child) of each of the 20 bones, root to tip, finger by finger.
BONES = tuple(
    (0 if k == 0 else 4 * f + k, 4 * f + k + 1) for f in range(len(FINGERS)) for k in range(4)
)
WRIST, INDEX_MCP, MIDDLE_MCP, RING_MCP, PINKY_MCP = 0, 5, 9, 13, 17
NUM_VERTICES = 778


class Side(str, Enum):
    """Anatomical side of a hand."""

    LEFT = "left"
    RIGHT = "right"

    @property
    def opposite(self) -> Side:
        return Side.LEFT if self is Side.RIGHT else Side.RIGHT


@dataclass(frozen=True)
class Pose:
    """A rigid pose in the camera frame.

    rotation: [3, 3], columns are the body axes in the camera frame. translation: [3] in metres.
    """

    rotation: np.ndarray
    translation: np.ndarray


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics in pixels with an optional lens distortion.

    ``distortion_model`` has ROS's names: "" (none), "plumb_bob", "rational_polynomial",
    "equidistant". ``metric`` is false when the intrinsics were assumed rather than measured: the
    3D output then has no metric scale.

    Raises CameraError on NaN, non-positive focal lengths or sizes, or an unknown model.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    distortion: tuple[float, ...] = ()
    distortion_model: str = ""
    metric: bool = True

    # How many coefficients each model takes; OpenCV pads plumb_bob's fifth.
    _COEFFICIENTS = {
        "": (0,),
        "plumb_bob": (4, 5),
        "rational_polynomial": (8,),
        "equidistant": (4,),
    }

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not np.all(np.isfinite(numbers)):
            raise CameraError(
                f"camera intrinsics contain NaN or infinity {numbers}: recalibrate the camera"
            )
        if self.fx <= 0 or self.fy <= 0:
            raise CameraError(
                f"focal lengths must be positive, got fx={self.fx}, fy={self.fy}: "
                "the camera driver publishes an uncalibrated CameraInfo; calibrate it"
            )
        if self.width <= 0 or self.height <= 0:
            raise CameraError(f"image size must be positive, got {self.width}x{self.height}")
        allowed = self._COEFFICIENTS.get(self.distortion_model)
        if allowed is None:
            known = ", ".join(repr(k) for k in self._COEFFICIENTS)
            raise CameraError(f"unknown distortion model {self.distortion_model!r}, use: {known}")
        if len(self.distortion) not in allowed:
            raise CameraError(
                f"{self.distortion_model!r} takes {allowed} distortion coefficients, "
                f"got {len(self.distortion)}"
            )

    @classmethod
    def assumed(cls, width: int, height: int, horizontal_fov_deg: float = 60.0) -> Camera:
        """A camera for an image without intrinsics: centred, square pixels, not metric.

        The field of view spans the longer side, so that portrait pictures of the same phone get
        the same focal length.
        """
        focal = 0.5 * max(width, height) / np.tan(np.radians(horizontal_fov_deg) / 2)
        return cls(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height, metric=False)

    @property
    def matrix(self) -> np.ndarray:
        """K, [3, 3] float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    def resized(self, width: int, height: int) -> Camera:
        """The same camera after its image is resampled to width x height (pixel-centre exact)."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
            width=width,
            height=height,
        )


@dataclass
class Hand:
    """One reconstructed hand. Arrays are float32.

    box: [4] x0, y0, x1, y1 in pixels of the input image. score: how sure it is that this is a
    hand, in 0..1.
    keypoints2d: [21, 2] pixels. confidences: [21] in 0..1, score times the chance that a keypoint
    lies within postprocess.NEAR box sides of its place in the image.
    keypoints3d: [21, 3] and vertices: [V, 3], metres in the camera frame.
    topology: name of the mesh topology; its faces wind outwards for a right hand.
    wrist: pose of the wrist frame (see geometry.wrist_frame).
    side_confidence: 0..1. track_id: positive once a tracker has seen it, else 0.
    metric: false when the camera's intrinsics were assumed.
    position_covariance: [3, 3] square metres, of a shift of the whole hand in the camera frame
    (see uncertainty.py); None where nobody has told.
    shape_std: metres per axis, of a root-relative keypoint, as the network expects of this hand;
    None where it does not tell.
    """

    side: Side
    score: float
    box: np.ndarray
    keypoints2d: np.ndarray
    confidences: np.ndarray
    keypoints3d: np.ndarray
    vertices: np.ndarray
    wrist: Pose
    topology: str = "open778"
    side_confidence: float = 1.0
    track_id: int = 0
    metric: bool = True
    position_covariance: np.ndarray | None = None
    shape_std: float | None = None


@dataclass
class Reconstruction:
    """The hands of one image and what each stage cost.

    stage_ms: milliseconds by stage name (preprocess, detector, decoder, postprocess).
    """

    hands: list[Hand]
    stage_ms: dict[str, float] = field(default_factory=dict)
