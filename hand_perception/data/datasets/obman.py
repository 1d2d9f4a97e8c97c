"""ObMan (Hasson et al. 2019): rendered hands that grasp objects, MANO meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_perception.data.datasets.files import Release, camera_of, hand_in_space, together
from hand_perception.data.mano import ManoTemplate
from hand_perception.data.sample import Sample
from hand_perception.errors import DataError
from hand_perception.hands import Side
from hand_perception.imaging import read_image

SPLITS = {"train": "train", "val": "val", "test": "test"}
# The one camera of the set, and from its renderer's frame to ours.
K = np.array([[480.0, 0, 128], [0, 480, 128], [0, 0, 1]])
TO_CAMERA = np.array([1.0, -1, -1])


class ObMan:
    """``train/rgb/00000000.jpg`` and ``train/meta/00000000.pkl``: coords_3d in our order and
    verts_3d in metres, side.
    """

    def __init__(self, root: Path, split: str = "train", mano: ManoTemplate | None = None) -> None:
        self._set = SPLITS[split]
        self._release = Release(
            Path(root),
            "ObMan",
            f"{self._set}/rgb and {self._set}/meta",
            "https://www.di.ens.fr/willow/research/obman/data",
        )
        self._release.path(self._set, "rgb")
        self._stems = sorted(p.stem for p in self._release.path(self._set, "meta").glob("*.pkl"))
        if not self._stems:
            raise DataError(f"{root}/{self._set}/meta has no labels: get ObMan again")

    def __len__(self) -> int:
        return len(self._stems)

    def __getitem__(self, index: int) -> Sample:
        stem = self._stems[index]
        image = read_image(self._release.root / self._set / "rgb" / f"{stem}.jpg")
        meta = self._release.pickle(self._set, "meta", f"{stem}.pkl")
        camera = camera_of(K, image)
        try:
            joints, vertices = (
                np.asarray(meta[key], np.float64) * TO_CAMERA for key in ("coords_3d", "verts_3d")
            )
            hand = hand_in_space(joints, Side(meta["side"]), camera, vertices)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{stem}: its labels are not ObMan's ({error!r})") from error
        return Sample(image, camera, together([hand]), topology="mano", name=stem)
