"""Rendered hands on disk: shards of JPEG images with exact labels.

A shard is two files: ``shard-00012.bin`` holds the encoded images one after the other, and
``shard-00012.npz`` the labels and where each image lies. The .npz is written last and moved into
place, so a shard that can be seen is complete, and a growing folder can be read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from hand_perception.errors import DataError

if TYPE_CHECKING:  # reading needs no torch
    from hand_perception.synthesis.render import Batch

INDEX = "dataset.json"
_LABELS = ("keypoints2d", "keypoints3d", "vertices", "boxes", "is_left", "visible")
JPEG_QUALITIES = (55, 96)  # cameras compress; the range is drawn from per image


def shard_paths(folder: Path, number: int) -> tuple[Path, Path]:
    """Images and labels of a shard."""
    return folder / f"shard-{number:05d}.bin", folder / f"shard-{number:05d}.npz"


def write_shard(folder: Path, number: int, batches: list[Batch], quality_seed: int) -> None:
    """Writes rendered batches as one shard."""
    rng = np.random.default_rng(quality_seed)
    images_path, labels_path = shard_paths(folder, number)
    encoded, arrays = [], {key: [] for key in (*_LABELS, "K", "hands")}
    for batch in (b.cpu() for b in batches):
        for rgb in batch.rgb.permute(0, 2, 3, 1).numpy():
            quality = int(rng.integers(*JPEG_QUALITIES))
            flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
            encoded.append(cv2.imencode(".jpg", rgb[..., ::-1], flags)[1].tobytes())
        valid = batch.valid.numpy()
        arrays["hands"].append(valid.sum(1))
        arrays["K"].append(batch.K.numpy())
        for key in _LABELS:
            arrays[key].append(getattr(batch, key).numpy()[valid])
    temporary = labels_path.with_suffix(".tmp")
    images_path.write_bytes(b"".join(encoded))
    labels = {key: np.concatenate(parts) for key, parts in arrays.items()}
    lengths = np.array([len(e) for e in encoded])
    with temporary.open("wb") as file:
        np.savez(file, offsets=np.concatenate([[0], lengths.cumsum()]), **labels)
    os.replace(temporary, labels_path)


def write_index(folder: Path, description: dict) -> None:
    """Says how the folder was made; a folder made differently is not continued.

    Raises DataError when the folder holds another data set.
    """
    path = folder / INDEX
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists() and json.loads(path.read_text()) != description:
        raise DataError(f"{folder} holds a data set made with other options: choose another folder")
    path.write_text(json.dumps(description, indent=2) + "\n")


class SyntheticDataset:
    """Random access to a folder that ``hand-perception synthesize`` wrote or is still writing.

    Each item: image [H, W, 3] uint8 RGB; keypoints2d [n, 21, 2] pixels; keypoints3d [n, 21, 3] and
    vertices [n, 778, 3], float32 metres in the camera frame; boxes [n, 4] pixels; is_left [n] bool;
    visible [n] pixels of the hand that are seen; K [3, 3].

    Raises DataError when the folder has no finished shard, and on reading a damaged one.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._shards: list[dict[str, np.ndarray]] = []
        self._files: list[Path] = []
        for labels_path in sorted(self.folder.glob("shard-*.npz")):
            try:
                with np.load(labels_path, allow_pickle=False) as archive:
                    shard = {key: archive[key] for key in archive.files}
                shard["first_hand"] = np.concatenate([[0], shard["hands"].cumsum()])
            except Exception as error:  # numpy raises anything from BadZipFile to KeyError
                raise DataError(f"{labels_path} is damaged ({error}): synthesize again") from error
            self._shards.append(shard)
            self._files.append(labels_path.with_suffix(".bin"))
        if not self._shards:
            raise DataError(
                f"{self.folder} holds no finished shard: run hand-perception synthesize --output "
                f"{self.folder}"
            )
        self._ends = np.cumsum([len(s["hands"]) for s in self._shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        number = int(np.searchsorted(self._ends, index, "right"))
        shard = self._shards[number]
        row = index - int(self._ends[number]) + len(shard["hands"])
        hands = slice(int(shard["first_hand"][row]), int(shard["first_hand"][row + 1]))
        item = {key: shard[key][hands] for key in _LABELS}
        item["K"] = shard["K"][row]
        item["image"] = self._image(number, int(shard["offsets"][row]), shard["offsets"][row + 1])
        return item

    def _image(self, number: int, start: int, stop: int) -> np.ndarray:
        with self._files[number].open("rb") as file:
            file.seek(start)
            data = file.read(int(stop) - start)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if image is None:
            raise DataError(f"{self._files[number]} is damaged at byte {start}: synthesize again")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
