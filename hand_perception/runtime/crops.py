"""What all backends of networks that read crops share: where to cut, and the way back to the image.

Crops know nothing of the image they come from, so those of several cameras are read in one go.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hand_perception.imaging import Crop, Letterbox
from hand_perception.runtime.backend import Decoded, Detected, Job, ModelFolder

# Outputs of the decoder's graph, with hands along their first axis.
CROP_OUTPUTS = ("joints2d", "vertices", "presence", "right")
# The detector's axis of images, as its graph names it.
IMAGES = "images"


@dataclass(frozen=True)
class Cutting:
    """canvas: side of the detector's image in pixels; margin: of a crop, times the longer side of
    its box; size: side of a crop in pixels."""

    canvas: int
    margin: float
    size: int

    @classmethod
    def of(cls, folder: ModelFolder, size: int) -> Cutting:
        return cls(folder.image_size, float(folder.card["config"]["crop_scale"]), size)

    def given(self, image: Any, fit: Letterbox, boxes: np.ndarray) -> Detected:
        """Boxes [H, 4] in pixels of the image as if the detector had found them, for certain."""
        found = fit.boxes_to_queries(boxes, self.canvas)
        return Detected(found, np.ones(len(boxes), np.float32), (image, fit))

    def crops(self, detected: Detected, chosen: np.ndarray) -> list[Crop]:
        """Of the chosen boxes. ``detected.features``: the image, and how it lies in the canvas."""
        _, fit = detected.features
        centre, half = detected.boxes[chosen, :2], detected.boxes[chosen, 2:] / 2
        corners = np.concatenate([centre - half, centre + half], -1).astype(np.float64)
        boxes = fit.boxes_to_image(corners * self.canvas - 0.5)
        return [Crop.around(box, self.margin, self.size) for box in boxes]

    def decoded(self, fit: Letterbox, crops: list[Crop], outputs: dict[str, np.ndarray]) -> Decoded:
        """Outputs of the crops' network -> joints in the canvas, and where each crop looks."""
        joints = zip(crops, outputs["joints2d"], strict=True)
        in_image = np.stack([crop.points_to_image(points) for crop, points in joints])
        gaze = np.stack([crop.centre for crop in crops])
        spread2d = outputs.get("spread2d")
        if spread2d is not None:
            sides = np.array([[crop.size / crop.scale] for crop in crops])
            spread2d = spread2d * sides * fit.scale[0] / self.canvas
        return Decoded(
            joints2d=(fit.points_to_network(in_image) + 0.5) / self.canvas,
            vertices=outputs["vertices"],
            camera=np.zeros((len(crops), 3), np.float32),
            presence=outputs["presence"],
            right=outputs["right"],
            gaze=(fit.points_to_network(gaze) + 0.5) / self.canvas,
            spread2d=spread2d,
            spread3d=outputs.get("spread3d"),
        )


class CropBackend(ABC):
    """A Backend that reads images one by one or several in one go. A subclass runs the graphs.

    ``Detected.features`` are the image's pixels, RGB uint8 [H, W, 3], and how it lies in the
    canvas.
    """

    images_at_once: int

    def __init__(self, cutting: Cutting) -> None:
        self._cutting = cutting

    @abstractmethod
    def prepare(self, image: np.ndarray) -> Any: ...

    @abstractmethod
    def detect_together(self, prepared: Sequence[Any]) -> list[Detected]:
        """Of images_at_once images at most. Arrays hold until the next call."""

    @abstractmethod
    def read(self, crops: list[np.ndarray]) -> dict[str, np.ndarray]:
        """``outputs_among`` the graph's, of crops, RGB uint8 [s, s, 3] each; of more than the
        engine takes at once, too."""

    def detect(self, prepared: Any) -> Detected:
        return self.detect_together([prepared])[0]

    def decode(self, detected: Detected, chosen: np.ndarray) -> Decoded:
        return self.decode_together([(detected, chosen)])[0]

    def given(self, image: Any, fit: Letterbox, boxes: np.ndarray) -> Detected:
        """Boxes [H, 4] in pixels of the image as if the detector had found them, for certain."""
        return self._cutting.given(image, fit, boxes)

    def decode_together(self, jobs: Sequence[Job]) -> list[Decoded]:
        """One for each job, the crops of all of them read in one go."""
        crops = [self._cutting.crops(detected, chosen) for detected, chosen in jobs]
        pixels = [
            crop.cut(detected.features[0])
            for (detected, _), own in zip(jobs, crops, strict=True)
            for crop in own
        ]
        outputs = self.read(pixels)
        decoded, start = [], 0
        for (detected, _), own in zip(jobs, crops, strict=True):
            rows = slice(start, start + len(own))
            part = {name: value[rows] for name, value in outputs.items()}
            decoded.append(self._cutting.decoded(detected.features[1], own, part))
            start = rows.stop
        return decoded
