"""``hand-perception calibrate``: scores that mean what they say.

A hand's score is sigmoid(bias + weights . logit(evidence)): postprocess.evidence says what speaks
for a hand. Logistic regression on photographs (the train split, never val), and on rendered images
where they are given, gives the weights. The bias is then set for a robot, which a hand that is not
there costs more than one that is seen a frame later: at score 0.5, one in 400 photographs without
hands shows one. Of those that a network has learnt from fewer fool it than of others: pictures of
where the camera will look are the better measure (``--without-hands``). Given alone they only make
a calibrated model stricter. The numbers are written into the model's card.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hand_perception.data.photograph_labels import (
    LabelledPhotograph,
    add_without_hands,
    pictures_without_hands,
    read_photographs,
)
from hand_perception.data.sample import Sample, hand_boxes
from hand_perception.errors import DataError
from hand_perception.evaluation.metrics import covered
from hand_perception.geometry import box_iou
from hand_perception.imaging import read_image
from hand_perception.postprocess import ScoreCalibration, logit
from hand_perception.reconstructor import Candidates, HandReconstructor
from hand_perception.runtime.backend import ModelFolder

HAND_IOU, NO_HAND_IOU = 0.5, 0.3
FALSE_PICTURES = 0.0025
# Keeps the fit finite when the classes part without error; far below what data of use weigh.
RIDGE = 1e-2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder; its model.json is rewritten")
    parser.add_argument("--data", type=Path, help="folder with labels.jsonl")
    parser.add_argument(
        "--synthetic",
        type=Path,
        help="data set of `hand-perception synthesize`: small and hidden hands are hands, too",
    )
    add_without_hands(
        parser,
        "pictures that show no hand and that training has not seen: of them, and not of those "
        "in --data, few may show one",
    )
    parser.add_argument(
        "--false-pictures",
        type=float,
        default=FALSE_PICTURES,
        metavar="SHARE",
        help="of pictures without hands, those that may show one at a score of 0.5 (%(default)s)",
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=1500,
        help="photographs with hands at most, and rendered images (%(default)s)",
    )
    parser.add_argument("--output", type=Path, help="write a copy of the model there instead")


def run(args: argparse.Namespace) -> int:
    # Before minutes of work, not after.
    if args.output and args.output.exists():
        raise DataError(f"{args.output} exists: name another folder, or remove it")
    if not 0 <= args.false_pictures < 1:
        raise DataError(f"--false-pictures is a share from 0 to 1, not {args.false_pictures}")
    model = ModelFolder.open(args.model)
    if not args.data and not (model.score_calibration and args.without_hands):
        raise DataError("a first fit needs photographs with labels: give --data")
    reconstruct = HandReconstructor.from_pretrained(args.model)
    pictures = pictures_without_hands(args.without_hands)
    unseen = [
        judge(picture, Path(), reconstruct)
        for picture in tqdm(pictures, "without hands", disable=None)
    ]
    negatives = [found for found, _ in unseen]
    if args.data:
        calibration = fitted(args, reconstruct, unseen)
    else:
        calibration = stricter(model.score_calibration, negatives, args.false_pictures)
    if unseen:
        before = fooled(negatives, model.score_calibration)
        now = fooled(negatives, calibration)
        print(f"of {len(unseen)} pictures without hands {before} showed one, now {now}")
    card = model.card | {"score_calibration": [round(float(c), 4) for c in calibration]}
    target = shutil.copytree(model.path, args.output) if args.output else model.path
    (target / "model.json").write_text(json.dumps(card, indent=2) + "\n")
    print(f"{target}: {card['score_calibration']}")
    return 0


# What a picture's candidates say, [N, 5], and which of them are hands.
Judged = tuple[np.ndarray, np.ndarray]


def fitted(
    args: argparse.Namespace, reconstruct: HandReconstructor, unseen: list[Judged]
) -> tuple[float, ...]:
    """Bias and weights from labelled photographs, rendered images and pictures without hands."""
    photographs = read_photographs(args.data, "train")
    # What is rare, a picture that fools the network, is looked for in all of them.
    without = [photograph for photograph in photographs if photograph.negative]
    others = [photograph for photograph in photographs if not photograph.negative]
    chosen = others[:: max(1, len(others) // args.limit)] + without
    judged = [
        judge(photograph, args.data, reconstruct)
        for photograph in tqdm(chosen, "calibrate", disable=None)
    ]
    negatives = unseen or judged[len(chosen) - len(without) :]
    judged += unseen
    if args.synthetic:
        # Its renderer needs torch, a deployed node's machine has none.
        from hand_perception.data.synthetic import SyntheticSamples

        samples = SyntheticSamples(args.synthetic)
        rendered = range(0, len(samples), max(1, len(samples) // args.limit))
        judged += [
            judge_sample(samples[k], reconstruct) for k in tqdm(rendered, "rendered", disable=None)
        ]
    features, is_hand = (np.concatenate(column) for column in zip(*judged, strict=True))
    if is_hand.all() or not is_hand.any() or not negatives:
        raise DataError(f"{args.data}: a fit needs hands and pictures without, more photographs")
    print(f"{len(is_hand)} candidates, {is_hand.sum()} hands")
    weights = fit(features, is_hand)[1:]
    bias = tolerant_bias([found for found, _ in negatives], weights, args.false_pictures)
    return bias, *weights


def stricter(
    calibration: tuple[float, ...], negatives: list[np.ndarray], share: float
) -> tuple[float, ...]:
    """The calibration, its bias lowered where pictures without hands ask for it."""
    bias, *weights = calibration
    return min(bias, tolerant_bias(negatives, np.array(weights), share)), *weights


def judge(photograph: LabelledPhotograph, root: Path, reconstruct: HandReconstructor) -> Judged:
    """Of each candidate that the labels decide: its evidence [N, 5], and whether it is a hand."""
    image = read_image(root / photograph.file)
    truth = np.array([hand.box for hand in photograph.hands]).reshape(-1, 4)
    complete = photograph.exhaustive or photograph.negative
    return _judged(reconstruct.candidates(image), truth, photograph.ignore_boxes, complete)


def judge_sample(sample: Sample, reconstruct: HandReconstructor) -> Judged:
    """The same of a rendered image, all of whose hands are known."""
    height, width = sample.image.shape[:2]
    truth = hand_boxes(sample.hands.keypoints2d, width, height)
    return _judged(reconstruct.candidates(sample.image), truth, sample.ignore_boxes, True)


def _judged(
    found: Candidates, truth: np.ndarray, ignore_boxes: np.ndarray, complete: bool
) -> Judged:
    overlap = box_iou(found.boxes, truth).max(1, initial=0.0)
    is_hand = overlap >= HAND_IOU
    is_none = np.zeros(len(overlap), bool)
    if complete:
        is_none = (overlap < NO_HAND_IOU) & ~covered(found.boxes, ignore_boxes).astype(bool)
    decided = is_hand | is_none
    return found.evidence[decided], is_hand[decided]


def tolerant_bias(negatives: list[np.ndarray], weights: np.ndarray, share: float) -> float:
    """The bias at which ``share`` of the pictures without hands, each its candidates' evidence
    [N, K], have a score of 0.5."""
    scores = [(logit(found) @ weights).max(initial=-np.inf) for found in negatives]
    return -float(np.quantile(scores, 1 - share, method="higher"))


def fooled(negatives: list[np.ndarray], calibration: tuple[float, ...]) -> int:
    """In how many pictures without hands something has a score of 0.5 and above."""
    score = ScoreCalibration(*calibration).score
    return sum(bool((score(found) >= 0.5).any()) for found in negatives)


def fit(features: np.ndarray, is_hand: np.ndarray) -> np.ndarray:
    """Logistic regression by Newton's method: features [N, K] in 0..1 -> bias and K weights."""
    x = np.column_stack([np.ones(len(features)), logit(features)])
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        gradient = x.T @ (p - is_hand) + RIDGE * w
        hessian = (x * (p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(len(w))
        w = w - np.linalg.solve(hessian, gradient)
    return w
