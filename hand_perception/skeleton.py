"""What can move in a hand: a template's joints, their axes and limits, and how they carry its skin.

Positions are from the wrist joint, in the palm's axes (the template's own at rest), of right hands.
Arrays are float64, lengths metres; dots stand for any number of hands at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hand_perception.errors import DataError
from hand_perception.hands import NUM_KEYPOINTS, Side
from hand_perception.template import KEYPOINT_OF_JOINT, TIP_KEYPOINTS, Template

# Degrees (low, high), in ANGLE_NAMES' order: wide enough for any hand, narrow enough to forbid
# broken ones.
_THUMB_LIMITS = ((-35, 50), (-35, 40), (-15, 65), (-25, 85))
_FINGER_LIMITS = ((-30, 95), (-30, 30), (-5, 115), (-10, 85))
LIMITS = np.radians((*_THUMB_LIMITS, *_FINGER_LIMITS * 4)).astype(np.float64)
# The first joint's twist follows from the others (a saddle or ball joint); thumb, other fingers.
TWIST_LIMITS = np.radians([40.0, 20.0, 20.0, 20.0, 20.0])
# Away from the middle finger, whose own abduction counts towards the thumb; the joints' own sign is
# radial.
AWAY = np.array([1.0, 1.0, 1.0, -1.0, -1.0])
FLEXION_LIMITS = LIMITS.reshape(5, 4, 2)[:, [0, 2, 3]]
ABDUCTION_LIMITS = np.sort(LIMITS.reshape(5, 4, 2)[:, 1] * AWAY[:, None], axis=1)


def skeleton_of(template: Template) -> Skeleton:
    """Prepared once. Raises DataError when the template has no anatomical joint axes (MANO's)."""
    return _of(_ById(template))


def has_joint_axes(template: Template) -> bool:
    """Whether ``skeleton_of`` takes it."""
    try:
        skeleton_of(template)
    except DataError:
        return False
    return True


class _ById:
    """A template as a cache key: arrays have no hash."""

    def __init__(self, template: Template) -> None:
        self.template = template

    def __hash__(self) -> int:
        return id(self.template)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.template is other.template


@dataclass(frozen=True)
class Skeleton:
    """A template prepared for posing it and for solving its pose.

    wrist_frame: [3, 3]. frames: [5, 3, 3, 3] rest axes of the fingers' joints. bones: [5, 4, 3],
    from each parent, the tips' included; lengths: [5, 4]. directions: [5, 3, 3] of the bones beyond
    the joints, in the joints' frames. skinning: [V, 64] and keypoints: [21, 64], what multiplies
    ``stacked``. moments: [18, V], the covariances of palm and first bones with their rest;
    posed_moments: [15, 64], those of the bones. rest_offsets: [21, 3], keypoints less joints at
    rest. marks: [21, 3], landmarks less keypoints at rest, of joints that the palm carries.
    """

    wrist_frame: np.ndarray
    frames: np.ndarray
    bones: np.ndarray
    lengths: np.ndarray
    directions: np.ndarray
    skinning: np.ndarray
    keypoints: np.ndarray
    moments: np.ndarray
    posed_moments: np.ndarray
    rest_offsets: np.ndarray
    wrist_offset: np.ndarray
    marks: np.ndarray

    def to_wrist(self, turn: np.ndarray) -> np.ndarray:
        """A turn of the template's axes in the wrist's frame."""
        return self.wrist_frame.T @ turn @ self.wrist_frame


@lru_cache(maxsize=4)
def _of(key: _ById) -> Skeleton:
    template = key.template
    root = template.joints[0].astype(np.float64)
    joints = template.joints - root
    vertices = template.vertices - root
    keypoints = template.regressor.astype(np.float64) @ vertices
    weights = template.weights.astype(np.float64)
    frames = template.joint_frames.astype(np.float64)

    chain = np.concatenate(
        [joints[1:].reshape(5, 3, 3), keypoints[list(TIP_KEYPOINTS)][:, None]], axis=1
    )
    bones = np.diff(chain, axis=1, prepend=np.zeros((5, 1, 3)))
    lengths = np.linalg.norm(bones, axis=-1)
    fingers = frames[1:].reshape(5, 3, 3, 3)
    directions = (bones[:, 1:, None] @ fingers)[:, :, 0] / lengths[:, 1:, None]
    if (directions[..., 2] > -0.9).any():
        raise DataError(
            f"template {template.name!r} has no anatomical joint axes (-z along the bones), so no "
            "joint angles: use a template with axes such as 'open778'"
        )

    relative = vertices[:, None] - joints
    blending = np.concatenate([weights[..., None] * relative, weights[..., None]], -1)
    skinning = blending.reshape(len(vertices), -1)
    first = [1 + 3 * finger for finger in range(5)]
    # The palm by its rigid part alone; first bones by the skin that is mostly theirs.
    share = np.concatenate([weights[:, :1] > 0.99, weights[:, first] ** 4], 1)
    share = share / share.sum(0)
    centred = vertices[:, None] - share.T @ vertices
    moments = (share[..., None] * centred).reshape(len(vertices), -1).T
    rest_offsets = np.zeros((NUM_KEYPOINTS, 3))
    rest_offsets[list(KEYPOINT_OF_JOINT)] = keypoints[list(KEYPOINT_OF_JOINT)] - joints
    return Skeleton(
        wrist_frame=frames[0],
        frames=fingers,
        bones=bones,
        lengths=lengths,
        directions=directions,
        skinning=skinning,
        keypoints=template.regressor.astype(np.float64) @ skinning,
        moments=moments,
        posed_moments=moments[3:] @ skinning,
        rest_offsets=rest_offsets - rest_offsets[0],
        wrist_offset=rest_offsets[0],
        marks=(template.landmarks - template.regressor).astype(np.float64) @ vertices,
    )


def forward(
    skeleton: Skeleton, local: np.ndarray, scales: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear maps [..., 16, 3, 3] of each joint's skin, posed joints [..., 16, 3] and turns [...,
    5, 3, 3, 3], in the palm's axes, from the wrist. local: [..., 15, 3, 3]. scales: [..., 20]."""
    hands = scales.shape[:-1]
    scales = scales.reshape(*hands, 5, 4)
    girth = scales[..., 0].mean(-1)[..., None, None, None]
    frames, back = skeleton.frames, skeleton.frames.swapaxes(-1, -2)
    # Along the bone by its own scale, across by the palm's.
    stretch = np.empty((*hands, 5, 3, 3))
    stretch[..., :2] = girth
    stretch[..., 2] = scales[..., 1:]
    hinges = frames @ local.reshape(*hands, 5, 3, 3, 3) @ back
    turns, joints = np.empty((*hands, 5, 3, 3, 3)), np.empty((*hands, 5, 3, 3))
    turn = np.eye(3)
    position = scales[..., :1] * skeleton.bones[:, 0]
    for k in range(3):
        joints[..., k, :] = position
        turn = turn @ hinges[..., k, :, :]
        turns[..., k, :, :] = turn
        if k < 2:
            bone = scales[..., k + 1, None] * skeleton.bones[:, k + 1]
            position = position + (turn @ bone[..., None])[..., 0]
    maps = turns @ (frames * stretch[..., None, :]) @ back
    return (
        np.concatenate([girth * np.eye(3), maps.reshape(*hands, 15, 3, 3)], -3),
        np.concatenate([np.zeros((*hands, 1, 3)), joints.reshape(*hands, 15, 3)], -2),
        turns,
    )


def stacked(maps: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """[..., 16 * 4, 3]: what the rows of Skeleton's blending matrices multiply."""
    rows = np.concatenate([maps.swapaxes(-1, -2), joints[..., None, :]], -2)
    return rows.reshape(*rows.shape[:-3], -1, 3)


def local_rotations(flexion: np.ndarray, abduction: np.ndarray, twist: np.ndarray) -> np.ndarray:
    """[..., 15, 3, 3] of flexion [..., 5, 3], and abduction and twist [..., 5] of the first
    joints."""
    local = about_x(-flexion)
    local[..., 0, :, :] = about_y(abduction) @ local[..., 0, :, :] @ about_z(twist)
    return local.reshape(*flexion.shape[:-2], 15, 3, 3)


def about_x(angle: np.ndarray) -> np.ndarray:
    return _about(angle, 1, 2)


def about_y(angle: np.ndarray) -> np.ndarray:
    return _about(angle, 2, 0)


def about_z(angle: np.ndarray) -> np.ndarray:
    return _about(angle, 0, 1)


def _about(angle: np.ndarray, first: int, second: int) -> np.ndarray:
    """Rotations [..., 3, 3] that turn axis ``first`` towards axis ``second``."""
    rotation = np.zeros((*angle.shape, 3, 3))
    rotation[..., 3 - first - second, 3 - first - second] = 1
    rotation[..., first, first] = rotation[..., second, second] = np.cos(angle)
    rotation[..., second, first] = np.sin(angle)
    rotation[..., first, second] = -rotation[..., second, first]
    return rotation


def mirror_of(side: Side) -> np.ndarray:
    """What positions are multiplied with to make a right hand, or a left one again."""
    return np.array([-1.0 if side is Side.LEFT else 1.0, 1.0, 1.0])


def reflected(matrices: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Rotations [..., 3, 3] as seen in the mirror: still rotations."""
    return matrices * mirror * mirror[:, None]
