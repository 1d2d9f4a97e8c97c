"""Rendered hands on disk: shards of JPEG images with exact labels.

A shard is two files: ``shard-00012.bin`` holds the encoded images one after the other, and
``shard-00012.npz`` the labels and where each image lies. The .npz is written last and moved into
place, so a shard that can be seen is complete, and a growing folder can be read. Some recipes add
``shard-00012.maps``: of each image a PNG of the hands' silhouette, one of the depth in tenths of a
millimetre, and the dense meshes in half precision.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from hand_perception.errors import DataError
from hand_perception.hands import MIDDLE_MCP

if TYPE_CHECKING:  # reading needs no torch
    from hand_perception.synthesis.render import Batch

INDEX = "dataset.json"
_LABELS = ("keypoints2d", "keypoints3d", "vertices", "boxes", "is_left", "visible")
DEPTH_UNIT_M = 1e-4
JPEG_QUALITIES = (55, 96)  # cameras compress; the range is drawn from per image


def shard_paths(folder: Path, number: int) -> tuple[Path, Path]:
    """Images and labels of a shard."""
    return folder / f"shard-{number:05d}.bin", folder / f"shard-{number:05d}.npz"


def write_shard(
    folder: Path, number: int, batches: list[Batch], quality_seed: int, with_maps: bool = False
) -> None:
    """Writes rendered batches as one shard."""
    rng = np.random.default_rng(quality_seed)
    images_path, labels_path = shard_paths(folder, number)
    encoded, maps = [], []
    arrays = {key: [] for key in (*_LABELS, "K", "streak", "hands")}
    for batch in (b.cpu() for b in batches):
        for rgb in batch.rgb.permute(0, 2, 3, 1).numpy():
            quality = int(rng.integers(*JPEG_QUALITIES))
            flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
            encoded.append(cv2.imencode(".jpg", rgb[..., ::-1], flags)[1].tobytes())
        if with_maps:
            maps += [part for i in range(len(batch.rgb)) for part in _encoded_maps(batch, i)]
        valid = batch.valid.numpy()
        arrays["hands"].append(valid.sum(1))
        arrays["K"].append(batch.K.numpy())
        arrays["streak"].append(batch.streak.numpy())
        for key in _LABELS:
            arrays[key].append(getattr(batch, key).numpy()[valid])
    temporary = labels_path.with_suffix(".tmp")
    images_path.write_bytes(b"".join(encoded))
    labels = {key: np.concatenate(parts) for key, parts in arrays.items()}
    labels["offsets"] = _offsets(encoded)
    if with_maps:
        labels_path.with_suffix(".maps").write_bytes(b"".join(maps))
        labels["map_offsets"] = _offsets(maps)
    with temporary.open("wb") as file:
        np.savez(file, **labels)
    os.replace(temporary, labels_path)


def _offsets(parts: list[bytes]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(part) for part in parts])])


def _encoded_maps(batch: Batch, i: int) -> tuple[bytes, bytes, bytes]:
    """Silhouette, depth and dense meshes (about the middle MCP) of image ``i``."""
    valid = batch.valid[i]
    silhouette = batch.silhouette[i].numpy().astype(np.uint8) * 255
    depth = (batch.depth[i].numpy() / DEPTH_UNIT_M).round().clip(0, 65535).astype(np.uint16)
    dense = batch.dense[i][valid] - batch.keypoints3d[i][valid][:, MIDDLE_MCP, None]
    pictures = (cv2.imencode(".png", m)[1].tobytes() for m in (silhouette, depth))
    return (*pictures, dense.numpy().astype(np.float16).tobytes())


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
    visible [n] pixels of the hand that are seen; K [3, 3]; streak [], pixels that motion draws a
    point over, NaN in a folder that does not tell.

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
                unknown = np.full(len(shard["hands"]), np.nan, np.float32)
                shard.setdefault("streak", unknown)
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
        number, row = self._place(index)
        shard = self._shards[number]
        hands = slice(int(shard["first_hand"][row]), int(shard["first_hand"][row + 1]))
        item = {key: shard[key][hands] for key in _LABELS}
        item["K"] = shard["K"][row]
        item["streak"] = np.asarray(shard["streak"][row])
        image = _picture(self._files[number], *shard["offsets"][row : row + 2], cv2.IMREAD_COLOR)
        item["image"] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return item

    def maps(self, index: int) -> dict[str, np.ndarray]:
        """silhouette [H, W] bool, hands without arms; depth [H, W] float32 metres, 0 where the
        background shows; dense [n, D, 3] float32 metres in the camera frame, to a tenth of a
        millimetre.

        Raises DataError where the recipe wrote none, and where the file is damaged.
        """
        number, row = self._place(index)
        shard, file = self._shards[number], self._files[number].with_suffix(".maps")
        if "map_offsets" not in shard:
            raise DataError(f"{self.folder} has no maps: synthesize --recipe mobrecon-complement")
        ends = shard["map_offsets"][3 * row : 3 * row + 4]
        silhouette = _picture(file, *ends[:2], cv2.IMREAD_UNCHANGED) > 0
        depth = _picture(file, *ends[1:3], cv2.IMREAD_UNCHANGED) * np.float32(DEPTH_UNIT_M)
        first, last = shard["first_hand"][row : row + 2]
        dense = np.frombuffer(_bytes(file, *ends[2:]), np.float16)
        if len(dense) != (ends[3] - ends[2]) // 2:
            raise DataError(f"{file} is damaged at byte {ends[2]}: synthesize again")
        root = shard["keypoints3d"][first:last, MIDDLE_MCP, None]
        dense = dense.astype(np.float32).reshape(last - first, -1, 3) if len(root) else root
        return {"silhouette": silhouette, "depth": depth, "dense": dense + root}

    def _place(self, index: int) -> tuple[int, int]:
        """Shard and row of an image."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        number = int(np.searchsorted(self._ends, index, "right"))
        return number, index - int(self._ends[number]) + len(self._shards[number]["hands"])


def _bytes(path: Path, start: int, stop: int) -> bytes:
    with path.open("rb") as file:
        file.seek(int(start))
        return file.read(int(stop - start))


def _picture(path: Path, start: int, stop: int, flags: int) -> np.ndarray:
    data = _bytes(path, start, stop)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise DataError(f"{path} is damaged at byte {start}: synthesize again")
    return image
