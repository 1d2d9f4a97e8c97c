"""Builds the open hand template from the WebXR generic hand (MIT, Amazon).

    npm pack @webxr-input-profiles/assets@1.0.20 && tar xzf webxr-input-profiles-assets-1.0.20.tgz
    python scripts/build_template.py package/dist/profiles/generic-hand/right.glb

Cuts the wrist open, simplifies to 1,538 faces with a boundary of 16 edges (which makes 778
vertices, as many as MANO has), carries the skinning weights over, and fits a sparse regressor from
vertices to the 21 keypoints, another to where photographs are labelled with them. A denser mesh for
rendering comes with a barycentric map, so that the 778 vertices of any rendered hand are known
exactly. The result is deterministic.
"""

from __future__ import annotations

import argparse
import heapq
import json
import struct
from collections import defaultdict
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
import trimesh
from scipy.optimize import nnls
from scipy.spatial.transform import Rotation

from hand_perception.synthesis.rig import forward_kinematics, local_rotations, skin
from hand_perception.synthesis.shape import ShapeSampler
from hand_perception.template import ASSETS, KEYPOINT_OF_JOINT, PARENTS, TIP_KEYPOINTS

FACES, BOUNDARY = 1538, 16
LONG_FINGERS = ("index", "middle", "ring", "pinky")
JOINTS = (
    "wrist",
    *("thumb-metacarpal", "thumb-phalanx-proximal", "thumb-phalanx-distal"),
    *(
        f"{f}-finger-phalanx-{p}"
        for f in LONG_FINGERS
        for p in ("proximal", "intermediate", "distal")
    ),
)
CUT_METRES = 0.0055  # how far above the source mesh's flat wrist cap the hand is cut open
# Where photographs are labelled, beside where this rig's bones meet, by keypoint: metres in the
# template's axes (-x to the palm's side, -y to the fingertips, -z to the thumb), to half a
# millimetre. scripts/measure_landmarks.py measures it; what it finds below 2 mm is left out.
MARKED_BESIDE = {
    0: (-0.0095, -0.0105, 0.0),
    1: (-0.002, 0.0065, 0.002),
    5: (0.001, -0.005, 0.001),
    13: (-0.001, -0.003, 0.0),
    17: (0.0, -0.0025, 0.0),
}
_GLTF_TYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_GLTF_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


def read_glb(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Welded vertices, faces, weights [V, 16], joint positions and rest frames of a skinned GLB."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    gltf, binary = json.loads(data[20 : 20 + length]), data[28 + length :]

    def read(index: int) -> np.ndarray:
        accessor = gltf["accessors"][index]
        view = gltf["bufferViews"][accessor["bufferView"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        kind, width = _GLTF_TYPES[accessor["componentType"]], _GLTF_WIDTHS[accessor["type"]]
        flat = np.frombuffer(binary, kind, accessor["count"] * width, start)
        return flat.reshape(-1, width)

    primitive, skeleton = gltf["meshes"][0]["primitives"][0], gltf["skins"][0]
    nodes = [gltf["nodes"][i] for i in skeleton["joints"]]
    position, indices, influence = (
        read(primitive["attributes"][key]) for key in ("POSITION", "JOINTS_0", "WEIGHTS_0")
    )
    weights = np.zeros((len(position), len(JOINTS)))
    columns = np.array([_joint_of(node["name"]) for node in nodes])
    for k in range(4):
        np.add.at(weights, (np.arange(len(position)), columns[indices[:, k]]), influence[:, k])
    weights /= weights.sum(1, keepdims=True)
    faces = read(primitive["indices"]).reshape(-1, 3)
    rounded = np.round(position.astype(np.float64), 6)
    _, first, welded = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    by_name = {node["name"]: node for node in nodes}
    joints = np.array([by_name[name]["translation"] for name in JOINTS])
    frames = Rotation.from_quat([by_name[name]["rotation"] for name in JOINTS]).as_matrix()
    return (
        position[first].astype(np.float64),
        welded.reshape(-1)[faces],
        weights[first],
        joints,
        frames,
    )


def _joint_of(name: str) -> int:
    """The metacarpals of the long fingers move with the wrist, the tips with the distal bones."""
    if "finger-metacarpal" in name:
        return 0
    return JOINTS.index(name.replace("tip", "phalanx-distal"))


def edges_of(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unique undirected edges [E, 2] and how many faces share each."""
    pairs = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    return np.unique(pairs, axis=0, return_counts=True)


def boundary_of(faces: np.ndarray) -> np.ndarray:
    edges, counts = edges_of(faces)
    return edges[counts == 1]


def closest(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray):
    """Nearest points of a surface: vertex triples [N, 3], barycentric coordinates, positions."""
    triangles = vertices[faces]
    which, where = [], []
    for point in points:
        candidates = trimesh.triangles.closest_point(
            triangles, np.broadcast_to(point, (len(faces), 3))
        )
        best = ((candidates - point) ** 2).sum(1).argmin()
        which.append(best)
        where.append(candidates[best])
    barycentric = trimesh.triangles.points_to_barycentric(triangles[which], np.array(where))
    barycentric = np.clip(barycentric, 0, 1)
    return faces[which], barycentric / barycentric.sum(1, keepdims=True), np.array(where)


def cut_wrist(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Opens the mesh at a plane just above the flat cap that closes the source's wrist (+y)."""
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    cap = (mesh.face_normals[:, 1] > 0.8) & (mesh.triangles_center[:, 1] > 0.058)
    rim = vertices[np.unique(faces[cap])]
    normal = np.linalg.svd(rim - rim.mean(0))[2][2]
    normal *= -np.sign(normal[1])
    origin = rim.mean(0) + normal * CUT_METRES
    vertices, faces, _ = trimesh.intersections.slice_faces_plane(vertices, faces, normal, origin)
    cut = trimesh.Trimesh(vertices, faces, process=False)
    cut.merge_vertices(digits_vertex=6)
    faces = np.asarray(cut.faces)
    proper = (faces != np.roll(faces, 1, 1)).all(1)
    return np.array(cut.vertices), faces[proper]


class Simplifier:
    """Edge collapse by quadric error (Garland & Heckbert 1997), gently favouring even edges."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, evenness: float = 2e-3):
        self.vertices, self.evenness = vertices.copy(), evenness
        self.faces = {i: [int(v) for v in face] for i, face in enumerate(faces)}
        self.around = defaultdict(set)
        self.version = np.zeros(len(vertices), int)
        self.quadrics = np.zeros((len(vertices), 4, 4))
        self.rim = {int(v) for v in boundary_of(faces).ravel()}
        for i, face in self.faces.items():
            a, b, c = vertices[face]
            normal = np.cross(b - a, c - a)
            area = np.linalg.norm(normal)
            for v in face:
                self.around[v].add(i)
                self._add_plane(v, normal / max(area, 1e-14), a, area / 2)
        for a, b in boundary_of(faces):  # a plane through each open edge keeps the rim in place
            x, y, z = vertices[self.faces[min(self.around[a] & self.around[b])]]
            edge = vertices[b] - vertices[a]
            normal = np.cross(np.cross(y - x, z - x), edge)
            for v in (a, b):
                self._add_plane(v, normal / np.linalg.norm(normal), vertices[a], 4 * edge @ edge)

    def _add_plane(self, v: int, normal: np.ndarray, point: np.ndarray, weight: float) -> None:
        plane = np.append(normal, -normal @ point)
        self.quadrics[v] += weight * np.outer(plane, plane)

    def neighbours(self, v: int) -> set[int]:
        return {u for i in self.around[v] for u in self.faces[i]} - {v}

    def on_boundary(self, a: int, b: int) -> bool:
        return len(self.around[a] & self.around[b]) == 1

    def cost(self, a: int, b: int) -> tuple[float, np.ndarray]:
        va, vb, quadric = self.vertices[a], self.vertices[b], self.quadrics[a] + self.quadrics[b]
        if (a in self.rim) != (b in self.rim):
            candidates = [va if a in self.rim else vb]
        else:
            middle = (va + vb) / 2
            damping = 1e-3 * np.trace(quadric[:3, :3])
            best = np.linalg.solve(
                quadric[:3, :3] + damping * np.eye(3), damping * middle - quadric[:3, 3]
            )
            candidates = [va, vb, middle]
            if np.linalg.norm(best - middle) < np.linalg.norm(va - vb):
                candidates.append(best)
        errors = [np.append(x, 1) @ quadric @ np.append(x, 1) for x in candidates]
        k = int(np.argmin(errors))
        crowded = max(len(self.around[a]) + len(self.around[b]) - 4 - 7, 0)
        length2 = ((va - vb) ** 2).sum()
        return errors[k] + self.evenness * length2**2 * (1 + 0.15 * crowded**2), candidates[k]

    def allowed(self, a: int, b: int, target: np.ndarray) -> bool:
        """No fold-over, no sliver, no change of topology."""
        open_edge, shared = self.on_boundary(a, b), self.around[a] & self.around[b]
        if not open_edge and a in self.rim and b in self.rim:
            return False
        if len(self.neighbours(a) & self.neighbours(b)) != (1 if open_edge else 2):
            return False
        for v in (a, b):
            for i in sorted(self.around[v] - shared):
                before = self.vertices[self.faces[i]]
                after = np.where(np.array(self.faces[i])[:, None] == v, target, before)
                n0 = np.cross(before[1] - before[0], before[2] - before[0])
                n1 = np.cross(after[1] - after[0], after[2] - after[0])
                longest2 = ((after - np.roll(after, 1, 0)) ** 2).sum(1).max()
                if n0 @ n1 < 0.3 * np.linalg.norm(n0) * np.linalg.norm(n1):
                    return False
                if np.linalg.norm(n1) < 0.12 * longest2:
                    return False
        return True

    def collapse(self, a: int, b: int, target: np.ndarray) -> None:
        for i in self.around[a] & self.around[b]:
            for v in self.faces.pop(i):
                self.around[v].discard(i)
        for i in self.around.pop(b):
            self.faces[i] = [a if v == b else v for v in self.faces[i]]
            self.around[a].add(i)
        self.vertices[a] = target
        self.quadrics[a] += self.quadrics[b]
        self.version[[a, b]] += 1
        if b in self.rim:
            self.rim = self.rim - {b} | {a}

    def run(self, count: int, boundary: bool) -> None:
        """Collapses edges of (or off) the boundary until ``count`` of them (or faces) are left."""
        heap = []

        def push(a: int, b: int) -> None:
            if self.on_boundary(a, b) == boundary:
                cost, target = self.cost(a, b)
                heapq.heappush(heap, (cost, a, b, *self.version[[a, b]], tuple(target)))

        for a, b in edges_of(np.array(list(self.faces.values())))[0].tolist():
            push(a, b)
        while (len(self.rim) if boundary else len(self.faces)) > count:
            _, a, b, version_a, version_b, target = heapq.heappop(heap)
            if (self.version[a], self.version[b]) != (version_a, version_b):
                continue
            if self.around[a] & self.around[b] and self.allowed(a, b, np.array(target)):
                self.collapse(a, b, np.array(target))
                for v in sorted(self.neighbours(a)):
                    push(*sorted((a, v)))

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        faces = np.array(list(self.faces.values()))
        used, faces = np.unique(faces, return_inverse=True)
        return self.vertices[used], faces.reshape(-1, 3)


def relax(vertices, faces, surface_vertices, surface_faces, rounds: int = 12, step: float = 0.35):
    """Evens the triangles out: tangential smoothing, projected back on the source surface."""
    rim = np.unique(boundary_of(faces))
    average = neighbour_average(len(vertices), faces)
    for _ in range(rounds):
        normals = trimesh.Trimesh(vertices, faces, process=False).vertex_normals
        shift = average @ vertices - vertices
        shift -= normals * (shift * normals).sum(1, keepdims=True)
        shift[rim] = 0
        moved = closest(vertices + step * shift, surface_vertices, surface_faces)[2]
        moved[rim] = vertices[rim]
        vertices = moved
    return vertices


def neighbour_average(count: int, faces: np.ndarray) -> scipy.sparse.csr_matrix:
    a, b = edges_of(faces)[0].T
    ones = np.ones(2 * len(a))
    adjacency = scipy.sparse.coo_matrix((ones, (np.r_[a, b], np.r_[b, a])), (count, count)).tocsr()
    return scipy.sparse.diags(1 / np.asarray(adjacency.sum(1)).ravel()) @ adjacency


def fit_regressor(vertices, weights, joints, frames, count: int = 60) -> np.ndarray:
    """[21, V] from posed and reshaped samples: non-negative least squares over nearby vertices."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.as_tensor(x, dtype=torch.float32) for x in (vertices, weights, joints, frames)]
    shapes, rest = ShapeSampler(*tensors).sample(count, generator)
    bend = torch.rand(count, len(JOINTS), generator=generator) * 1.6 - 0.1
    turn, twist = 0.15 * torch.randn(2, count, len(JOINTS), generator=generator)
    bend[:, 0] = turn[:, 0] = twist[:, 0] = 0
    turns, posed = forward_kinematics(local_rotations(bend, turn, twist), rest, tensors[3])
    samples = skin(shapes, tensors[1], turns, rest, posed).numpy()
    regressor = np.zeros((21, len(vertices)))
    for j, keypoint in enumerate(KEYPOINT_OF_JOINT):
        reach = 0.045 if j == 0 else 0.03 if PARENTS[j] == 0 else 0.018
        near = np.linalg.norm(vertices - joints[j], axis=1) < reach
        near &= weights[:, j] + weights[:, max(PARENTS[j], 0)] > (0.9 if j else -1)
        near = np.flatnonzero(near)
        rows = samples[:, near].transpose(0, 2, 1).reshape(-1, len(near))
        # The two extra blocks ask for weights that sum to one and that spread.
        system = np.vstack([rows, 30 * np.ones((1, len(near))), 1e-3 * np.eye(len(near))])
        solution, _ = nnls(system, np.r_[posed[:, j].numpy().ravel(), 30, np.zeros(len(near))])
        regressor[keypoint, near] = solution / solution.sum()
    for keypoint in TIP_KEYPOINTS:  # the furthest vertex along the distal bone
        j = 3 * keypoint // 4
        along = -(vertices - joints[j]) @ frames[j][:, 2]
        regressor[keypoint, np.where(weights[:, j] > 0.5, along, -1).argmax()] = 1
    return regressor


def mark_landmarks(vertices, weights, regressor) -> np.ndarray:
    """[21, V]: the regressor, moved by MARKED_BESIDE through vertices that the palm alone carries,
    each as little as can be."""
    landmarks = regressor.astype(np.float64)
    palm = np.flatnonzero(weights[:, 0] > 0.99)
    centred = (vertices[palm] - vertices[palm].mean(0)).astype(np.float64)
    for keypoint, offset in MARKED_BESIDE.items():
        landmarks[keypoint, palm] += centred @ np.linalg.solve(centred.T @ centred, offset)
    return landmarks


def build(source: Path) -> dict[str, np.ndarray]:
    """The arrays of the template and of its render mesh (dense_*)."""
    source_vertices, source_faces, source_weights, joints, frames = read_glb(source)
    cut_vertices, cut_faces = cut_wrist(source_vertices, source_faces)
    simplifier = Simplifier(cut_vertices, cut_faces)
    simplifier.run(BOUNDARY, boundary=True)
    simplifier.run(FACES, boundary=False)
    vertices, faces = simplifier.result()
    vertices = relax(vertices, faces, cut_vertices, cut_faces)

    dense, dense_faces = trimesh.remesh.subdivide_loop(cut_vertices, cut_faces, iterations=1)
    triples, barycentric, _ = closest(dense, source_vertices, source_faces)
    dense_weights = np.einsum("vk,vkj->vj", barycentric, source_weights[triples])
    average = neighbour_average(len(dense), dense_faces)
    for _ in range(3):  # softens the creases of blend skinning
        dense_weights = 0.5 * dense_weights + 0.5 * (average @ dense_weights)
    triples, barycentric, _ = closest(vertices, dense, dense_faces)
    vertices = np.einsum("vk,vkc->vc", barycentric, dense[triples])
    weights = np.einsum("vk,vkj->vj", barycentric, dense_weights[triples])
    weights /= weights.sum(1, keepdims=True)
    regressor = fit_regressor(vertices, weights, joints, frames)
    dense_weights /= dense_weights.sum(1, keepdims=True)
    return {
        "vertices": vertices.astype(np.float32),
        "faces": faces.astype(np.int32),
        "weights": weights.astype(np.float32),
        "joints": joints.astype(np.float32),
        "joint_frames": frames.astype(np.float32),
        "parents": np.array(PARENTS, np.int32),
        "regressor": regressor.astype(np.float32),
        "landmarks": mark_landmarks(vertices, weights, regressor).astype(np.float32),
        "dense_vertices": dense.astype(np.float32),
        "dense_faces": dense_faces.astype(np.int32),
        "dense_weights": dense_weights.astype(np.float16),
        "dense_triples": triples.astype(np.int32),
        "dense_barycentric": barycentric.astype(np.float32),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("glb", type=Path, help="profiles/generic-hand/right.glb")
    parser.add_argument("--output", type=Path, default=ASSETS / "open778" / "open778.npz")
    arguments = parser.parse_args()
    arrays = build(arguments.glb)
    np.savez_compressed(arguments.output, **arrays)
    print(f"{arguments.output}: {len(arrays['vertices'])} vertices, {len(arrays['faces'])} faces")


if __name__ == "__main__":
    main()
