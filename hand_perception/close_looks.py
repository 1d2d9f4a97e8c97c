"""Looks at windows about hands, by networks of whole images: as large as there they read them best.

A hand that a look finds is read again in the window about it; one that is known to be somewhere, as
it was in the last frame, is read in its window alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hand_perception.geometry import box_iou
from hand_perception.hands import Hand, Reconstruction
from hand_perception.postprocess import logit, without_repeats
from hand_perception.view import View
from hand_perception.windows import longer_side, windows_about

# A candidate with this share of the score that is asked for is worth a closer look: of hands on
# photographs one in thirty is found by it alone.
WORTH = 0.3
# A hand of a closer look is the one whose box overlaps it so far, if it has that score there.
SAME_BOX, LEAST_SCORE = 0.5, 0.02
# A known hand moves on by less than half its box from one image to the next.
MOVED_BOX = 0.3


def read_closely(read: Callable[[View], Reconstruction], view: View) -> Reconstruction:
    """What comes of a view. read: one look, at a view without boxes."""
    stages: dict[str, float] = {}

    def hands_of(look: View) -> list[Hand]:
        result = read(look)
        for name, ms in result.stage_ms.items():
            stages[name] = stages.get(name, 0.0) + ms
        return result.hands

    known = np.zeros((0, 4)) if view.boxes is None else view.boxes
    found: list[Hand] = []
    if view.looks:
        worth = WORTH * view.score_threshold
        found = hands_of(replace(view, boxes=None, score_threshold=worth))
        known = known[~_meets(known, _boxes(found), SAME_BOX)]
    boxes = np.concatenate([_boxes(found), known])
    height, width = view.image.shape[:2]
    hands: list[Hand] = []
    for window, rows in windows_about(boxes, width, height):
        first = [found[row] for row in rows if row < len(found)]
        # What has just been seen as large as that stays as it is.
        if first and len(first) == len(rows) and longer_side(window) == longer_side(view.looked_at):
            hands += first
            continue
        least = LEAST_SCORE if first else view.score_threshold
        close = hands_of(replace(view, boxes=None, window=window, score_threshold=least))
        hands += [_closer(hand, close) for hand in first]
        expected = boxes[[row for row in rows if row >= len(found)]]
        there = _meets(_boxes(close), expected, MOVED_BOX)
        hands += [hand for hand, is_there in zip(close, there, strict=True) if is_there]
    hands = [hand for hand in hands if hand.score >= view.score_threshold]
    return Reconstruction(without_repeats(hands), stages)


def _closer(hand: Hand, close: list[Hand]) -> Hand:
    """As it is in the window about it, if it is found there. The score is the mean of both looks'
    log odds: a hand is hardly one that a closer look does not find."""
    overlaps = box_iou(hand.box[None], _boxes(close))[0]
    seen, told = hand, 0.0
    if overlaps.max(initial=0.0) >= SAME_BOX:
        seen = close[int(np.argmax(overlaps))]
        told = seen.score
    odds = (logit(hand.score) + logit(told)) / 2
    score = float(1 / (1 + np.exp(-odds)))
    return replace(seen, score=score, confidences=seen.confidences * (score / seen.score))


def _boxes(hands: list[Hand]) -> np.ndarray:
    return np.array([hand.box for hand in hands]).reshape(-1, 4)


def _meets(boxes: np.ndarray, others: np.ndarray, least: float) -> np.ndarray:
    """[N] bool: which boxes overlap one of the others so far."""
    return box_iou(boxes, others).max(1, initial=0.0) >= least
