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
from functools import cached_property

import numpy as np

from hand_perception.errors import DataError
from hand_perception.geometry import quaternion_xyzw
from hand_perception.hands import FINGERS, MIDDLE_MCP, NUM_KEYPOINTS, WRIST, Hand, Pose, Side
from hand_perception.skeleton import (
    ABDUCTION_LIMITS,
    AWAY,
    FLEXION_LIMITS,
    TWIST_LIMITS,
    Skeleton,
    about_x,
    about_y,
    about_z,
    forward,
    local_rotations,
    mirror_of,
    reflected,
    skeleton_of,
    stacked,
)
from hand_perception.template import KEYPOINT_OF_JOINT, Template

# Per finger, in the order of Articulation.angles.
_THUMB_ANGLES = ("cmc_flexion", "cmc_abduction", "mcp_flexion", "ip_flexion")
_FINGER_ANGLES = ("mcp_flexion", "mcp_abduction", "pip_flexion", "dip_flexion")
ANGLE_NAMES = tuple(
    f"{finger}_{angle}"
    for finger in FINGERS
    for angle in (_THUMB_ANGLES if finger == "thumb" else _FINGER_ANGLES)
)
JOINT_NAMES = {side: tuple(f"{side.value}_{name}" for name in ANGLE_NAMES) for side in Side}

# A fist cannot spread: with the MCP at a right angle this share of its abduction is gone.
_CLOSED_SPREAD = 0.85
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


@dataclass(frozen=True)
class FingerPose:
    """A right hand's fingers in the skeleton's signs: flexion [..., 5, 3], abduction and twist
    [..., 5] of the first joints, scales [..., 20]."""

    flexion: np.ndarray
    abduction: np.ndarray
    twist: np.ndarray
    scales: np.ndarray

    @cached_property
    def local(self) -> np.ndarray:
        """Rotations [..., 15, 3, 3]."""
        return local_rotations(self.flexion, self.abduction, self.twist)


def articulate(hand: Hand, template: Template) -> Articulation:
    """The pose whose bones point where the hand's keypoints do.

    template: the one that the hand's mesh was made with. Raises DataError when keypoints or
    vertices are not finite, have no extent, or belong to another template, or when the template
    has no anatomical joint axes (MANO's).
    """
    skeleton = skeleton_of(template)
    keypoints, vertices = _checked(hand, template)
    mirror = mirror_of(hand.side)
    keypoints = keypoints * mirror
    orientation, pose = closed_form(skeleton, vertices * mirror, keypoints)
    wrist = keypoints[0] - orientation @ skeleton.wrist_offset
    rotations = np.concatenate([skeleton.to_wrist(orientation)[None], pose.local])
    abduction = (AWAY * pose.abduction)[:, None]
    return Articulation(
        hand.side,
        reflected(rotations, mirror),
        Pose(reflected(orientation, mirror), wrist * mirror),
        np.concatenate([pose.flexion[:, :1], abduction, pose.flexion[:, 1:]], axis=1).ravel(),
        pose.scales,
    )


def pose_template(articulation: Articulation, template: Template) -> tuple[np.ndarray, np.ndarray]:
    """The posed hand: vertices [V, 3] and keypoints [21, 3], metres, camera frame, float32.

    Linear blend skinning as in synthesis/rig.py. Each bone has its own length; across, a segment
    grows with the palm.
    """
    mirror = mirror_of(articulation.side)
    local = reflected(articulation.rotations[1:], mirror)
    vertices = skinned(skeleton_of(template), local, articulation.bone_scales)
    placed = (vertices * mirror) @ articulation.wrist.rotation.T + articulation.wrist.translation
    return placed.astype(np.float32), (template.regressor @ placed).astype(np.float32)


def skinned(skeleton: Skeleton, local: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Vertices [..., V, 3] of right hands, from the wrist joint in the palm's axes.

    local: [..., 15, 3, 3]. scales: [..., 20].
    """
    maps, joints, _ = forward(skeleton, local, scales)
    return skeleton.skinning @ stacked(maps, joints)


def joint_axes(articulation: Articulation, template: Template) -> np.ndarray:
    """The axes of the 16 joints in the camera frame, [16, 3, 3], as columns.

    x is the flexion axis, y points out of the back of the hand, -z along the bone, on either side.
    """
    skeleton = skeleton_of(template)
    mirror = mirror_of(articulation.side)
    local = reflected(articulation.rotations[1:], mirror)
    _, _, turns = forward(skeleton, local, articulation.bone_scales)
    axes = np.concatenate([skeleton.wrist_frame[None], (turns @ skeleton.frames).reshape(-1, 3, 3)])
    return articulation.wrist.rotation @ reflected(axes, mirror)


def axis_angle(rotations: np.ndarray) -> np.ndarray:
    """Rotation vectors [..., 3], of length 0 to pi, of rotations [..., 3, 3]."""
    quaternion = quaternion_xyzw(rotations)
    sine = np.linalg.norm(quaternion[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[..., 3:])
    return quaternion[..., :3] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)


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
    """The rotations nearest to the palms' covariances [..., 3, 3] with their rest (Kabsch)."""
    u, sigma, vt = np.linalg.svd(moment)
    # The moment is in square metres, a palm's extent some hundreds of square millimetres.
    if (sigma[..., 1] < _MIN_PALM_M**2).any():
        raise DataError("the hand's palm has no extent, so no orientation: leave the hand out")
    u[..., 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt


# -- inverse kinematics ----------------------------------------------------------------------------


def closed_form(
    skeleton: Skeleton, vertices: np.ndarray, keypoints: np.ndarray
) -> tuple[np.ndarray, FingerPose]:
    """Orientations [..., 3, 3] and fingers of right hands [..., V, 3] with keypoints [..., 21, 3].

    Raises DataError when the palm of any has no extent.
    """
    hands = vertices.shape[:-2]
    moments = (skeleton.moments @ vertices).reshape(*hands, 6, 3, 3).swapaxes(-1, -2)
    orientation = _palm_rotation(moments[..., 0, :, :])
    # From here on in the palm's axes, from the wrist.
    seen = (keypoints - keypoints[..., :1, :]) @ orientation
    moments = orientation.swapaxes(-1, -2)[..., None, :, :] @ moments[..., 1:, :, :]
    none = np.zeros((*hands, 5))
    pose = _solve(skeleton, seen - skeleton.rest_offsets, moments, none, none)
    # Keypoints are skin: they leave the skeleton's joints by up to a millimetre as a finger bends.
    # The first pose tells by how much.
    offsets, twist_error = _compare(skeleton, pose)
    return orientation, _solve(skeleton, seen - offsets, moments, pose.twist, twist_error)


def _solve(
    skeleton: Skeleton,
    joints: np.ndarray,
    moments: np.ndarray,
    twist: np.ndarray,
    twist_error: np.ndarray,
) -> FingerPose:
    """Angles of all fingers from joints and tips [..., 21, 3] in the palm's axes, from the wrist.

    moments: [..., 5, 3, 3] of the skin around the first bones. twist: [..., 5], a first estimate.
    twist_error: [..., 5], by how much the skin shows too much twist.
    """
    chain = joints[..., 1:, :].reshape(*joints.shape[:-2], 5, 4, 3)
    bones = np.diff(chain, axis=-2)
    lengths = np.linalg.norm(bones, axis=-1)
    roots = np.linalg.norm(chain[..., :1, :], axis=-1)
    scales = np.concatenate([roots, lengths], -1) / skeleton.lengths
    straight = lengths < _MIN_BONE * skeleton.lengths[:, 1:]

    # First joints: abduction and flexion carry the bone from its rest direction to where it is.
    frames = skeleton.frames[:, 0]
    flexion = np.empty(lengths.shape)
    rest = (about_z(twist) @ skeleton.directions[:, 0, :, None])[..., 0]
    bone = (bones[..., :1, :] @ frames)[..., 0, :] / np.maximum(lengths[..., :1], 1e-6)
    bone = np.where(straight[..., :1], rest, bone)
    abduction = _abduction(bone, rest)
    upright = (about_y(-abduction) @ bone[..., None])[..., 0]
    flexion[..., 0] = _flexion(upright, rest, FLEXION_LIMITS[:, 0])
    swing = about_y(abduction) @ about_x(-flexion[..., 0])
    twist = _twist(swing, frames, moments) - twist_error
    twist = np.clip(twist, -TWIST_LIMITS, TWIST_LIMITS)
    turn = frames @ swing @ about_z(twist) @ frames.swapaxes(-1, -2)

    # The others are hinges.
    for k in (1, 2):
        frames, rest = skeleton.frames[:, k], skeleton.directions[:, k]
        bone = (bones[..., k : k + 1, :] @ turn @ frames)[..., 0, :]
        bone = np.where(straight[..., k : k + 1], rest, bone)
        flexion[..., k] = _flexion(bone, rest, FLEXION_LIMITS[:, k])
        turn = turn @ frames @ about_x(-flexion[..., k]) @ frames.swapaxes(-1, -2)
    return FingerPose(flexion, abduction, twist, scales.reshape(*scales.shape[:-2], 20))


def _abduction(bone: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Turn about y, [..., 5], that (with some flexion) takes rest to bone, both [..., 5, 3];
    limited."""
    # Flexed beyond the right angle, a bone points back (z > 0) without having turned about y.
    ahead = np.where(bone[..., 2] > 0, -1.0, 1.0)
    across = np.hypot(bone[..., 0], bone[..., 2])
    forward = np.sqrt(np.maximum(across**2 - rest[..., 0] ** 2, 1e-12))
    angle = np.arctan2(-ahead * bone[..., 0], -ahead * bone[..., 2])
    angle -= np.arctan2(-ahead * rest[..., 0], forward)
    closed = np.clip(np.arctan2(-bone[..., 1], ahead * across) / (np.pi / 2), 0, 1)
    closed[..., 0] = 0  # the thumb spreads in any flexion
    free = 1 - _CLOSED_SPREAD * closed
    return np.clip(angle, ABDUCTION_LIMITS[:, 0] * free, ABDUCTION_LIMITS[:, 1] * free)


def _flexion(bone: np.ndarray, rest: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Hinge angles [..., 5] from rest to bone, both [..., 5, 3] in the joints' frames; limited."""
    angle = np.arctan2(-bone[..., 1], -bone[..., 2]) - np.arctan2(-rest[..., 1], -rest[..., 2])
    middle = limits.mean(-1)
    # The nearer way round to the middle of the range.
    angle = middle + (angle - middle + np.pi) % (2 * np.pi) - np.pi
    return np.clip(angle, limits[:, 0], limits[:, 1])


def _twist(swing: np.ndarray, frames: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Turn about the bones, [..., 5], that best explains the skin once the swing is undone: the
    rotation about z nearest to the moments (Procrustes in the plane)."""
    left = swing.swapaxes(-1, -2) @ frames.swapaxes(-1, -2) @ moments @ frames
    return np.arctan2(left[..., 1, 0] - left[..., 0, 1], left[..., 0, 0] + left[..., 1, 1])


def _compare(skeleton: Skeleton, pose: FingerPose) -> tuple[np.ndarray, np.ndarray]:
    """What would be measured on the pose's own mesh, against the pose: keypoints less joints
    [..., 21, 3] and twist less twist [..., 5]."""
    hands = pose.twist.shape[:-1]
    # The palm's skin does not know single metacarpals: with their own scales, a knuckle's error
    # would come back as its offset and fade slowly.
    scales = pose.scales.reshape(*hands, 5, 4).copy()
    scales[..., 0] = scales[..., 0].mean(-1, keepdims=True)
    maps, joints, _ = forward(skeleton, pose.local, scales.reshape(*hands, 20))
    stack = stacked(maps, joints)
    keypoints = skeleton.keypoints @ stack
    bare = keypoints.copy()  # tips are what is measured, so they have no offset
    bare[..., list(KEYPOINT_OF_JOINT), :] = joints
    moments = (skeleton.posed_moments @ stack).reshape(*hands, 5, 3, 3).swapaxes(-1, -2)
    frames = skeleton.frames[:, 0]
    swing = pose.local.reshape(*hands, 5, 3, 3, 3)[..., 0, :, :] @ about_z(-pose.twist)
    offsets = keypoints - bare
    return offsets - offsets[..., :1, :], _twist(swing, frames, moments) - pose.twist
