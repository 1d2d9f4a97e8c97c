"""Photographs as if taken once more: of a hand that is shaped a little otherwise, somewhere else.

Few people stand behind many photographs, and each is seen hundreds of times. What their labels say
holds for other hands in the same pose as well: fingers longer or bent a little, skin of another
tone, in front of another wall.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from hand_perception.data.sample import Sample
from hand_perception.hands import INDEX_MCP, MIDDLE_MCP, PINKY_MCP, WRIST
from hand_perception.training.augmentation import looked_up
from hand_perception.training.batches import Source

# How often each is done to a photograph.
BEND_SHARE, ELSEWHERE_SHARE, TONE_SHARE = 0.35, 0.4, 0.5
# The displacement is given at KNOTS x KNOTS places over REACH box sides, zero at the rim; in box
# sides where it is noise, and as a linear map: hands are narrower or longer, or turned a little.
KNOTS, REACH = 9, 3.0
BEND_SD, LINEAR_SD = 0.025, 0.1
SOLVER_STEPS = 8
# The silhouette, in box sides: discs around a fitted mesh's vertices, and how soft the rim is.
DISC, RIM = 0.028, 0.012
# A photograph's labels mark the wrist and the thumb's root beside where a rig has them.
_RIG_AGREES = np.setdiff1d(np.arange(21), [0, 1])


def retake(
    sample: Sample,
    chosen: int,
    box: np.ndarray,
    places: Source | None,
    rng: np.random.Generator,
) -> Sample:
    """The sample with hand ``chosen``, in box [4], perhaps in front of one of ``places`` (pictures
    without hands) and bent. What is known in metres stays as it was taken."""
    if sample.hands.metric[chosen]:
        return sample
    side = float(max(box[2] - box[0], box[3] - box[1]))
    fitted = sample.hands.weight_mesh[chosen] > 0
    if places is not None and fitted and rng.random() < ELSEWHERE_SHARE:
        place = places[int(rng.integers(len(places)))].image
        sample = replace(sample, image=elsewhere(sample, chosen, side, place, rng))
    if rng.random() < BEND_SHARE:
        sample = bend(sample, chosen, (box[:2] + box[2:]) / 2, side, rng)
    return sample


def elsewhere(
    sample: Sample, chosen: int, side: float, place: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """uint8 [H, W, 3]: hand ``chosen`` and a stump of its arm in front of a part of ``place``, the
    skin now and then of another tone."""
    height, width = sample.image.shape[:2]
    share = silhouette(sample, chosen, side)[..., None]
    h, w = place.shape[:2]
    part = np.exp(rng.uniform(np.log(0.4), 0.0))
    corner = rng.uniform((0, 0), (w * (1 - part), h * (1 - part)))
    x, y = corner.astype(int)
    behind = place[y : y + max(int(h * part), 1), x : x + max(int(w * part), 1)]
    behind = cv2.resize(behind, (width, height), interpolation=cv2.INTER_LINEAR)
    front = sample.image
    if rng.random() < TONE_SHARE:
        gain = np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.1, 3))
        front = looked_up(front, np.linspace(0, 1, 256)[:, None] * gain)
    mixed = behind + share * (front.astype(np.float32) - behind)
    return np.rint(mixed).astype(np.uint8)


def silhouette(sample: Sample, chosen: int, side: float) -> np.ndarray:
    """float32 [H, W] in 0..1: where the fitted mesh of hand ``chosen`` lies in the image."""
    hands = sample.hands
    marks, joints = hands.keypoints2d[chosen], hands.joints3d[chosen, :, :2]
    use = _RIG_AGREES[hands.known[chosen][_RIG_AGREES]]
    middle3, middle2 = joints[use].mean(0), marks[use].mean(0)
    spread = joints[use] - middle3
    scale = (spread * (marks[use] - middle2)).sum() / max((spread**2).sum(), 1e-9)
    vertices = (hands.vertices[chosen, :, :2] - middle3) * scale + middle2
    mask = np.zeros(sample.image.shape[:2], np.uint8)
    radius = max(round(DISC * side), 1)
    for x, y in np.rint(vertices).astype(int).tolist():
        cv2.circle(mask, (x, y), radius, 255, -1)
    palm = np.linalg.norm(marks[INDEX_MCP] - marks[PINKY_MCP])
    along = marks[WRIST] - marks[MIDDLE_MCP]
    ends = np.rint([marks[WRIST] - 0.2 * along, marks[WRIST] + along]).astype(int).tolist()
    cv2.line(mask, *ends, 255, max(round(max(palm, 0.3 * side)), 1))
    return cv2.GaussianBlur(mask, (0, 0), max(RIM * side, 0.5)).astype(np.float32) / 255


def bend(
    sample: Sample, chosen: int, centre: np.ndarray, side: float, rng: np.random.Generator
) -> Sample:
    """The image bent smoothly around hand ``chosen`` and its pixels' labels with it. What bends in
    the image does not in space: meshes teach nothing then."""
    hands = sample.hands
    height, width = sample.image.shape[:2]
    moves = displacement((height, width), centre, side, rng)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    image = cv2.remap(
        sample.image,
        x + moves[..., 0],
        y + moves[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    # A pixel p shows what was at p + moves(p): a joint q is seen at the p that shows it.
    was = hands.keypoints2d[chosen]
    now = was
    for _ in range(SOLVER_STEPS):
        now = was - _at(moves, now)
    keypoints2d, weight3d = hands.keypoints2d.copy(), hands.weight3d.copy()
    weight_mesh = hands.weight_mesh.copy()
    keypoints2d[chosen], weight3d[chosen], weight_mesh[chosen] = now, 0.0, 0.0
    bent = replace(hands, keypoints2d=keypoints2d, weight3d=weight3d, weight_mesh=weight_mesh)
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


def _at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[H, W, 2] at points [N, 2], its rim's value beyond."""
    x, y = points.astype(np.float32).T[..., None]
    return cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
