"""Photographs with weak labels as training samples; their meshes are fitted.

The labels hold 2D joints, side and rough 3D joints, but no intrinsics and no mesh.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from hand_perception.data.mesh_fitting import MeshFit, fit_meshes
from hand_perception.data.photograph_labels import (
    LabelledHand,
    LabelledPhotograph,
    pictures_without_hands,
    read_photographs,
)
from hand_perception.data.sample import NO_BOXES, HandLabels, Sample
from hand_perception.errors import DataError
from hand_perception.hands import NUM_KEYPOINTS, Camera, Side
from hand_perception.template import Template

# A fitted mesh whose joints miss the labels by more than this share of the box teaches nothing.
MAX_FIT_RESIDUAL = 0.045
FITTED_AT_ONCE = 500


@dataclass
class Photographs:
    """A split as training samples, images held in memory as files are read."""

    root: Path
    photographs: list[LabelledPhotograph]
    labels: list[HandLabels]
    impostors: dict[str, np.ndarray] = field(default_factory=dict)
    _files: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        root: str | Path,
        split: str,
        template: Template,
        cache: Path,
        impostors: Path | None = None,
    ) -> Photographs:
        """``cache``: an .npz where the fitted meshes are kept, since fitting takes minutes.
        impostors: an .npz of `hand-perception propose`.
        """
        photographs = read_photographs(Path(root), split)
        fits = _cached_fits(photographs, template, cache)
        labels, at = [], 0
        for photograph in photographs:
            count = len(photograph.hands)
            labels.append(_labels(photograph, fits, slice(at, at + count)))
            at += count
        return cls(Path(root), photographs, labels, _read_boxes(impostors) if impostors else {})

    def negatives(self, folders: Sequence[Path] = ()) -> Photographs:
        """Those without a hand, and the pictures in ``folders``, all without: a source of its own,
        to learn what is none."""
        pictures = [photograph for photograph in self.photographs if photograph.negative]
        pictures += pictures_without_hands(folders)
        no_hands = self.labels[0].take(np.zeros(0, int))
        return Photographs(self.root, pictures, [no_hands] * len(pictures), self.impostors)

    def balanced(self) -> Photographs:
        """Each set as often as the square root of its size: hundreds of pictures of a few people
        say less than as many of many, and small sets are of many."""
        sizes = Counter(photograph.set for photograph in self.photographs)
        largest = max(sizes.values())
        rows = [
            index
            for index, photograph in enumerate(self.photographs)
            for _ in range(round((largest / sizes[photograph.set]) ** 0.5))
        ]
        return Photographs(
            self.root,
            [self.photographs[row] for row in rows],
            [self.labels[row] for row in rows],
            self.impostors,
        )

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError when the image cannot be read."""
        photograph = self.photographs[index]
        if photograph.file not in self._files:
            path = self.root / photograph.file
            self._files[photograph.file] = np.frombuffer(path.read_bytes(), np.uint8)
        image = cv2.imdecode(self._files[photograph.file], cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{self.root / photograph.file} cannot be decoded: fetch it again")
        height, width = image.shape[:2]
        return Sample(
            image=cv2.cvtColor(image, cv2.COLOR_BGR2RGB),
            camera=Camera.assumed(width, height),
            hands=self.labels[index],
            ignore_boxes=photograph.ignore_boxes.astype(np.float32),
            impostor_boxes=self.impostors.get(photograph.file, NO_BOXES),
            # A negative was looked through for hands: all of it is background.
            exhaustive=photograph.exhaustive or photograph.negative,
        )


def _read_boxes(path: Path) -> dict[str, np.ndarray]:
    """Raises DataError when the file is missing or no archive."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): run `hand-perception propose` again"
        ) from error


def _cached_fits(photographs: list[LabelledPhotograph], template: Template, cache: Path) -> MeshFit:
    """Fits of all hands in order; those without side or 3D joints have an infinite residual."""
    hands = [hand for photograph in photographs for hand in photograph.hands]
    if cache.is_file():
        with np.load(cache, allow_pickle=False) as stored:
            fits = MeshFit(stored["vertices"], stored["joints"], stored["residual"])
        if len(fits.residual) == len(hands):
            return fits
    fits = MeshFit(
        np.zeros((len(hands), len(template.vertices), 3), np.float16),
        np.zeros((len(hands), NUM_KEYPOINTS, 3), np.float32),
        np.full(len(hands), np.inf, np.float32),
    )
    able = [k for k, hand in enumerate(hands) if hand.world is not None and hand.side is not None]
    for start in tqdm(range(0, len(able), FITTED_AT_ONCE), "fit meshes"):
        chunk = able[start : start + FITTED_AT_ONCE]
        part = fit_labelled(template, [hands[k] for k in chunk])
        for name in ("vertices", "joints", "residual"):
            getattr(fits, name)[chunk] = getattr(part, name)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, vertices=fits.vertices, joints=fits.joints, residual=fits.residual)
    return fits


def fit_labelled(template: Template, hands: list[LabelledHand]) -> MeshFit:
    """Of hands whose side and 3D joints are labelled."""
    joints2d = np.array([hand.keypoints2d for hand in hands])
    world = np.array([hand.world for hand in hands])
    return fit_meshes(template, joints2d, world, np.array([h.side is Side.LEFT for h in hands]))


def _labels(photograph: LabelledPhotograph, fits: MeshFit, rows: slice) -> HandLabels:
    hands = photograph.hands
    signs = {Side.LEFT: -1, Side.RIGHT: 1, None: 0}
    count = len(hands)
    return HandLabels(
        keypoints2d=np.array([h.keypoints2d for h in hands], np.float32).reshape(count, 21, 2),
        weight2d=np.array([1.0 if h.reliable else 0.5 for h in hands], np.float32),
        joints3d=fits.joints[rows].astype(np.float32),
        vertices=fits.vertices[rows].astype(np.float32),
        weight3d=np.where(fits.residual[rows] < MAX_FIT_RESIDUAL, 0.5, 0.0).astype(np.float32),
        translation=np.zeros((count, 3), np.float32),
        metric=np.zeros(count, bool),
        side=np.array([signs[h.side] for h in hands], np.float32),
    )
