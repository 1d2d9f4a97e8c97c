"""A rendered data set as training samples: everything is known, down to the metre."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch.utils.data import ConcatDataset

from hand_perception.data.order import ENDLESS
from hand_perception.data.sample import HandLabels, Sample, hand_boxes
from hand_perception.geometry import project
from hand_perception.hands import MIDDLE_MCP, NUM_KEYPOINTS, Camera
from hand_perception.synthesis.dataset import SyntheticDataset
from hand_perception.synthesis.render import Renderer
from hand_perception.template import load_template

# A hand of which fewer pixels are seen than this share of its box is hidden: nobody could say
# where it is, so it is neither a hand to find nor background.
MIN_VISIBLE_SHARE = 0.08


class SyntheticSamples:
    """What ``hand-perception synthesize`` wrote into one folder or several. Raises DataError as
    SyntheticDataset does."""

    def __init__(self, *roots: Path) -> None:
        self._items = ConcatDataset([SyntheticDataset(root) for root in roots])

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        return _sample(self._items[index])


class RenderedSamples:
    """Renders each sample when it is asked for: no image is seen twice, and none is stored.

    Sample i of a seed is always the same. One image at a time costs about 40 ms of a core.
    """

    def __init__(self, seed: int, size: int, backgrounds: list[Path] | None = None) -> None:
        self.seed, self.size, self.backgrounds = seed, size, backgrounds
        self._renderer: Renderer | None = None

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Sample:
        if self._renderer is None:
            # Made in the process that renders: loaders fork.
            self._renderer = Renderer("cpu", self.seed, self.backgrounds)
        batch = self._renderer.render(index, 1, self.size, self.size)
        valid = batch.valid[0].numpy()
        keys = ("keypoints2d", "keypoints3d", "vertices", "is_left", "visible")
        item = {key: getattr(batch, key)[0].numpy()[valid] for key in keys}
        item |= {"K": batch.K[0].numpy(), "image": batch.rgb[0].permute(1, 2, 0).numpy()}
        return _sample(item)


def _sample(item: dict[str, np.ndarray]) -> Sample:
    """An item with the keys of SyntheticDataset."""
    image, K = item["image"], item["K"]
    height, width = image.shape[:2]
    camera = Camera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], width, height)
    joints, count = item["keypoints3d"].astype(np.float32), len(item["is_left"])
    root = joints[:, MIDDLE_MCP]
    # Marked in the image as photographs are.
    marked = load_template().landmarks @ item["vertices"].astype(np.float64)
    keypoints2d = project(marked.reshape(-1, 3), camera).reshape(count, NUM_KEYPOINTS, 2)
    keypoints2d = keypoints2d.astype(np.float32)
    boxes = hand_boxes(keypoints2d, width, height)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(min=1).prod(1)
    seen = item["visible"] >= MIN_VISIBLE_SHARE * areas
    labels = HandLabels(
        keypoints2d=keypoints2d,
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
        camera=camera,
        hands=labels.take(seen),
        ignore_boxes=boxes[~seen],
    )
