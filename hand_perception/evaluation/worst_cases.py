"""The photographs a network does worst on, as one page: labels white, predictions in colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from hand_perception.data.photograph_labels import LabelledPhotograph
from hand_perception.evaluation.metrics import mean
from hand_perception.evaluation.photographs import MIN_SCORE, Outcomes
from hand_perception.evaluation.predictions import Predictions
from hand_perception.evaluation.report import contact_sheet
from hand_perception.hands import BONES, Camera, Hand
from hand_perception.imaging import read_image
from hand_perception.overlay import draw

# Pictures are enlarged to this longer side before drawing, so that lines stay thin.
_DRAWN_SIDE = 512


def worst_cases_page(
    outcomes: Outcomes, predictions: Predictions, root: Path, count: int = 36
) -> np.ndarray:
    """A third each, RGB: confident false hands, missed large hands, the largest 2D errors."""
    share = count // 3
    false_hands = sorted((p for p in outcomes.predictions if not p.right), key=lambda p: -p.score)
    missed = sorted((h for h in outcomes.hands if not h.found), key=lambda h: -h.size)
    far_off = sorted(
        ((mean(h.errors), h) for h in outcomes.hands if h.found), key=lambda pair: -pair[0]
    )
    cases = [(p.photograph, f"false {p.score:.2f}") for p in false_hands[:share]]
    cases += [(h.photograph, f"missed {h.size:.0f} px") for h in missed[:share]]
    cases += [(h.photograph, f"error {error:.2f} of the box") for error, h in far_off[:share]]
    return contact_sheet(
        [
            (_drawn(photograph, predictions, root), f"{text}  {Path(photograph.file).stem}")
            for photograph, text in cases
        ]
    )


def enlarged(
    image: np.ndarray, hands: Sequence[Hand], factor: float
) -> tuple[np.ndarray, list[Hand]]:
    """A picture to draw on, and the hands where they are in it."""
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), [
        replace(
            hand,
            box=_moved(hand.box, factor),
            keypoints2d=_moved(hand.keypoints2d, factor),
        )
        for hand in hands
    ]


def _moved(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Pixel centres of the enlarged picture."""
    return (pixels + 0.5) * factor - 0.5


def _drawn(photograph: LabelledPhotograph, predictions: Predictions, root: Path) -> np.ndarray:
    image = read_image(root / photograph.file)
    factor = _DRAWN_SIDE / max(image.shape[:2])
    hands = [hand for hand in predictions[photograph.file] if hand.score >= MIN_SCORE]
    image, hands = enlarged(image, hands, factor)
    for label in photograph.hands:
        points = np.round(_moved(label.keypoints2d, factor) * 16).astype(int).tolist()
        for parent, child in BONES:
            cv2.line(image, points[parent], points[child], (255, 255, 255), 3, cv2.LINE_AA, 4)
    camera = Camera.assumed(image.shape[1], image.shape[0])
    return draw(image, hands, camera, np.zeros((0, 3), np.int32), mesh=False)
