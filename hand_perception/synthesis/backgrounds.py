"""What is behind the hands: the user's photographs, or procedural clutter."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hand_perception.errors import DataError
from hand_perception.sources import find_pictures

LONG_SIDE = 480  # photographs are kept in memory at this size
CLUTTER_SHARE = 0.08  # share of procedural backgrounds even where there are photographs


class Backgrounds:
    """Draws backgrounds [B, 3, H, W] in 0..1 (display-referred).

    folders: photographs, read recursively. None or empty: procedural clutter only. Raises
    DataError for a folder without readable photographs.
    """

    def __init__(self, folders: list[str | Path] | None, device: torch.device | str):
        self.device = torch.device(device)
        self.photographs = [
            torch.from_numpy(image).permute(2, 0, 1)
            for folder in folders or []
            for image in _read_folder(Path(folder))
        ]

    def sample(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        draws = torch.rand(count, 8, generator=generator, device=self.device).tolist()
        images = [self._one(height, width, draw, generator) for draw in draws]
        return torch.stack(images)

    def _one(
        self, height: int, width: int, draw: list[float], generator: torch.Generator
    ) -> Tensor:
        if not self.photographs or draw[0] < CLUTTER_SHARE:
            image = clutter(height, width, generator, self.device)
        else:
            photograph = self.photographs[int(draw[1] * len(self.photographs))]
            image = _crop(photograph, height, width, draw[2:5]).to(self.device).float() / 255
        if draw[5] < 0.5:
            image = image.flip(-1)
        if draw[6] < 0.3:  # out of focus
            sigma = (1 + 5 * draw[7]) * max(height, width) / 256
            shrink = max(1, int(sigma))
            small = F.avg_pool2d(image[None], shrink)
            image = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)[0]
        return image


def _read_folder(folder: Path) -> list[np.ndarray]:
    paths = find_pictures([folder])
    images = [image for path in paths if (image := cv2.imread(str(path))) is not None]
    if not images:
        raise DataError(f"{folder} holds no readable photographs")
    shrunk = []
    for image in images:
        scale = min(1.0, LONG_SIDE / max(image.shape[:2]))
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        shrunk.append(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB))
    return shrunk


def _crop(photograph: Tensor, height: int, width: int, draw: list[float]) -> Tensor:
    """A random window of the target's aspect ratio, resampled."""
    full_height, full_width = photograph.shape[1:]
    fit = min(full_height / height, full_width / width) * (0.45 + 0.55 * draw[0])
    h, w = max(8, int(height * fit)), max(8, int(width * fit))
    top, left = int(draw[1] * (full_height - h)), int(draw[2] * (full_width - w))
    window = photograph[:, top : top + h, left : left + w].float()
    return F.interpolate(
        window[None], (height, width), mode="bilinear", align_corners=False, antialias=h > height
    )[0]


def clutter(height: int, width: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Gradients, boxes, discs and bars with texture; a third of them in the colours of skin."""

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator, device=device)

    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, device=device),
        torch.linspace(-1, 1, width, device=device),
        indexing="ij",
    )
    corners = uniform(3, 2, 2) * uniform(1) + uniform(3, 1, 1) * 0.3
    image = F.interpolate(corners[None], (height, width), mode="bilinear", align_corners=True)[0]
    shapes = uniform(18, 12)
    skin = torch.tensor([0.80, 0.60, 0.48], device=device)
    for s in shapes[: int(4 + 14 * float(uniform(1)))]:
        cx, cy = 2.4 * s[0] - 1.2, 2.4 * s[1] - 1.2
        angle = math.pi * s[2]
        u = (x - cx) * torch.cos(angle) + (y - cy) * torch.sin(angle)
        v = (y - cy) * torch.cos(angle) - (x - cx) * torch.sin(angle)
        length, breadth = 0.08 + 0.7 * s[3] ** 2, 0.05 + 0.4 * s[4] ** 2
        power = 2 if s[5] < 0.5 else 8
        inside = 1 - ((u / length).abs() ** power + (v / breadth).abs() ** power)
        mask = (inside * 12 + 0.5).clamp(0, 1)
        colour = s[6:9]
        if s[9] < 0.33:
            colour = (skin + 0.12 * (s[6:9] - 0.5)) * (0.35 + 0.75 * s[10])
        shade = 1 + 0.5 * (s[11] - 0.5) * (u / length + v / breadth).clamp(-1, 1)
        image = image + mask * (colour[:, None, None] * shade - image)
    for cells, strength in ((6, 0.10), (24, 0.06), (96, 0.05)):
        grain = torch.randn(1, 1, cells, cells, generator=generator, device=device)
        grain = F.interpolate(grain, (height, width), mode="bicubic", align_corners=False)[0]
        image = image + strength * float(uniform(1)) * grain
    return image.clamp(0, 1)
