"""A camera's image as it came off the wire, and the arguments of the kernel that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hand_perception.errors import ImageError
from hand_perception.imaging import Letterbox, check_image

KERNELS = Path(__file__).parent.parent / "assets" / "cuda" / "frame.cu"
# ROS's names in the order of the kernel's enum; `_ALIASES` are the same bytes by another name.
ENCODINGS = (
    *("rgb8", "bgr8", "rgba8", "bgra8", "mono8", "yuyv", "uyvy", "nv12", "nv21"),
    *("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"),
)
_ALIASES = {"8UC3": "bgr8", "8UC1": "mono8", "yuv422_yuy2": "yuyv", "yuv422": "uyvy"}
# ctypes' and pycuda's letters for the types of the kernels' arguments.
LETTERBOX_ARGUMENTS = "PiiiiPiiiffffff"
GATHER_ARGUMENTS = "PPPii"
KERNEL_ARGUMENTS = {"letterbox_normalise": LETTERBOX_ARGUMENTS, "gather_rows": GATHER_ARGUMENTS}


@dataclass(frozen=True)
class RawImage:
    """data: uint8, one-dimensional, rows of ``step`` bytes; encoding: one of ENCODINGS.

    ``shape`` is that of the RGB image it holds, so that it can stand where one is expected.
    """

    data: np.ndarray
    encoding: str
    width: int
    height: int
    step: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, 3

    @classmethod
    def of(cls, image: np.ndarray | RawImage) -> RawImage:
        """An RGB uint8 [H, W, 3] array as it lies in memory where its rows do, else a copy.

        Raises ImageError on another type, an unknown encoding and data shorter than the image.
        """
        if isinstance(image, RawImage):
            return image._checked()
        check_image(image)
        image = np.ascontiguousarray(image)
        height, width = image.shape[:2]
        return cls(image.reshape(-1), "rgb8", width, height, 3 * width)

    def rgb(self) -> np.ndarray:
        """uint8 [H, W, 3] of an rgb8 image, a view; raises ImageError for another encoding."""
        if self.encoding != "rgb8":
            raise ImageError(
                f"crops are cut from rgb8 images, got {self.encoding!r}: decode it first "
                "(frames.image_from_message)"
            )
        rows = self.data[: self.nbytes].reshape(self.height, self.step)
        return rows[:, : 3 * self.width].reshape(self.height, self.width, 3)

    @property
    def code(self) -> int:
        """The kernel's number of the encoding."""
        return ENCODINGS.index(_ALIASES.get(self.encoding, self.encoding))

    @property
    def nbytes(self) -> int:
        chroma = self.height // 2 if self.encoding in ("nv12", "nv21") else 0
        return self.step * (self.height + chroma)

    def _checked(self) -> RawImage:
        if _ALIASES.get(self.encoding, self.encoding) not in ENCODINGS:
            raise ImageError(
                f"image encoding {self.encoding!r} is not supported, use one of: "
                f"{', '.join(ENCODINGS)}"
            )
        if self.data.size < self.nbytes:
            raise ImageError(
                f"image data has {self.data.size} bytes, {self.nbytes} expected: the image was "
                "truncated"
            )
        return self


def letterbox_arguments(
    image: RawImage,
    source: int,
    target: int,
    canvas: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> tuple:
    """What `letterbox_normalise` takes: source and target are addresses the kernel can read."""
    width, height = Letterbox.fit(image.width, image.height, (canvas, canvas)).inner_size
    # As imaging.normalise has them.
    gain = (1 / (255 * np.asarray(std))).astype(np.float32)
    offset = (np.asarray(mean) / np.asarray(std)).astype(np.float32)
    return (
        *(source, image.width, image.height, image.step, image.code),
        *(target, canvas, width, height),
        *(float(v) for v in (*gain, *offset)),
    )
