"""Draws docs/images/posed.jpg: networks' own meshes beside the template posed to them.

hand-perception synthesize --output runs/failures --count 160 --size 256 --seed 4242 --max-hands 2
python scripts/draw_pose_fit.py --samples runs/failures --models mobrecon runs/handar

A row is an image, then for each model its mesh and the posed template. The largest hands that all
find, in their own square of the image. Without photographs behind them, so the pictures are ours.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from draw_failures import IMAGES

from hand_perception.evaluation.metrics import match_boxes
from hand_perception.evaluation.synthetic import MIN_IOU, MIN_SCORE, camera_of, read_samples
from hand_perception.hands import Camera, Hand
from hand_perception.imaging import Crop
from hand_perception.overlay import draw
from hand_perception.reconstructor import HandReconstructor
from hand_perception.template import load_template

ROWS, SIDE, MARGIN = 6, 220, 1.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["mobrecon"])
    args = parser.parse_args()
    engines = [HandReconstructor.from_pretrained(name) for name in args.models]
    drawn = [row for sample in read_samples(args.samples) for row in rows(sample, engines)]
    drawn.sort(key=lambda row: -row[0])
    sheet = np.vstack([row for _, row in drawn[:ROWS]])
    path = IMAGES / "posed.jpg"
    cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(path)


def rows(sample: dict, engines: list[HandReconstructor]) -> list[tuple[float, np.ndarray]]:
    """The size of each hand that all engines find with the right side, and its row."""
    image, camera = sample["image"], camera_of(sample)
    found: list[list[Hand | None]] = []
    for engine in engines:
        for engine.fit_pose in (False, True):
            hands = engine(image, camera, score_threshold=MIN_SCORE).hands
            boxes = np.array([hand.box for hand in hands]).reshape(-1, 4)
            matches = match_boxes(boxes, sample["boxes"], MIN_IOU)
            found.append([hands[k] if k >= 0 else None for k in matches])
    out = []
    for box, left, *same in zip(sample["boxes"], sample["is_left"], *found, strict=True):
        if any(hand is None or (hand.side.value == "left") != left for hand in same):
            continue
        crop = Crop.around(box, MARGIN, SIDE)
        parts = [crop.cut(image)] + [mesh_in(crop, image, hand, camera) for hand in same]
        out.append((float((box[2:] - box[:2]).max()), np.hstack(parts)))
    return out


def mesh_in(crop: Crop, image: np.ndarray, hand: Hand, camera: Camera) -> np.ndarray:
    """The mesh over the crop, drawn at its resolution."""

    def seen(points: np.ndarray) -> np.ndarray:
        # Pixel centres are half a pixel in; the crop's corner is that of its outline.
        return crop.scale * (points + 0.5 - crop.corner) - 0.5

    cx, cy = seen(np.array([camera.cx, camera.cy]))
    close = Camera(
        crop.scale * camera.fx, crop.scale * camera.fy, cx, cy, crop.size, crop.size, metric=False
    )
    hand = replace(hand, box=seen(hand.box.reshape(2, 2)).ravel())
    return draw(crop.cut(image), [hand], close, load_template().faces, skeleton=False)


if __name__ == "__main__":
    main()
