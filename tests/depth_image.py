"""Depth images of hands, drawn by the synthesis renderer rather than by the code under test."""

from __future__ import annotations

import numpy as np
import torch

from hand_perception.geometry import project
from hand_perception.hands import Camera, Hand
from hand_perception.synthesis.raster import rasterize
from hand_perception.template import Template


def draw_depth(hands: list[Hand], camera: Camera, template: Template, behind=np.nan) -> np.ndarray:
    """float32 [H, W] metres; ``behind`` (a number or an image) where there is no hand."""
    image = np.array(np.broadcast_to(behind, (camera.height, camera.width)), np.float32)
    for hand in hands:
        vertices = np.asarray(hand.vertices, np.float64)
        fragments = rasterize(
            torch.from_numpy(project(vertices, camera).astype(np.float32)),
            torch.from_numpy(vertices[:, 2].astype(np.float32)),
            torch.from_numpy(template.faces),
            torch.zeros(len(template.faces), dtype=torch.int32),
            1,
            camera.height,
            camera.width,
            cull=False,
        )
        pixel, depth = fragments.pixel.numpy(), fragments.depth.numpy()
        flat = image.reshape(-1)
        flat[pixel] = np.fmin(flat[pixel], depth)
    return image
