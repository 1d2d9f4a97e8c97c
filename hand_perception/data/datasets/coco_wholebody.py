"""COCO-WholeBody (Jin et al. 2020): 2D joints of the hands of people in COCO's pictures."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from hand_perception.data.datasets.files import Release, hand_in_picture, together
from hand_perception.data.mano import ManoTemplate
from hand_perception.data.sample import Sample
from hand_perception.errors import DataError
from hand_perception.hands import NUM_KEYPOINTS, Camera, Side
from hand_perception.imaging import read_image

SPLITS = {"train": "train", "test": "val"}


class COCOWholeBody:
    """``annotations/coco_wholebody_train_v1.0.json`` beside COCO's ``train2017``.

    Pictures with at least one valid hand; of the test split, all. Boxes of hands without joints are
    ignored regions: the hand is there, its joints are too small or blurred to label.
    """

    def __init__(self, root: Path, split: str = "train", mano: ManoTemplate | None = None) -> None:
        self._folder = f"{SPLITS[split]}2017"
        self._release = Release(
            Path(root),
            "COCO-WholeBody",
            f"annotations/coco_wholebody_{SPLITS[split]}_v1.0.json and {self._folder}",
            "https://github.com/jin-s13/COCO-WholeBody and https://cocodataset.org",
        )
        content = self._release.json("annotations", f"coco_wholebody_{SPLITS[split]}_v1.0.json")
        self._release.path(self._folder)
        people = defaultdict(list)
        for person in content["annotations"]:
            people[person["image_id"]].append(person)
        self._images = [
            (row["file_name"], people[row["id"]])
            for row in content["images"]
            # False hands are counted on every picture of the test split.
            if split == "test"
            or any(p.get(f"{s.value}hand_valid") for p in people[row["id"]] for s in Side)
        ]

    def __len__(self) -> int:
        return len(self._images)

    def true_boxes(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The labelled boxes [N, 4] of all hands, also of those without joints, and those of crowds
        [M, 4], for box AP.
        """
        _, people = self._images[index]
        hands, crowds = [], []
        for person in people:
            if person.get("iscrowd"):
                crowds.append(person["bbox"])
                continue
            boxes = (person[f"{side.value}hand_box"] for side in Side)
            hands += [box for box in boxes if box[2] > 0 and box[3] > 0]
        corners = (np.array(boxes, float).reshape(-1, 4) for boxes in (hands, crowds))
        return tuple(np.concatenate([c[:, :2], c[:, :2] + c[:, 2:]], 1) for c in corners)

    def __getitem__(self, index: int) -> Sample:
        file, people = self._images[index]
        image = read_image(self._release.root / self._folder / file)
        hands, ignored = [], []
        try:
            for person in people:
                if person.get("iscrowd"):
                    x, y, w, h = person["bbox"]
                    ignored.append((x, y, x + w, y + h))
                    continue
                for side in Side:
                    points = np.array(person[f"{side.value}hand_kpts"], float)
                    points = points.reshape(NUM_KEYPOINTS, 3)
                    known = points[:, 2] > 0
                    x, y, w, h = person[f"{side.value}hand_box"]
                    if person[f"{side.value}hand_valid"] and known.any():
                        hands.append(hand_in_picture(points[:, :2], side, known))
                    elif w > 0 and h > 0:
                        ignored.append((x, y, x + w, y + h))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file}: its labels are not COCO-WholeBody's ({error!r})") from error
        height, width = image.shape[:2]
        return Sample(
            image,
            Camera.assumed(width, height),
            together(hands),
            np.array(ignored, np.float32).reshape(-1, 4),
            # Not every visible hand of every person is labelled.
            exhaustive=False,
            name=file,
        )
