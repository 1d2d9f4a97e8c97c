"""From one hand topology's vertices to another's: open778 and MANO have as many, elsewhere.

Both templates are hands at rest with the same joints. One is bent and scaled, bone by bone, onto
the other's skeleton; then each of the other's vertices takes the nearest point of its surface.
Since that point moves with the triangle it lies in, it follows every pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from hand_perception.geometry import barycentric, similarity_fit
from hand_perception.template import KEYPOINT_OF_JOINT, Template

PALM = (0, 1, 5, 9, 13, 17)
# The end of a finger is the mean of so many of its vertices, those farthest from its last joint.
TIP_VERTICES = 5
# Triangles around so many of a point's nearest vertices are looked at.
NEIGHBOURS = 12


@dataclass(frozen=True)
class Correspondence:
    """Each vertex of the target as a point of a triangle of the source: corners [V, 3] indices,
    weights [V, 3] barycentric.
    """

    corners: np.ndarray
    weights: np.ndarray

    def __call__(self, vertices: np.ndarray) -> np.ndarray:
        """The source's vertices [..., V, 3] as the target's."""
        vertices = np.asarray(vertices)
        moved = (vertices[..., self.corners, :] * self.weights[..., None]).sum(-2)
        return moved.astype(vertices.dtype)

    @classmethod
    def between(cls, source: Template, target: Template) -> Correspondence:
        if source.name == target.name:
            corners = np.repeat(np.arange(len(source.vertices))[:, None], 3, 1)
            return cls(corners, np.tile([1.0, 0, 0], (len(corners), 1)))
        surface = _bent_onto(source, target)
        corners, weights = nearest_on_surface(surface, source.faces, target.vertices)
        return cls(corners, weights)


def _bent_onto(source: Template, target: Template) -> np.ndarray:
    """The source's vertices [V, 3], its bones laid onto the target's."""
    a, b = (_points(template) for template in (source, target))
    scale, rotation, shift = similarity_fit(a[list(PALM)], b[list(PALM)])
    palm = scale * rotation
    maps, offsets = [], []
    for keypoint in KEYPOINT_OF_JOINT:
        if keypoint == 0:
            maps.append(palm)
            offsets.append(shift)
            continue
        # Along the bone its own length and direction, across it the palm's size.
        along_a, along_b = rotation @ (a[keypoint + 1] - a[keypoint]), b[keypoint + 1] - b[keypoint]
        length_a, length_b = np.linalg.norm(along_a), np.linalg.norm(along_b)
        along = along_a / length_a
        stretch = scale * np.eye(3) + (length_b / length_a - scale) * np.outer(along, along)
        turn = _shortest_turn(along, along_b / length_b)
        maps.append(turn @ stretch @ rotation)
        offsets.append(b[keypoint] - maps[-1] @ a[keypoint])
    blended = np.einsum("vj,jab->vab", source.weights.astype(np.float64), np.array(maps))
    moved = np.einsum("vab,vb->va", blended, source.vertices.astype(np.float64))
    return moved + source.weights.astype(np.float64) @ np.array(offsets)


def _points(template: Template) -> np.ndarray:
    """The 21 keypoints at rest, [21, 3]; topologies differ in what they call a tip, so that tips
    are the fingers' ends here.
    """
    points = template.keypoints.astype(np.float64)
    for joint in range(3, 16, 3):
        own = template.vertices[template.weights[:, joint] > 0.5].astype(np.float64)
        farthest = np.argsort(np.linalg.norm(own - template.joints[joint], axis=1))[-TIP_VERTICES:]
        points[KEYPOINT_OF_JOINT[joint] + 1] = own[farthest].mean(0)
    return points


def _shortest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] of unit vector a onto b about their common normal."""
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis)
    if sine < 1e-9:
        return np.eye(3)
    return Rotation.from_rotvec(axis / sine * np.arctan2(sine, a @ b)).as_matrix()


def nearest_on_surface(
    vertices: np.ndarray, faces: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Corners [P, 3] and barycentric weights [P, 3] of the nearest point of a surface to each
    point [P, 3], among the triangles around its NEIGHBOURS nearest vertices.
    """
    _, near = cKDTree(vertices).query(points, k=min(NEIGHBOURS, len(vertices)))
    touching: list[list[int]] = [[] for _ in vertices]
    for index, face in enumerate(faces):
        for corner in face:
            touching[corner].append(index)
    corners, weights = np.zeros((len(points), 3), np.int64), np.zeros((len(points), 3))
    for k, point in enumerate(points.astype(np.float64)):
        candidates = faces[sorted({f for vertex in near[k] for f in touching[vertex]})]
        found = barycentric(vertices[candidates], point)
        distance = np.linalg.norm((vertices[candidates] * found[..., None]).sum(1) - point, axis=-1)
        best = int(distance.argmin())
        corners[k], weights[k] = candidates[best], found[best]
    return corners, weights
