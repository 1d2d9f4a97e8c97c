"""Painting palm and fingers (HandAR, section 3.4): softly, for the render loss, and as masks.

The soft painter is differentiable everywhere it is not flat, by ordinary torch operations alone.
A part covers a pixel fully inside of its outline and less and less up to ``reach`` pixels outside,
so that outlines pull from both sides; parts in front hide those behind, the softer the nearer they
lie to each other. Truth and prediction are painted alike, and the wider outlines cancel.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hand_perception.hands import FINGERS
from hand_perception.synthesis.raster import rasterize
from hand_perception.synthesis.rig import JOINTS_PER_FINGER
from hand_perception.template import Template

PARTS = ("palm", *FINGERS)
# Faces longer than this share of the picture are none of a hand's, and would cost the most.
_LONGEST = 0.25
# Triangles of less than half this many square pixels have no inside: the slope of their depth would
# drown all other gradients.
_EDGE_ON = 1e-3
# Depths are clamped here, in the mesh's unit, to keep exponentials finite.
_DEEPEST = 3.0


def face_parts(template: Template) -> np.ndarray:
    """Index into PARTS of each face, int64 [F]: that of the joints that move its corners most."""
    joints = np.arange(template.weights.shape[1])
    part = np.where(joints == 0, 0, (joints - 1) // JOINTS_PER_FINGER + 1)
    of_vertex = template.weights @ np.eye(len(PARTS))[part]
    return of_vertex[template.faces].sum(1).argmax(1)


def part_map(
    points: np.ndarray, depth: np.ndarray, template: Template, height: int, width: int
) -> np.ndarray:
    """What of a mesh is seen: uint8 [height, width], 0 nothing, 1 + the index into PARTS.

    points: [V, 2] pixels, centres at integers. depth: [V] metres. Both windings are seen, so a
    left hand needs no other faces.
    """
    faces = torch.from_numpy(template.faces).long()
    fragments = rasterize(
        torch.from_numpy(np.ascontiguousarray(points, np.float32)),
        torch.from_numpy(np.ascontiguousarray(depth, np.float32)),
        faces,
        torch.zeros(len(faces), dtype=torch.int64),
        1,
        height,
        width,
        cull=False,
    )
    out = np.zeros(height * width, np.uint8)
    out[fragments.pixel.numpy()] = 1 + face_parts(template)[fragments.face.numpy()]
    return out.reshape(height, width)


class PartPainter:
    """faces: [F, 3]; parts: [F] in 0..P - 1. reach: in pixels, over which an outline fades.
    softness: in the mesh's unit of depth, over which one part comes before another."""

    def __init__(
        self, faces: Tensor, parts: Tensor, reach: float = 1.0, softness: float = 0.05
    ) -> None:
        self.faces, self.parts = faces, parts
        self.count = int(parts.max()) + 1
        self.reach, self.softness = reach, softness

    def __call__(self, mesh: Tensor, size: int) -> Tensor:
        """mesh [B, V, 3]: x and y in 0..1 of the picture, depth -> paint [B, P, size, size], how
        much of each part is seen in each pixel, 0..1."""
        corners = mesh[:, self.faces].flatten(0, 1)
        corners = torch.cat([corners[..., :2] * size - 0.5, corners[..., 2:]], -1)
        parts = self.parts.repeat(len(mesh))
        image = torch.arange(len(mesh), device=mesh.device).repeat_interleave(len(self.faces))
        with torch.no_grad():
            face, pixel = self._near(corners.detach(), size)
        squared, depth = _distance_and_depth(corners[face], pixel)
        cover = (1 - squared / self.reach**2).clamp(min=0).square()
        place = (image[face] * size + pixel[:, 1].long()) * size + pixel[:, 0].long()
        covers, depths = self._layers(
            cover, depth, place * self.count + parts[face], len(mesh) * size**2
        )
        return self._stack(covers, depths).view(len(mesh), size, size, -1).permute(0, 3, 1, 2)

    def _near(self, corners: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """All pairs of a face [N] and a pixel [N, 2] within reach of it."""
        flat = corners[..., :2]
        low = (flat.amin(1) - self.reach).ceil().clamp(min=0)
        high = (flat.amax(1) + self.reach).floor().clamp(max=size - 1)
        extent = (high - low + 1).clamp(min=0).long()
        longest = (flat.amax(1) - flat.amin(1)).amax(1)
        pairs = extent.prod(1) * (longest <= _LONGEST * size)
        face = torch.repeat_interleave(torch.arange(len(pairs), device=pairs.device), pairs)
        offset = torch.arange(len(face), device=face.device) - (pairs.cumsum(0) - pairs)[face]
        columns = extent[face, 0]
        row = torch.div(offset, columns, rounding_mode="floor")
        pixel = torch.stack([offset - row * columns, row], -1) + low[face]
        squared, _ = _distance_and_depth(corners[face], pixel)
        near = (squared < self.reach**2).nonzero()[:, 0]
        return face[near], pixel[near]

    def _layers(
        self, cover: Tensor, depth: Tensor, place: Tensor, pixels: int
    ) -> tuple[Tensor, Tensor]:
        """How much of each pixel each part covers, and how deep it lies there: [pixels, P]."""
        empty = cover.new_zeros(pixels * self.count)
        covers = empty.scatter_reduce(0, place, cover, "amax")
        weight = cover * torch.exp(-depth.clamp(-_DEEPEST, _DEEPEST) / self.softness)
        total = empty.index_add(0, place, weight)
        depths = empty.index_add(0, place, weight * depth) / total.clamp(min=1e-37)
        return covers.view(pixels, -1), depths.view(pixels, -1)

    def _stack(self, covers: Tensor, depths: Tensor) -> Tensor:
        """Each part where no other is before it: [pixels, P]."""
        seen = (covers.amax(1) > 0).nonzero()[:, 0]
        cover, depth = covers[seen], depths[seen]
        before = torch.sigmoid((depth[:, :, None] - depth[:, None, :]) / self.softness)
        hidden = cover[:, None, :] * before
        hidden = hidden * (1 - torch.eye(self.count, device=cover.device, dtype=cover.dtype))
        shares = cover * (1 - hidden).prod(2)
        # Where more than two meet at one depth each would hide the others too much.
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-12)
        painted = shares * cover.amax(1, keepdim=True)
        return torch.zeros_like(covers).index_copy(0, seen, painted)


def _distance_and_depth(corners: Tensor, pixel: Tensor) -> tuple[Tensor, Tensor]:
    """Of the points of triangles [N, 3, 3] nearest to pixels [N, 2]: the squared distance in the
    picture, zero inside, and the depth there, [N] each."""
    pixel = pixel.to(corners.dtype)
    flat, depth = corners[..., :2], corners[..., 2]
    along = flat.roll(-1, 1) - flat
    to_pixel = pixel[:, None] - flat
    # Twice the areas of the triangles between the pixel and each edge.
    area = along[..., 0] * to_pixel[..., 1] - along[..., 1] * to_pixel[..., 0]
    whole = area.sum(1)
    inside = ((area >= 0).all(1) | (area <= 0).all(1)) & (whole.abs() > _EDGE_ON)
    # The area at an edge weighs the corner across from it.
    weights = area.roll(-1, 1) / torch.where(inside, whole, 1.0)[:, None]
    step = (to_pixel * along).sum(-1) / along.square().sum(-1).clamp(min=1e-12)
    step = step.clamp(0, 1)
    squared = (to_pixel - step[..., None] * along).square().sum(-1)
    nearest = squared.argmin(1, keepdim=True)
    on_edge = (depth + step * (depth.roll(-1, 1) - depth)).gather(1, nearest)[:, 0]
    squared = squared.gather(1, nearest)[:, 0]
    return (
        torch.where(inside, 0.0, squared),
        torch.where(inside, (weights * depth).sum(1), on_edge),
    )
