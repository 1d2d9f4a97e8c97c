"""OneHand10K (Wang et al. 2019): one hand a picture, 2D joints."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_perception.data.datasets.files import Release, hand_in_picture, together
from hand_perception.data.mano import ManoTemplate
from hand_perception.data.sample import Sample
from hand_perception.errors import DataError
from hand_perception.hands import NUM_KEYPOINTS, Camera
from hand_perception.imaging import read_image

SPLITS = {"train": "Train", "test": "Test"}


class OneHand10K:
    """``Train/label_joint.txt``: file, width, height, hands, then x, y of the joints in our order,
    -1 where a joint is not to be seen. Sides are not labelled.
    """

    def __init__(self, root: Path, split: str = "train", mano: ManoTemplate | None = None) -> None:
        self._folder = SPLITS[split]
        self._release = Release(
            Path(root),
            "OneHand10K",
            f"{self._folder}/label_joint.txt and {self._folder}/source",
            "https://www.yangangwang.com/papers/WANG-MCC-2018-10.html",
        )
        self._release.path(self._folder, "source")
        self._rows = []
        for line in self._release.lines(self._folder, "label_joint.txt"):
            file, *numbers = line.rstrip(",").split(",")
            try:
                points = np.array([float(x) for x in numbers[3 : 3 + 2 * NUM_KEYPOINTS]])
                self._rows.append((file, points.reshape(NUM_KEYPOINTS, 2)))
            except ValueError as error:
                raise DataError(f"{root}: label_joint.txt has a broken line of {file}") from error

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        file, points = self._rows[index]
        image = read_image(self._release.root / self._folder / "source" / file)
        known = (points >= 0).all(1)
        hands = [hand_in_picture(points, None, known)] if known.any() else []
        height, width = image.shape[:2]
        camera = Camera.assumed(width, height)
        return Sample(image, camera, together(hands), exhaustive=False, name=file)
