"""One image with what was found in it, as files: to report a case, or to label it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from hand_perception.errors import DataError
from hand_perception.hands import Reconstruction
from hand_perception.overlay import draw
from hand_perception.predict import image_record
from hand_perception.template import Template
from hand_perception.worker import Picture


@dataclass(frozen=True)
class Snapshot:
    """A frame and its hands."""

    stamp_ns: int
    frame_id: str
    picture: Picture
    result: Reconstruction


def write_snapshot(folder: Path, snapshot: Snapshot, template: Template) -> Path:
    """Writes image.png, overlay.png, hands.json and, if there is one, depth.png (millimetres) into
    a folder of the stamp's name below ``folder``; returns it. Raises DataError."""
    picture, hands = snapshot.picture, snapshot.result.hands
    target = folder / str(snapshot.stamp_ns)
    try:
        target.mkdir(parents=True, exist_ok=True)
        _write(target / "image.png", picture.image[..., ::-1])
        drawn = draw(picture.image, hands, picture.camera, template.faces)
        _write(target / "overlay.png", drawn[..., ::-1])
        if picture.depth is not None:
            millimetres = np.nan_to_num(picture.depth * 1000, nan=0.0)
            _write(target / "depth.png", np.round(millimetres).clip(0, 65535).astype(np.uint16))
        (target / "hands.json").write_text(json.dumps(_record(snapshot), indent=1) + "\n")
    except OSError as error:
        raise DataError(
            f"cannot write a snapshot to {target} ({error.strerror}): set snapshot_folder to a "
            "folder that can be written"
        ) from error
    return target


def _record(snapshot: Snapshot) -> dict:
    record = image_record("image.png", snapshot.picture.camera, snapshot.result)
    for hand, entry in zip(snapshot.result.hands, record["hands"], strict=True):
        entry["track_id"] = hand.track_id
    origin = {"stamp_ns": snapshot.stamp_ns, "frame_id": snapshot.frame_id}
    return {**origin, "camera": asdict(snapshot.picture.camera), **record}


def _write(path: Path, image: np.ndarray) -> None:
    _, png = cv2.imencode(".png", np.ascontiguousarray(image))
    path.write_bytes(png.tobytes())
