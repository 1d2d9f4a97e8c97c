"""Folders of labelled pictures, as ``read_photographs`` reads them."""

import json
from pathlib import Path

import numpy as np


def hand_label(keypoints2d, box, **more) -> dict:
    """A hand of ``labels.jsonl``: [21, 2] and [4] pixels; ``more`` changes or adds fields."""
    hand = {
        "keypoints2d": np.asarray(keypoints2d).tolist(),
        "box": np.asarray(box).tolist(),
        "handedness": "Left",
        "handedness_reliable": True,
        "reliability": "high",
    }
    return hand | more


def picture_label(file: str, hands: list[dict], **more) -> dict:
    """A line of ``labels.jsonl``, of the train split; one without hands is a negative."""
    row = {"file": file, "set": "s", "split": "train", "hands": hands, "ignore_boxes": []}
    return row | {"boxes_exhaustive": True, "negative": not hands} | more


def write_labels(folder: Path, rows: list[dict]) -> None:
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
