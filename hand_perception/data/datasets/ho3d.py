"""HO-3D v2 and v3 (Hampali et al. 2020) and H2O-3D (2022): hands with objects, MANO parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_perception.data.datasets.files import (
    Release,
    camera_of,
    hand_in_space,
    mesh_of_parameters,
    together,
    without_hands_outside,
)
from hand_perception.data.mano import ManoTemplate
from hand_perception.data.sample import HandLabels, Sample
from hand_perception.errors import DataError
from hand_perception.hands import Camera, Side
from hand_perception.imaging import read_image

SPLITS = {"train": "train", "test": "evaluation"}
# Where our joints stand in theirs: MANO's sixteen, then the tips from thumb to pinky.
JOINTS = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
# From OpenGL's camera (y up, looking along -z), in which all is given, to ours.
FROM_OPENGL = np.array([1.0, -1, -1])
_TO_CAMERA = np.concatenate([np.diag(FROM_OPENGL), np.zeros((3, 1))], 1)


class _Sequences:
    """``train.txt`` names ``SEQUENCE/FRAME``; ``train/SEQUENCE`` holds ``rgb`` and ``meta``."""

    title: str

    def __init__(self, root: Path, split: str = "train", mano: ManoTemplate | None = None) -> None:
        self._set, self._mano = SPLITS[split], mano
        self._release = Release(
            Path(root),
            self.title,
            f"{self._set}.txt and {self._set}/SEQUENCE/rgb and meta",
            "https://github.com/shreyashampali/ho3d",
        )
        self._frames = self._release.lines(f"{self._set}.txt")
        self._release.path(self._set)

    def __len__(self) -> int:
        return len(self._frames)

    def _frame(self, index: int) -> tuple[str, np.ndarray, dict, Camera]:
        name = self._frames[index]
        sequence, frame = name.split("/")
        folder = self._release.root / self._set / sequence
        # Version 2 has PNG, version 3 and H2O-3D have JPEG.
        png = folder / "rgb" / f"{frame}.png"
        image = read_image(png if png.is_file() else png.with_suffix(".jpg"))
        meta = self._release.pickle(self._set, sequence, "meta", f"{frame}.pkl")
        try:
            return name, image, meta, camera_of(meta["camMat"], image)
        except (KeyError, TypeError, IndexError) as error:
            raise DataError(
                f"{self.title} {name} has no camera ({error!r}): leave it out"
            ) from error

    def _labels(self, meta: dict, prefix: str, side: Side, camera: Camera, name: str) -> HandLabels:
        try:
            joints = np.asarray(meta[f"{prefix}Joints3D"], np.float64)[list(JOINTS)] * FROM_OPENGL
            parameters = (
                np.asarray(meta[key], np.float64).ravel()
                for key in (f"{prefix}Pose", "handBeta", f"{prefix}Trans")
            )
            vertices = mesh_of_parameters(self._mano, *parameters, side, joints, _TO_CAMERA)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                f"{self.title} {name} is not annotated ({error!r}): leave it out"
            ) from error
        return hand_in_space(joints, side, camera, vertices)


class HO3D(_Sequences):
    """Right hands. The test split has labels when the published ``evaluation_xyz.json`` and
    ``evaluation_verts.json`` lie in the folder; without them it is images and cameras.
    """

    title = "HO-3D"

    def __init__(self, root: Path, split: str = "train", mano: ManoTemplate | None = None) -> None:
        super().__init__(root, split, mano)
        self._truth = None
        if split == "test" and (Path(root) / "evaluation_xyz.json").is_file():
            self._truth = [
                np.array(self._release.json(f"evaluation_{what}.json"), np.float64) * FROM_OPENGL
                for what in ("xyz", "verts")
            ]
            if len(self._truth[0]) != len(self) or len(self._truth[1]) != len(self):
                raise DataError(f"{root}: evaluation_xyz.json is of another version of HO-3D")

    def __getitem__(self, index: int) -> Sample:
        name, image, meta, camera = self._frame(index)
        hands = []
        if self._set == "train":
            hands = [self._labels(meta, "hand", Side.RIGHT, camera, name)]
        elif self._truth is not None:
            joints, vertices = (values[index] for values in self._truth)
            hands = [hand_in_space(joints[list(JOINTS)], Side.RIGHT, camera, vertices)]
        return Sample(image, camera, together(hands), topology="mano", name=name)


class H2O3D(_Sequences):
    """Both hands of a person with an object; only the training split is labelled."""

    title = "H2O-3D"

    def __getitem__(self, index: int) -> Sample:
        name, image, meta, camera = self._frame(index)
        hands = []
        if self._set == "train":
            hands = [
                self._labels(meta, f"{side.value}Hand", side, camera, name)
                for side in (Side.RIGHT, Side.LEFT)
            ]
        sample = Sample(image, camera, together(hands), topology="mano", name=name)
        return without_hands_outside(sample)
