"""Draws docs/images/failures_MODEL.jpg: rendered images that a shipped engine reads worst.

hand-perception synthesize --output runs/failures --count 160 --size 256 --seed 4242 --max-hands 2
python scripts/draw_failures.py MODEL --samples runs/failures

Two of a kind: false hands, the largest missed ones, wrong sides, shapes and depths farthest off.
Without photographs behind the hands, so that the pictures are ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hand_perception.evaluation.metrics import match_boxes
from hand_perception.evaluation.report import contact_sheet
from hand_perception.evaluation.synthetic import (
    MIN_IOU,
    MIN_SCORE,
    Outcome,
    camera_of,
    judge,
    read_samples,
)
from hand_perception.evaluation.worst_cases import enlarged
from hand_perception.hands import Camera, Hand
from hand_perception.overlay import draw
from hand_perception.reconstructor import HandReconstructor
from hand_perception.template import load_template

IMAGES = Path(__file__).parent.parent / "docs" / "images"
OF_A_KIND, ENLARGED, COLUMNS = 2, 2, 5


@dataclass(frozen=True)
class Read:
    """An image and what was made of it. false: the score of its best false hand, 0 without one."""

    image: np.ndarray
    camera: Camera
    hands: list[Hand]
    outcomes: list[Outcome]
    false: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--samples", type=Path, required=True)
    args = parser.parse_args()
    engine = HandReconstructor.from_pretrained(args.model)
    faces = load_template().faces
    cases = worst([read(sample, engine) for sample in read_samples(args.samples)])
    sheet = contact_sheet([(drawn(case, faces), text) for case, text in cases], columns=COLUMNS)
    path = IMAGES / f"failures_{args.model}.jpg"
    cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    print(path)


def read(sample: dict, engine: HandReconstructor) -> Read:
    camera = camera_of(sample)
    hands = list(engine(sample["image"], camera, score_threshold=MIN_SCORE).hands)
    boxes = np.array([hand.box for hand in hands]).reshape(-1, 4)
    matched = set(match_boxes(boxes, sample["boxes"], MIN_IOU))
    false = max((h.score for k, h in enumerate(hands) if k not in matched), default=0.0)
    return Read(sample["image"], camera, hands, judge(sample, hands), false)


def worst(reads: list[Read]) -> list[tuple[Read, str]]:
    """Images with what is wrong about them; none twice."""
    kinds: list[tuple[str, Callable[[Outcome], float]]] = [
        ("missed, {:.0f} px", lambda o: 0.0 if o.found else o.size),
        ("wrong side, {:.0f} px", lambda o: o.size if o.side_right == 0 else 0.0),
        ("shape {:.0f} mm off", lambda o: o.pa_vertices if o.found else 0.0),
        ("depth {:.0%} off", lambda o: o.depth if o.found else 0.0),
    ]
    ranked = [("false hand, {:.2f}", [(read.false, read) for read in reads])]
    for text, badness in kinds:
        ranked.append((text, [(max(map(badness, r.outcomes), default=0.0), r) for r in reads]))
    cases: list[tuple[Read, str]] = []
    for text, pairs in ranked:
        pairs = sorted(pairs, key=lambda pair: -pair[0])
        fresh = [p for p in pairs if p[0] > 0 and not any(p[1] is case for case, _ in cases)]
        cases += [(read, text.format(value)) for value, read in fresh[:OF_A_KIND]]
    return cases


def drawn(case: Read, faces: np.ndarray) -> np.ndarray:
    image, hands = enlarged(case.image, case.hands, ENLARGED)
    height, width = image.shape[:2]
    return draw(image, hands, case.camera.resized(width, height), faces)


if __name__ == "__main__":
    main()
