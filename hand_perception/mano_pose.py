"""MANO's own pose of a mesh: 16 axis-angles, for hands whose topology is MANO's.

MANO's joints have no anatomical axes, so articulation.py's angles are not defined there; what its
users exchange are the rotations of its kinematic tree (Romero et al. 2017): [48] numbers, the
wrist's first, then index, middle, little finger, ring finger and thumb.
"""

from __future__ import annotations

import numpy as np

from hand_perception.articulation import axis_angle
from hand_perception.errors import DataError
from hand_perception.hands import Hand, Side
from hand_perception.template import PARENTS, Template

# MANO orders its joints wrist, index, middle, pinky, ring, thumb; the Template's order is ours.
JOINT_ORDER = (0, 13, 14, 15, 1, 2, 3, 4, 5, 6, 10, 11, 12, 7, 8, 9)
_MIRROR = np.array([-1.0, 1.0, 1.0])
# Each leaves a quarter of what blended skin adds to the turns of its two bones: 8 degrees at worst
# at first, 0.2 at the end.
_PASSES = 3


class ManoPoser:
    """Finds MANO poses of meshes of one template; what is the same for all is computed once.

    The turn of a bone is the one nearest to how its skin has turned (Kabsch). Skin near a joint
    goes half-way with both bones; the mesh that the found pose has tells by how much.
    """

    def __init__(self, template: Template) -> None:
        """template: MANO's, or any whose rest pose is the zero of the rotations."""
        self._template = template
        weights = template.weights.astype(np.float64)
        root = template.joints[0].astype(np.float64)
        vertices, self._joints = template.vertices - root, template.joints - root
        share = weights**4
        share[:, 0] = weights[:, 0] > 0.99  # the palm by its rigid part
        share /= share.sum(0)
        centred = vertices[:, None] - share.T @ vertices
        self._moments = (share[..., None] * centred).reshape(len(vertices), -1).T  # [48, V]
        relative = vertices[:, None] - self._joints
        blending = np.concatenate([weights[..., None] * relative, weights[..., None]], -1)
        self._posed_moments = self._moments @ blending.reshape(len(vertices), -1)  # [48, 64]

    def __call__(self, hand: Hand) -> np.ndarray:
        """[48] axis-angles in MANO's joint order, radians: of MANO_RIGHT for a right hand, of
        MANO_LEFT (its mirror image) for a left one; the first turns the rest pose into the camera
        frame. Raises DataError when the mesh is of another topology or not finite.
        """
        vertices = np.asarray(hand.vertices, np.float64)
        if vertices.shape != self._template.vertices.shape or hand.topology != self._template.name:
            raise DataError(
                f"the hand's mesh is {hand.topology!r} {vertices.shape}, the template "
                f"{self._template.name!r}: make the ManoPoser with the hand's own template"
            )
        if not np.isfinite(vertices).all():
            raise DataError("the hand has vertices that are not finite: leave it out")
        if hand.side is Side.LEFT:
            vertices = vertices * _MIRROR
        seen = _nearest_rotations(self._moments @ vertices)
        world = seen
        for _ in range(_PASSES):
            shown = _nearest_rotations(self._posed_moments @ self._stacked(world))
            world = seen @ shown.swapaxes(-1, -2) @ world
        local = world.copy()
        local[1:] = world[list(PARENTS[1:])].swapaxes(-1, -2) @ world[1:]
        vectors = axis_angle(local)
        if hand.side is Side.LEFT:
            vectors = vectors * (1, -1, -1)
        return vectors[np.argsort(_TEMPLATE_TO_MANO)].ravel()

    def _stacked(self, world: np.ndarray) -> np.ndarray:
        """[64, 3]: each joint's turn, transposed, and its place."""
        places = np.zeros((len(PARENTS), 3))
        for k, parent in enumerate(PARENTS[1:], 1):
            bone = self._joints[k] - self._joints[parent]
            places[k] = places[parent] + world[parent] @ bone
        return np.concatenate([world.swapaxes(-1, -2), places[:, None]], 1).reshape(-1, 3)


# JOINT_ORDER[k] is where MANO has the Template's joint k.
_TEMPLATE_TO_MANO = np.array(JOINT_ORDER)


def _nearest_rotations(moments: np.ndarray) -> np.ndarray:
    """Rotations [16, 3, 3] nearest to sums of rest times posed offsets, [48, 3]."""
    u, _, vt = np.linalg.svd(moments.reshape(-1, 3, 3).swapaxes(-1, -2))
    u[..., 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return u @ vt
