"""The preprocessing kernel against OpenCV, the CPU path of every frame."""

from __future__ import annotations

import shutil
import subprocess
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from hand_perception.errors import ImageError
from hand_perception.export.engine import check_frames
from hand_perception.frames import image_from_message
from hand_perception.imaging import letterbox, normalise
from hand_perception.runtime.tensorrt_frame import (
    ENCODINGS,
    KERNELS,
    RawImage,
    letterbox_arguments,
)

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.26, 0.27)
# One grey level of the most sensitive channel, in normalised units, and float32's rounding of
# numbers below 4. Both paths round the same exact mean to whole levels, OpenCV from a fixed-point
# or a differently ordered sum: they part where the mean lies at a half, and then by one.
LEVEL = 1 / (255 * min(STD))
ROUNDING = 4 * 2.0**-23


def on_the_kernel(kernels, image: RawImage, canvas: int) -> np.ndarray:
    out = np.full((1, 3, canvas, canvas), np.nan, np.float32)
    arguments = letterbox_arguments(
        image, image.data.ctypes.data, out.ctypes.data, canvas, MEAN, STD
    )
    kernels["letterbox_normalise"](*arguments)
    return out


def on_the_cpu(image: RawImage, canvas: int) -> np.ndarray:
    message = SimpleNamespace(**vars(image))
    return normalise(letterbox(image_from_message(message), (canvas, canvas))[0], MEAN, STD)


def noise(encoding: str, width: int, height: int, padding: int = 0) -> RawImage:
    """Random bytes: every colour, and edges at every pixel."""
    pixel_bytes = {"rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4}.get(encoding, 1)
    if encoding in ("yuyv", "uyvy", "yuv422", "yuv422_yuy2"):
        pixel_bytes = 2
    step = width * pixel_bytes + padding
    rows = height * 3 // 2 if encoding.startswith("nv") else height
    data = np.random.default_rng(7).integers(0, 256, rows * step, np.uint8)
    return RawImage(data, encoding, width, height, step)


@pytest.mark.parametrize("encoding", [*ENCODINGS, "8UC3", "8UC1", "yuv422", "yuv422_yuy2"])
def test_colours_are_those_of_opencv_to_the_bit(kernels, encoding):
    # The image fills the canvas, so that nothing is resampled.
    image = noise(encoding, 96, 96, padding=12)
    found, expected = on_the_kernel(kernels, image, 96), on_the_cpu(image, 96)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    "size", [(640, 480), (1280, 720), (1920, 1080), (480, 640), (321, 243), (100, 64), (96, 97)]
)
def test_any_size_is_resampled_as_on_the_cpu(kernels, size):
    image = noise("rgb8", *size)
    found, expected = on_the_kernel(kernels, image, 96), on_the_cpu(image, 96)
    assert np.abs(found - expected).max() <= LEVEL + ROUNDING
    # A mean that is off by one anywhere but at a half would show as a bias.
    assert abs(float((found - expected).mean())) <= LEVEL / 20


@pytest.mark.parametrize("size", [(64, 48), (20, 17), (16, 16), (40, 95)])
def test_small_images_are_enlarged_as_on_the_cpu(kernels, size):
    image = noise("bgr8", *size)
    found, expected = on_the_kernel(kernels, image, 96), on_the_cpu(image, 96)
    # OpenCV enlarges in fixed point, weights in steps of 2^-11: 255 * 2 * 2^-12 = 0.13 levels.
    assert np.abs(found - expected).max() <= LEVEL + ROUNDING


@pytest.mark.parametrize("encoding", ["nv12", "yuyv", "bayer_rggb8"])
def test_resampling_and_decoding_together(kernels, encoding):
    image = noise(encoding, 640, 480, padding=64)
    found, expected = on_the_kernel(kernels, image, 256), on_the_cpu(image, 256)
    assert np.abs(found - expected).max() <= LEVEL + ROUNDING


def test_a_real_frame_gives_the_networks_input(kernels):
    frame = check_frames(1)[0]
    found = on_the_kernel(kernels, RawImage.of(frame), 256)
    expected = normalise(letterbox(frame, (256, 256))[0], MEAN, STD)
    assert np.abs(found - expected).max() <= LEVEL + ROUNDING
    height = round(frame.shape[0] * 256 / frame.shape[1])
    grey = (114 / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(found[0, :, height:].mean((1, 2)), grey, atol=ROUNDING)


def test_rows_are_picked(kernels):
    rows = np.arange(24, dtype=np.float32).reshape(6, 4)
    chosen = np.array([5, 0, 5], np.int32)
    out = np.zeros((3, 4), np.float32)
    kernels["gather_rows"](rows.ctypes.data, chosen.ctypes.data, out.ctypes.data, 3, 4)
    np.testing.assert_array_equal(out, rows[chosen])


def test_bad_images_are_named():
    with pytest.raises(ImageError, match="uint8"):
        RawImage.of(np.zeros((48, 64, 3), np.float32))
    with pytest.raises(ImageError, match="truncated"):
        RawImage.of(RawImage(np.zeros(100, np.uint8), "rgb8", 64, 48, 192))
    with pytest.raises(ImageError, match="'16UC1' is not supported"):
        RawImage.of(RawImage(np.zeros(10_000, np.uint8), "16UC1", 64, 48, 128))


def test_a_picture_is_a_raw_image_of_its_own_rows():
    picture = np.zeros((48, 64, 3), np.uint8)
    raw = RawImage.of(picture)
    assert np.shares_memory(raw.data, picture) and raw.shape == picture.shape
    flipped = RawImage.of(cv2.flip(picture, 1)[:, ::-1])
    assert flipped.step == 192 and flipped.nbytes == flipped.data.size


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc, CUDA's compiler")
@pytest.mark.parametrize("architecture", ["sm_87", "sm_90"])
def test_it_compiles_for_an_orin_and_a_hopper(tmp_path, architecture):
    target = tmp_path / "frame.cubin"
    command = ["nvcc", "-cubin", f"-arch={architecture}", "-o", str(target), str(KERNELS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert target.read_bytes()[:4] == b"\x7fELF" and b"letterbox_normalise" in target.read_bytes()
