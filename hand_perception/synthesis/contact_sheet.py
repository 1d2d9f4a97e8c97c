"""A picture of what was rendered: images, joints, depth and parts side by side."""

from __future__ import annotations

import cv2
import numpy as np

from hand_perception.hands import BONES
from hand_perception.synthesis.render import Batch

FINGER_COLOURS = ((255, 80, 60), (255, 190, 40), (90, 220, 60), (60, 160, 255), (200, 90, 255))


def draw_hands(image: np.ndarray, keypoints2d: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3] uint8 with skeletons [n, 21, 2] and boxes [n, 4] drawn on a copy."""
    canvas = image.copy()
    for keypoints, box in zip(keypoints2d, boxes, strict=True):
        x0, y0, x1, y1 = (int(round(float(v))) for v in box)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), (255, 255, 255), 1)
        pixels = np.round(keypoints).clip(-9999, 9999).astype(int)
        for bone, (a, b) in enumerate(BONES):
            colour = FINGER_COLOURS[bone // 4]
            cv2.line(canvas, tuple(map(int, pixels[a])), tuple(map(int, pixels[b])), colour, 1)
    return canvas


def colour_depth(depth: np.ndarray) -> np.ndarray:
    """Depth [H, W] metres (0: nothing) as RGB; near is bright."""
    seen = depth > 0
    if not seen.any():
        return np.zeros((*depth.shape, 3), np.uint8)
    low, high = np.percentile(depth[seen], (1, 90))
    shade = np.where(seen, 255 - 190 * ((depth - low) / (high - low + 1e-6)).clip(0, 1), 0)
    return np.repeat(shade.astype(np.uint8)[..., None], 3, -1)


def colour_parts(parts: np.ndarray) -> np.ndarray:
    """Part labels [H, W] as RGB."""
    mapped = cv2.applyColorMap((parts * 13).astype(np.uint8), cv2.COLORMAP_TURBO)
    return np.where(parts[..., None] > 0, mapped[..., ::-1], 0).astype(np.uint8)


def contact_sheet(batch: Batch, columns: int = 8, annotated: bool = True) -> np.ndarray:
    """A Batch as one RGB picture: rows of images, each with joints, depth and parts below."""
    batch = batch.cpu()
    rows = []
    for start in range(0, len(batch.rgb), columns):
        tiles: list[list[np.ndarray]] = [[], [], [], []]
        for i in range(start, start + columns):
            if i >= len(batch.rgb):
                for row in tiles:
                    row.append(np.zeros_like(tiles[0][0]))
                continue
            image = np.ascontiguousarray(batch.rgb[i].permute(1, 2, 0).numpy())
            valid = batch.valid[i].numpy()
            keypoints, boxes = batch.keypoints2d[i].numpy()[valid], batch.boxes[i].numpy()[valid]
            tiles[0].append(image)
            tiles[1].append(draw_hands(image, keypoints, boxes))
            tiles[2].append(colour_depth(batch.depth[i].numpy()))
            tiles[3].append(colour_parts(batch.parts[i].numpy()))
        rows += [np.hstack(row) for row in (tiles if annotated else tiles[:1])]
    return np.vstack(rows)
