"""``hand-perception lifting``: a picture of the query lifting matrix L (HandOS, Fig. 7)."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from hand_perception.errors import ModelError
from hand_perception.export.command import learnt_template
from hand_perception.hands import KEYPOINT_NAMES
from hand_perception.models.handos.queries import farthest_points
from hand_perception.template import Template
from hand_perception.training import checkpoint

CELL, STRIP = 26, 8  # pixels: of a cell above, of a joint's row in the strip of all vertices
LABEL_WIDTH, HEADER, MARGIN = 150, 110, 16
FINGERS = ("thumb", "forefinger", "middle finger", "ring finger", "pinky")
_INK = (40, 40, 40)


def typical_rows(template: Template, queries: np.ndarray) -> list[tuple[str, int]]:
    """(name, row of L) of the vertex queries nearest to the five tips, then to the five roots.

    queries: which vertices the rows of L stand for, [V].
    """
    rest = template.vertices[queries]
    rows = []
    for what, offset in (("tip", 4), ("root", 1)):
        for finger, name in enumerate(FINGERS):
            keypoint = template.keypoints[4 * finger + offset]
            row = int(np.linalg.norm(rest - keypoint, axis=-1).argmin())
            rows.append((f"{name} {what} {queries[row]}", row))
    return rows


def picture(matrix: np.ndarray, template: Template) -> np.ndarray:
    """RGB uint8 of L [V + 1, 21]: typical vertices and the camera, then all vertices in a strip.

    Red weighs for, blue against; full colour is the largest weight.
    """
    queries = farthest_points(torch.from_numpy(template.vertices), len(matrix) - 1).numpy()
    rows = [*typical_rows(template, queries), ("camera", len(matrix) - 1)]
    joints = matrix.shape[1]
    # Vertices in the order of the joint that weighs most: patches of the hand stand together.
    order = np.argsort(matrix[:-1].argmax(1), kind="stable")
    step = max(1, round(joints * CELL / len(order)))
    width = LABEL_WIDTH + max(joints * CELL, len(order) * step) + MARGIN
    strip_top = HEADER + len(rows) * CELL + 2 * MARGIN
    canvas = np.full((strip_top + joints * STRIP + MARGIN, width, 3), 255, np.uint8)
    limit = max(float(np.abs(matrix).max()), 1e-9)
    for k, (name, row) in enumerate(rows):
        top = HEADER + k * CELL
        cells = _colours(matrix[row] / limit)[None].repeat(CELL - 1, 0).repeat(CELL, 1)
        cells[:, CELL - 1 :: CELL] = 255
        canvas[top : top + CELL - 1, LABEL_WIDTH : LABEL_WIDTH + joints * CELL] = cells
        _text(canvas, name, (6, top + CELL - 9))
    # Names of joints are written along a strip that is turned upright.
    names = np.full((joints * CELL, HEADER, 3), 255, np.uint8)
    for k, name in enumerate(KEYPOINT_NAMES):
        _text(names, f"{k} {name}", (4, (k + 1) * CELL - 9))
    names = cv2.rotate(names, cv2.ROTATE_90_COUNTERCLOCKWISE)
    # Turned this way the first joint is the leftmost.
    canvas[:HEADER, LABEL_WIDTH : LABEL_WIDTH + joints * CELL] = names
    strip = _colours(matrix[:-1][order].T / limit).repeat(STRIP, 0).repeat(step, 1)
    canvas[strip_top : strip_top + len(strip), LABEL_WIDTH : LABEL_WIDTH + strip.shape[1]] = strip
    _text(canvas, f"all {len(order)} vertices", (6, strip_top + 14))
    _text(canvas, f"full colour: {limit:.2f}", (6, strip_top + 34))
    return canvas


def _colours(values: np.ndarray) -> np.ndarray:
    """-1 blue, 0 white, 1 red: [...] -> RGB uint8 [..., 3]."""
    x = np.clip(values, -1, 1)[..., None]
    red, blue = np.array([178, 24, 43]), np.array([33, 102, 172])
    tint = np.where(x > 0, red, blue)
    return (255 + np.abs(x) * (tint - 255)).astype(np.uint8)


def _text(canvas: np.ndarray, text: str, at: tuple[int, int]) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.36, _INK, 1, cv2.LINE_AA)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="a stage's file of `hand-perception train`")
    parser.add_argument("--output", type=Path, default=Path("lifting.png"), help="picture to write")


def run(args: argparse.Namespace) -> int:
    weights, meta = checkpoint.load_stage(args.checkpoint)
    if "decoder.lifting.matrix" not in weights:
        raise ModelError(f"{args.checkpoint} has no lifting matrix: give a HandOS checkpoint")
    matrix = weights["decoder.lifting.matrix"].float().numpy()
    image = picture(matrix, learnt_template(meta, args.checkpoint))
    if not cv2.imwrite(str(args.output), image[..., ::-1]):
        raise ModelError(f"{args.output} cannot be written: use .png or .jpg in a folder of yours")
    print(f"wrote {args.output}")
    return 0
