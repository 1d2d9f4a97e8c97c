"""The template posed to what a network saw: a prior of what hands are, where a mesh is published.

A network regresses 778 points that know of no bones: where it is unsure, fingers crumple and shrink
("our model lacks geometric priors", Chen et al. 2025, section 5). Here the skeleton of the template
is posed to agree with three opinions at once: the mesh's joints, the 2D joints, which err less in
the image, and what joints do. Bones keep lengths, skin stays smooth, and the mesh lies where the 2D
joints are. A handful of Gauss-Newton steps over 37 numbers, all hands of an image at once, as numpy
takes longer to be called than to compute; docs/articulation.md has what it gains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hand_perception.articulation import FingerPose, closed_form, skinned
from hand_perception.errors import DataError
from hand_perception.geometry import slopes, wrist_frame
from hand_perception.hands import NUM_KEYPOINTS, Camera, Hand
from hand_perception.skeleton import (
    ABDUCTION_LIMITS,
    FLEXION_LIMITS,
    TWIST_LIMITS,
    Skeleton,
    about_y,
    forward,
    mirror_of,
    skeleton_of,
)
from hand_perception.template import Template

STEPS = 2
# Of a 2D joint, in sides of the hand's box, and of a joint of a network's mesh about the others, in
# metres: what MobRecon errs on photographs and on rendered hands, as standard deviations. Beyond so
# many of them an error counts by its size, not by its square.
IMAGE_SD, IMAGE_HUBER = 0.03, 1.5
MESH_SD, MESH_HUBER = 0.010, 2.0
# People's hands differ so much in size, and the fingers of one in length (LENGTH_SD of
# data/mesh_fitting.py), as logarithms.
SIZE_SD, FINGER_SD = 0.08, 0.08
_MOST_LONGER = 0.3
# Degrees: where joints are in a hand at ease, and how far they are from there now and then; rows
# are thumb and fingers, columns flexion and abduction of the first joint, flexion of the others,
# twist of the first.
_AT_EASE = np.radians([[10, 5, 20, 25, 0], *[[30, 0, 45, 30, 0]] * 4])
_SPREAD = np.radians([[28, 28, 28, 42, 28], *[[50, 17, 57, 35, 11]] * 4])
_FLEXIONS, _ABDUCTION, _TWIST = [0, 2, 3], 1, 4
_LIMITS = np.empty((2, 5, 5))  # low and high
_LIMITS[..., _FLEXIONS] = FLEXION_LIMITS.transpose(2, 0, 1)
_LIMITS[..., _ABDUCTION] = ABDUCTION_LIMITS.T
_LIMITS[..., _TWIST] = -TWIST_LIMITS, TWIST_LIMITS
# Which joints of a finger each of its angles moves: the knuckle stays.
_MOVED = np.array([[0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1]], float)
_NEXT, _LAST = [1, 2, 0], [2, 0, 1]
# An angle turns by no more than this in one step.
_STRIDE = 0.5
# Added to the diagonal, as a share of it: hidden fingers leave it nearly singular.
_DAMPING = 0.01
_NEAREST_M = 0.02
# A box of less than a pixel or so, as a slope.
_SMALLEST = 1e-3
# Columns of the Jacobian, and of those a prior holds.
_ANGLES, _TURN, _PLACE = slice(0, 25), slice(25, 28), slice(28, 31)
_SIZE, _FINGERS = 31, slice(32, 37)
_PARAMETERS = 37
_DIAGONAL = np.arange(_PARAMETERS)
_HELD = np.r_[_ANGLES, _SIZE, _FINGERS]
_HELD_SD = np.concatenate([_SPREAD.ravel(), [SIZE_SD], [FINGER_SD] * 5])


@dataclass(frozen=True)
class _Seen:
    """What H right hands, or the mirror images of left ones, are seen to be. vertices [H, V, 3] and
    keypoints [H, 21, 3]: of the networks' meshes, metres in the camera frame. rays [H, 21, 2]:
    geometry.slopes of the 2D joints. extents [H]: the longer sides of the hands' boxes, as slopes.
    """

    vertices: np.ndarray
    keypoints: np.ndarray
    rays: np.ndarray
    extents: np.ndarray

    @classmethod
    def of(cls, hands: Sequence[Hand], mirrors: np.ndarray, camera: Camera) -> _Seen:
        """mirrors: [H, 1, 3]."""
        boxes = np.array([hand.box for hand in hands], np.float64)
        sides = (boxes[:, 2:] - boxes[:, :2]) / (camera.fx, camera.fy)
        pixels = np.stack([hand.keypoints2d for hand in hands])
        rays = slopes(pixels.reshape(-1, 2), camera).reshape(pixels.shape)
        return cls(
            np.stack([hand.vertices for hand in hands]).astype(np.float64) * mirrors,
            np.stack([hand.keypoints3d for hand in hands]).astype(np.float64) * mirrors,
            rays * mirrors[..., :2],
            np.maximum(sides.max(1), _SMALLEST),
        )


@dataclass(frozen=True)
class _State:
    """H right hands in the camera frame. orientation [H, 3, 3]; place [H, 3] of the wrist; angles
    [H, 5, 5] as _AT_EASE; size [H], and fingers [H, 5] beyond it: logarithms of scales."""

    orientation: np.ndarray
    place: np.ndarray
    angles: np.ndarray
    size: np.ndarray
    fingers: np.ndarray

    def pose(self) -> FingerPose:
        longer = np.repeat(self.fingers[..., None], 4, -1)
        longer[..., 0] = 0
        return FingerPose(
            self.angles[..., _FLEXIONS],
            self.angles[..., _ABDUCTION],
            self.angles[..., _TWIST],
            np.exp(self.size[:, None] + longer.reshape(-1, 20)),
        )


def posed(hands: Sequence[Hand], camera: Camera, template: Template) -> list[Hand]:
    """The same hands of an image with the template's mesh, posed to them. One that has no pose
    stays as it is: without extent, beside the lens, or of a template without joint axes (MANO's).
    """
    if not hands:
        return []
    try:
        return _posed(hands, camera, template)
    except (DataError, np.linalg.LinAlgError):
        if len(hands) == 1:
            return list(hands)
    return [found for hand in hands for found in posed([hand], camera, template)]


def _posed(hands: Sequence[Hand], camera: Camera, template: Template) -> list[Hand]:
    """Raises DataError or LinAlgError where one of them has no pose."""
    skeleton = skeleton_of(template)
    mirrors = np.stack([mirror_of(hand.side) for hand in hands])[:, None]
    state = _fit(skeleton, _Seen.of(hands, mirrors, camera))
    pose = state.pose()
    vertices = skinned(skeleton, pose.local, pose.scales) @ state.orientation.swapaxes(1, 2)
    vertices = (vertices + state.place[:, None]) * mirrors
    if not np.isfinite(vertices).all():
        raise DataError("no pose is finite")
    out = []
    for hand, own in zip(hands, vertices.astype(np.float32), strict=True):
        keypoints = template.regressor @ own
        wrist = wrist_frame(keypoints, hand.side)
        out.append(replace(hand, vertices=own, keypoints3d=keypoints, wrist=wrist))
    return out


def _fit(skeleton: Skeleton, seen: _Seen) -> _State:
    """At the distances of the meshes. Raises DataError when a palm has no extent or a hand is not
    before the camera."""
    keypoints = seen.keypoints
    if not (keypoints[..., 2].mean(1) > _NEAREST_M).all():
        raise DataError("the hand is not before the camera, so is in no image: leave it out")
    orientation, pose = closed_form(skeleton, seen.vertices, keypoints)
    first, *others = np.moveaxis(pose.flexion, -1, 0)
    angles = np.stack([first, pose.abduction, *others, pose.twist], -1)
    count = len(keypoints)
    state = _State(orientation, keypoints[:, 0], angles, np.zeros(count), np.zeros((count, 5)))
    for _ in range(STEPS):
        state = _step(skeleton, state, seen)
    # How large and how far cannot both be told from one image: the distance was, by whoever placed
    # the mesh. About the lens, size and distance change together and nothing in the image does.
    joints = _joints(_chains(skeleton, state.pose())[0], state) + state.place[:, None]
    farther = keypoints[..., 2].mean(1) / np.maximum(joints[..., 2].mean(1), _NEAREST_M)
    return replace(state, place=state.place * farther[:, None], size=state.size + np.log(farther))


def _chains(skeleton: Skeleton, pose: FingerPose) -> tuple[np.ndarray, np.ndarray]:
    """Joints and tips [H, 5, 4, 3] in the palm's axes, from the wrist; turns [H, 5, 3, 3, 3]."""
    _, joints, turns = forward(skeleton, pose.local, pose.scales)
    chains = joints[:, 1:].reshape(-1, 5, 3, 3)
    last = pose.scales.reshape(-1, 5, 4)[..., 3:] * skeleton.bones[:, 3]
    tips = chains[:, :, 2] + (turns[:, :, 2] @ last[..., None])[..., 0]
    return np.concatenate([chains, tips[:, :, None]], 2), turns


def _moves(
    skeleton: Skeleton, pose: FingerPose, chains: np.ndarray, turns: np.ndarray
) -> np.ndarray:
    """[H, 5 fingers, 4 joints, 3, 6]: how a finger's joints move with its angles and its length."""
    upright, turned = skeleton.frames[:, 0], turns @ skeleton.frames
    axes = np.empty((len(chains), 5, 5, 3))  # fingers, angles
    axes[:, :, 0] = -(upright @ about_y(pose.abduction))[..., 0]
    axes[:, :, 1] = upright[..., 1]
    axes[:, :, 2] = -turned[:, :, 1, :, 0]
    axes[:, :, 3] = -turned[:, :, 2, :, 0]
    axes[:, :, 4] = turned[:, :, 0, :, 2]
    arms = chains[:, :, None] - chains[:, :, [0, 0, 1, 2, 0], None]
    by_angles = _cross(axes[..., None, :], arms) * _MOVED[..., None]
    by_length = arms[:, :, :1]
    return np.concatenate([by_angles, by_length], 2).transpose(0, 1, 3, 4, 2)


def _joints(chains: np.ndarray, state: _State) -> np.ndarray:
    """[H, 21, 3] in the camera's axes, from the wrist."""
    count = len(chains)
    joints = np.concatenate([np.zeros((count, 1, 3)), chains.reshape(count, 20, 3)], 1)
    return joints @ state.orientation.swapaxes(1, 2)


def _step(skeleton: Skeleton, state: _State, seen: _Seen) -> _State:
    """One of Gauss-Newton's."""
    pose = state.pose()
    chains, turns = _chains(skeleton, pose)
    joints, keypoints = _joints(chains, state), seen.keypoints
    moves = np.zeros((len(joints), NUM_KEYPOINTS, 3, _PARAMETERS))
    own = state.orientation[:, None, None] @ _moves(skeleton, pose, chains, turns)
    for finger in range(5):
        joints_of_it = slice(1 + 4 * finger, 5 + 4 * finger)
        moves[:, joints_of_it, :, 5 * finger : 5 * finger + 5] = own[:, finger, ..., :5]
        moves[:, joints_of_it, :, _FINGERS.start + finger] = own[:, finger, ..., 5]
    moves[..., _TURN] = _cross(np.eye(3), joints[:, :, None]).swapaxes(-1, -2)
    moves[..., _SIZE] = joints

    # In space: about their mean, at the joints' own extent. Where a network is unsure its mesh
    # shrinks, which says nothing of the hand.
    centred, about = (x - x.mean(1, keepdims=True) for x in (joints, keypoints))
    extents = (np.linalg.norm(x, axis=-1).sum(1)[:, None, None] for x in (centred, about))
    about = about * np.divide(*extents)
    by_space = moves - moves.mean(1, keepdims=True)
    in_space = _huber((centred - about) / MESH_SD, by_space / MESH_SD, MESH_HUBER)
    # In the image, where joints are marked beside where bones meet.
    marks = skeleton.marks @ state.orientation.swapaxes(1, 2) * np.exp(state.size)[:, None, None]
    moves[..., _TURN] += _cross(np.eye(3), marks[:, :, None]).swapaxes(-1, -2)
    moves[..., _SIZE] += marks
    moves[..., _PLACE] = np.eye(3)
    placed = joints + marks + state.place[:, None]
    depth = np.maximum(placed[..., 2:], _NEAREST_M)
    projected = placed[..., :2] / depth
    sd = IMAGE_SD * seen.extents[:, None, None]
    by_image = (moves[..., :2, :] - projected[..., None] * moves[..., 2:, :]) / depth[..., None]
    in_image = _huber((projected - seen.rays) / sd, by_image / sd[..., None], IMAGE_HUBER)

    normal, gradient = in_space[0] + in_image[0], in_space[1] + in_image[1]
    # What joints and sizes do.
    angles_off = (state.angles - _AT_EASE).reshape(-1, 25)
    off = np.concatenate([angles_off, state.size[:, None], state.fingers], 1)
    normal[:, _HELD, _HELD] += 1 / _HELD_SD**2
    gradient[:, _HELD] += off / _HELD_SD**2
    normal[:, _DIAGONAL, _DIAGONAL] *= 1 + _DAMPING
    step = -np.linalg.solve(normal, gradient[..., None])[..., 0]

    turned = np.clip(step[:, _ANGLES], -_STRIDE, _STRIDE).reshape(-1, 5, 5)
    place = state.place + step[:, _PLACE]
    place[:, 2] = np.maximum(place[:, 2], _NEAREST_M)
    return _State(
        np.stack([cv2.Rodrigues(turn)[0] for turn in step[:, _TURN]]) @ state.orientation,
        place,
        np.clip(state.angles + turned, *_LIMITS),
        np.clip(state.size + step[:, _SIZE], -_MOST_LONGER, _MOST_LONGER),
        np.clip(state.fingers + step[:, _FINGERS], -_MOST_LONGER, _MOST_LONGER),
    )


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """np.cross of [..., 3], in a third of its time."""
    return a[..., _NEXT] * b[..., _LAST] - a[..., _LAST] * b[..., _NEXT]


def _huber(error: np.ndarray, jacobian: np.ndarray, bound: float) -> tuple[np.ndarray, np.ndarray]:
    """J^T W J [H, P, P] and J^T W e [H, P] of errors [H, 21, D] with jacobian [H, 21, D, P], in
    standard deviations."""
    length = np.linalg.norm(error, axis=-1)
    weight = np.sqrt(np.minimum(1.0, bound / np.maximum(length, 1e-9)))[..., None]
    rows = (jacobian * weight[..., None]).reshape(len(error), -1, _PARAMETERS)
    across = rows.swapaxes(1, 2)
    return across @ rows, (across @ (error * weight).reshape(len(error), -1, 1))[..., 0]
