"""Where pictures come from: a webcam, a video, a picture or a folder of pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hand_perception.errors import DataError
from hand_perception.imaging import read_image

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def find_pictures(paths: Iterable[Path]) -> list[Path]:
    """Files as given and, sorted, the pictures anywhere below folders; each once.

    Raises DataError when a path does not exist or nothing is found.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            below = (p for p in path.rglob("*") if p.suffix.lower() in PICTURES)
            found.update(dict.fromkeys(sorted(below)))
        elif path.exists():
            found[path] = None
        else:
            raise DataError(f"{path} does not exist: check the path")
    if not found:
        raise DataError(f"no pictures ({', '.join(PICTURES)}) in the given folders")
    return list(found)


@dataclass(frozen=True)
class Source:
    """A webcam index, a video file, a picture or a folder of pictures."""

    name: str

    def pictures(self) -> Iterator[np.ndarray]:
        """RGB uint8 [H, W, 3] pictures, once through. Raises DataError or ImageError."""
        path = Path(self.name)
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
            if not files:
                raise DataError(f"{path} has no pictures ({', '.join(PICTURES)})")
            yield from map(read_image, files)
        elif path.suffix.lower() in PICTURES:
            yield read_image(path)
        else:
            yield from self._video_pictures()

    def _video_pictures(self) -> Iterator[np.ndarray]:
        capture = cv2.VideoCapture(int(self.name) if self.is_webcam else self.name)
        try:
            good, bgr = capture.read()
            if not good:
                kind = "webcam" if self.is_webcam else "video"
                raise DataError(f"cannot read {kind} {self.name}: check that it exists and plays")
            while good:
                yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
                good, bgr = capture.read()
        finally:
            capture.release()

    @property
    def is_webcam(self) -> bool:
        return self.name.isdecimal()

    @property
    def rate(self) -> float | None:
        """A video's own pictures per second."""
        rate = self._video_property(cv2.CAP_PROP_FPS)
        return rate if 0 < rate < 1000 else None

    @property
    def length(self) -> int | None:
        """How many pictures a video says it has."""
        return int(self._video_property(cv2.CAP_PROP_FRAME_COUNT)) or None

    def _video_property(self, name: int) -> float:
        """0 where the source is no video file."""
        path = Path(self.name)
        if not path.is_file() or path.suffix.lower() in PICTURES:
            return 0.0
        capture = cv2.VideoCapture(self.name)
        value = capture.get(name)
        capture.release()
        return value
