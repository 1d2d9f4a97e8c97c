"""From a file or a frame to the network's input, and from the network's pixels back.

Images are RGB uint8 [H, W, 3]. Coordinates have the centre of the top-left pixel at (0, 0), so a
resampling by s maps x to (x + 0.5) s - 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hand_perception.errors import ImageError

MIN_IMAGE_SIDE = 16
_PADDING_GREY = 114
# A part of an image: x0, y0, x1, y1 in whole pixels, without the last column and row. It may reach
# beyond the image.
Window = tuple[int, int, int, int]
# A bilinear step may shrink to this, as in training (data.sample.warp).
SMALLEST_STEP = 0.6


@dataclass(frozen=True)
class Letterbox:
    """How an image lies in the network's canvas: resampled, in the top-left corner.

    width, height: the image's size in pixels. scale: (x, y) factors; they differ by the rounding
    of the resampled size to whole pixels. corner: (x, y), the pixel of the image in the canvas's
    corner, where only a window of it is there.
    """

    width: int
    height: int
    scale: tuple[float, float]
    corner: tuple[int, int] = (0, 0)

    @classmethod
    def fit(cls, width: int, height: int, size: tuple[int, int]) -> Letterbox:
        """The largest fit of width x height into a canvas of size (height, width)."""
        factor = min(size[0] / height, size[1] / width)
        inner = max(1, round(width * factor)), max(1, round(height * factor))
        return cls(width, height, (inner[0] / width, inner[1] / height))

    @classmethod
    def of_window(cls, width: int, height: int, window: Window, size: tuple[int, int]) -> Letterbox:
        """The largest fit of a window of a width x height image."""
        x0, y0, x1, y1 = window
        return cls(width, height, cls.fit(x1 - x0, y1 - y0, size).scale, (x0, y0))

    @property
    def inner_size(self) -> tuple[int, int]:
        """Width and height of the resampled image, without the padding."""
        return round(self.width * self.scale[0]), round(self.height * self.scale[1])

    def points_to_network(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2] of the image in pixels of the canvas."""
        return (np.asarray(points) - self.corner + 0.5) * self.scale - 0.5

    def points_to_image(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2] of the canvas in pixels of the image."""
        return (np.asarray(points) + 0.5) / self.scale - 0.5 + self.corner

    def boxes_to_network(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [..., 4] (x0, y0, x1, y1) of the image in pixels of the canvas."""
        boxes = np.asarray(boxes)
        return self.points_to_network(boxes.reshape(*boxes.shape[:-1], 2, 2)).reshape(boxes.shape)

    def boxes_to_queries(self, boxes: np.ndarray, canvas: int) -> np.ndarray:
        """Boxes as boxes_to_network takes them -> cx, cy, w, h in 0..1 of a canvas of that side."""
        corners = (self.boxes_to_network(boxes) + 0.5) / canvas
        low, high = corners[..., :2], corners[..., 2:]
        return np.concatenate([(low + high) / 2, high - low], -1)

    def boxes_to_image(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [..., 4] (x0, y0, x1, y1) of the canvas in pixels of the image."""
        boxes = np.asarray(boxes)
        return self.points_to_image(boxes.reshape(*boxes.shape[:-1], 2, 2)).reshape(boxes.shape)


def letterbox(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, Letterbox]:
    """The image in a canvas uint8 [h, w, 3] of size (h, w): aspect kept, padded grey.

    The image lies in the top-left corner. Raises ImageError unless it is RGB uint8 and at least
    16 x 16.
    """
    check_image(image)
    fit = Letterbox.fit(image.shape[1], image.shape[0], size)
    width, height = fit.inner_size
    canvas = np.full((*size, 3), _PADDING_GREY, np.uint8)
    # Area averaging has no aliasing on the way down but is nearest-neighbour on the way up.
    shrinks = width < image.shape[1]
    canvas[:height, :width] = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return canvas, fit


@dataclass(frozen=True)
class Crop:
    """A square of an image as the network sees it. corner: of its outline in pixels of the image;
    scale: pixels of the crop in one of the image; size: its side in pixels."""

    corner: tuple[float, float]
    scale: float
    size: int

    @classmethod
    def around(cls, box: np.ndarray, margin: float, size: int) -> Crop:
        """The square about a box [4] (x0, y0, x1, y1), its longer side times ``margin``."""
        side = max(float(max(box[2] - box[0], box[3] - box[1])) * margin, 1.0)
        x, y = (box[:2] + box[2:]) / 2 + 0.5 - side / 2
        return cls((float(x), float(y)), size / side, size)

    @property
    def centre(self) -> np.ndarray:
        """[2], in pixels of the image."""
        return np.array(self.corner) + self.size / self.scale / 2 - 0.5

    def points_to_image(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2] in 0..1 of the crop in pixels of the image."""
        return np.asarray(points) * (self.size / self.scale) + self.corner - 0.5

    def cut(self, image: np.ndarray) -> np.ndarray:
        """uint8 [size, size, 3] of an image uint8 [H, W, 3]; grey where there is none."""
        x, y = self.corner
        side = self.size / self.scale
        # Only what is seen, and a pixel more for the interpolation, is shrunk.
        low = np.clip(np.floor([x - 2, y - 2]), 0, None).astype(int)
        high = np.ceil([x + side + 2, y + side + 2]).astype(int)
        part = image[low[1] : max(high[1], 0), low[0] : max(high[0], 0)]
        if not part.size:
            return np.full((self.size, self.size, 3), _PADDING_GREY, np.uint8)
        scale, corner = np.array([self.scale] * 2), np.array([x, y]) - low
        while scale.min() < SMALLEST_STEP and min(part.shape[:2]) >= 2:
            # Bilinear sampling skips pixels when it shrinks: halve by area first.
            # The size is given: by a factor, an odd side is halved and a half pixel is left over.
            half = (part.shape[1] + 1) // 2, (part.shape[0] + 1) // 2
            halved = cv2.resize(part, half, interpolation=cv2.INTER_AREA)
            factor = np.array(part.shape[1::-1]) / halved.shape[1::-1]
            part, scale, corner = halved, scale * factor, corner / factor
        shift = scale * (0.5 - corner) - 0.5
        matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
        return cv2.warpAffine(
            part,
            matrix,
            (self.size, self.size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(_PADDING_GREY,) * 3,
        )


def in_window(image: np.ndarray, window: Window, canvas: int) -> np.ndarray:
    """What lies in it, for a letterbox of that side. A window that reaches beyond the image is a
    square, and small in the canvas already: there is no use in carrying its grey about."""
    (x0, y0, x1, y1), (height, width) = window, image.shape[:2]
    if x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height:
        return np.ascontiguousarray(image[y0:y1, x0:x1])
    return Crop((x0, y0), canvas / (x1 - x0), canvas).cut(image)


def normalise(canvas: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """float32 [1, 3, h, w] of a canvas uint8 [h, w, 3]: (x / 255 - mean) / std by channel."""
    std = np.asarray(std)
    gain = (1 / (255 * std)).astype(np.float32)
    offset = (np.asarray(mean) / std).astype(np.float32)
    planes = (canvas.astype(np.float32) * gain - offset).transpose(2, 0, 1)
    return np.ascontiguousarray(planes[None])


def check_image(image: np.ndarray) -> None:
    """Raises ImageError unless the image is RGB uint8 [H, W, 3] and at least 16 x 16."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"expected an RGB image uint8 [H, W, 3], got {image.dtype} {list(image.shape)}: "
            "convert it first"
        )
    if min(image.shape[:2]) < MIN_IMAGE_SIDE:
        raise ImageError(
            f"the image of {image.shape[1]}x{image.shape[0]} is too small: "
            f"at least {MIN_IMAGE_SIDE}x{MIN_IMAGE_SIDE} pixels are needed"
        )


def read_image(path: str | Path) -> np.ndarray:
    """The picture in a file, RGB uint8 [H, W, 3], turned upright by its EXIF orientation.

    Raises ImageError on a file that is missing, empty, cut short, corrupt or below 16 x 16.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    try:
        return decode_image(data)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def decode_image(data: bytes) -> np.ndarray:
    """The picture in an encoded buffer (JPEG, PNG, WebP, ...), RGB uint8 [H, W, 3].

    Raises ImageError on a buffer that is empty, cut short, corrupt or below 16 x 16.
    """
    if not data:
        raise ImageError("the image is empty: the writer was stopped, send or copy it again")
    if not _is_complete(data):
        raise ImageError("the image is cut short: copy or download it again")
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # e.g. a header that claims a billion pixels
        bgr = None
    if bgr is None:
        raise ImageError("not an image, or a corrupt one: use JPEG, PNG or WebP, or save it again")
    check_image(bgr)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _is_complete(data: bytes) -> bool:
    """Whether the format's end is there: OpenCV silently fills what is missing with grey."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg_has_end(data)
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data[-64:]
    if data.startswith(b"RIFF"):
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    if data.startswith(b"BM"):
        return len(data) >= int.from_bytes(data[2:6], "little")
    return True


def _jpeg_has_end(data: bytes) -> bool:
    """Whether an end-of-image marker follows the first scan.

    The header is walked over, as an EXIF thumbnail in it has an end of its own. In a scan FF is
    never followed by D9 but there. Cameras append trailers, so the marker need not be the last.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            return data.find(b"\xff\xd9", at + 2 + length) >= 0
        # Any number of FF may pad the space between segments.
        at += 1 if data[at + 1] == 0xFF else 2 + length
    return False
