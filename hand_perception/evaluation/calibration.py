"""``hand-perception calibrate``: scores that mean what they say.

A hand's score is sigmoid(bias + a logit(detector) + b logit(presence)). Logistic regression on
photographs (the train split, never val) gives a and b. The bias is then set for a robot, which a
hand that is not there costs more than one that is seen a frame later: at score 0.5, one in 400
photographs without hands shows one. These the network has learnt from; of others, about twice as
many fool it. The three numbers are written into the model's card.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hand_perception.data.photograph_labels import LabelledPhotograph, read_photographs
from hand_perception.errors import DataError
from hand_perception.evaluation.metrics import covered
from hand_perception.geometry import box_iou
from hand_perception.imaging import read_image
from hand_perception.postprocess import logit
from hand_perception.reconstructor import HandReconstructor
from hand_perception.runtime.backend import ModelFolder

HAND_IOU, NO_HAND_IOU = 0.5, 0.3
FALSE_PICTURES = 0.0025
# Keeps the fit finite when the classes part without error; far below what data of use weigh.
RIDGE = 1e-2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder; its model.json is rewritten")
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.jsonl")
    parser.add_argument(
        "--limit", type=int, default=1500, help="photographs with hands at most (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    photographs = read_photographs(args.data, "train")
    # What is rare, a picture that fools the network, is looked for in all of them.
    without = [photograph for photograph in photographs if photograph.negative]
    others = [photograph for photograph in photographs if not photograph.negative]
    chosen = others[:: max(1, len(others) // args.limit)] + without
    reconstruct = HandReconstructor.from_pretrained(args.model)
    judged = [
        judge(photograph, args.data, reconstruct)
        for photograph in tqdm(chosen, "calibrate", disable=None)
    ]
    candidates = np.array([c for found in judged for c in found]).reshape(-1, 3)
    features, is_hand = candidates[:, :2], candidates[:, 2] > 0
    negatives = [found for found, photo in zip(judged, chosen, strict=True) if photo.negative]
    if is_hand.all() or not is_hand.any() or not negatives:
        raise DataError(f"{args.data}: a fit needs hands and pictures without, more photographs")
    _, a, b = fit(features, is_hand)
    calibration = (tolerant_bias(negatives, a, b), a, b)
    path = ModelFolder.open(args.model).path / "model.json"
    card = json.loads(path.read_text()) | {"score_calibration": [round(c, 4) for c in calibration]}
    path.write_text(json.dumps(card, indent=2) + "\n")
    print(f"{len(is_hand)} candidates, {is_hand.sum()} hands: {card['score_calibration']}")
    return 0


def judge(
    photograph: LabelledPhotograph, root: Path, reconstruct: HandReconstructor
) -> list[tuple[float, float, bool]]:
    """(detector score, presence, whether it is a hand) of each candidate that the labels decide."""
    image = read_image(root / photograph.file)
    found = reconstruct.candidates(image)
    truth = np.array([hand.box for hand in photograph.hands]).reshape(-1, 4)
    complete = photograph.exhaustive or photograph.negative
    judged = []
    for box, detector, presence in zip(found.boxes, found.detector, found.presence, strict=True):
        overlap = box_iou(box[None], truth).max(initial=0.0)
        ignored = bool(covered(box[None], photograph.ignore_boxes)[0])
        if overlap >= HAND_IOU:
            judged.append((float(detector), float(presence), True))
        elif overlap < NO_HAND_IOU and complete and not ignored:
            judged.append((float(detector), float(presence), False))
    return judged


def tolerant_bias(negatives: list[list[tuple[float, float, bool]]], a: float, b: float) -> float:
    """The bias at which FALSE_PICTURES of the pictures without hands have a score of 0.5."""
    scores = [
        max((a * logit(detector) + b * logit(presence) for detector, presence, _ in found))
        for found in negatives
        if found
    ]
    scores += [-np.inf] * (len(negatives) - len(scores))
    return -float(np.quantile(scores, 1 - FALSE_PICTURES, method="higher"))


def fit(features: np.ndarray, is_hand: np.ndarray) -> tuple[float, float, float]:
    """Logistic regression by Newton's method: features [N, 2] in 0..1 -> bias, a, b."""
    x = np.column_stack([np.ones(len(features)), logit(features)])
    w = np.array([0.0, 0.5, 0.5])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        gradient = x.T @ (p - is_hand) + RIDGE * w
        hessian = (x * (p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(3)
        w = w - np.linalg.solve(hessian, gradient)
    return tuple(float(v) for v in w)
