"""FreiHAND v2 (Zimmermann et al. 2019): right hands, MANO meshes, K."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_perception.data.datasets.files import Release, camera_of, hand_in_space, together
from hand_perception.data.mano import ManoTemplate
from hand_perception.data.sample import Sample
from hand_perception.errors import DataError
from hand_perception.hands import Side
from hand_perception.imaging import read_image

SPLITS = {"train": "training", "test": "evaluation"}


class FreiHAND:
    """``training_xyz.json`` and so on, metres in the camera's frame, joints already in our order.

    The training images come in several versions of the same hands, one set after the other. An
    evaluation folder without ``evaluation_xyz.json`` (the first release) has images without labels.
    """

    def __init__(self, root: Path, split: str = "train", mano: ManoTemplate | None = None) -> None:
        self._set = SPLITS[split]
        self._release = Release(
            Path(root),
            "FreiHAND",
            f"{self._set}/rgb, {self._set}_K.json, {self._set}_xyz.json and {self._set}_verts.json",
            "https://lmb.informatik.uni-freiburg.de/projects/freihand (FreiHAND_pub_v2"
            f"{'_eval' if split == 'test' else ''}.zip)",
        )
        self._images = self._release.path(self._set, "rgb")
        self._K = np.array(self._release.json(f"{self._set}_K.json"))
        labelled = split == "train" or (Path(root) / f"{self._set}_xyz.json").is_file()
        self._joints = self._vertices = None
        if labelled:
            self._joints = np.array(self._release.json(f"{self._set}_xyz.json"), np.float32)
            self._vertices = np.array(self._release.json(f"{self._set}_verts.json"), np.float32)
            if not len(self._K) == len(self._joints) == len(self._vertices):
                raise DataError(f"{root}: the files of {self._set} have different lengths")
        files = sum(1 for _ in self._images.glob("*.jpg"))
        self._length = files - files % len(self._K) if split == "train" else len(self._K)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        name = f"{index:08d}.jpg"
        image = read_image(self._images / name)
        label = index % len(self._K)
        camera = camera_of(self._K[label], image)
        hands = []
        if self._joints is not None:
            hands = [hand_in_space(self._joints[label], Side.RIGHT, camera, self._vertices[label])]
        return Sample(image, camera, together(hands), topology="mano", name=name)
