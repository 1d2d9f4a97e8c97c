"""Where predictions come from: a reconstructor, or a file that ``predict`` wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hand_perception.errors import DataError
from hand_perception.geometry import wrist_frame
from hand_perception.hands import Camera, Hand, Reconstruction, Side
from hand_perception.imaging import read_image

# Hands of each image by its file name.
Predictions = dict[str, list[Hand]]


def reconstruct(
    reconstructor: Callable[..., Reconstruction], root: Path, files: Iterable[str], score: float
) -> Predictions:
    """Predicts pictures without intrinsics. Raises ImageError on an unreadable one."""
    predictions = {}
    for file in tqdm(list(files), "reconstruct", unit="image", disable=None):
        image = read_image(root / file)
        camera = Camera.assumed(image.shape[1], image.shape[0])
        predictions[file] = reconstructor(image, camera, score_threshold=score).hands
    return predictions


def read_predictions(path: Path, files: Iterable[str]) -> Predictions:
    """The hands that ``hand-perception predict --output`` wrote, without vertices.

    A picture it could not read has no hands. Raises DataError when a file has no line or the
    format is another.
    """
    predictions: Predictions = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            records = () if "error" in row else row["hands"]
            predictions[row["file"]] = [_hand(record, row["metric"]) for record in records]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} does not hold predictions ({error!r}): write it with hand-perception predict"
        ) from error
    missing = [file for file in files if file not in predictions]
    if missing:
        raise DataError(
            f"{path} lacks {len(missing)} pictures, {missing[0]} for one: "
            "predict all of them, with --root at the folder of the labels"
        )
    return predictions


def _hand(record: dict, metric: bool) -> Hand:
    side = Side(record["side"])
    keypoints3d = np.array(record["keypoints3d_m"], np.float32)
    return Hand(
        side=side,
        score=float(record["score"]),
        box=np.array(record["box"], np.float32),
        keypoints2d=np.array(record["keypoints2d"], np.float32),
        confidences=np.array(record["confidences"], np.float32),
        keypoints3d=keypoints3d,
        vertices=np.zeros((0, 3), np.float32),
        wrist=wrist_frame(keypoints3d, side),
        side_confidence=float(record["side_confidence"]),
        metric=metric,
    )
