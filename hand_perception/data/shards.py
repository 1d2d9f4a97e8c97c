"""Samples in tar shards of the WebDataset format, for millions of them on slow or remote disks.

A folder holds ``shard-000000.tar`` and so on, and ``shards.json``, which is written last and
counts their samples. In a shard a sample is ``KEY.jpg`` and ``KEY.labels.npz``. Any WebDataset
loader reads them one after the other; here they are read by index, so that a resumed run repeats
exactly.
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from hand_perception.data.sample import HandLabels, Sample
from hand_perception.errors import DataError, ImageError
from hand_perception.hands import NUM_VERTICES, Camera
from hand_perception.imaging import decode_image

INDEX = "shards.json"
JPEG_QUALITY = 95
_IMAGE, _LABELS = "jpg", "labels.npz"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packed:
    """What ``write_shards`` did: samples written, and those that could not be read."""

    written: int
    skipped: tuple[str, ...]


def write_shards(
    source: Callable[[int], Sample], indices: Iterable[int], folder: Path, shard_size: int
) -> Packed:
    """Writes samples in the given order. A broken one is reported and left out.

    Raises DataError when the folder holds shards already.
    """
    # Reading needs no library: evaluation has none.
    import webdataset

    if (folder / INDEX).is_file():
        raise DataError(f"{folder} holds shards already: choose another folder or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    skipped, counts, written = [], [], 0
    pattern = str(folder / "shard-%06d.tar")
    with webdataset.ShardWriter(pattern, maxcount=shard_size, maxsize=1 << 40, verbose=0) as writer:
        for index in indices:
            try:
                record = encode(source(index))
            except (DataError, ImageError) as error:
                _log.warning("sample %d left out: %s", index, error)
                skipped.append(f"{index}: {error}")
                continue
            writer.write({"__key__": f"{written:09d}", **record})
            written += 1
            if written % shard_size == 1 or shard_size == 1:
                counts.append(0)
            counts[-1] += 1
    content = {"counts": counts, "skipped": skipped}
    (folder / INDEX).write_text(json.dumps(content, indent=1) + "\n")
    return Packed(written, tuple(skipped))


def encode(sample: Sample) -> dict[str, bytes]:
    """A sample as the files of a shard, by extension."""
    done, image = cv2.imencode(
        ".jpg", sample.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not done:
        raise ImageError(f"{sample.name}: the picture cannot be encoded")
    hands, camera = sample.hands, sample.camera
    arrays = {f.name: getattr(hands, f.name) for f in fields(HandLabels)}
    # Meshes that are not labelled take no room.
    arrays["vertices"] = hands.vertices[hands.weight_mesh > 0]
    arrays["camera"] = np.array([camera.fx, camera.fy, camera.cx, camera.cy, camera.metric])
    arrays["ignore_boxes"] = sample.ignore_boxes
    arrays["exhaustive"] = np.array(sample.exhaustive)
    arrays["topology"], arrays["name"] = np.array(sample.topology), np.array(sample.name)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return {_IMAGE: image.tobytes(), _LABELS: buffer.getvalue()}


def decode(record: dict[str, bytes]) -> Sample:
    """The inverse of ``encode``. Raises DataError or ImageError when it is damaged."""
    image = decode_image(record[_IMAGE])
    height, width = image.shape[:2]
    try:
        with np.load(io.BytesIO(record[_LABELS]), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        fx, fy, cx, cy, metric = arrays["camera"].tolist()
        labels = {f.name: arrays[f.name] for f in fields(HandLabels)}
        meshes = np.zeros((len(labels["side"]), NUM_VERTICES, 3), np.float32)
        meshes[labels["weight_mesh"] > 0] = labels["vertices"]
        labels["vertices"] = meshes
        return Sample(
            image,
            Camera(fx, fy, cx, cy, width, height, metric=bool(metric)),
            HandLabels(**labels),
            ignore_boxes=arrays["ignore_boxes"],
            exhaustive=bool(arrays["exhaustive"]),
            topology=str(arrays["topology"]),
            name=str(arrays["name"]),
        )
    except Exception as error:  # numpy raises anything from BadZipFile to KeyError
        raise DataError(f"labels are damaged ({type(error).__name__}: {error})") from error


class PackedSamples:
    """A folder of shards as a source of samples; ``blocks``: how many each shard holds.

    Raises DataError when the folder has no index, and on reading a sample that is damaged or lies
    in a shard that is missing or cut short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        try:
            self.blocks = tuple(json.loads((self.folder / INDEX).read_text())["counts"])
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{self.folder / INDEX} cannot be read ({error!r}): hand-perception pack writes "
                "it last, pack again"
            ) from error
        self._ends = np.cumsum(self.blocks)
        self._places: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Sample:
        shard = int(np.searchsorted(self._ends, index, "right"))
        path = self.folder / f"shard-{shard:06d}.tar"
        first = int(self._ends[shard]) - self.blocks[shard]
        if shard not in self._places:
            self._places[shard] = _places(path, first, self.blocks[shard])
        record = {}
        for extension, (offset, size) in zip(
            (_IMAGE, _LABELS), self._places[shard][index - first], strict=True
        ):
            if size < 0:
                raise DataError(
                    f"{path} lacks {index:09d}.{extension}: it is cut short, copy it again"
                )
            with path.open("rb") as file:
                file.seek(offset)
                record[extension] = file.read(size)
        try:
            return decode(record)
        except (DataError, ImageError) as error:
            raise DataError(f"{path}, sample {index}: {error}") from error


def _places(path: Path, first: int, count: int) -> np.ndarray:
    """[count, 2, 2] int64: where the picture and the labels of each sample lie in a tar, offset and
    size; a size of -1 marks what is not there, as behind the cut of a tar that is cut short.
    """
    found = np.full((count, 2, 2), -1, np.int64)
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                row = int(key) - first if key.isdecimal() else -1
                known = extension in (_IMAGE, _LABELS) and 0 <= row < count
                if known and member.offset_data + member.size <= size:
                    place = (member.offset_data, member.size)
                    found[row, (_IMAGE, _LABELS).index(extension)] = place
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): copy it again") from error
    except tarfile.TarError:
        pass
    return found
