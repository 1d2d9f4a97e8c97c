"""Z-buffering of many meshes into many images at once.

Two implementations of one function: torch scatter (the reference; CPU and CUDA) and a numba loop
(the fast path on the CPU). Of surfaces at exactly the same depth the first face wins in both, so
that results do not depend on the device's scheduling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from torch import Tensor

NEAR = 0.02  # metres; faces that reach nearer are dropped
_PAIRS_AT_ONCE = 20_000_000  # bounds the reference's memory


@dataclass(frozen=True)
class Fragments:
    """What is seen in the P covered pixels.

    pixel: [P] flat index (image * height + y) * width + x, ascending. face: [P]. barycentric:
    [P, 3], perspective-correct. depth: [P] metres.
    """

    pixel: Tensor
    face: Tensor
    barycentric: Tensor
    depth: Tensor

    def subset(self, rows: Tensor) -> Fragments:
        """Some of the fragments, by index [P']."""
        return Fragments(
            self.pixel[rows], self.face[rows], self.barycentric[rows], self.depth[rows]
        )

    def interpolate(self, faces: Tensor, values: Tensor) -> Tensor:
        """Vertex values [T, C] at the pixels, [P, C]."""
        corners = faces[self.face]
        return sum(self.barycentric[:, k, None] * values[corners[:, k]] for k in range(3))


def rasterize(
    points: Tensor,
    depth: Tensor,
    faces: Tensor,
    image: Tensor,
    count: int,
    height: int,
    width: int,
    cull: bool = True,
) -> Fragments:
    """The nearest surface in each pixel of ``count`` images.

    points: [T, 2] pixels (centres at integers). depth: [T] metres. faces: [M, 3] into the vertices,
    seen where they wind counter-clockwise in a right-handed view (clockwise on screen is culled
    unless ``cull`` is false). image: [M], which image each face belongs to.
    """
    implement = rasterize_numba if points.device.type == "cpu" else rasterize_torch
    return implement(points, depth, faces, image, count, height, width, cull)


def rasterize_torch(
    points: Tensor,
    depth: Tensor,
    faces: Tensor,
    image: Tensor,
    count: int,
    height: int,
    width: int,
    cull: bool = True,
) -> Fragments:
    """Reference: every (face, pixel of its box) pair is tested, the nearest key is scattered."""
    device = points.device
    corners, inverse = points[faces], 1 / depth[faces]
    (x0, x1, x2), (y0, y1, y2) = corners[..., 0].unbind(-1), corners[..., 1].unbind(-1)
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    low = corners.amin(1).ceil().clamp(min=0)
    high = torch.minimum(
        corners.amax(1).floor(), torch.tensor([width - 1.0, height - 1.0], device=device)
    )
    extent = (high - low + 1).clamp(min=0).long()
    facing = area < -1e-9 if cull else area.abs() > 1e-9
    kept = (facing & (depth[faces].amin(1) > NEAR) & (extent.prod(1) > 0)).nonzero()[:, 0]

    # Barycentric coordinates are affine in the pixel's offset from the corner of the box.
    scale = 1 / area
    left, top = low.unbind(-1)
    u_x, u_y = (y2 - y0) * scale, -(x2 - x0) * scale
    v_x, v_y = -(y1 - y0) * scale, (x1 - x0) * scale
    u_0 = u_x * (left - x0) + u_y * (top - y0)
    v_0 = v_x * (left - x0) + v_y * (top - y0)
    affine = torch.stack([u_x, u_y, u_0, v_x, v_y, v_0], 1)
    corner_pixel = (image.long() * height + top.long()) * width + left.long()

    empty = torch.iinfo(torch.int64).max
    nearest = torch.full((count * height * width,), empty, dtype=torch.int64, device=device)
    pairs = extent.prod(1)[kept]
    ends = pairs.cumsum(0)
    total = int(ends[-1]) if len(kept) else 0
    steps = torch.arange(1, max(1, -(-total // _PAIRS_AT_ONCE)), device=device) * _PAIRS_AT_ONCE
    bounds = [0, *torch.searchsorted(ends, steps).tolist(), len(kept)]
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        face = torch.repeat_interleave(kept[start:stop], pairs[start:stop])
        first = torch.repeat_interleave((ends - pairs)[start:stop], pairs[start:stop])
        base = int((ends - pairs)[start]) if stop > start else 0
        offset = torch.arange(len(face), device=device) + base - first
        columns = extent[face, 0]
        dy = torch.div(offset, columns, rounding_mode="floor")
        dx = offset - dy * columns
        u, v = _evaluate(affine[face], dx, dy)
        inside = ((u >= 0) & (v >= 0) & (u + v <= 1)).nonzero()[:, 0]
        face, dx, dy, u, v = (t[inside] for t in (face, dx, dy, u, v))
        z = 1 / _blend(inverse[face], u, v)
        # Positive floats sort like their bits; the face index below breaks ties.
        key = (z.view(torch.int32).long() << 32) | face
        nearest.scatter_reduce_(0, corner_pixel[face] + dy * width + dx, key, "amin")

    pixel = (nearest != empty).nonzero()[:, 0]
    face = nearest[pixel] & 0xFFFFFFFF
    z = (nearest[pixel] >> 32).int().view(torch.float32)
    dx = pixel % width - left[face].long()
    dy = torch.div(pixel, width, rounding_mode="floor") % height - top[face].long()
    u, v = _evaluate(affine[face], dx, dy)
    weights = torch.stack([1 - u - v, u, v], 1) * inverse[face] * z[:, None]
    return Fragments(pixel, face, weights, z)


def _evaluate(affine: Tensor, dx: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    u = affine[:, 0] * dx + affine[:, 1] * dy + affine[:, 2]
    v = affine[:, 3] * dx + affine[:, 4] * dy + affine[:, 5]
    return u, v


def _blend(inverse: Tensor, u: Tensor, v: Tensor) -> Tensor:
    return inverse[:, 0] * (1 - u - v) + inverse[:, 1] * u + inverse[:, 2] * v


def rasterize_numba(
    points: Tensor,
    depth: Tensor,
    faces: Tensor,
    image: Tensor,
    count: int,
    height: int,
    width: int,
    cull: bool = True,
) -> Fragments:
    """Fast path on the CPU; same result as the reference."""
    nearest = np.full((count, height, width), np.inf, np.float32)
    owner = np.full((count, height, width), -1, np.int32)
    uv = np.empty((count, height, width, 2), np.float32)
    arrays = (points.contiguous(), depth.contiguous(), faces.contiguous(), image.contiguous())
    _fill(*(a.numpy() for a in arrays), cull, np.float32(NEAR), nearest, owner, uv)
    pixel = torch.from_numpy(np.flatnonzero(owner.ravel() >= 0))
    face = torch.from_numpy(owner).view(-1)[pixel].long()
    z = torch.from_numpy(nearest).view(-1)[pixel]
    u, v = torch.from_numpy(uv).view(-1, 2)[pixel].unbind(-1)
    weights = torch.stack([1 - u - v, u, v], 1) / depth[faces[face]] * z[:, None]
    return Fragments(pixel, face, weights, z)


@numba.njit(cache=True)
def _fill(points, depth, faces, image, cull, near, nearest, owner, uv):
    height, width = nearest.shape[1:]
    for f in range(len(faces)):
        i, j, k = faces[f]
        if min(depth[i], depth[j], depth[k]) <= near:
            continue
        x0, y0 = points[i]
        x1, y1 = points[j]
        x2, y2 = points[k]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if (cull and area >= -1e-9) or abs(area) <= 1e-9:
            continue
        left = max(0, int(np.ceil(min(x0, x1, x2))))
        right = min(width - 1, int(np.floor(max(x0, x1, x2))))
        top = max(0, int(np.ceil(min(y0, y1, y2))))
        bottom = min(height - 1, int(np.floor(max(y0, y1, y2))))
        if right < left or bottom < top:
            continue
        scale = np.float32(1) / area
        ux, uy = (y2 - y0) * scale, -(x2 - x0) * scale
        vx, vy = -(y1 - y0) * scale, (x1 - x0) * scale
        u0 = ux * (left - x0) + uy * (top - y0)
        v0 = vx * (left - x0) + vy * (top - y0)
        w0, w1, w2 = (
            np.float32(1) / depth[i],
            np.float32(1) / depth[j],
            np.float32(1) / depth[k],
        )
        b = image[f]
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                u = ux * np.float32(x - left) + uy * np.float32(y - top) + u0
                v = vx * np.float32(x - left) + vy * np.float32(y - top) + v0
                if u >= 0 and v >= 0 and u + v <= 1:
                    z = np.float32(1) / (w0 * (np.float32(1) - u - v) + w1 * u + w2 * v)
                    if z < nearest[b, y, x]:
                        nearest[b, y, x] = z
                        owner[b, y, x] = f
                        uv[b, y, x, 0] = u
                        uv[b, y, x, 1] = v


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted unit normals of [T, 3] vertices."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(0, faces[:, k], normals)
    return torch.nn.functional.normalize(total, dim=-1)
