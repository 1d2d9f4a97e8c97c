"""A rendered data set as training samples: everything is known, down to the metre."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_perception.data.sample import HandLabels, Sample, hand_boxes
from hand_perception.hands import MIDDLE_MCP, Camera
from hand_perception.synthesis.dataset import SyntheticDataset

# A hand of which fewer pixels are seen than this share of its box is hidden: nobody could say
# where it is, so it is neither a hand to find nor background.
MIN_VISIBLE_SHARE = 0.08


class SyntheticSamples:
    """What ``hand-perception synthesize`` wrote. Raises DataError as SyntheticDataset does."""

    def __init__(self, root: Path) -> None:
        self.dataset = SyntheticDataset(root)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        item = self.dataset[index]
        image, K = item["image"], item["K"]
        height, width = image.shape[:2]
        joints, count = item["keypoints3d"].astype(np.float32), len(item["is_left"])
        root = joints[:, MIDDLE_MCP]
        boxes = hand_boxes(item["keypoints2d"].astype(np.float32), width, height)
        areas = (boxes[:, 2:] - boxes[:, :2]).clip(min=1).prod(1)
        seen = item["visible"] >= MIN_VISIBLE_SHARE * areas
        labels = HandLabels(
            keypoints2d=item["keypoints2d"].astype(np.float32),
            weight2d=np.ones(count, np.float32),
            joints3d=joints - root[:, None],
            vertices=item["vertices"].astype(np.float32) - root[:, None],
            weight3d=np.ones(count, np.float32),
            translation=root,
            metric=np.ones(count, bool),
            side=np.where(item["is_left"], -1, 1).astype(np.float32),
        )
        return Sample(
            image=image,
            camera=Camera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], width, height),
            hands=labels.take(seen),
            ignore_boxes=boxes[~seen],
        )
