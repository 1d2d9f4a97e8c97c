"""What the readers of public data sets share: files that say where to get them, labels, samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hand_perception.data.mano import ManoTemplate, posed
from hand_perception.data.pickles import read_pickle
from hand_perception.data.sample import HandLabels, Sample, hand_boxes
from hand_perception.errors import DataError
from hand_perception.geometry import project
from hand_perception.hands import MIDDLE_MCP, NUM_KEYPOINTS, NUM_VERTICES, Camera, Side

# A hand of which less than this share of joints lies in the picture is no hand to find.
MIN_INSIDE = 0.5
# A mesh whose joints are farther from the labelled ones on average, in metres, is another's.
MAX_MESH_ERROR = 0.02


@dataclass(frozen=True)
class Release:
    """A folder as its authors publish it. layout: what must be in it; where: where to get it."""

    root: Path
    title: str
    layout: str
    where: str

    def path(self, *parts: str) -> Path:
        """Raises DataError when it is not there."""
        path = self.root.joinpath(*parts)
        if not path.exists():
            raise DataError(
                f"{path} is missing: {self.title} is a folder with {self.layout}; "
                f"get it from {self.where}"
            )
        return path

    def json(self, *parts: str) -> Any:
        return self._read(self.path(*parts), lambda path: json.loads(path.read_bytes()))

    def yaml(self, *parts: str) -> Any:
        def read(path: Path) -> Any:
            with path.open("rb") as file:
                return yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))

        return self._read(self.path(*parts), read)

    def pickle(self, *parts: str) -> Any:
        return self._read(self.path(*parts), read_pickle)

    def lines(self, *parts: str) -> list[str]:
        text = self._read(self.path(*parts), lambda path: path.read_text())
        return [line.strip() for line in text.splitlines() if line.strip()]

    def arrays(self, *parts: str) -> dict[str, np.ndarray]:
        def read(path: Path) -> dict[str, np.ndarray]:
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}

        return self._read(self.path(*parts), read)

    def _read(self, path: Path, read) -> Any:
        try:
            return read(path)
        except Exception as error:  # the formats' libraries raise nearly anything
            raise DataError(
                f"{path} cannot be read ({type(error).__name__}: {error}): "
                f"get {self.title} again from {self.where}"
            ) from error


def camera_of(K: np.ndarray, image: np.ndarray) -> Camera:
    """From a matrix [3, 3] and the picture it belongs to."""
    K = np.asarray(K, np.float64)
    height, width = image.shape[:2]
    return Camera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], width, height)


def hand_in_space(
    joints: np.ndarray,
    side: Side,
    camera: Camera,
    vertices: np.ndarray | None = None,
    known: np.ndarray | None = None,
    occluded: np.ndarray | None = None,
) -> HandLabels:
    """One hand in metres in the camera's frame: joints [21, 3] and, where there is one, its mesh.

    known: [21] bool; without the middle MCP, the root of all 3D, only the projection is labelled.
    """
    joints = np.asarray(joints, np.float64)
    known = np.ones(NUM_KEYPOINTS, bool) if known is None else np.asarray(known, bool)
    root = joints[MIDDLE_MCP]
    flat = hand_in_picture(project(joints, camera), side, known, occluded)
    in_space = float(known[MIDDLE_MCP])
    return HandLabels(
        keypoints2d=flat.keypoints2d,
        weight2d=flat.weight2d,
        joints3d=(joints - root)[None].astype(np.float32),
        vertices=_mesh(None if vertices is None else vertices - root),
        weight3d=np.full(1, in_space, np.float32),
        translation=root[None].astype(np.float32),
        metric=np.full(1, bool(in_space)),
        side=flat.side,
        weight_mesh=np.full(1, 0.0 if vertices is None else in_space, np.float32),
        known=flat.known,
        occluded=flat.occluded,
    )


def hand_in_picture(
    keypoints2d: np.ndarray,
    side: Side | None,
    known: np.ndarray | None = None,
    occluded: np.ndarray | None = None,
) -> HandLabels:
    """One hand of which only pixels [21, 2] are labelled; at least one of ``known`` [21]."""
    known = np.ones(NUM_KEYPOINTS, bool) if known is None else np.asarray(known, bool)
    pixels = np.array(keypoints2d, np.float64)
    pixels[~known] = pixels[known].mean(0)
    signs = {Side.LEFT: -1.0, Side.RIGHT: 1.0, None: 0.0}
    return HandLabels(
        keypoints2d=pixels[None].astype(np.float32),
        weight2d=np.ones(1, np.float32),
        joints3d=np.zeros((1, NUM_KEYPOINTS, 3), np.float32),
        vertices=_mesh(None),
        weight3d=np.zeros(1, np.float32),
        translation=np.zeros((1, 3), np.float32),
        metric=np.zeros(1, bool),
        side=np.full(1, signs[side], np.float32),
        known=known[None],
        occluded=None if occluded is None else np.asarray(occluded, bool)[None],
    )


def _mesh(vertices: np.ndarray | None) -> np.ndarray:
    if vertices is None:
        return np.zeros((1, NUM_VERTICES, 3), np.float32)
    return np.asarray(vertices, np.float32)[None]


def together(hands: Sequence[HandLabels]) -> HandLabels:
    """The hands of one picture, none or more."""
    if not hands:
        one = hand_in_picture(np.zeros((NUM_KEYPOINTS, 2)), None)
        return one.take(np.zeros(1, bool))
    return HandLabels(
        **{f.name: np.concatenate([getattr(h, f.name) for h in hands]) for f in fields(HandLabels)}
    )


def without_hands_outside(sample: Sample) -> Sample:
    """Hands that lie mostly beyond the picture become regions that are neither hand nor not."""
    hands, camera = sample.hands, sample.camera
    if not len(hands):
        return sample
    limit = (camera.width - 0.5, camera.height - 0.5)
    inside = ((hands.keypoints2d >= -0.5) & (hands.keypoints2d <= limit)).all(-1)
    share = (inside & hands.known).sum(1) / hands.known.sum(1)
    keep = share >= MIN_INSIDE
    lost = hand_boxes(hands.keypoints2d[~keep & (share > 0)], camera.width, camera.height)
    sample.hands = hands.take(keep)
    sample.ignore_boxes = np.concatenate([sample.ignore_boxes, lost])
    return sample


def mesh_of_parameters(
    mano: ManoTemplate | None,
    pose: np.ndarray,
    shape: np.ndarray,
    translation: np.ndarray,
    side: Side,
    joints: np.ndarray,
    to_camera: np.ndarray | None = None,
) -> np.ndarray | None:
    """Vertices [778, 3] in metres in the camera's frame, or None without the user's MANO file.

    to_camera: [3, 4], from the parameters' frame to the camera's. joints: [21, 3], as labelled; NaN
    where they are not. Releases do not say which of the two shapes of left hands (mano.posed) they
    were fitted with: the one that meets the labelled joints is taken, and none when neither does.
    """
    if mano is None:
        return None
    best, least = None, MAX_MESH_ERROR
    for mirrored_shape in (True, False) if side is Side.LEFT else (True,):
        vertices, keypoints = posed(mano, pose, shape, translation, side, mirrored_shape)
        if to_camera is not None:
            vertices, keypoints = (
                points @ to_camera[:, :3].T + to_camera[:, 3] for points in (vertices, keypoints)
            )
        error = float(np.nanmean(np.linalg.norm(keypoints - joints, axis=-1)))
        if error < least:
            best, least = vertices, error
    return best
