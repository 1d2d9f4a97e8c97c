"""RHD, the Rendered Hand Pose data set (Zimmermann and Brox 2017): both hands, 3D joints, K."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_perception.data.datasets.files import (
    Release,
    camera_of,
    hand_in_space,
    together,
    without_hands_outside,
)
from hand_perception.data.mano import ManoTemplate
from hand_perception.data.sample import Sample
from hand_perception.errors import DataError
from hand_perception.hands import Side
from hand_perception.imaging import read_image

SPLITS = {"train": "training", "test": "evaluation"}
# The wrist, then each finger from its tip to its root.
JOINTS = (0, *(4 * f + k for f in range(5) for k in (4, 3, 2, 1)))
SIDES = ((Side.LEFT, slice(0, 21)), (Side.RIGHT, slice(21, 42)))


class RHD:
    """``training/color/00000.png`` and ``training/anno_training.pickle``: xyz in metres, uv_vis, K.

    A hand of which no joint is visible is none to find.
    """

    def __init__(self, root: Path, split: str = "train", mano: ManoTemplate | None = None) -> None:
        self._set = SPLITS[split]
        self._release = Release(
            Path(root),
            "RHD",
            f"{self._set}/color and {self._set}/anno_{self._set}.pickle",
            "https://lmb.informatik.uni-freiburg.de/resources/datasets/"
            "RenderedHandposeDataset.en.html",
        )
        self._release.path(self._set, "color")
        self._labels = self._release.pickle(self._set, f"anno_{self._set}.pickle")
        self._keys = sorted(self._labels)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Sample:
        key = self._keys[index]
        name = f"{key:05d}.png"
        image = read_image(self._release.root / self._set / "color" / name)
        try:
            label = self._labels[key]
            camera = camera_of(label["K"], image)
            hands = []
            for side, rows in SIDES:
                visible = np.asarray(label["uv_vis"])[rows][list(JOINTS), 2] > 0
                joints = np.asarray(label["xyz"], np.float64)[rows][list(JOINTS)]
                if visible.any():
                    hands.append(hand_in_space(joints, side, camera, occluded=~visible))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{name}: its labels are not RHD's ({error!r})") from error
        return without_hands_outside(Sample(image, camera, together(hands), name=name))
