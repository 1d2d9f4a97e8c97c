"""The template posed to what a network saw: a prior of what hands are, where a mesh is published.

A network regresses 778 points that know of no bones: where it is unsure, fingers crumple and shrink
("our model lacks geometric priors", Chen et al. 2025, section 5). Here the skeleton of the template
is posed to agree with three opinions at once: the mesh's joints, the 2D joints, which err less in
the image, and what joints do. Bones keep lengths, skin stays smooth, and the mesh lies where the 2D
joints are. A handful of Gauss-Newton steps over 37 numbers; docs/articulation.md has what it gains.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from hand_perception.articulation import (
    Articulation,
    FingerPose,
    articulation_of,
    closed_form,
    pose_template,
)
from hand_perception.errors import DataError
from hand_perception.geometry import slopes, wrist_frame
from hand_perception.hands import NUM_KEYPOINTS, Camera, Hand, Side
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
_HELD = np.r_[_ANGLES, _SIZE, _FINGERS]
_HELD_SD = np.concatenate([_SPREAD.ravel(), [SIZE_SD], [FINGER_SD] * 5])


@dataclass(frozen=True)
class _State:
    """A right hand in the camera frame. orientation [3, 3]; place [3] of the wrist; angles [5, 5]
    as _AT_EASE; size, and fingers [5] beyond it: logarithms of scales."""

    orientation: np.ndarray
    place: np.ndarray
    angles: np.ndarray
    size: float
    fingers: np.ndarray

    def pose(self) -> FingerPose:
        longer = np.concatenate([np.zeros((5, 1)), np.repeat(self.fingers[:, None], 3, 1)], 1)
        return FingerPose(
            self.angles[:, _FLEXIONS],
            self.angles[:, _ABDUCTION],
            self.angles[:, _TWIST],
            np.exp(self.size + longer).ravel(),
        )


def posed(hand: Hand, camera: Camera, template: Template) -> Hand:
    """The same hand with the template's mesh, posed to it. A hand that has no pose stays as it is:
    one without extent, beside the lens, or of a template without joint axes (MANO's)."""
    sides = (hand.box[2:] - hand.box[:2]) / (camera.fx, camera.fy)
    try:
        articulation = fit_pose(
            hand.vertices.astype(np.float64),
            hand.keypoints3d.astype(np.float64),
            slopes(hand.keypoints2d, camera),
            max(float(sides.max()), _SMALLEST),
            hand.side,
            template,
        )
    except (DataError, np.linalg.LinAlgError):
        return hand
    vertices, keypoints = pose_template(articulation, template)
    if not np.isfinite(vertices).all():
        return hand
    return replace(
        hand, vertices=vertices, keypoints3d=keypoints, wrist=wrist_frame(keypoints, hand.side)
    )


def fit_pose(
    vertices: np.ndarray,
    keypoints: np.ndarray,
    rays: np.ndarray,
    extent: float,
    side: Side,
    template: Template,
) -> Articulation:
    """The pose of a hand whose mesh and 2D joints are known, at the distance of its mesh.

    vertices [V, 3] and keypoints [21, 3]: metres in the camera frame, of ``side``. rays [21, 2]:
    geometry.slopes of the 2D joints. extent: the longer side of the hand's box, as a slope.
    Raises DataError when the palm has no extent, the hand is not before the camera, or the template
    has no anatomical joint axes (MANO's).
    """
    skeleton = skeleton_of(template)
    if not keypoints[:, 2].mean() > _NEAREST_M:
        raise DataError("the hand is not before the camera, so is in no image: leave it out")
    mirror = mirror_of(side)
    keypoints, rays = keypoints * mirror, rays * mirror[:2]
    orientation, pose = closed_form(skeleton, vertices * mirror, keypoints)
    first, *others = pose.flexion.T
    angles = np.stack([first, pose.abduction, *others, pose.twist], 1)
    state = _State(orientation, keypoints[0], angles, 0.0, np.zeros(5))
    for _ in range(STEPS):
        state = _step(skeleton, state, keypoints, rays, extent)
    # How large and how far cannot both be told from one image: the distance was, by whoever placed
    # the mesh. About the lens, size and distance change together and nothing in the image does.
    distance = (_joints(_chains(skeleton, state.pose())[0], state) + state.place)[:, 2].mean()
    farther = float(keypoints[:, 2].mean() / max(distance, _NEAREST_M))
    state = replace(state, place=state.place * farther, size=state.size + np.log(farther))
    return articulation_of(skeleton, side, state.orientation, state.place, state.pose())


def _chains(skeleton: Skeleton, pose: FingerPose) -> tuple[np.ndarray, np.ndarray]:
    """Joints and tips [5, 4, 3] in the palm's axes, from the wrist; turns [5, 3, 3, 3]."""
    _, joints, turns = forward(skeleton, pose.local, pose.scales)
    chains = joints[1:].reshape(5, 3, 3)
    last = pose.scales.reshape(5, 4)[:, 3:] * skeleton.bones[:, 3]
    tips = chains[:, 2] + (turns[:, 2] @ last[..., None])[..., 0]
    return np.concatenate([chains, tips[:, None]], 1), turns


def _moves(
    skeleton: Skeleton, pose: FingerPose, chains: np.ndarray, turns: np.ndarray
) -> np.ndarray:
    """[5 fingers, 4 joints, 3, 6]: how a finger's joints move with its angles and its length."""
    upright, turned = skeleton.frames[:, 0], turns @ skeleton.frames
    axes = np.stack(
        [
            -(upright @ about_y(pose.abduction))[..., 0],
            upright[..., 1],
            -turned[:, 1, :, 0],
            -turned[:, 2, :, 0],
            turned[:, 0, :, 2],
        ],
        1,
    )  # [5 fingers, 5 angles, 3]
    arms = chains[:, None] - chains[:, [0, 0, 1, 2, 0], None]
    by_angles = _cross(axes[:, :, None], arms) * _MOVED[..., None]
    by_length = arms[:, :1]
    return np.concatenate([by_angles, by_length], 1).transpose(0, 2, 3, 1)


def _joints(chains: np.ndarray, state: _State) -> np.ndarray:
    """[21, 3] in the camera's axes, from the wrist."""
    return np.concatenate([np.zeros((1, 3)), chains.reshape(-1, 3)]) @ state.orientation.T


def _step(
    skeleton: Skeleton, state: _State, keypoints: np.ndarray, rays: np.ndarray, extent: float
) -> _State:
    """One of Gauss-Newton's."""
    pose = state.pose()
    chains, turns = _chains(skeleton, pose)
    joints = _joints(chains, state)
    moves = np.zeros((NUM_KEYPOINTS, 3, _PARAMETERS))
    for finger, own in enumerate(state.orientation @ _moves(skeleton, pose, chains, turns)):
        joints_of_it = slice(1 + 4 * finger, 5 + 4 * finger)
        moves[joints_of_it, :, 5 * finger : 5 * finger + 5] = own[..., :5]
        moves[joints_of_it, :, _FINGERS.start + finger] = own[..., 5]
    moves[..., _TURN] = _cross(np.eye(3), joints[:, None]).swapaxes(1, 2)
    moves[..., _SIZE] = joints

    # In space: about their mean, at the joints' own extent. Where a network is unsure its mesh
    # shrinks, which says nothing of the hand.
    centred, seen = joints - joints.mean(0), keypoints - keypoints.mean(0)
    seen = seen * (np.linalg.norm(centred, axis=1).sum() / np.linalg.norm(seen, axis=1).sum())
    in_space = _huber((centred - seen) / MESH_SD, (moves - moves.mean(0)) / MESH_SD, MESH_HUBER)
    # In the image, where joints are marked beside where bones meet.
    marks = np.exp(state.size) * skeleton.marks @ state.orientation.T
    moves[..., _TURN] += _cross(np.eye(3), marks[:, None]).swapaxes(1, 2)
    moves[..., _SIZE] += marks
    moves[..., _PLACE] = np.eye(3)
    placed = joints + marks + state.place
    depth = np.maximum(placed[:, 2:], _NEAREST_M)
    projected = placed[:, :2] / depth
    sd = IMAGE_SD * extent
    by_image = (moves[:, :2] - projected[..., None] * moves[:, 2:]) / depth[..., None]
    in_image = _huber((projected - rays) / sd, by_image / sd, IMAGE_HUBER)

    normal, gradient = in_space[0] + in_image[0], in_space[1] + in_image[1]
    # What joints and sizes do.
    off = np.concatenate([(state.angles - _AT_EASE).ravel(), [state.size], state.fingers])
    normal[_HELD, _HELD] += 1 / _HELD_SD**2
    gradient[_HELD] += off / _HELD_SD**2
    normal[np.diag_indices(_PARAMETERS)] *= 1 + _DAMPING
    step = -np.linalg.solve(normal, gradient)

    angles = state.angles + np.clip(step[_ANGLES], -_STRIDE, _STRIDE).reshape(5, 5)
    place = state.place + step[_PLACE]
    return _State(
        cv2.Rodrigues(step[_TURN])[0] @ state.orientation,
        np.append(place[:2], max(place[2], _NEAREST_M)),
        np.clip(angles, *_LIMITS),
        float(np.clip(state.size + step[_SIZE], -_MOST_LONGER, _MOST_LONGER)),
        np.clip(state.fingers + step[_FINGERS], -_MOST_LONGER, _MOST_LONGER),
    )


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """np.cross of [..., 3], in a third of its time."""
    return a[..., _NEXT] * b[..., _LAST] - a[..., _LAST] * b[..., _NEXT]


def _huber(error: np.ndarray, jacobian: np.ndarray, bound: float) -> tuple[np.ndarray, np.ndarray]:
    """J^T W J and J^T W e of errors [21, D] with jacobian [21, D, P], in standard deviations."""
    length = np.linalg.norm(error, axis=1)
    weight = np.sqrt(np.minimum(1.0, bound / np.maximum(length, 1e-9)))[:, None]
    rows = (jacobian * weight[..., None]).reshape(-1, _PARAMETERS)
    return rows.T @ rows, rows.T @ (error * weight).ravel()
