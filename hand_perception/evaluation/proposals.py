"""``hand-perception propose``: where a detector sees hands on labelled photographs that have none
there. Training shows these places to the network behind it, which must not be taken in too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hand_perception.data.photograph_labels import (
    LabelledPhotograph,
    add_without_hands,
    pictures_without_hands,
    read_photographs,
)
from hand_perception.evaluation.metrics import covered
from hand_perception.geometry import box_iou
from hand_perception.imaging import read_image
from hand_perception.reconstructor import HandReconstructor

# Of each photograph, the best-scoring ones.
MOST = 4
# A box that overlaps a hand more than this may show a part of it.
PART_IOU = 0.15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder of the model whose detector looks")
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.jsonl")
    add_without_hands(
        parser,
        "more pictures that show no hand, as `train --without-hands` takes them",
    )
    parser.add_argument("--output", type=Path, required=True, help=".npz to write")


def run(args: argparse.Namespace) -> int:
    photographs = read_photographs(args.data, "train")
    photographs += pictures_without_hands(args.without_hands)
    reconstruct = HandReconstructor.from_pretrained(args.model)
    found = {
        p.file: impostors(p, args.data, reconstruct)
        for p in tqdm(photographs, "propose", disable=None)
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.output, **found)
    print(f"{sum(map(len, found.values()))} places on {len(found)} photographs: {args.output}")
    return 0


def impostors(
    photograph: LabelledPhotograph, root: Path, reconstruct: HandReconstructor
) -> np.ndarray:
    """Boxes [n, 4] in pixels that are no hands for sure."""
    if not (photograph.exhaustive or photograph.negative):
        return np.zeros((0, 4), np.float32)
    boxes = reconstruct.proposals(read_image(root / photograph.file))
    hands = np.array([hand.box for hand in photograph.hands]).reshape(-1, 4)
    away = box_iou(boxes, hands).max(1, initial=0.0) <= PART_IOU
    away &= covered(boxes, photograph.ignore_boxes) <= PART_IOU
    return boxes[away][:MOST].astype(np.float32)
