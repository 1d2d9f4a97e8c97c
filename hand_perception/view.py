"""What is asked of a reconstructor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hand_perception.hands import Camera
from hand_perception.imaging import Window, in_window


@dataclass(frozen=True)
class View:
    """What one camera sees, and what is asked of it. image: uint8 [H, W, 3] RGB. camera: of that
    image; None assumes one (not metric). boxes: [H, 4] (x0, y0, x1, y1, pixels of the image), where
    hands are known to be: a network that reads crops reads them there, and their scores are its
    decoder's opinion alone; one that reads whole images looks in windows about them. window: the
    part of the image in which hands are looked for. Without one that is all of it or, if there are
    boxes, nothing."""

    image: np.ndarray
    camera: Camera | None = None
    score_threshold: float = 0.5
    boxes: np.ndarray | None = None
    window: Window | None = None

    @property
    def looks(self) -> bool:
        """Whether hands are looked for."""
        return self.boxes is None or self.window is not None

    @property
    def looked_at(self) -> Window:
        """Its window, or that of the whole image."""
        height, width = self.image.shape[:2]
        return self.window or (0, 0, width, height)

    def seen(self, canvas: int) -> np.ndarray:
        """What the detector sees in a canvas of that side."""
        return self.image if self.window is None else in_window(self.image, self.window, canvas)
