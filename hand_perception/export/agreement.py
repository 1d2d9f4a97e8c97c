"""How far two backends disagree about the same images, in pixels and millimetres.

The order of a detector's queries changes with precision, so hands are matched by their boxes and
never by index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle, islice

import numpy as np

from hand_perception.errors import ModelError
from hand_perception.geometry import box_iou
from hand_perception.postprocess import CANDIDATE_SCORE, choose_hands, corners
from hand_perception.runtime.backend import Backend, Decoded, Detected, decode_all, detect_all

# What the reference is this sure of, the other must have.
SURE_SCORE = 0.5
SAME_BOX = 0.5
COMPARED = ("joints2d", "vertices", "camera", "presence", "right")


@dataclass(frozen=True)
class Agreement:
    """Over all hands that the reference is sure of. Pixels are those of the network's image.

    score, presence, side, box_px: the largest differences; side is 0 where the network has no
    opinion on it. joints_px and vertices_mm: a hand's mean
    distance, of the median hand and of the worst. missing: hands that the other does not have.
    """

    images: int
    hands: int
    missing: int
    score: float
    presence: float
    side: float
    box_px: float
    joints_px_median: float
    joints_px: float
    vertices_mm_median: float
    vertices_mm: float

    def line(self) -> str:
        """One line for a person."""
        return (
            f"{self.hands} hands in {self.images} images: joints {self.joints_px_median:.2g} px "
            f"(worst hand {self.joints_px:.2g}), mesh {self.vertices_mm_median:.2g} mm (worst "
            f"{self.vertices_mm:.2g}), boxes {self.box_px:.2g} px, scores {self.score:.2g}, "
            f"missing {self.missing}"
        )

    def to_dict(self) -> dict:
        return {k: round(v, 6) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Limits:
    """What two backends may differ by: the worst hand's mean over its joints and its vertices.
    score: of the detector and of the side, each in 0..1."""

    score: float
    joints_px: float
    vertices_mm: float

    def check(self, found: Agreement, what: str) -> None:
        """Raises ModelError naming what disagrees, or that nothing was compared."""
        if not found.hands:
            raise ModelError(f"{what}: no hand to compare with, so nothing is known of it")
        faults = [
            f"{name} differ by {value:.3g}{unit} (at most {limit:.3g})"
            for name, value, limit, unit in (
                ("scores", found.score, self.score, ""),
                ("sides", found.side, self.score, ""),
                ("joints", found.joints_px, self.joints_px, " px"),
                ("meshes", found.vertices_mm, self.vertices_mm, " mm"),
            )
            # Written so that NaN is a fault.
            if not value <= limit
        ]
        if found.missing:
            faults.insert(0, f"{found.missing} of {found.hands} hands are missing")
        if faults:
            raise ModelError(f"{what} disagrees with ONNX Runtime: {', '.join(faults)}")


# float32 in another order of sums: 24 bits, some 200 sums deep of up to 1,700 terms, and bilinear
# look-ups that turn a coordinate's error into a feature's: 2^-24 * sqrt(200 * 1700) = 3.5e-5 of a
# coordinate's range, 320 px or 0.3 m; ten times that for its worst case.
FLOAT32 = Limits(score=1e-3, joints_px=0.1, vertices_mm=0.1)
# float16 has 11 bits. Rounding of about 100 layers in a row, independent: 2^-11 * sqrt(100) = 0.5 %
# of what they give. Logits of about ten move by 0.05, so a heatmap's centre by 0.05 of its width,
# a cell of 1/14 of a box of up to 256 px: 0.9 px. Of a hand of 0.2 m it is 1 mm.
FLOAT16 = Limits(score=0.05, joints_px=0.9, vertices_mm=1.0)
# int8 convolutions: 8 bits and 40 layers, 2^-8 * sqrt(40) = 2.5 %, five times that.
INT8 = Limits(score=0.2, joints_px=4.5, vertices_mm=5.0)
LIMITS = {"fp32": FLOAT32, "fp16": FLOAT16, "int8": INT8}


def compare(
    reference: Backend, other: Backend, images: Iterable[np.ndarray], canvas: int
) -> Agreement:
    """images: RGB uint8 [H, W, 3], which ``other`` reads in groups of one, two and so on, as many
    as it takes at once. canvas: side of the network's image in pixels."""
    count = hands = missing = 0
    rows: list[tuple[float, ...]] = []
    pairs = (
        (_hands(reference, [image], SURE_SCORE)[0], found)
        for group in _growing(images, other.images_at_once)
        for image, found in zip(group, _hands(other, group, CANDIDATE_SCORE), strict=True)
    )
    for sure, found in pairs:
        count += 1
        overlaps = box_iou(corners(sure.boxes), corners(found.boxes))
        for k in range(len(sure.boxes)):
            hands += 1
            if not len(found.boxes) or not overlaps[k].max() >= SAME_BOX:
                missing += 1
                continue
            rows.append(_difference(sure, k, found, int(overlaps[k].argmax()), canvas))
    table = np.array(rows) if rows else np.zeros((1, 6))
    worst, median = table.max(0), np.median(table, 0)
    return Agreement(
        count,
        hands,
        missing,
        *(float(v) for v in worst[:4]),
        *(float(v) for v in (median[4], worst[4], median[5], worst[5])),
    )


@dataclass(frozen=True)
class _Hands:
    boxes: np.ndarray
    scores: np.ndarray
    decoded: Decoded


def _growing(images: Iterable[np.ndarray], most: int) -> Iterator[list[np.ndarray]]:
    """Groups of 1, 2, ... most, 1, 2, ... of them."""
    waiting = iter(images)
    for size in cycle(range(1, most + 1)):
        group = list(islice(waiting, size))
        if not group:
            return
        yield group


def _hands(backend: Backend, images: list[np.ndarray], lowest: float) -> list[_Hands]:
    """Of each image, all of them read in one go."""
    together = detect_all(backend, [backend.prepare(image) for image in images])
    jobs = [(detected, choose_hands(detected, lowest)) for detected in together]
    decoded = decode_all(backend, jobs)
    return [_copied(*job, found) for job, found in zip(jobs, decoded, strict=True)]


def _copied(detected: Detected, chosen: np.ndarray, decoded: Decoded | None) -> _Hands:
    if decoded is None:
        empty = np.zeros((0, 21, 2)), np.zeros((0, 778, 3)), np.zeros((0, 3)), np.zeros(0)
        decoded = Decoded(*empty)
    # Copies: a backend's memory holds until it detects again.
    return _Hands(
        detected.boxes[chosen].copy(),
        detected.scores[chosen].copy(),
        Decoded(*(_copy(getattr(decoded, name)) for name in COMPARED)),
    )


def _copy(value: np.ndarray | None) -> np.ndarray | None:
    return None if value is None else np.array(value)


def _difference(a: _Hands, k: int, b: _Hands, m: int, canvas: int) -> tuple[float, ...]:
    joints = np.linalg.norm(a.decoded.joints2d[k] - b.decoded.joints2d[m], axis=-1)
    vertices = np.linalg.norm(a.decoded.vertices[k] - b.decoded.vertices[m], axis=-1)
    sides = a.decoded.right is not None
    return (
        abs(a.scores[k] - b.scores[m]),
        abs(a.decoded.presence[k] - b.decoded.presence[m]),
        abs(a.decoded.right[k] - b.decoded.right[m]) if sides else 0.0,
        np.abs(a.boxes[k] - b.boxes[m]).max() * canvas,
        joints.mean() * canvas,
        vertices.mean() * 1e3,
    )
