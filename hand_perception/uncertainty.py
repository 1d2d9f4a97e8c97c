"""How sure a hand's place is: covariances of a shift of the whole hand in the camera frame.

Along the viewing ray a single picture tells the depth only as well as the hand's size is known;
across it, as well as the joints are found. So the covariance is a long ellipsoid on the ray.
"""

from __future__ import annotations

import numpy as np

from hand_perception.geometry import MIN_DEPTH_M, project
from hand_perception.hands import WRIST, Camera

# Adults' hand lengths, men (193.8 +- 9.8 mm) and women (180.5 +- 9.7 mm) together: Gordon et al.
# 1989, ANSUR. No network tells a size better than that by looks.
HAND_SIZE_STD = 0.06
# Error of a root-relative joint, in metres: what a network's pose adds, where it does not tell so
# itself. That of one whose joints are off by 25 mm after Procrustes and whose depths by 12 % in the
# median.
SHAPE_STD_M = 0.02
# 21 joints err together, finger by finger: they count as one a finger.
_INDEPENDENT_JOINTS = 5
# No joint is found better than this, per axis.
_PIXEL_STD = 1.0


def monocular_covariance(
    keypoints3d: np.ndarray,
    keypoints2d: np.ndarray,
    camera: Camera,
    size_std: float = HAND_SIZE_STD,
    shape_std: float | None = None,
) -> np.ndarray:
    """[3, 3] square metres, of a hand placed by solve_translation, from its own residual.

    keypoints3d: [21, 3] metres in the camera frame. keypoints2d: [21, 2] pixels. size_std: relative
    standard deviation of the hand's size. shape_std: metres, of a root-relative joint per axis;
    SHAPE_STD_M where it is not known. The depth is the ratio of the spreads in space and in the
    picture, so its relative error is that of the size and of both spreads: a hand whose fingers
    point at the camera has little spread and much error.
    """
    points = np.asarray(keypoints3d, np.float64)
    across_std = lateral_std(points, keypoints2d, camera)
    xy = points[:, :2] - points[:, :2].mean(0)
    spread = max(float(np.sqrt((xy**2).sum(1).mean())), 1e-3)
    shape_std = SHAPE_STD_M if shape_std is None else shape_std
    of_spread = np.hypot(across_std, shape_std / _INDEPENDENT_JOINTS**0.5) / spread
    relative = np.hypot(size_std, of_spread)
    return ray_covariance(points[WRIST], relative * _depth(points), across_std)


def lateral_std(keypoints3d: np.ndarray, keypoints2d: np.ndarray, camera: Camera) -> float:
    """Metres per axis across the ray: how well the 2D joints [21, 2], all together, fix the place.

    keypoints3d: [21, 3] metres in the camera frame. A stray joint or two do not count.
    """
    residual = np.asarray(keypoints2d, np.float64) - project(keypoints3d, camera)
    # The median length of a 2D normal vector is 1.18 standard deviations.
    per_axis = float(np.median(np.linalg.norm(residual, axis=1))) / 1.177
    metres = max(per_axis, _PIXEL_STD) * _depth(keypoints3d) / camera.fx
    return metres / _INDEPENDENT_JOINTS**0.5


def ray_covariance(position: np.ndarray, along_std: float, across_std: float) -> np.ndarray:
    """[3, 3] square metres: along_std in z along the ray through position, across_std square to it.

    position: [3] metres in the camera frame, in front of it.
    """
    position = np.asarray(position, np.float64)
    ray = position / max(float(position[2]), MIN_DEPTH_M)
    unit = ray / np.linalg.norm(ray)
    across = np.eye(3) - np.outer(unit, unit)
    return along_std**2 * np.outer(ray, ray) + across_std**2 * across


def depth_std(covariance: np.ndarray) -> float:
    """Standard deviation in z, metres."""
    return float(np.sqrt(covariance[2, 2]))


def _depth(points: np.ndarray) -> float:
    return max(float(np.mean(np.asarray(points)[:, 2])), MIN_DEPTH_M)
