"""Random views and colours of a sample; numpy on the CPU, seeded by the caller's generator."""

from __future__ import annotations

import cv2
import numpy as np

from hand_perception.data.sample import PADDING, Sample, Similarity, hand_boxes, warp

# A hand of which less than this share of joints stays in the view becomes an ignored region.
MIN_JOINTS_INSIDE = 0.5
MIN_BOX_PIXELS = 12


def whole_image_view(
    sample: Sample, size: int, rng: np.random.Generator, flip: float = 0.5
) -> Sample:
    """The image, zoomed, turned and moved: for the detector. flip: how often it is mirrored."""
    height, width = sample.image.shape[:2]
    scale = size / max(height, width) * np.exp(rng.uniform(-0.6, 0.35))
    centre = ((width - 1) / 2, (height - 1) / 2)
    return _view(sample, size, rng, scale, centre, wander=0.2, flip=flip)


def hand_view(sample: Sample, size: int, rng: np.random.Generator, flip: float = 0.5) -> Sample:
    """A view around one hand, 18 to 85 % of the side: for the decoder, which sees boxes only. Two
    in three are 40 % or more: small hands are read in windows in the end (``second_look``)."""
    if not len(sample.hands):
        return whole_image_view(sample, size, rng, flip)
    height, width = sample.image.shape[:2]
    box = hand_boxes(sample.hands.keypoints2d, width, height)[rng.integers(len(sample.hands))]
    side = max(box[2] - box[0], box[3] - box[1], 4.0)
    scale = size * np.exp(rng.triangular(*np.log((0.18, 0.6, 0.85)))) / side
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    return _view(sample, size, rng, scale, centre, wander=0.12, flip=flip)


def _view(sample, size, rng, scale, centre, wander, flip) -> Sample:
    # Mostly upright as cameras are held, now and then any way round.
    angle = rng.normal(0, np.radians(15)) if rng.random() < 0.85 else rng.uniform(-np.pi, np.pi)
    mirror = sample.image.shape[1] if rng.random() < flip else 0
    target = (size - 1) / 2 + rng.uniform(-wander, wander, 2) * size
    matrix = Similarity(scale, angle, (0.0, 0.0), mirror).matrix()
    offset = target - (matrix[:, :2] @ centre + matrix[:, 2])
    moved = warp(sample, Similarity(scale, angle, tuple(offset), mirror), size)
    return _drop_hands_outside(moved, size)


def _drop_hands_outside(sample: Sample, size: int) -> Sample:
    hands = sample.hands
    if not len(hands):
        return sample
    inside = ((hands.keypoints2d > 0) & (hands.keypoints2d < size - 1)).all(-1).mean(1)
    boxes = hand_boxes(hands.keypoints2d, size, size)
    big = (boxes[:, 2:] - boxes[:, :2]).max(1) >= MIN_BOX_PIXELS
    keep = (inside >= MIN_JOINTS_INSIDE) & big
    lost = boxes[~keep & (inside > 0)]
    sample.hands = hands.take(keep)
    sample.ignore_boxes = np.concatenate([sample.ignore_boxes, lost])
    return sample


def recolour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distance, exposure, contrast, white balance, grey, blur, noise and JPEG; uint8 in and out."""
    size = image.shape[1::-1]
    x = image
    if rng.random() < 0.25:
        # As a hand looks from further away: fewer pixels, and what happens to them happens there.
        share = np.exp(rng.uniform(np.log(0.2), np.log(0.7)))
        x = cv2.resize(x, [max(1, round(s * share)) for s in size], interpolation=cv2.INTER_AREA)
    # What becomes of a value alone is looked up: a picture has more pixels than values.
    values = np.linspace(0, 1, 256)[:, None]
    if rng.random() < 0.9:
        gain = np.exp(rng.normal(0, 0.18)) * np.exp(rng.normal(0, 0.07, 3))
        x = looked_up(x, np.clip(values * gain, 0, 1) ** np.exp(rng.normal(0, 0.2)))
    if rng.random() < 0.3:
        mean = x.mean() / 255
        x = looked_up(x, (values - mean) * rng.uniform(0.5, 1.3) + mean)
    if rng.random() < 0.12:
        x = np.repeat(x.mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    if rng.random() < 0.2:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.4))
    if rng.random() < 0.3:
        grain = rng.standard_normal(x.shape, np.float32) * np.float32(
            255 * rng.uniform(0.005, 0.04)
        )
        x = np.clip(x + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        _, coded = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))])
        x = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    if x.shape != image.shape:
        x = cv2.resize(x, size, interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.12:
        x = x.copy()
        _cover(x, rng)
    return x


def cut_off(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As at the border of an image, which cuts up to a third of the hand in box [4] (x0, y0, x1,
    y1): grey beyond, as crops have it there."""
    image = image.copy()
    axis, size = rng.integers(2), image.shape[0]
    share = rng.uniform(-0.15, 0.35)
    along = image if axis else image.transpose(1, 0, 2)
    if rng.random() < 0.5:
        border = box[axis] + share * (box[axis + 2] - box[axis])
        along[: int(np.clip(border, 0, size))] = PADDING
    else:
        border = box[axis + 2] - share * (box[axis + 2] - box[axis])
        along[int(np.clip(border, 0, size)) :] = PADDING
    return image


def looked_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] through a table of 0..1, [256, 1] for all channels or [256, 3]."""
    table = np.rint(np.clip(table, 0, 1) * 255).astype(np.uint8)
    return cv2.LUT(image, np.ascontiguousarray(np.broadcast_to(table, (256, 3)))[:, None])


def _cover(image: np.ndarray, rng: np.random.Generator) -> None:
    """A plain rectangle somewhere: things stand in front of hands."""
    size = image.shape[0]
    w, h = rng.integers(size // 16, size // 4, 2)
    x, y = rng.integers(0, size - w), rng.integers(0, size - h)
    image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
