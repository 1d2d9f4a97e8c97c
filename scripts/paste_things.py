"""Pictures without hands: cut-out things in front of scenes.

    python scripts/paste_things.py --scenes PHOTOGRAPHS --things CUTOUTS --output data/things

Things are pictures with an alpha channel. What handles things meets many more of them than stand in
photographs without hands, and a network that has seen few takes a potato for a fist.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from hand_perception.errors import DataError
from hand_perception.sources import find_pictures
from hand_perception.training.retaking import retoned

LONG_SIDE = 384
# Of a picture: how many things stand in it, and their longer side in the picture's shorter ones.
MOST_THINGS, SHARE = 4, (0.15, 0.8)
# How often a thing has the colour of skin, or another of the tones that training gives to hands.
SKIN_SHARE, TONE_SHARE = 0.4, 0.3
SKINS = np.array([(88, 68, 60), (78, 55, 45), (60, 40, 30), (42, 27, 20)]) * 2.55  # R, G, B
# A thing with less of its picture clear is no cut-out.
LEAST_CLEAR = 0.1
QUALITY = (60, 95)


def is_cutout(picture: np.ndarray | None) -> bool:
    """Whether a picture as OpenCV reads it, BGRA, shows something cut out."""
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        return False
    return picture.dtype == np.uint8 and bool((picture[..., 3] < 10).mean() >= LEAST_CLEAR)


def pasted(scene: np.ndarray, thing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The scene, BGR uint8 [H, W, 3], with a thing, BGRA uint8 [h, w, 4], somewhere in it, of any
    size, any way round, perhaps cut off by the border or of another tone."""
    height, width = scene.shape[:2]
    side = min(height, width) * np.exp(rng.uniform(*np.log(SHARE)))
    angle = rng.normal(0, 25) if rng.random() < 0.7 else rng.uniform(-180, 180)
    scale = side / max(thing.shape[:2])
    if scale < 0.5:
        # Bilinear sampling skips pixels when it shrinks.
        thing = cv2.resize(thing, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        scale = 1.0
    if rng.random() < 0.5:
        thing = thing[:, ::-1]
    middle = np.array(thing.shape[1::-1]) / 2
    matrix = cv2.getRotationMatrix2D(middle.tolist(), angle, scale)
    matrix[:, 2] += rng.uniform(0, (width, height)) - middle
    placed = cv2.warpAffine(np.ascontiguousarray(thing), matrix, (width, height))
    share = placed[..., 3:].astype(np.float32) / 255
    colours = placed[..., :3]
    kind = rng.random()
    if kind < SKIN_SHARE:
        grey = colours.mean(-1, keepdims=True)
        mean = max((grey * share).sum() / max(share.sum(), 1.0), 20.0)
        skin = SKINS[rng.integers(len(SKINS))] * np.exp(rng.normal(0, 0.25))
        colours = np.clip(grey / mean * skin[::-1], 0, 255)
    elif kind < SKIN_SHARE + TONE_SHARE:
        colours = retoned(colours, share, rng)
    mixed = scene + share * (colours.astype(np.float32) - scene)
    return np.rint(mixed).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=Path, nargs="+", required=True)
    parser.add_argument("--things", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=900)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    scenes = find_pictures(args.scenes)
    pictures = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in find_pictures(args.things))
    things = [picture for picture in pictures if is_cutout(picture)]
    if not things:
        raise DataError("none of --things is a picture with an alpha channel, something cut out")
    args.output.mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(args.count)):
        path = scenes[rng.integers(len(scenes))]
        scene = cv2.imread(str(path))
        if scene is None:
            raise DataError(f"{path} cannot be decoded: fetch it again")
        scale = LONG_SIDE / max(scene.shape[:2])
        picture = cv2.resize(scene, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for _ in range(rng.integers(1, MOST_THINGS + 1)):
            picture = pasted(picture, things[rng.integers(len(things))], rng)
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*QUALITY))]
        cv2.imwrite(str(args.output / f"{number:05d}.jpg"), picture, quality)


if __name__ == "__main__":
    main()
