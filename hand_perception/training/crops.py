"""Batches of crops: two views of each draw, as MobRecon's consistency loss compares them.

A crop is what a camera that looks at its centre would see: where the intrinsics are true, 3D labels
turn into that camera's axes, so that a hand at the image's border is learnt like one in the middle.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hand_perception.data.sample import Sample, Similarity, hand_boxes, warp
from hand_perception.errors import DataError, ImageError
from hand_perception.geometry import rotation_to_axis
from hand_perception.training.augmentation import cut_off, recolour
from hand_perception.training.batches import Source
from hand_perception.training.retaking import empty_place, retake, with_blob

_log = logging.getLogger(__name__)

VIEWS = 2
# Hands smaller than this are blots.
MIN_BOX_PIXELS = 12
# Of the detector's boxes against tight ones, in box sides, as seen on photographs. Now and then it
# is much further off; and where a hand is followed, what is read in a poor crop places the next,
# so that joints must be read well there, or crops drift away.
CENTRE_JITTER, SCALE_JITTER = 0.06, 0.10
FAR_OFF, FAR_OFF_SHARE = 2.5, 0.25
# How often the image's border cuts a hand that is whole.
CUT_OFF_SHARE = 0.08
# So many draws in a row that show nothing are a broken data set.
MOST_FRUITLESS = 200


@dataclass
class CropBatch:
    """B crops of S x S; crops 2k and 2k + 1 are views of one hand.

    images: uint8 [B, 3, S, S]. joints2d: [B, 21, 2] in 0..1 of the crop; known: [B, 21] bool.
    joints3d: [B, 21, 3], vertices: [B, 778, 3], metres about the middle MCP. weight2d, weight3d,
    weight_mesh, side (+1 right, -1 left, 0 unknown), present (a hand, or none): [B]. to_crop: [B,
    2, 3], the image's pixels to 0..1 of the crop; axes: [B, 3, 3], the image's camera axes to the
    crop's.
    """

    images: Tensor
    joints2d: Tensor
    known: Tensor
    joints3d: Tensor
    vertices: Tensor
    weight2d: Tensor
    weight3d: Tensor
    weight_mesh: Tensor
    side: Tensor
    present: Tensor
    to_crop: Tensor
    axes: Tensor

    def to(self, device: torch.device) -> CropBatch:
        return CropBatch(
            **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        )


@dataclass(frozen=True)
class CropRecipe:
    """size: of a crop in pixels; scale: its side in sides of the hand's box. empty: share of draws
    from images with hands that look where there is none. weights: share of each source."""

    size: int
    scale: float
    batch_size: int
    weights: tuple[float, ...]
    empty: float = 0.1


class CropBatches(Dataset):
    """``CropBatches(...)[step]`` is the batch of that step: batch_size crops.

    places: pictures without hands, in front of which photographed hands are put now and then.
    A sample that cannot be read is reported and another one taken. Raises DataError when as many as
    MOST_FRUITLESS in a row give nothing.
    """

    def __init__(
        self, sources: list[Source], recipe: CropRecipe, seed: int, places: Source | None = None
    ) -> None:
        self.sources, self.recipe, self.seed, self.places = sources, recipe, seed, places

    def __getitem__(self, step: int) -> CropBatch:
        rng = np.random.default_rng((self.seed, step))
        share = np.array(self.recipe.weights) / sum(self.recipe.weights)
        crops: list[dict[str, np.ndarray]] = []
        fruitless = 0
        while len(crops) < self.recipe.batch_size:
            source = self.sources[rng.choice(len(share), p=share)]
            index = int(rng.integers(len(source)))
            try:
                drawn = draw(source[index], self.recipe, rng, self.places)
            except (DataError, ImageError) as unreadable:
                _log.warning("sample %d skipped: %s", index, unreadable)
                drawn = []
            crops += drawn
            fruitless = 0 if drawn else fruitless + 1
            if fruitless == MOST_FRUITLESS:
                raise DataError(
                    f"{fruitless} samples in a row show neither a hand of {MIN_BOX_PIXELS} pixels "
                    "nor a place surely without: look at the labels of the stage's sources"
                )
        columns = {key: np.stack([crop[key] for crop in crops]) for key in crops[0]}
        return CropBatch(**{key: torch.from_numpy(value) for key, value in columns.items()})


def draw(
    sample: Sample, recipe: CropRecipe, rng: np.random.Generator, places: Source | None = None
) -> list[dict]:
    """Two views of one hand of the sample, or of a place without; none where that is not to be."""
    height, width = sample.image.shape[:2]
    boxes = hand_boxes(sample.hands.keypoints2d, width, height)
    large = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).max(-1, initial=0) >= MIN_BOX_PIXELS)
    chosen = None
    if len(large) and rng.random() >= recipe.empty:
        chosen = int(rng.choice(large))
        sample = retake(sample, chosen, places, rng)
        box = hand_boxes(sample.hands.keypoints2d[chosen : chosen + 1], width, height)[0]
    else:
        box = empty_place(sample, boxes, rng)
        if box is None:
            return []
        sample = replace(sample, image=with_blob(sample.image, box, rng))
    mirror = width if rng.random() < 0.5 else 0
    return [_view(sample, chosen, box, mirror, recipe, rng) for _ in range(VIEWS)]


def _view(
    sample: Sample,
    chosen: int | None,
    box: np.ndarray,
    mirror: int,
    recipe: CropRecipe,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    size = recipe.size
    side = max(box[2] - box[0], box[3] - box[1])
    # Mostly upright as cameras are held, now and then any way round.
    angle = rng.normal(0, np.radians(20)) if rng.random() < 0.85 else rng.uniform(-np.pi, np.pi)
    off = FAR_OFF if rng.random() < FAR_OFF_SHARE else 1.0
    scale = size / (side * recipe.scale) * np.exp(rng.normal(0, off * SCALE_JITTER))
    centre = (box[:2] + box[2:]) / 2 + rng.normal(0, off * CENTRE_JITTER, 2) * side
    matrix = Similarity(scale, angle, (0.0, 0.0), mirror).matrix()
    offset = (size - 1) / 2 - (matrix[:, :2] @ centre + matrix[:, 2])
    similarity = Similarity(scale, angle, tuple(offset), mirror)
    index = [] if chosen is None else [chosen]
    target = Sample(sample.image, sample.camera, sample.hands.take(np.array(index, int)))
    seen = warp(target, similarity, size)
    axes = similarity.axes()
    hands = seen.hands
    if chosen is not None and hands.metric[0]:
        middle, camera = (size - 1) / 2, seen.camera
        ray = [(middle - camera.cx) / camera.fx, (middle - camera.cy) / camera.fy, 1.0]
        axes = rotation_to_axis(np.array(ray)) @ axes
    turn = (axes @ similarity.axes().T).astype(np.float32)
    image = recolour(seen.image, rng)
    if chosen is not None and rng.random() < CUT_OFF_SHARE:
        image = cut_off(image, hand_boxes(hands.keypoints2d, size, size)[0], rng)
    out = {
        "images": image.transpose(2, 0, 1).copy(),
        "to_crop": (similarity.matrix() + [[0, 0, 0.5]] * 2).astype(np.float32) / size,
        "axes": axes.astype(np.float32),
        "present": np.float32(chosen is not None),
    }
    if chosen is None:
        return out | _NO_HAND
    return out | {
        "joints2d": ((hands.keypoints2d[0] + 0.5) / size).astype(np.float32),
        "known": hands.known[0],
        "joints3d": (hands.joints3d[0] @ turn.T).astype(np.float32),
        "vertices": (hands.vertices[0] @ turn.T).astype(np.float32),
        "weight2d": np.float32(hands.weight2d[0]),
        "weight3d": np.float32(hands.weight3d[0]),
        "weight_mesh": np.float32(hands.weight_mesh[0]),
        "side": np.float32(hands.side[0]),
    }


_NO_HAND = {
    "joints2d": np.full((21, 2), 0.5, np.float32),
    "known": np.zeros(21, bool),
    "joints3d": np.zeros((21, 3), np.float32),
    "vertices": np.zeros((778, 3), np.float32),
    "weight2d": np.float32(0),
    "weight3d": np.float32(0),
    "weight_mesh": np.float32(0),
    "side": np.float32(0),
}
