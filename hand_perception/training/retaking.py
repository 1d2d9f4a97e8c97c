"""Photographs as if taken once more: of a hand that is shaped a little otherwise, somewhere else.

Few people stand behind many photographs, and each is seen hundreds of times. What their labels say
holds for other hands in the same pose as well: fingers longer or bent a little, skin of another
tone, in front of another wall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np

from hand_perception.data.sample import NO_BOXES, HandLabels, Sample, hand_boxes
from hand_perception.geometry import box_iou
from hand_perception.hands import INDEX_MCP, MIDDLE_MCP, PINKY_MCP, WRIST
from hand_perception.training.augmentation import looked_up

# How often each is done to a photograph.
BEND_SHARE, ELSEWHERE_SHARE, TONE_SHARE = 0.35, 0.4, 0.3
# Of the other tones: gloves of any colour, and hands that stand dark against the light.
GLOVE_SHARE, DARK_SHARE = 0.2, 0.2
# How often a place without a hand gets a blob of such tones, with so many corners, this far from
# its middle in box sides.
BLOB_SHARE, BLOB_CORNERS, BLOB_REACH = 0.4, (5, 14), (0.15, 0.6)
# So many places of a whole image are looked at.
MOST_BLOBS = 2
# An empty place overlaps no hand more than this.
EMPTY_IOU = 0.05
# The displacement is given at KNOTS x KNOTS places over REACH box sides, zero at the rim; in box
# sides where it is noise, and as a linear map: hands are narrower or longer, or turned a little.
KNOTS, REACH = 9, 3.0
BEND_SD, LINEAR_SD = 0.025, 0.1
SOLVER_STEPS = 8
# The silhouette, in box sides: discs around a fitted mesh's vertices, large enough to leave no gap,
# then what is taken off the rim again, or hands shine with what was behind them; how soft it is.
DISC, INSET, RIM = 0.028, 0.014, 0.008
# A photograph's labels mark the wrist and the thumb's root beside where a rig has them.
_RIG_AGREES = np.setdiff1d(np.arange(21), [0, 1])


class Places(Protocol):
    """Pictures without hands, by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def retake(sample: Sample, chosen: int, places: Places | None, rng: np.random.Generator) -> Sample:
    """The sample with hand ``chosen`` perhaps of another tone, in front of one of ``places`` and
    bent. What is known in metres stays as it was taken."""
    hands = sample.hands
    if hands.metric[chosen]:
        return sample
    if hands.weight_mesh[chosen] > 0:
        image, _ = restaged(sample, [chosen], places, rng)
        sample = replace(sample, image=image)
    if rng.random() < BEND_SHARE:
        sample = bend(sample, chosen, rng)
    return sample


def retake_whole(sample: Sample, places: Places | None, rng: np.random.Generator) -> Sample:
    """As ``retake``, of all hands of the image at once. Before another picture only those stand
    that a mesh was fitted to, and nothing is there that nobody has labelled. Where no hand is, now
    and then there are blobs."""
    hands = sample.hands
    if hands.metric.any():
        return sample
    if not len(hands):
        return replace(sample, image=with_blobs(sample, rng))
    fitted = np.flatnonzero(hands.weight_mesh > 0)
    if len(fitted):
        image, moved = restaged(sample, fitted, places, rng)
        sample = replace(sample, image=image)
        if moved:
            sample = replace(
                sample,
                hands=hands.take(fitted),
                ignore_boxes=NO_BOXES,
                impostor_boxes=NO_BOXES,
                exhaustive=True,
            )
            sample = replace(sample, image=with_blobs(sample, rng))
    if rng.random() < BEND_SHARE:
        sample = bend(sample, int(rng.integers(len(sample.hands))), rng)
    return sample


def restaged(
    sample: Sample, chosen: Sequence[int], places: Places | None, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """uint8 [H, W, 3]: the hands ``chosen`` and stumps of their arms, now and then of another tone,
    now and then in front of a part of one of ``places``; and whether that is so."""
    moved = places is not None and rng.random() < ELSEWHERE_SHARE
    toned = rng.random() < TONE_SHARE
    if not (moved or toned):
        return sample.image, False
    share = np.max([silhouette(sample, index) for index in chosen], 0)[..., None]
    front = behind = sample.image
    if toned:
        front = retoned(front, share, rng)
    if moved:
        behind = _part(places[int(rng.integers(len(places)))].image, front.shape, rng)
    mixed = behind + share * (front.astype(np.float32) - behind)
    return np.rint(mixed).astype(np.uint8), moved


def retoned(image: np.ndarray, share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image, uint8 [H, W, 3], as if what ``share`` [H, W, 1] covers were other skin, stood
    against the light or wore a glove."""
    kind = rng.random()
    if kind < GLOVE_SHARE:
        grey = image.mean(-1, keepdims=True)
        mean = (grey * share).sum() / max(share.sum(), 1e-3)
        lightness, colour = rng.uniform(0.08, 0.85), rng.uniform(0, 1, 3) ** 2
        colour = lightness * (1 - rng.uniform(0, 0.8) * colour)
        return np.clip(grey / max(mean, 1.0) * colour * 255, 0, 255).astype(np.uint8)
    if kind < GLOVE_SHARE + DARK_SHARE:
        gain = np.exp(rng.uniform(-2.2, -0.8) + rng.normal(0, 0.1, 3))
    else:
        gain = np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.1, 3))
    return looked_up(image, np.linspace(0, 1, 256)[:, None] * gain)


def with_blob(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image, uint8 [H, W, 3], where box [4] shows no hand, now and then with a blob there of a
    tone that hands are given: or the tone alone would tell a hand."""
    if rng.random() >= BLOB_SHARE:
        return image
    side = float((box[2:] - box[:2]).max())
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(*BLOB_CORNERS)))
    reach = side * rng.uniform(*BLOB_REACH, len(angles))
    corners = (box[:2] + box[2:]) / 2 + reach[:, None] * np.stack(
        [np.cos(angles), np.sin(angles)], 1
    )
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 255)
    share = _softened(mask, side)[..., None]
    mixed = image + share * (retoned(image, share, rng).astype(np.float32) - image)
    return np.rint(mixed).astype(np.uint8)


def with_blobs(sample: Sample, rng: np.random.Generator) -> np.ndarray:
    """The sample's image, now and then with blobs where it shows no hand for sure."""
    height, width = sample.image.shape[:2]
    boxes = hand_boxes(sample.hands.keypoints2d, width, height)
    taken = np.concatenate([boxes, sample.ignore_boxes])
    image = sample.image
    for _ in range(MOST_BLOBS):
        box = empty_place(sample, boxes, rng)
        if box is not None and not box_iou(box[None], taken).any():
            image = with_blob(image, box, rng)
    return image


def empty_place(sample: Sample, boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """What a detector took for a hand, or any square, where the labels say there is none."""
    proposed = sample.impostor_boxes
    if len(proposed) and rng.random() < 0.7:
        return proposed[rng.integers(len(proposed))]
    if not sample.exhaustive:
        return None
    height, width = sample.image.shape[:2]
    side = min(height, width) * np.exp(rng.uniform(np.log(0.08), np.log(0.9)))
    corner = rng.uniform((0, 0), (max(width - side, 1), max(height - side, 1)))
    box = np.array([*corner, *(corner + side)], np.float32)
    taken = np.concatenate([boxes, sample.ignore_boxes])
    return None if box_iou(box[None], taken).max(initial=0.0) > EMPTY_IOU else box


def _part(place: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A part of ``place``, as large as ``shape``."""
    h, w = place.shape[:2]
    part = np.exp(rng.uniform(np.log(0.4), 0.0))
    x, y = rng.uniform((0, 0), (w * (1 - part), h * (1 - part))).astype(int)
    cut = place[y : y + max(int(h * part), 1), x : x + max(int(w * part), 1)]
    return cv2.resize(cut, shape[1::-1], interpolation=cv2.INTER_LINEAR)


def silhouette(sample: Sample, chosen: int) -> np.ndarray:
    """float32 [H, W] in 0..1: where the fitted mesh of hand ``chosen`` lies in the image."""
    marks = sample.hands.keypoints2d[chosen]
    _, side = _frame(sample, chosen)
    scale, shift = _to_image(sample.hands, chosen)
    vertices = sample.hands.vertices[chosen, :, :2] * scale + shift
    mask = np.zeros(sample.image.shape[:2], np.uint8)
    radius = max(round(DISC * side), 1)
    for x, y in np.rint(vertices).astype(int).tolist():
        cv2.circle(mask, (x, y), radius, 255, -1)
    palm = np.linalg.norm(marks[INDEX_MCP] - marks[PINKY_MCP])
    along = marks[WRIST] - marks[MIDDLE_MCP]
    ends = np.rint([marks[WRIST] - 0.2 * along, marks[WRIST] + along]).astype(int).tolist()
    cv2.line(mask, *ends, 255, max(round(max(palm, 0.3 * side)), 1))
    inset = round(INSET * side)
    mask = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * inset + 1,) * 2))
    return _softened(mask, side)


def _softened(mask: np.ndarray, side: float) -> np.ndarray:
    """uint8 [H, W] to float32 in 0..1, its rim as soft as a hand's of box side ``side``."""
    return cv2.GaussianBlur(mask, (0, 0), max(RIM * side, 0.5)).astype(np.float32) / 255


def bend(sample: Sample, chosen: int, rng: np.random.Generator) -> Sample:
    """The image bent smoothly around hand ``chosen``, and all labels with it.

    In space a hand bends as it does in the image, seen from far away: its depth stays, and so does
    its size, of which the image tells nothing.
    """
    hands = sample.hands
    height, width = sample.image.shape[:2]
    centre, side = _frame(sample, chosen)
    moves = displacement((height, width), centre, side, rng)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    image = cv2.remap(
        sample.image,
        x + moves[..., 0],
        y + moves[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    keypoints2d = np.stack([_seen_at(moves, marks) for marks in hands.keypoints2d])
    bent = replace(
        hands,
        keypoints2d=keypoints2d,
        joints3d=hands.joints3d.copy(),
        vertices=hands.vertices.copy(),
    )
    for index in np.flatnonzero((hands.weight3d > 0) | (hands.weight_mesh > 0)):
        scale, shift = _to_image(hands, index)
        grown = _spread(keypoints2d[index]) / _spread(hands.keypoints2d[index])
        root = _seen_at(moves, shift[None])
        for points in (bent.joints3d[index], bent.vertices[index]):
            was = points[:, :2] * scale + shift
            points[:, :2] = (_seen_at(moves, was) - root) / (scale * grown)
    return replace(sample, image=image, hands=bent)


def displacement(
    shape: tuple[int, int], centre: np.ndarray, side: float, rng: np.random.Generator
) -> np.ndarray:
    """float32 [H, W, 2] pixels: noise and a linear map about the centre that fade to nothing."""
    places = (np.arange(KNOTS) + 0.5) / KNOTS - 0.5
    fade = np.cos(np.pi * places) ** 2
    fade[[0, -1]] = 0
    where = np.stack(np.meshgrid(places, places), -1) * REACH
    linear = rng.normal(0, LINEAR_SD, (2, 2))
    knots = where @ linear.T + rng.normal(0, BEND_SD, (KNOTS, KNOTS, 2))
    knots = knots * side * (fade[:, None] * fade)[..., None]
    cell = REACH * side / KNOTS
    first = np.asarray(centre) - (KNOTS - 1) / 2 * cell
    to_image = np.array([[cell, 0, first[0]], [0, cell, first[1]]])
    return cv2.warpAffine(knots.astype(np.float32), to_image, shape[::-1], flags=cv2.INTER_CUBIC)


def _frame(sample: Sample, chosen: int) -> tuple[np.ndarray, float]:
    """Of the box of hand ``chosen``: its centre [2] and its longer side."""
    height, width = sample.image.shape[:2]
    box = hand_boxes(sample.hands.keypoints2d[[chosen]], width, height)[0]
    return (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())


def _to_image(hands: HandLabels, index: int) -> tuple[float, np.ndarray]:
    """Pixels a metre and pixels [2] that put x and y of hand ``index`` where its joints are."""
    use = _RIG_AGREES[hands.known[index][_RIG_AGREES]]
    marks, joints = hands.keypoints2d[index][use], hands.joints3d[index, use, :2]
    middle2, middle3 = marks.mean(0), joints.mean(0)
    spread = joints - middle3
    scale = float((spread * (marks - middle2)).sum() / max((spread**2).sum(), 1e-9))
    scale = max(scale, 1e-6)
    return scale, middle2 - scale * middle3


def _spread(points: np.ndarray) -> float:
    return max(float(np.linalg.norm(points - points.mean(0))), 1e-6)


def _seen_at(moves: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where points [N, 2] of the image are seen once it has bent: a pixel p shows what was at p +
    moves(p)."""
    now = points
    for _ in range(SOLVER_STEPS):
        now = points - _at(moves, now)
    return now.astype(points.dtype)


def _at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[H, W, 2] at points [N, 2], its rim's value beyond."""
    x, y = points.astype(np.float32).T[..., None]
    return cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
