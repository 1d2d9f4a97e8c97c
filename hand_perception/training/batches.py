"""Batches for one training step: a pure function of (seed, step), so that a resumed run repeats."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hand_perception.data.order import ShuffledOrder, blocks_of
from hand_perception.data.sample import Sample, hand_boxes
from hand_perception.errors import DataError, ImageError
from hand_perception.training.augmentation import hand_view, recolour, whole_image_view
from hand_perception.training.config import StageConfig
from hand_perception.training.retaking import retake_whole

_log = logging.getLogger(__name__)

# So many samples that cannot be read, or lose their hands to the view, are a broken data set.
MOST_DRAWS = 20


class Source(Protocol):
    """Anything that yields samples by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def places_of(stage: StageConfig, sources: list[Source]) -> Source | None:
    """Of a stage's sources, in the order of ``stage.sources``, the pictures without hands."""
    names = [name for name, share in stage.sources.items() if share > 0]
    return dict(zip(names, sources, strict=True)).get("negatives")


@dataclass
class Batch:
    """B images of S x S with M hand slots each; pixels, metres, cx, cy, w, h boxes in 0..1.

    images: uint8 [B, 3, S, S]. boxes: [B, M, 4]. present: [B, M] bool. keypoints2d: [B, M, 21, 2]
    in 0..1; known: [B, M, 21] bool. weight2d, weight3d, weight_mesh: [B, M]. joints3d: [B, M, 21,
    3]; vertices: [B, M, 778, 3], about the middle MCP. translation: [B, M, 3], valid where metric
    [B, M]. side: [B, M]. intrinsics: [B, 4] in units of the image's side. ignore: [B, I, 4] boxes
    (zero size: none). background: [B], how much an empty place counts.
    """

    images: Tensor
    boxes: Tensor
    present: Tensor
    keypoints2d: Tensor
    known: Tensor
    weight2d: Tensor
    joints3d: Tensor
    vertices: Tensor
    weight3d: Tensor
    weight_mesh: Tensor
    translation: Tensor
    metric: Tensor
    side: Tensor
    intrinsics: Tensor
    ignore: Tensor
    background: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(
            **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        )


@dataclass(frozen=True)
class BatchRecipe:
    """How steps draw their images. sizes: one is drawn a batch. view: "image" or "hand".
    weights: share of each source. flip: how often an image is mirrored. epochs: whether sources are
    gone through from end to end, each sample once, rather than drawn from.
    unlabelled_background: weight where hands may be unlabelled.
    """

    batch_size: int
    sizes: tuple[int, ...]
    view: str
    slots: int
    weights: tuple[float, ...]
    flip: float = 0.5
    epochs: bool = False
    ignores: int = 6
    unlabelled_background: float = 0.3


class StepBatches(Dataset):
    """``StepBatches(...)[step]`` is the batch of that step.

    places: pictures without hands. With them photographs are taken once more now and then
    (``retaking``). A sample that cannot be read is reported and another one taken.
    Raises DataError when as many as MOST_DRAWS in a row cannot.
    """

    def __init__(
        self,
        sources: list[Source],
        recipe: BatchRecipe,
        seed: int,
        places: Source | None = None,
    ) -> None:
        self.sources, self.recipe, self.seed, self.places = sources, recipe, seed, places
        self._orders = [ShuffledOrder(blocks_of(s), seed) for s in sources if recipe.epochs]

    def __getitem__(self, step: int) -> Batch:
        r = self.recipe
        rng = np.random.default_rng((self.seed, step))
        size = int(rng.choice(r.sizes))
        share = np.array(r.weights) / sum(r.weights)
        first = step * r.batch_size
        samples = [self._draw(rng, share, size, first + k) for k in range(r.batch_size)]
        return collate(samples, size, r)

    def _draw(
        self, rng: np.random.Generator, share: np.ndarray, size: int, position: int
    ) -> Sample:
        view = whole_image_view if self.recipe.view == "image" else hand_view
        moved, error = None, None
        for attempt in range(MOST_DRAWS):
            which = rng.choice(len(share), p=share)
            source = self.sources[which]
            if self._orders and attempt == 0:
                index = self._orders[which][position]
            else:
                index = int(rng.integers(len(source)))
            try:
                sample = source[index]
            except (DataError, ImageError) as unreadable:
                error = unreadable
                _log.warning("sample %d skipped: %s", index, error)
                continue
            if self.places is not None:
                sample = retake_whole(sample, self.places, rng)
            moved = view(sample, size, rng, self.recipe.flip)
            # An image that lost its hands to the view teaches the decoder nothing.
            if len(moved.hands) or not len(sample.hands) or self.recipe.view == "image":
                break
        if moved is None:
            raise DataError(f"{MOST_DRAWS} samples in a row cannot be read, the last: {error}")
        moved.image = recolour(moved.image, rng)
        return moved


def collate(samples: list[Sample], size: int, recipe: BatchRecipe) -> Batch:
    count, slots = len(samples), recipe.slots
    arrays = {
        "boxes": np.zeros((count, slots, 4), np.float32),
        "present": np.zeros((count, slots), bool),
        "keypoints2d": np.zeros((count, slots, 21, 2), np.float32),
        "known": np.zeros((count, slots, 21), bool),
        "weight2d": np.zeros((count, slots), np.float32),
        "joints3d": np.zeros((count, slots, 21, 3), np.float32),
        "vertices": np.zeros((count, slots, 778, 3), np.float32),
        "weight3d": np.zeros((count, slots), np.float32),
        "weight_mesh": np.zeros((count, slots), np.float32),
        "translation": np.zeros((count, slots, 3), np.float32),
        "metric": np.zeros((count, slots), bool),
        "side": np.zeros((count, slots), np.float32),
        "intrinsics": np.zeros((count, 4), np.float32),
        "ignore": np.zeros((count, recipe.ignores, 4), np.float32),
        "background": np.ones(count, np.float32),
    }
    for k, sample in enumerate(samples):
        hands, camera = sample.hands, sample.camera
        n = min(len(hands), slots)
        arrays["boxes"][k, :n] = _relative(hand_boxes(hands.keypoints2d, size, size)[:n], size)
        arrays["present"][k, :n] = True
        arrays["keypoints2d"][k, :n] = (hands.keypoints2d[:n] + 0.5) / size
        for name in (
            "known",
            "weight2d",
            "joints3d",
            "vertices",
            "weight3d",
            "weight_mesh",
            "translation",
            "metric",
            "side",
        ):
            arrays[name][k, :n] = getattr(hands, name)[:n]
        centre = ((camera.cx + 0.5) / size, (camera.cy + 0.5) / size)
        arrays["intrinsics"][k] = (camera.fx / size, camera.fy / size, *centre)
        lost = sample.ignore_boxes[: recipe.ignores]
        if len(lost):
            arrays["ignore"][k, : len(lost)] = _relative(lost, size)
        if not sample.exhaustive:
            arrays["background"][k] = recipe.unlabelled_background
    images = np.stack([s.image for s in samples]).transpose(0, 3, 1, 2)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Batch(images=torch.from_numpy(np.ascontiguousarray(images)), **tensors)


def _relative(boxes: np.ndarray, size: int) -> np.ndarray:
    """x0, y0, x1, y1 at pixel centres -> cx, cy, w, h in 0..1."""
    low, high = (boxes[:, :2] + 0.5) / size, (boxes[:, 2:] + 0.5) / size
    return np.concatenate([(low + high) / 2, high - low], -1)
