"""A hand's metric place and size from an aligned depth image.

A network knows a hand's shape and where it is in the picture, but its distance only as well as its
size. A depth image knows the distance of each pixel, but not which pixels are hand. So the mesh is
drawn into the picture, and the one distance is sought at which much of its visible surface agrees
with what was measured there: an object in front, the table behind and holes disagree each in their
own way, while the hand's own surface agrees everywhere at once. Within the hand's outline nothing
is seen but the hand and what is in front of it, so of two such distances the farther is the hand's.

By default the hand is scaled about the camera's centre, which moves it along its viewing ray and
keeps its projection: where the network took a child's hand for a far adult's, that is the truth.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from hand_perception.errors import DataError, ImageError
from hand_perception.geometry import project, wrist_frame
from hand_perception.hands import Camera, Hand, Pose, Side
from hand_perception.template import Template
from hand_perception.uncertainty import (
    depth_std,
    lateral_std,
    monocular_covariance,
    ray_covariance,
)

# The mesh is drawn with so many samples along its longer side.
_SAMPLES = 64
# Surface seen at more than some 75 degrees changes its depth by more than a pixel tells.
_MIN_FACING = 0.25
_NEAR_M = 0.02
# Where the hand is sought: its depth over the first estimate. A hand that a third too near puts
# the truth at 1.5.
_SEARCH = (0.6, 1.65)
# Belief in the first estimate, in the depth's logarithm: weak, only to choose among surfaces.
_PRIOR = 0.35
# Wrist to middle tip along the bones: from a small child's to the largest known.
_HAND_LENGTHS_M = (0.09, 0.26)
# Agreement of a network's mesh with the skin, and of a depth camera with itself (1 % of the depth).
_SURFACE_M, _SENSOR = 0.006, 0.01
_BIN_M = 0.003
# Evidence: surface that agrees, in samples, in square metres, and as a share of what was measured.
_MIN_SAMPLES, _MIN_AREA_M2, _MIN_SHARE = 30, 3e-4, 0.3
# Within a hand's outline there is the hand or something in front of it: of distances at least this
# good, compared with the best, the farthest is the hand's.
_BEHIND = 0.6
# The outline of a hand at a wrong distance holds background too: a second distance as good as this,
# so many metres away, leaves the choice open.
_RIVAL, _RIVAL_M = 0.85, 0.04
# Errors of a mesh are alike over a finger's width.
_PATCH_M2 = 0.02**2
# What all pixels of a depth camera are off together, of the depth (stereo cameras: up to 2 % at
# their range's end, well below 1 % where hands are), and in metres.
_BIAS, _BIAS_M = 0.005, 0.001
# What an estimate of somebody's size may be made of: a depth known to this share.
_MEASURED = 0.02


def refine_with_depth(
    hand: Hand,
    depth_m: np.ndarray,
    camera: Camera,
    template: Template,
    keep_size: bool = False,
) -> Hand:
    """The hand at its measured distance, with position_covariance; the same object where the depth
    image does not tell: too little of the hand is measured, or two distances explain it as well.

    depth_m: float32 [H, W] metres along the optical axis, of the image's pixels; NaN, infinity and
    values of 0 or less are unknown. keep_size: move the hand along its viewing ray as it is, for
    hands whose size is known, rather than scale it about the camera's centre.

    Raises ImageError when depth image and camera differ in size, DataError when the mesh is not of
    the template.
    """
    depth_m = np.asarray(depth_m)
    if depth_m.shape != (camera.height, camera.width):
        raise ImageError(
            f"the depth image is {depth_m.shape[::-1]}, the colour image "
            f"{(camera.width, camera.height)}: publish depth aligned to colour"
        )
    if hand.vertices.shape != template.vertices.shape:
        raise DataError(
            f"the hand's mesh is {hand.topology!r} {hand.vertices.shape}, the template "
            f"{template.name!r} {template.vertices.shape}: use load_template(hand.topology)"
        )
    # Scaling keeps the picture, so once is enough; a moved hand covers other pixels.
    passes = 4 if keep_size else 1
    moved = hand
    for k in range(passes):
        seen = _see(moved, depth_m, camera, template)
        found = None if seen is None else _agree(seen, moved, template, keep_size, narrow=k > 0)
        if found is None:
            return hand
        moved = _shifted(moved, found.shift) if keep_size else scaled(moved, found.factor)
        if abs(found.shift) < 5e-4:
            break
    across_std = lateral_std(moved.keypoints3d, moved.keypoints2d, camera)
    covariance = ray_covariance(moved.wrist.translation, found.std, across_std)
    return replace(moved, position_covariance=covariance)


# -- size ------------------------------------------------------------------------------------------


def hand_length(hand: Hand, template: Template) -> float:
    """Metres from the wrist to the middle finger's tip, along the bones: the same in any pose.

    The rest pose of open778 has 0.19 m. template: that of the hand's mesh, which is measured.
    """
    chain = template.regressor[[0, 9, 10, 11, 12]] @ hand.vertices
    return float(np.linalg.norm(np.diff(chain, axis=0), axis=1).sum())


def scaled(hand: Hand, factor: float) -> Hand:
    """The hand larger and farther by the factor: scaled about the camera, it looks the same."""
    wrist = Pose(hand.wrist.rotation, hand.wrist.translation * factor)
    covariance = hand.position_covariance
    return replace(
        hand,
        keypoints3d=(hand.keypoints3d * factor).astype(np.float32),
        vertices=(hand.vertices * factor).astype(np.float32),
        wrist=wrist,
        position_covariance=None if covariance is None else covariance * factor**2,
        shape_std=None if hand.shape_std is None else hand.shape_std * factor,
    )


def scale_to_hand_length(
    hand: Hand, length_m: float, camera: Camera, template: Template, spread_m: float = 0.003
) -> Hand:
    """The hand with that length, as far away as it then is: its projection stays.

    length_m: as hand_length measures it. spread_m: how well it is known; with the residual of the
    2D joints it makes position_covariance. Raises DataError for lengths that no hand has.
    """
    low, high = _HAND_LENGTHS_M
    if not low <= length_m <= high:
        raise DataError(
            f"a hand length of {length_m} m is not from {low} to {high}: give metres, from the "
            "wrist to the tip of the middle finger"
        )
    out = scaled(hand, length_m / hand_length(hand, template))
    covariance = monocular_covariance(
        out.keypoints3d, out.keypoints2d, camera, spread_m / length_m, out.shape_std
    )
    return replace(out, position_covariance=covariance)


@dataclass(frozen=True)
class HandLength:
    """metres: median of ``count`` hands. spread_m: their standard deviation, by the median absolute
    deviation."""

    metres: float
    spread_m: float
    count: int


class HandLengthEstimator:
    """One person's hand length from hands seen with depth over about a second.

    Give it the hands that refine_with_depth returned without keep_size; those it left unchanged are
    passed over. Size and distance go together, so no other hand tells a length.
    """

    def __init__(self, template: Template, duration_s: float = 1.0, least_hands: int = 10) -> None:
        self._template = template
        self._duration_s = duration_s
        self._least_hands = least_hands
        self._lengths: deque[tuple[float, float]] = deque()

    def add(self, hand: Hand, stamp_s: float) -> bool:
        """Whether the hand was good for it. A stamp before the last one starts anew."""
        if self._lengths and stamp_s < self._lengths[-1][0]:
            self._lengths.clear()
        covariance, depth = hand.position_covariance, float(hand.wrist.translation[2])
        if covariance is None or depth_std(covariance) > _MEASURED * depth:
            return False
        self._lengths.append((stamp_s, hand_length(hand, self._template)))
        while stamp_s - self._lengths[0][0] > 2 * self._duration_s:
            self._lengths.popleft()
        return True

    def measurement(self) -> HandLength | None:
        """None until there are enough hands over the whole duration."""
        if len(self._lengths) < self._least_hands:
            return None
        if self._lengths[-1][0] - self._lengths[0][0] < self._duration_s:
            return None
        lengths = np.array([length for _, length in self._lengths])
        middle = float(np.median(lengths))
        spread = 1.4826 * float(np.median(np.abs(lengths - middle)))
        return HandLength(middle, spread, len(lengths))


# -- what is seen ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Surface:
    """Samples of the hand's visible surface: model [N] and measured [N] depths in metres; area of a
    sample in square metres across the ray."""

    model: np.ndarray
    measured: np.ndarray
    sample_m2: float

    @property
    def middle(self) -> float:
        return float(self.model.mean())


def _see(hand: Hand, depth_m: np.ndarray, camera: Camera, template: Template) -> _Surface | None:
    """The measured part of the visible surface; None when there is next to none."""
    vertices = np.asarray(hand.vertices, np.float64)
    if not np.isfinite(vertices).all() or vertices[:, 2].min() < _NEAR_M:
        return None
    pixels = project(vertices, camera)
    # The detector's box holds the hand; a mesh that is too near would reach beyond it.
    low = np.maximum(np.maximum(pixels.min(0), hand.box[:2]), 0)
    high = np.minimum(
        np.minimum(pixels.max(0), hand.box[2:]), [camera.width - 1, camera.height - 1]
    )
    stride = max(1, round(float((high - low).max()) / _SAMPLES))
    x, y = (
        np.arange(np.ceil(a), np.floor(b) + 1, stride, dtype=int)
        for a, b in zip(low, high, strict=True)
    )
    if len(x) == 0 or len(y) == 0:
        return None
    lattice = (pixels - (x[0], y[0])) / stride
    column, row, face, model = visible_surface(
        lattice, vertices[:, 2], template.faces, len(x), len(y)
    )
    facing = _facing(vertices, template.faces, hand.side)[face] > _MIN_FACING
    measured = depth_m[y[row], x[column]].astype(np.float64)
    # Compared with 0 before anything else: comparisons with NaN are false.
    usable = facing & (measured > 0) & np.isfinite(measured)
    if usable.sum() < _MIN_SAMPLES:
        return None
    model, measured = model[usable], measured[usable]
    sample_m2 = float((stride * model.mean()) ** 2 / (camera.fx * camera.fy))
    return _Surface(model, measured, sample_m2)


def visible_surface(
    points: np.ndarray, depth: np.ndarray, faces: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What a z-buffer of width x height shows: columns, rows, faces and depths of covered samples.

    points: [V, 2], with samples at whole numbers. depth: [V] metres, positive. faces: [F, 3], seen
    from both sides. Of faces at one depth any may win.
    """
    corners, inverse = points[faces], 1 / depth[faces]
    low = np.clip(np.ceil(corners.min(1)), 0, None).astype(np.int64)
    high = np.minimum(np.floor(corners.max(1)), (width - 1, height - 1)).astype(np.int64)
    extent = np.maximum(high - low + 1, 0)
    a, b, c = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
    pairs = np.where(np.abs(area) > 1e-9, extent.prod(1), 0)

    # Every sample in the bounding box of every face.
    face = np.repeat(np.arange(len(faces)), pairs)
    offset = np.arange(len(face)) - np.repeat(pairs.cumsum() - pairs, pairs)
    down, right = np.divmod(offset, extent[face, 0])
    column, row = low[face, 0] + right, low[face, 1] + down
    dx, dy = column - a[face, 0], row - a[face, 1]
    u = (dx * c[face, 1] - dy * c[face, 0]) / area[face]
    v = (dy * b[face, 0] - dx * b[face, 1]) / area[face]
    inside = (u >= 0) & (v >= 0) & (u + v <= 1)
    face, column, row, u, v = (array[inside] for array in (face, column, row, u, v))
    i = inverse[face]
    nearness = i[:, 0] * (1 - u - v) + i[:, 1] * u + i[:, 2] * v

    # The last of equal keys stays: the nearest one, when sorted by nearness.
    order = np.argsort(nearness)
    winner = np.full(width * height, -1)
    winner[(row * width + column)[order]] = order
    winner = winner[winner >= 0]
    return column[winner], row[winner], face[winner], 1 / nearness[winner]


def _facing(vertices: np.ndarray, faces: np.ndarray, side: Side) -> np.ndarray:
    """Cosine [F] between each face's outward normal and the direction to the camera."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    centre = a + b + c
    lengths = np.linalg.norm(normal, axis=1) * np.linalg.norm(centre, axis=1)
    outwards = 1.0 if side is Side.RIGHT else -1.0
    return -outwards * (normal * centre).sum(1) / np.maximum(lengths, 1e-12)


# -- agreement -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Agreement:
    """shift: metres along z, of the surface's middle; factor: the same as a share of its depth.
    std: metres in z, of a shift of the whole hand."""

    shift: float
    factor: float
    std: float


def _agree(
    seen: _Surface, hand: Hand, template: Template, keep_size: bool, narrow: bool
) -> _Agreement | None:
    """The shift that brings most of the surface to where it was measured; None when unclear.

    Each sample says by how much the hand would have to move for it: as the difference of its
    depths, or where the hand is scaled, as their ratio times the middle depth.
    """
    middle = seen.middle
    if keep_size:
        shifts = seen.measured - seen.model
        least, most = _SEARCH
    else:
        shifts = (seen.measured / seen.model - 1) * middle
        length = hand_length(hand, template)
        least, most = (
            limit(a, b / length)
            for limit, a, b in zip((max, min), _SEARCH, _HAND_LENGTHS_M, strict=True)
        )
        if least >= most:
            return None
    if narrow:  # the right surface is found, what is left is its rim
        least, most = max(least, 0.9), min(most, 1.1)
    start = _mode(shifts, middle, (least - 1) * middle, (most - 1) * middle, not keep_size)
    if start is None:
        return None
    width = np.hypot(_SURFACE_M, _SENSOR * (middle + start))
    shift, weights, spread = _settle(shifts, start, width)

    agreeing = weights > 0
    area = agreeing.sum() * seen.sample_m2
    enough = agreeing.sum() >= _MIN_SAMPLES and area >= _MIN_AREA_M2
    if not enough or agreeing.mean() < _MIN_SHARE:
        return None
    independent = max(area / _PATCH_M2, 1.0)
    bias = _BIAS_M + _BIAS * (middle + shift)
    std = float(np.hypot(spread / np.sqrt(independent), bias))
    return _Agreement(shift, 1 + shift / middle, std)


def _mode(
    shifts: np.ndarray, middle: float, least: float, most: float, outlined: bool
) -> float | None:
    """The densest shift, [N] metres, by a kernel as wide as depths agree; None when another one
    far off is about as dense. outlined: the samples lie within the hand's own outline, so that the
    farthest of dense shifts is meant.
    """
    count = max(int(np.ceil((most - least) / _BIN_M)), 1)
    density, edges = np.histogram(shifts, count, (least, most))
    centres = (edges[1:] + edges[:-1]) / 2
    width = np.hypot(_SURFACE_M, _SENSOR * middle)
    reach = np.arange(-np.ceil(3 * width / _BIN_M), np.ceil(3 * width / _BIN_M) + 1) * _BIN_M
    # "same" would keep the longer of the two; a range may be shorter than the kernel.
    kernel = np.exp(-((reach / width) ** 2) / 2)
    smooth = np.convolve(density, kernel)[len(reach) // 2 :][:count]
    belief = np.exp(-((np.log1p(centres / middle) / _PRIOR) ** 2) / 2)
    score = smooth * belief
    best = int(score.argmax())
    if density.sum() == 0 or score[best] <= 0:
        return None
    if outlined:
        peaks = score >= np.maximum(np.append(0, score[:-1]), np.append(score[1:], 0))
        best = int(np.flatnonzero(peaks & (score >= _BEHIND * score[best]))[-1])
    elif score[np.abs(centres - centres[best]) > _RIVAL_M].max(initial=0) > _RIVAL * score[best]:
        return None
    return float(centres[best])


def _settle(shifts: np.ndarray, start: float, width: float) -> tuple[float, np.ndarray, float]:
    """Tukey's biweight from start: the shift, weights [N] and the spread of those that count."""
    shift, spread = start, width
    weights = np.zeros(len(shifts))
    for _ in range(8):
        distance = (shifts - shift) / (4.685 * spread)
        weights = np.clip(1 - distance**2, 0, None) ** 2
        if weights.sum() <= 0:
            break
        moved = float((weights * shifts).sum() / weights.sum())
        agreeing = np.abs(shifts - moved)[weights > 0]
        # Never wider than at first, or the rim's background would be let in again.
        spread = float(np.clip(1.4826 * np.median(agreeing), 1e-3, width))
        converged = abs(moved - shift) < 1e-5
        shift = moved
        if converged:
            break
    return shift, weights, spread


def _shifted(hand: Hand, shift: float) -> Hand:
    """The hand moved by shift in z, along the ray through the middle of its mesh."""
    middle = np.asarray(hand.vertices, np.float64).mean(0)
    step = middle / middle[2] * shift
    keypoints3d = (hand.keypoints3d + step).astype(np.float32)
    return replace(
        hand,
        keypoints3d=keypoints3d,
        vertices=(hand.vertices + step).astype(np.float32),
        wrist=wrist_frame(keypoints3d, hand.side),
    )
