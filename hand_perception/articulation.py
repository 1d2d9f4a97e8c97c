"""From a reconstructed hand to joint rotations and named joint angles, and back.

HandOS predicts a mesh, not a pose ("obtaining a rotational pose requires an extra inverse
kinematics module", Chen et al. 2025, supplement XVI). This is that module, in closed form: the palm
gives the wrist, each bone's direction its joint's swing, the skin around a finger's first bone its
twist. Angles stay within anatomical limits and bones keep the lengths they were seen with.

A joint turns by R = Ry(abduction) Rx(-flexion) Rz(twist) in its rest frame: x is the flexion axis,
y points to the back of the hand, -z along the bone (WebXR's and OpenXR's hand joints). A left hand
is solved as its mirror image; its rotations are then mirrored back, so they are proper rotations in
frames that follow the same rule. docs/articulation.md says what the angles mean and how good they
are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hand_perception.errors import DataError
from hand_perception.geometry import quaternion_xyzw
from hand_perception.hands import FINGERS, MIDDLE_MCP, NUM_KEYPOINTS, WRIST, Hand, Pose, Side
from hand_perception.template import KEYPOINT_OF_JOINT, TIP_KEYPOINTS, Template

# Per finger, in the order of Articulation.angles.
_THUMB_ANGLES = ("cmc_flexion", "cmc_abduction", "mcp_flexion", "ip_flexion")
_FINGER_ANGLES = ("mcp_flexion", "mcp_abduction", "pip_flexion", "dip_flexion")
ANGLE_NAMES = tuple(
    f"{finger}_{angle}"
    for finger in FINGERS
    for angle in (_THUMB_ANGLES if finger == "thumb" else _FINGER_ANGLES)
)
JOINT_NAMES = {side: tuple(f"{side.value}_{name}" for name in ANGLE_NAMES) for side in Side}

# Degrees (low, high), in ANGLE_NAMES' order: wide enough for any hand, narrow enough to forbid
# broken ones.
_THUMB_LIMITS = ((-35, 50), (-35, 40), (-15, 65), (-25, 85))
_FINGER_LIMITS = ((-30, 95), (-30, 30), (-5, 115), (-10, 85))
LIMITS = np.radians((*_THUMB_LIMITS, *_FINGER_LIMITS * 4)).astype(np.float64)
# A fist cannot spread: with the MCP at a right angle this share of its abduction is gone.
_CLOSED_SPREAD = 0.85
# The first joint's twist follows from the others (a saddle or ball joint); thumb, other fingers.
_TWIST_LIMITS = np.radians([40.0, 20.0, 20.0, 20.0, 20.0])
# Away from the middle finger, whose own abduction counts towards the thumb; the rig's is radial.
_AWAY = np.array([1.0, 1.0, 1.0, -1.0, -1.0])
_MIN_PALM_M = 1e-3
# Below this share of the template's length a bone's direction is noise; it counts as straight.
_MIN_BONE = 0.1


@dataclass(frozen=True)
class Articulation:
    """The pose of one hand, with the lengths of its bones. Arrays are float64.

    rotations: [16, 3, 3], local, in the rest frames of the template's joints; the wrist's is its
    orientation in the camera frame. wrist: where the template's wrist joint is and how its rest
    axes are turned, in the camera frame: camera = rotation @ (rest - wrist joint) + translation
    (for a left hand, the template mirrored in x). angles: [20] radians in the order of ``names``,
    each within LIMITS. bone_scales: [20], length over the template's, in the order of hands.BONES.
    """

    side: Side
    rotations: np.ndarray
    wrist: Pose
    angles: np.ndarray
    bone_scales: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """The joints' names with their side, such as "right_index_mcp_flexion"."""
        return JOINT_NAMES[self.side]

    @property
    def axis_angles(self) -> np.ndarray:
        """``rotations`` as rotation vectors, [16, 3] radians."""
        return axis_angle(self.rotations)


def articulate(hand: Hand, template: Template) -> Articulation:
    """The pose whose bones point where the hand's keypoints do.

    template: the one that the hand's mesh was made with. Raises DataError when keypoints or
    vertices are not finite, have no extent, or belong to another template, or when the template
    has no anatomical joint axes (MANO's).
    """
    rig = _rig(_ById(template))
    keypoints, vertices = _checked(hand, template)
    mirror = _mirror(hand.side)
    keypoints, vertices = keypoints * mirror, vertices * mirror

    moments = (rig.moments @ vertices).reshape(-1, 3, 3).swapaxes(-1, -2)
    orientation = _palm_rotation(moments[0])
    # From here on in the palm's axes, from the wrist.
    seen = (keypoints - keypoints[0]) @ orientation
    moments = orientation.T @ moments[1:]
    pose = _solve(rig, seen - rig.rest_offsets, moments, np.zeros(5), np.zeros(5))
    # Keypoints are skin: they leave the skeleton's joints by up to a millimetre as a finger bends.
    # The first pose tells by how much.
    offsets, twist_error = _compare(rig, pose)
    pose = _solve(rig, seen - offsets, moments, pose.twist, twist_error)

    rotations = np.concatenate([rig.to_wrist(orientation)[None], pose.local])
    origin = keypoints[0] - orientation @ rig.wrist_offset
    abduction = (_AWAY * pose.abduction)[:, None]
    return Articulation(
        hand.side,
        _reflected(rotations, mirror),
        Pose(_reflected(orientation, mirror), origin * mirror),
        np.concatenate([pose.flexion[:, :1], abduction, pose.flexion[:, 1:]], axis=1).ravel(),
        pose.scales,
    )


def pose_template(articulation: Articulation, template: Template) -> tuple[np.ndarray, np.ndarray]:
    """The posed hand: vertices [V, 3] and keypoints [21, 3], metres, camera frame, float32.

    Linear blend skinning as in synthesis/rig.py. Each bone has its own length; across, a segment
    grows with the palm.
    """
    rig = _rig(_ById(template))
    mirror = _mirror(articulation.side)
    local = _reflected(articulation.rotations[1:], mirror)
    maps, joints, _ = _forward(rig, local, articulation.bone_scales)
    vertices = rig.skinning @ _stacked(maps, joints)
    placed = (vertices * mirror) @ articulation.wrist.rotation.T + articulation.wrist.translation
    return placed.astype(np.float32), (template.regressor @ placed).astype(np.float32)


def joint_axes(articulation: Articulation, template: Template) -> np.ndarray:
    """The axes of the 16 joints in the camera frame, [16, 3, 3], as columns.

    x is the flexion axis, y points out of the back of the hand, -z along the bone, on either side.
    """
    rig = _rig(_ById(template))
    mirror = _mirror(articulation.side)
    local = _reflected(articulation.rotations[1:], mirror)
    _, _, turns = _forward(rig, local, articulation.bone_scales)
    axes = np.concatenate([rig.wrist_frame[None], (turns @ rig.frames).reshape(-1, 3, 3)])
    return articulation.wrist.rotation @ _reflected(axes, mirror)


def axis_angle(rotations: np.ndarray) -> np.ndarray:
    """Rotation vectors [..., 3], of length 0 to pi, of rotations [..., 3, 3]."""
    quaternion = quaternion_xyzw(rotations)
    sine = np.linalg.norm(quaternion[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[..., 3:])
    return quaternion[..., :3] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)


def _mirror(side: Side) -> np.ndarray:
    """What positions are multiplied with to make a right hand, or a left one again."""
    return np.array([-1.0 if side is Side.LEFT else 1.0, 1.0, 1.0])


def _reflected(matrices: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Rotations [..., 3, 3] as seen in the mirror: still rotations."""
    return matrices * mirror * mirror[:, None]


# -- input -----------------------------------------------------------------------------------------


def _checked(hand: Hand, template: Template) -> tuple[np.ndarray, np.ndarray]:
    keypoints = np.asarray(hand.keypoints3d, np.float64)
    vertices = np.asarray(hand.vertices, np.float64)
    if hand.topology != template.name or vertices.shape != template.vertices.shape:
        raise DataError(
            f"the hand's mesh is {hand.topology!r} {vertices.shape}, the template "
            f"{template.name!r} {template.vertices.shape}: use load_template(hand.topology)"
        )
    if keypoints.shape != (NUM_KEYPOINTS, 3):
        raise DataError(f"keypoints3d must be [21, 3], got {keypoints.shape}: give all 21 of them")
    if not (np.isfinite(keypoints).all() and np.isfinite(vertices).all()):
        raise DataError("the hand has keypoints or vertices that are not finite: leave it out")
    if np.linalg.norm(keypoints[MIDDLE_MCP] - keypoints[WRIST]) < _MIN_PALM_M:
        raise DataError("the hand's keypoints lie on one spot, so have no pose: leave it out")
    return keypoints, vertices


def _palm_rotation(moment: np.ndarray) -> np.ndarray:
    """The rotation nearest to the palm's covariance with its rest (Kabsch)."""
    u, sigma, vt = np.linalg.svd(moment)
    # The moment is in square metres, a palm's extent some hundreds of square millimetres.
    if sigma[1] < _MIN_PALM_M**2:
        raise DataError("the hand's palm has no extent, so no orientation: leave the hand out")
    u[:, 2] *= np.sign(np.linalg.det(u @ vt))
    return u @ vt


# -- inverse kinematics ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pose:
    """Five fingers in the rig's signs: flexion [5, 3], abduction and twist [5] of the first joint,
    local rotations [15, 3, 3], scales [20]."""

    flexion: np.ndarray
    abduction: np.ndarray
    twist: np.ndarray
    local: np.ndarray
    scales: np.ndarray


def _solve(
    rig: _Rig,
    joints: np.ndarray,
    moments: np.ndarray,
    twist: np.ndarray,
    twist_error: np.ndarray,
) -> _Pose:
    """Angles of all fingers from joints and tips [21, 3] in the palm's axes, from the wrist.

    moments: [5, 3, 3] of the skin around the first bones. twist: [5], a first estimate.
    twist_error: [5], by how much the skin shows too much twist.
    """
    chain = joints[1:].reshape(5, 4, 3)
    bones = np.diff(chain, axis=1)
    lengths = np.linalg.norm(bones, axis=-1)
    scales = np.concatenate([np.linalg.norm(chain[:, :1], axis=-1), lengths], 1) / rig.lengths
    straight = lengths < _MIN_BONE * rig.lengths[:, 1:]

    # First joints: abduction and flexion carry the bone from its rest direction to where it is.
    frames = rig.frames[:, 0]
    local = np.empty((5, 3, 3, 3))
    flexion = np.empty((5, 3))
    rest = (_about_z(twist) @ rig.directions[:, 0, :, None])[..., 0]
    bone = (bones[:, None, 0] @ frames)[:, 0] / np.maximum(lengths[:, :1], 1e-6)
    bone = np.where(straight[:, :1], rest, bone)
    abduction = _abduction(bone, rest)
    upright = (_about_y(-abduction) @ bone[..., None])[..., 0]
    flexion[:, 0] = _flexion(upright, rest, rig.flexion_limits[:, 0])
    swing = _about_y(abduction) @ _about_x(-flexion[:, 0])
    twist = _twist(swing, frames, moments) - twist_error
    twist = np.clip(twist, -_TWIST_LIMITS, _TWIST_LIMITS)
    local[:, 0] = swing @ _about_z(twist)
    turn = frames @ local[:, 0] @ frames.swapaxes(-1, -2)

    # The others are hinges.
    for k in (1, 2):
        frames, rest = rig.frames[:, k], rig.directions[:, k]
        bone = (bones[:, None, k] @ turn @ frames)[:, 0]
        bone = np.where(straight[:, k : k + 1], rest, bone)
        flexion[:, k] = _flexion(bone, rest, rig.flexion_limits[:, k])
        local[:, k] = _about_x(-flexion[:, k])
        turn = turn @ frames @ local[:, k] @ frames.swapaxes(-1, -2)
    return _Pose(flexion, abduction, twist, local.reshape(-1, 3, 3), scales.ravel())


def _abduction(bone: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Turn about y, [5], that (with some flexion) takes rest to bone, both [5, 3]; limited."""
    # Flexed beyond the right angle, a bone points back (z > 0) without having turned about y.
    ahead = np.where(bone[:, 2] > 0, -1.0, 1.0)
    across = np.hypot(bone[:, 0], bone[:, 2])
    forward = np.sqrt(np.maximum(across**2 - rest[:, 0] ** 2, 1e-12))
    angle = np.arctan2(-ahead * bone[:, 0], -ahead * bone[:, 2])
    angle -= np.arctan2(-ahead * rest[:, 0], forward)
    closed = np.clip(np.arctan2(-bone[:, 1], ahead * across) / (np.pi / 2), 0, 1)
    closed[0] = 0  # the thumb spreads in any flexion
    free = 1 - _CLOSED_SPREAD * closed
    return np.clip(angle, _ABDUCTION_LIMITS[:, 0] * free, _ABDUCTION_LIMITS[:, 1] * free)


def _flexion(bone: np.ndarray, rest: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Hinge angles [5] from rest to bone, both [5, 3] in the joints' frames; limited."""
    angle = np.arctan2(-bone[:, 1], -bone[:, 2]) - np.arctan2(-rest[:, 1], -rest[:, 2])
    middle = limits.mean(-1)
    # The nearer way round to the middle of the range.
    angle = middle + (angle - middle + np.pi) % (2 * np.pi) - np.pi
    return np.clip(angle, limits[:, 0], limits[:, 1])


def _twist(swing: np.ndarray, frames: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Turn about the bones, [5], that best explains the skin once the swing is undone: the rotation
    about z nearest to the moments (Procrustes in the plane)."""
    left = swing.swapaxes(-1, -2) @ frames.swapaxes(-1, -2) @ moments @ frames
    return np.arctan2(left[:, 1, 0] - left[:, 0, 1], left[:, 0, 0] + left[:, 1, 1])


def _compare(rig: _Rig, pose: _Pose) -> tuple[np.ndarray, np.ndarray]:
    """What would be measured on the pose's own mesh, against the pose: keypoints less joints
    [21, 3] and twist less twist [5]."""
    # The palm's skin does not know single metacarpals: with their own scales, a knuckle's error
    # would come back as its offset and fade slowly.
    scales = pose.scales.reshape(5, 4).copy()
    scales[:, 0] = scales[:, 0].mean()
    maps, joints, _ = _forward(rig, pose.local, scales)
    stacked = _stacked(maps, joints)
    keypoints = rig.keypoints @ stacked
    skeleton = keypoints.copy()  # tips are what is measured, so they have no offset
    skeleton[list(KEYPOINT_OF_JOINT)] = joints
    moments = (rig.posed_moments @ stacked).reshape(5, 3, 3).swapaxes(-1, -2)
    frames = rig.frames[:, 0]
    swing = pose.local.reshape(5, 3, 3, 3)[:, 0] @ _about_z(-pose.twist)
    offsets = keypoints - skeleton
    return offsets - offsets[0], _twist(swing, frames, moments) - pose.twist


# -- forward kinematics ----------------------------------------------------------------------------


def _forward(
    rig: _Rig, local: np.ndarray, scales: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear maps [16, 3, 3] of each joint's skin, posed joints [16, 3] and turns [16, 3, 3], in
    the palm's axes, from the wrist. local: [15, 3, 3]. scales: [20]."""
    scales = scales.reshape(5, 4)
    girth = scales[:, 0].mean()
    frames = rig.frames
    # Along the bone by its own scale, across by the palm's.
    stretched = frames.copy()
    stretched[..., :2] *= girth
    stretched[..., 2] *= scales[:, 1:, None]
    turn = np.eye(3)
    position = scales[:, :1] * rig.bones[:, 0]
    turns, joints = np.empty((5, 3, 3, 3)), np.empty((5, 3, 3))
    local = local.reshape(5, 3, 3, 3)
    for k in range(3):
        joints[:, k] = position
        turn = turn @ frames[:, k] @ local[:, k] @ frames[:, k].swapaxes(-1, -2)
        turns[:, k] = turn
        if k < 2:
            bone = scales[:, k + 1, None] * rig.bones[:, k + 1]
            position = position + (turn @ bone[..., None])[..., 0]
    maps = turns @ stretched @ frames.swapaxes(-1, -2)
    return (
        np.concatenate([girth * np.eye(3)[None], maps.reshape(-1, 3, 3)]),
        np.concatenate([np.zeros((1, 3)), joints.reshape(-1, 3)]),
        turns,
    )


def _stacked(maps: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """[16 * 4, 3]: what the rows of _Rig's blending matrices multiply."""
    return np.concatenate([maps.swapaxes(-1, -2), joints[:, None]], 1).reshape(-1, 3)


def _about_x(angle: np.ndarray) -> np.ndarray:
    return _about(angle, 1, 2)


def _about_y(angle: np.ndarray) -> np.ndarray:
    return _about(angle, 2, 0)


def _about_z(angle: np.ndarray) -> np.ndarray:
    return _about(angle, 0, 1)


def _about(angle: np.ndarray, first: int, second: int) -> np.ndarray:
    """Rotations [N, 3, 3] that turn axis ``first`` towards axis ``second``."""
    rotation = np.zeros((len(angle), 3, 3))
    rotation[:, 3 - first - second, 3 - first - second] = 1
    rotation[:, first, first] = rotation[:, second, second] = np.cos(angle)
    rotation[:, second, first] = np.sin(angle)
    rotation[:, first, second] = -rotation[:, second, first]
    return rotation


# -- what is the same for all hands of a template --------------------------------------------------

_ABDUCTION_LIMITS = np.sort(LIMITS.reshape(5, 4, 2)[:, 1] * _AWAY[:, None], axis=1)


class _ById:
    """A template as a cache key: arrays have no hash."""

    def __init__(self, template: Template) -> None:
        self.template = template

    def __hash__(self) -> int:
        return id(self.template)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.template is other.template


@dataclass(frozen=True)
class _Rig:
    """A template prepared for the solver; positions from the wrist joint.

    wrist_frame: [3, 3]. frames: [5, 3, 3, 3] rest axes of the fingers' joints. bones: [5, 4, 3],
    from each parent, the tips' included; lengths: [5, 4]. directions: [5, 3, 3] of the bones beyond
    the joints, in the joints' frames. flexion_limits: [5, 3, 2]. skinning: [V, 64] and keypoints:
    [21, 64], what multiplies ``_stacked``. moments: [18, V], the covariances of palm and first
    bones with their rest; posed_moments: [15, 64], those of the bones. rest_offsets: [21, 3],
    keypoints less joints at rest.
    """

    wrist_frame: np.ndarray
    frames: np.ndarray
    bones: np.ndarray
    lengths: np.ndarray
    directions: np.ndarray
    flexion_limits: np.ndarray
    skinning: np.ndarray
    keypoints: np.ndarray
    moments: np.ndarray
    posed_moments: np.ndarray
    rest_offsets: np.ndarray
    wrist_offset: np.ndarray

    def to_wrist(self, turn: np.ndarray) -> np.ndarray:
        """A turn of the template's axes in the wrist's frame."""
        return self.wrist_frame.T @ turn @ self.wrist_frame


@lru_cache(maxsize=4)
def _rig(key: _ById) -> _Rig:
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
    return _Rig(
        wrist_frame=frames[0],
        frames=fingers,
        bones=bones,
        lengths=lengths,
        directions=directions,
        flexion_limits=LIMITS.reshape(5, 4, 2)[:, [0, 2, 3]],
        skinning=skinning,
        keypoints=template.regressor.astype(np.float64) @ skinning,
        moments=moments,
        posed_moments=moments[3:] @ skinning,
        rest_offsets=rest_offsets - rest_offsets[0],
        wrist_offset=rest_offsets[0],
    )
