"""HInt (Pavlakos et al. 2024): hands in the wild with 2D joints and which of them are occluded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_perception.data.datasets.files import Release, hand_in_picture, together
from hand_perception.data.mano import ManoTemplate
from hand_perception.data.sample import Sample
from hand_perception.errors import DataError
from hand_perception.hands import Camera, Side
from hand_perception.imaging import read_image

SPLITS = {"train": "TRAIN", "val": "VAL", "test": "TEST"}
SUBSETS = {"newdays": "newdays_img", "visor": "epick_img", "ego4d": "ego4d_img"}


class HInt:
    """Folders such as ``TEST_newdays_img`` of pairs NAME_r.jpg and NAME_r.json (r: right, l: left).

    subset: one of SUBSETS, or all of those that are there. One hand a picture is labelled, others
    are not. Ego4D's frames are to be put into the release by its users.
    """

    def __init__(
        self,
        root: Path,
        split: str = "train",
        mano: ManoTemplate | None = None,
        subset: str | None = None,
    ) -> None:
        self._release = Release(
            Path(root),
            "HInt",
            f"{SPLITS[split]}_newdays_img, {SPLITS[split]}_epick_img, {SPLITS[split]}_ego4d_img",
            "https://github.com/ddshan/hint",
        )
        folders = [f"{SPLITS[split]}_{name}" for name in SUBSETS.values()]
        if subset is None:
            present = [f for f in folders if (self._release.root / f).is_dir()]
            folders = present or folders[:1]
        else:
            folders = [f"{SPLITS[split]}_{SUBSETS[subset]}"]
        self._files = [
            path for folder in folders for path in sorted(self._release.path(folder).glob("*.json"))
        ]
        if subset is None:
            # Ego4D's labels come without their pictures.
            self._files = [path for path in self._files if path.with_suffix(".jpg").is_file()]
        elif self._files and not self._files[0].with_suffix(".jpg").is_file():
            raise DataError(
                f"{self._files[0].with_suffix('.jpg')} is missing: HInt's {subset} pictures are "
                "put in as https://github.com/ddshan/hint explains"
            )
        if not self._files:
            raise DataError(f"{root} has no pictures with labels in {', '.join(folders)}")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        path = self._files[index]
        image = read_image(path.with_suffix(".jpg"))
        side = {"r": Side.RIGHT, "l": Side.LEFT}.get(path.stem[-1])
        rows = self._release.json(*path.relative_to(self._release.root).parts)
        try:
            hands = []
            for row in rows:
                known = np.array(row["existence"], float).ravel() > 0.5
                occluded = np.array(row["occlusion"], float).ravel() > 0.5
                if known.any():
                    pixels = np.array(row["keypoints"], float)[:, :2]
                    hands.append(hand_in_picture(pixels, side, known, occluded))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{path} is no label of HInt ({error!r}): get it again") from error
        height, width = image.shape[:2]
        name = f"{path.parent.name}/{path.stem}"
        camera = Camera.assumed(width, height)
        return Sample(image, camera, together(hands), exhaustive=False, name=name)


def hint_subset(subset: str):
    """A reader of one subset, with the signature of all readers."""

    def read(root: Path, split: str = "train", mano: ManoTemplate | None = None) -> HInt:
        return HInt(root, split, mano, subset)

    return read
