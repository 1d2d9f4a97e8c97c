"""Photographs with weak labels: 2D joints, side, rough 3D joints; no intrinsics, no mesh.

Reads a folder with ``labels.jsonl`` (one JSON an image) and the images it names. Fields used:
file, split, hands (keypoints2d, handedness, handedness_reliable, world, world_reliable,
reliability, box), ignore_boxes, boxes_exhaustive, negative, set.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from hand_perception.data.mesh_fitting import MeshFit, fit_meshes
from hand_perception.data.sample import HandLabels, Sample
from hand_perception.errors import DataError
from hand_perception.hands import Camera
from hand_perception.template import Template

# A fitted mesh whose joints miss the labels by more than this share of the box teaches nothing.
MAX_FIT_RESIDUAL = 0.045


@dataclass
class Photograph:
    """One labelled photograph; ``hands`` are the JSON's own records."""

    file: str
    set: str
    hands: list[dict]
    ignore_boxes: list[dict]
    exhaustive: bool
    negative: bool


def read_labels(root: str | Path, split: str) -> list[Photograph]:
    """Raises DataError when the folder has no labels."""
    path = Path(root) / "labels.jsonl"
    if not path.is_file():
        raise DataError(f"{path} is missing: point --photographs at a folder with labels.jsonl")
    photographs = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if row["split"] == split:
            photographs.append(
                Photograph(
                    row["file"],
                    row["set"],
                    row["hands"],
                    row["ignore_boxes"],
                    row["boxes_exhaustive"],
                    row["negative"],
                )
            )
    return photographs


@dataclass
class Photographs:
    """A split as training samples, images held in memory as files are read."""

    root: Path
    photographs: list[Photograph]
    labels: list[HandLabels]
    _files: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def load(cls, root: str | Path, split: str, template: Template, cache: Path) -> Photographs:
        """``cache``: an .npz where the fitted meshes are kept, since fitting takes minutes."""
        photographs = read_labels(root, split)
        fits = _cached_fits(photographs, template, cache)
        labels, at = [], 0
        for photograph in photographs:
            count = len(photograph.hands)
            labels.append(_labels(photograph, fits, slice(at, at + count)))
            at += count
        return cls(Path(root), photographs, labels)

    def negatives(self) -> Photographs:
        """Those without a hand: a source of its own, to learn what is none."""
        chosen = [k for k, photograph in enumerate(self.photographs) if photograph.negative]
        return Photographs(
            self.root, [self.photographs[k] for k in chosen], [self.labels[k] for k in chosen]
        )

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError when the image cannot be read."""
        photograph = self.photographs[index]
        if index not in self._files:
            path = self.root / photograph.file
            self._files[index] = np.frombuffer(path.read_bytes(), np.uint8)
        image = cv2.imdecode(self._files[index], cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{self.root / photograph.file} cannot be decoded: fetch it again")
        height, width = image.shape[:2]
        return Sample(
            image=cv2.cvtColor(image, cv2.COLOR_BGR2RGB),
            camera=Camera.assumed(width, height),
            hands=self.labels[index],
            ignore_boxes=_boxes(photograph.ignore_boxes),
            exhaustive=photograph.exhaustive,
        )


def _cached_fits(photographs: list[Photograph], template: Template, cache: Path) -> MeshFit:
    hands = [hand for photograph in photographs for hand in photograph.hands]
    if cache.is_file():
        with np.load(cache, allow_pickle=False) as stored:
            fits = MeshFit(stored["vertices"], stored["joints"], stored["residual"])
        if len(fits.residual) == len(hands):
            return fits
    joints2d = np.array([hand["keypoints2d"] for hand in hands], np.float64)
    world = np.array([hand["world"] for hand in hands], np.float64)
    is_left = np.array([hand["handedness"] == "Left" for hand in hands])
    parts = [
        fit_meshes(template, joints2d[k], world[k], is_left[k])
        for k in tqdm(
            np.array_split(np.arange(len(hands)), max(1, len(hands) // 500)), "fit meshes"
        )
    ]
    fits = MeshFit(
        *(
            np.concatenate([getattr(p, n) for p in parts])
            for n in ("vertices", "joints", "residual")
        )
    )
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        cache, vertices=fits.vertices.astype(np.float16), joints=fits.joints, residual=fits.residual
    )
    return fits


def _labels(photograph: Photograph, fits: MeshFit, rows: slice) -> HandLabels:
    hands = photograph.hands
    count = len(hands)
    sides = {"Left": -1.0, "Right": 1.0}
    known = np.array([h["handedness_reliable"] for h in hands], bool).reshape(count)
    side = np.array([sides[h["handedness"]] for h in hands], np.float32).reshape(count)
    trusted = np.array([h["reliability"] == "high" for h in hands], bool).reshape(count)
    world = np.array([h["world_reliable"] for h in hands], bool).reshape(count)
    has_mesh = known & world & (fits.residual[rows] < MAX_FIT_RESIDUAL)
    return HandLabels(
        keypoints2d=np.array([h["keypoints2d"] for h in hands], np.float32).reshape(count, 21, 2),
        weight2d=np.where(trusted, 1.0, 0.5).astype(np.float32),
        joints3d=fits.joints[rows].astype(np.float32),
        vertices=fits.vertices[rows].astype(np.float32),
        weight3d=np.where(has_mesh, 0.5, 0.0).astype(np.float32),
        translation=np.zeros((count, 3), np.float32),
        metric=np.zeros(count, bool),
        side=np.where(known, side, 0.0).astype(np.float32),
    )


def _boxes(records: list[dict]) -> np.ndarray:
    return np.array([r["box"] for r in records], np.float32).reshape(-1, 4)
