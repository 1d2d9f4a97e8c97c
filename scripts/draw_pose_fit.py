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

from hand_perception.evaluation.alignment import WINDOW_PX, WINDOW_SCALE, window
from hand_perception.evaluation.synthetic import MIN_SCORE, camera_of, matched, read_samples
from hand_perception.hands import Camera, Hand, Side
from hand_perception.imaging import Crop
from hand_perception.overlay import draw
from hand_perception.pose_fitting import posed
from hand_perception.reconstructor import HandReconstructor
from hand_perception.template import load_template

ROWS = 6


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
    found: list[list[tuple[int, Hand | None]]] = []
    for engine in engines:
        engine.fit_pose = False
        hands = engine(image, camera, score_threshold=MIN_SCORE).hands
        found.append(list(matched(sample, hands)))
    out = []
    for several in zip(*found, strict=True):
        n, same = several[0][0], [hand for _, hand in several]
        box, left = sample["boxes"][n], sample["is_left"][n]
        if any(hand is None or (hand.side is Side.LEFT) != left for hand in same):
            continue
        close = Crop.around(box, WINDOW_SCALE, WINDOW_PX).cut(image)
        both = [mesh for hand in same for mesh in (hand, *posed([hand], camera, load_template()))]
        parts = [close] + [drawn(close, hand, camera, window(camera, box)) for hand in both]
        out.append((float((box[2:] - box[:2]).max()), np.hstack(parts)))
    return out


def drawn(close: np.ndarray, hand: Hand, camera: Camera, view: Camera) -> np.ndarray:
    """The mesh over what ``view`` sees of the camera's image, at its resolution."""
    centre = (camera.cx, camera.cy)
    corners = (hand.box.reshape(2, 2) - centre) * (view.fx / camera.fx) + (view.cx, view.cy)
    hand = replace(hand, box=corners.ravel())
    faces = load_template().faces
    return draw(close, [hand], view, faces, skeleton=False)


if __name__ == "__main__":
    main()
