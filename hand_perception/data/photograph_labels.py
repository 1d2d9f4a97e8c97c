"""The labels of a folder of photographs: ``labels.jsonl``, one JSON an image.

Fields used: file, set, split, hands (box, keypoints2d, handedness, handedness_reliable,
reliability, world, world_reliable), ignore_boxes, boxes_exhaustive, negative; source, the path that
the picture had in its set, may be missing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hand_perception.data.finger_signs import stretched_fingers
from hand_perception.data.sample import NO_BOXES
from hand_perception.errors import DataError
from hand_perception.hands import Side
from hand_perception.sources import find_pictures


@dataclass(frozen=True)
class LabelledHand:
    """box: [4], keypoints2d: [21, 2] pixels. side: None where the label is not reliable.

    world: [21, 3], rough joints with camera axes in a scale of their own; None where they are
    missing or not reliable.
    """

    box: np.ndarray
    keypoints2d: np.ndarray
    side: Side | None
    reliable: bool
    world: np.ndarray | None = None


@dataclass(frozen=True)
class LabelledPhotograph:
    """exhaustive: no hand outside of ``hands`` and ``ignore_boxes`` [M, 4]. stretched: index to
    little finger of the one hand, where the picture shows a known sign."""

    file: str
    set: str
    hands: list[LabelledHand]
    ignore_boxes: np.ndarray
    exhaustive: bool
    negative: bool
    stretched: tuple[bool, ...] | None = None


def read_photographs(root: Path, split: str = "val") -> list[LabelledPhotograph]:
    """Raises DataError when ``labels.jsonl`` is missing or has another layout."""
    path = root / "labels.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        photographs = [_photograph(row) for row in rows if row["split"] == split]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not hold labels ({error!r}): check the folder") from error
    if not photographs:
        raise DataError(f"{path} has no picture of the {split} split: check the folder")
    return photographs


def add_without_hands(parser: argparse.ArgumentParser, explained: str) -> None:
    """The option ``--without-hands``: folders for pictures_without_hands."""
    parser.add_argument(
        "--without-hands",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help=explained,
    )


def pictures_without_hands(folders: Sequence[Path]) -> list[LabelledPhotograph]:
    """All pictures in the folders, however deep: whoever names them says that they show no hand.
    ``file`` is absolute. Raises DataError for folders without pictures."""
    return [
        LabelledPhotograph(
            str(file.resolve()), file.parent.name, [], NO_BOXES, exhaustive=True, negative=True
        )
        for file in (find_pictures(folders) if folders else [])
    ]


def _photograph(row: dict) -> LabelledPhotograph:
    hands = [
        LabelledHand(
            box=np.array(hand["box"]),
            keypoints2d=np.array(hand["keypoints2d"]),
            side=Side(hand["handedness"].lower()) if hand["handedness_reliable"] else None,
            reliable=hand["reliability"] == "high",
            world=np.array(hand["world"]) if hand.get("world_reliable") else None,
        )
        for hand in row["hands"]
    ]
    ignored = np.array([ignore["box"] for ignore in row["ignore_boxes"]]).reshape(-1, 4)
    return LabelledPhotograph(
        row["file"],
        row["set"],
        hands,
        ignored,
        row["boxes_exhaustive"],
        row["negative"],
        stretched_fingers(row["set"], row.get("source", "")) if len(hands) == 1 else None,
    )
