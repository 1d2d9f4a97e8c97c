"""How small a hand may be in a camera's image to be found, with and without closer looks.

    python benchmarks/far_hands.py --data PHOTOGRAPHS --without-hands FOLDER
        [--models mobrecon_int8] [--zooms 1 3] [--sizes 24 36 54 81 122 182] [--count N]
        [--mediapipe PYTHON] [--output far_hands.json]

Photographs with hands of the val split of a folder with labels.jsonl become parts of pictures of
1280 x 720 pixels without hands, each so small that its largest hand has the wanted size. For each
size: the share of labelled hands found (box IoU 0.3, score 0.5), the share of what was found that
is one, PCK@0.1 of hands found. The same pictures without photographs: how many show a hand. zoom:
of HandReconstructor.closely, which is `predict --zoom`; a node with `detect_zoom` makes the same
looks, one a frame.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from engines import add_mediapipe, ask_mediapipe
from latency import processor

from hand_perception.data.photograph_labels import (
    LabelledPhotograph,
    add_without_hands,
    pictures_without_hands,
    read_photographs,
)
from hand_perception.evaluation import photographs, report
from hand_perception.evaluation.predictions import Predictions, reconstruct
from hand_perception.imaging import read_image
from hand_perception.reconstructor import HandReconstructor

WIDTH, HEIGHT = 1280, 720
NUMBERS = ("recall", "precision", "PCK@0.1 matched")
# The group of pictures without a photograph, and what is told of it.
EMPTY, FALSE = "no photograph", "false on negatives"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    add_without_hands(parser, "pictures to put photographs into")
    parser.add_argument("--models", nargs="+", default=["mobrecon_int8"])
    parser.add_argument("--zooms", nargs="+", type=float, default=[1.0, 3.0])
    parser.add_argument("--sizes", nargs="+", type=float, default=[24, 36, 54, 81, 122, 182])
    parser.add_argument("--count", type=int, default=100, help="photographs of each size")
    add_mediapipe(parser)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    with tempfile.TemporaryDirectory() as folder:
        rows = measure(args, Path(folder))
    print(f"{WIDTH} x {HEIGHT} pixels, {args.count} photographs of each size, {processor()}")
    for number in NUMBERS:
        print(number)
        print(report.table({name: row[number] for name, row in rows.items()}))
    print(f"{EMPTY}: pictures that show a hand")
    print(report.table({name: row[EMPTY] for name, row in rows.items()}))
    if args.output:
        args.output.write_text(json.dumps({"machine": processor(), "rows": rows}, indent=2) + "\n")


def measure(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Of each engine: each of NUMBERS by size, and what pictures without a photograph show."""
    rng = np.random.default_rng(0)
    rooms = pictures_without_hands(args.without_hands)
    sources = [p for p in read_photographs(args.data) if p.hands]
    chosen = [sources[k] for k in rng.permutation(len(sources))[: args.count]]
    pictures = {
        f"{size:g} px": [
            in_a_room(args.data, photograph, size, rooms[int(rng.integers(len(rooms)))], rng)
            for photograph in chosen
        ]
        for size in args.sizes
    }
    # A photograph whose hand would have to be larger than itself in the room has no place there.
    pictures = {name: [p for p in made if p is not None] for name, made in pictures.items()}
    empty = [(seen_wide(room), room) for room in rooms]
    labelled: dict[str, list[LabelledPhotograph]] = {}
    for name, made in [*pictures.items(), (EMPTY, empty)]:
        labelled[name] = []
        for k, (image, photograph) in enumerate(made):
            file = f"{name} {k}.png"
            cv2.imwrite(str(folder / file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            labelled[name].append(replace(photograph, file=file))
    files = [p.file for group in labelled.values() for p in group]

    rows = {}
    for model in args.models:
        engine = HandReconstructor.from_pretrained(model, threads=1, backend="onnxruntime")
        for zoom in args.zooms:
            found = reconstruct(
                partial(engine.closely, zoom=zoom), folder, files, photographs.MIN_SCORE
            )
            rows[f"{model}, zoom {zoom:g}"] = row_of(labelled, found)
    if args.mediapipe:
        frames = [read_image(folder / file) for file in files[:6]]
        found, _ = ask_mediapipe(args.mediapipe, folder, files, frames)
        rows["mediapipe 0.10.21"] = row_of(labelled, found)
    return rows


def row_of(
    labelled: dict[str, list[LabelledPhotograph]], found: Predictions
) -> dict[str, dict[str, float]]:
    told = {
        name: photographs.Outcomes.of(group, found).summary() for name, group in labelled.items()
    }
    empty = told.pop(EMPTY)
    row = {number: {name: numbers[number] for name, numbers in told.items()} for number in NUMBERS}
    return row | {EMPTY: {"pictures": empty["images"], "show one": empty[FALSE]}}


def seen_wide(room: LabelledPhotograph) -> np.ndarray:
    """RGB [HEIGHT, WIDTH, 3] of a picture."""
    pixels = read_image(Path(room.file))
    scale = max(WIDTH / pixels.shape[1], HEIGHT / pixels.shape[0])
    pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(pixels[:HEIGHT, :WIDTH])


def in_a_room(
    root: Path,
    photograph: LabelledPhotograph,
    size: float,
    room: LabelledPhotograph,
    rng: np.random.Generator,
) -> tuple[np.ndarray, LabelledPhotograph] | None:
    """RGB [HEIGHT, WIDTH, 3] with the photograph somewhere in it, its largest hand of ``size``
    pixels, and its labels there; None where it does not fit."""
    pixels = read_image(root / photograph.file)
    scale = size / max(float(np.ptp(hand.keypoints2d, axis=0).max()) for hand in photograph.hands)
    width, height = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    if width > WIDTH or height > HEIGHT or scale > 2:
        return None
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    x, y = int(rng.integers(WIDTH - width + 1)), int(rng.integers(HEIGHT - height + 1))
    image = seen_wide(room)
    image[y : y + height, x : x + width] = cv2.resize(pixels, (width, height), interpolation=way)
    factor = np.array([width / pixels.shape[1], height / pixels.shape[0]])
    shift = np.array([x, y]) + (factor - 1) / 2

    def moved(points: np.ndarray) -> np.ndarray:
        return (points.reshape(-1, 2) * factor + shift).reshape(points.shape)

    hands = [
        replace(hand, box=moved(hand.box), keypoints2d=moved(hand.keypoints2d))
        for hand in photograph.hands
    ]
    return image, replace(photograph, hands=hands, ignore_boxes=moved(photograph.ignore_boxes))


if __name__ == "__main__":
    main()
