"""A mesh at halving resolutions, with spirals on each and the way back up (sections 3.2 and 3.3).

Simplification collapses edges onto one of their ends by quadric error (Garland and Heckbert 1997),
so that each coarse vertex is a vertex of the mesh. numpy only.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hand_perception.geometry import barycentric
from hand_perception.template import Template

# Planes through border edges weigh this much more than faces: the wrist keeps its outline.
BORDER_WEIGHT = 10.0
# A collapse that turns a face's normal by more than about 80 degrees folds the surface.
MIN_TURN_COSINE = 0.2


@dataclass(frozen=True)
class Level:
    """One resolution. vertices [V, 3], faces [F, 3], spirals [V, S].

    corners [V, 3] and weights [V, 3]: where each vertex lies on the next coarser level, as
    barycentric coordinates of one of its faces; None on the coarsest.
    """

    vertices: np.ndarray
    faces: np.ndarray
    spirals: np.ndarray
    corners: np.ndarray | None = None
    weights: np.ndarray | None = None


@lru_cache(maxsize=4)
def _pyramid(vertices: bytes, faces: bytes, levels: int, length: int) -> tuple[Level, ...]:
    points = np.frombuffer(vertices).reshape(-1, 3)
    triangles = np.frombuffer(faces, np.int64).reshape(-1, 3)
    out: list[Level] = []
    for k in range(levels + 1):
        around = spirals(triangles, len(points), length)
        if k == levels:
            out.append(Level(points, triangles, around))
            break
        coarse, coarse_faces = simplify(points, triangles, (len(points) + 1) // 2)
        out.append(Level(points, triangles, around, *_lift(points, coarse, coarse_faces)))
        points, triangles = coarse, coarse_faces
    return tuple(out)


def pyramid(template: Template, levels: int = 4, length: int = 9) -> tuple[Level, ...]:
    """The template and ``levels`` halvings of it, finest first (778, 389, 195, 98, 49)."""
    vertices = np.ascontiguousarray(template.vertices, np.float64).tobytes()
    faces = np.ascontiguousarray(template.faces, np.int64).tobytes()
    return _pyramid(vertices, faces, levels, length)


def simplify(vertices: np.ndarray, faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """``count`` of the vertices [V, 3] and faces [F, 3] over them that keep the shape best."""
    quadrics = _quadrics(vertices, faces)
    triangles = {k: list(map(int, face)) for k, face in enumerate(faces)}
    of_vertex: list[set[int]] = [set() for _ in vertices]
    for k, face in triangles.items():
        for v in face:
            of_vertex[v].add(k)
    heap = _collapses(vertices, of_vertex, triangles, quadrics, range(len(vertices)))
    heapq.heapify(heap)
    current = {(removed, kept): cost for cost, removed, kept in heap}
    alive = len(vertices)
    while alive > count:
        refused = []
        while True:
            if not heap:
                raise ValueError("no edge of this mesh can be collapsed")
            collapse = heapq.heappop(heap)
            cost, removed, kept = collapse
            # Costs change with their ends, and edges go: what is no longer so is passed over.
            if current.get((removed, kept)) != cost:
                continue
            if _keeps_surface(vertices, triangles, of_vertex, removed, kept):
                break
            refused.append(collapse)
        for v in _neighbours(of_vertex, triangles, removed):
            current.pop((removed, v), None)
            current.pop((v, removed), None)
        for k in list(of_vertex[removed]):
            if kept in triangles[k]:
                for v in triangles.pop(k):
                    of_vertex[v].discard(k)
            else:
                triangles[k][triangles[k].index(removed)] = kept
                of_vertex[kept].add(k)
        of_vertex[removed] = set()
        quadrics[kept] += quadrics[removed]
        alive -= 1
        for collapse in _collapses(vertices, of_vertex, triangles, quadrics, [kept]):
            current[collapse[1:]] = collapse[0]
            heapq.heappush(heap, collapse)
        # What would have folded the surface may now do so no more.
        for collapse in refused:
            heapq.heappush(heap, collapse)
    used = sorted({v for face in triangles.values() for v in face})
    number = {v: k for k, v in enumerate(used)}
    renumbered = [[number[v] for v in face] for face in triangles.values()]
    return vertices[used], np.array(renumbered, np.int64)


def _quadrics(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[V, 4, 4]: squared distance to the planes of a vertex's faces, by area, and its borders."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = normal / np.maximum(area, 1e-12)
    out = np.zeros((len(vertices), 4, 4))
    edges: dict[tuple[int, int], list[int]] = {}
    for k, face in enumerate(faces):
        plane = np.append(normal[k], -normal[k] @ a[k])
        out[face] += area[k] / 2 * np.outer(plane, plane)
        for i in range(3):
            edges.setdefault(tuple(sorted((face[i], face[i - 1]))), []).append(k)
    for (i, j), owners in edges.items():
        if len(owners) == 1:
            along = vertices[j] - vertices[i]
            across = np.cross(along, normal[owners[0]])
            across = across / max(np.linalg.norm(across), 1e-12)
            plane = np.append(across, -across @ vertices[i])
            out[[i, j]] += BORDER_WEIGHT * (along @ along) * np.outer(plane, plane)
    return out


def _neighbours(of_vertex, triangles, v: int) -> set[int]:
    return {u for k in of_vertex[v] for u in triangles[k]} - {v}


def _collapses(vertices, of_vertex, triangles, quadrics, ends) -> list[tuple[float, int, int]]:
    """(cost, removed, kept), both ways, of the edges at ``ends``."""
    edges = {
        e for v in ends for u in _neighbours(of_vertex, triangles, v) for e in ((u, v), (v, u))
    }
    pairs = np.array(sorted(edges))
    target = np.concatenate([vertices[pairs[:, 1]], np.ones((len(pairs), 1))], 1)
    quadric = quadrics[pairs[:, 0]] + quadrics[pairs[:, 1]]
    cost = np.einsum("ni,nij,nj->n", target, quadric, target)
    return list(zip(cost.tolist(), *pairs.T.tolist(), strict=True))


def _keeps_surface(vertices, triangles, of_vertex, removed: int, kept: int) -> bool:
    """The link condition (the ends share as many neighbours as faces), and no face turns over."""
    shared_faces = of_vertex[removed] & of_vertex[kept]
    around = [_neighbours(of_vertex, triangles, x) for x in (removed, kept)]
    if len(around[0] & around[1]) != len(shared_faces):
        return False
    border = [len(around[k]) > len(of_vertex[x]) for k, x in enumerate((removed, kept))]
    # A border vertex may only slide along the border.
    if border[0] and not (border[1] and len(shared_faces) == 1):
        return False
    for k in of_vertex[removed] - shared_faces:
        face = triangles[k]
        before = vertices[face]
        after = vertices[[kept if v == removed else v for v in face]]
        n0, n1 = (np.cross(p[1] - p[0], p[2] - p[0]) for p in (before, after))
        if n0 @ n1 < MIN_TURN_COSINE * np.linalg.norm(n0) * np.linalg.norm(n1) or not n1.any():
            return False
    return True


def _lift(fine: np.ndarray, coarse: np.ndarray, faces: np.ndarray):
    """Nearest face [V, 3] and barycentric weights [V, 3] of each fine vertex on the coarse mesh."""
    triangles = coarse[faces]
    corners, weights = np.zeros((len(fine), 3), np.int64), np.zeros((len(fine), 3))
    for k, point in enumerate(fine):
        inside = barycentric(triangles, point)
        distance = np.linalg.norm(np.einsum("fc,fcd->fd", inside, triangles) - point, axis=1)
        best = int(distance.argmin())
        corners[k], weights[k] = faces[best], inside[best]
    return corners, weights


def spirals(faces: np.ndarray, count: int, length: int) -> np.ndarray:
    """[V, S]: each vertex, its ring in winding order, the ring around that and so on, the first
    ``length`` of them (eq. 4 and 6). A ring starts at its lowest index or at the border; a vertex
    with too few around it repeats itself.
    """
    following: list[dict[int, int]] = [{} for _ in range(count)]
    for a, b, c in faces.tolist():
        following[a][b], following[b][c], following[c][a] = c, a, b
    rings = [_ring(after) for after in following]
    out = np.repeat(np.arange(count)[:, None], length, 1)
    for v in range(count):
        disk = [v]
        seen, ring = {v}, [v]
        while ring and len(disk) < length:
            outer = []
            for u in ring:
                for w in rings[u]:
                    if w not in seen:
                        seen.add(w)
                        outer.append(w)
            disk += outer
            ring = outer
        out[v, : min(length, len(disk))] = disk[:length]
    return out


def _ring(after: dict[int, int]) -> list[int]:
    """Neighbours of a vertex in winding order; ``after`` maps each to the next one."""
    starts = sorted(set(after) - set(after.values())) or sorted(after)[:1]
    ring: list[int] = []
    for start in starts:
        node = start
        while node is not None and node not in ring:
            ring.append(node)
            node = after.get(node)
    return ring
