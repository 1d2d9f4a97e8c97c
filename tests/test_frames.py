from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from hand_perception.errors import CameraError, ImageError
from hand_perception.frames import (
    Calibrations,
    camera_from_info,
    depth_from_message,
    image_from_compressed,
    image_from_message,
)

WIDTH, HEIGHT = 32, 24
rng = np.random.default_rng(3)
RGB = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def message(encoding: str, rows: np.ndarray, *, pad: int = 0, height: int = HEIGHT):
    rows = rows.reshape(rows.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, pad)), constant_values=99)
    return SimpleNamespace(
        encoding=encoding,
        width=WIDTH,
        height=height,
        step=padded.shape[1],
        data=np.ascontiguousarray(padded).reshape(-1),
    )


def info(**changes):
    values = dict(
        width=640,
        height=480,
        p=np.array([480.0, 0, 318.0, 0, 0, 490.0, 238.0, 0, 0, 0, 1, 0]),
        k=np.array([500.0, 0, 320.5, 0, 510.0, 240.5, 0, 0, 1]),
        d=np.zeros(5),
        distortion_model="plumb_bob",
        binning_x=0,
        binning_y=0,
        roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
        header=SimpleNamespace(frame_id="optical"),
    )
    return SimpleNamespace(**{**values, **changes})


@pytest.mark.parametrize("pad", [0, 1, 7])
@pytest.mark.parametrize(
    ("encoding", "channels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, RGB[..., 0]])),
        ("bgra8", np.dstack([RGB[..., ::-1], RGB[..., 0]])),
    ],
)
def test_channel_orders_and_padded_rows_give_the_same_image(encoding, channels, pad):
    assert np.array_equal(image_from_message(message(encoding, channels, pad=pad)), RGB)


def test_mono_repeats_its_channel():
    image = image_from_message(message("mono8", RGB[..., 0], pad=3))
    assert np.array_equal(image, np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    ("encoding", "order"),
    [
        ("yuyv", (0, 1, 0, 2)),
        ("yuv422_yuy2", (0, 1, 0, 2)),
        ("uyvy", (1, 0, 2, 0)),
        ("yuv422", (1, 0, 2, 0)),
    ],
)
def test_packed_yuv_of_one_colour(encoding, order):
    # BT.601 limited range: Y = 82, Cb = 90, Cr = 240 is pure red (255, 0, 0), to rounding.
    pixel_pair = np.array([82, 90, 240], np.uint8)[list(order)]
    image = image_from_message(message(encoding, np.tile(pixel_pair, (HEIGHT, WIDTH // 2)), pad=5))
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 2


def test_nv12_of_one_colour():
    luma = np.full((HEIGHT, WIDTH), 82, np.uint8)
    chroma = np.tile(np.array([90, 240], np.uint8), (HEIGHT // 2, WIDTH // 2))
    image = image_from_message(message("nv12", np.concatenate([luma, chroma]), pad=4))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_of_one_colour(pattern):
    colour = {"r": 200, "g": 120, "b": 40}
    cell = np.array([colour[c] for c in pattern], np.uint8).reshape(2, 2)
    mosaic = np.tile(cell, (HEIGHT // 2, WIDTH // 2))
    image = image_from_message(message(f"bayer_{pattern}8", mosaic))
    assert np.array_equal(image[4:-4, 4:-4], np.broadcast_to((200, 120, 40), (16, 24, 3)))


@pytest.mark.parametrize("pad", [0, 6])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("encoding", "kind", "stored"),
    [
        ("16UC1", "u2", [0, 1, 1234, 65535]),
        ("mono16", "u2", [0, 1, 1234, 65535]),
        ("32FC1", "f4", [np.nan, 0.001, 1.234, 65.535]),
        ("32FC1", "f4", [np.inf, 0.001, 1.234, 65.535]),
        ("32FC1", "f4", [-1.0, 0.001, 1.234, 65.535]),
    ],
)
def test_depth_is_metres_and_nan_where_unknown(encoding, kind, stored, big, pad):
    pixels = np.resize(stored, (HEIGHT, WIDTH)).astype(f"{'>' if big else '<'}{kind}")
    sent = message(encoding, pixels.view(np.uint8), pad=pad)
    sent.is_bigendian = big
    depth = depth_from_message(sent, WIDTH, HEIGHT)
    expected = np.resize(np.array([np.nan, 0.001, 1.234, 65.535], np.float32), (HEIGHT, WIDTH))
    assert depth.dtype == np.float32
    # One rounding of the factor or of the product, in single precision.
    np.testing.assert_allclose(depth, expected, rtol=2e-7)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"encoding": "8UC1"}, "depth encoding '8UC1' is not supported"),
        ({"width": WIDTH - 1}, "align depth to colour"),
        ({"step": WIDTH * 2 - 1}, "truncated"),
        ({"data": np.zeros(5, np.uint8)}, "truncated"),
    ],
)
def test_bad_depth_images_are_refused_in_one_line(change, complaint):
    bad = message("16UC1", np.ones((HEIGHT, WIDTH), np.uint16).view(np.uint8))
    bad.is_bigendian = 0
    vars(bad).update(change)
    with pytest.raises(ImageError, match=complaint) as caught:
        depth_from_message(bad, WIDTH, HEIGHT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"encoding": "32FC1"}, "encoding '32FC1' is not supported"),
        ({"step": WIDTH * 3 - 1}, "shorter than a row"),
        ({"data": RGB.reshape(-1)[:-1]}, "truncated"),
        ({"width": 1, "height": 1}, "too small"),
        ({"width": 0, "height": 0, "step": 0}, "too small"),
    ],
)
def test_bad_images_are_refused_in_one_line(change, complaint):
    bad = message("rgb8", RGB)
    vars(bad).update(change)
    with pytest.raises(ImageError, match=complaint) as caught:
        image_from_message(bad)
    assert "\n" not in str(caught.value)


def test_odd_sizes_are_refused_where_chroma_is_shared():
    bad = message("yuyv", np.zeros((HEIGHT, WIDTH * 2), np.uint8))
    bad.width = WIDTH - 1
    with pytest.raises(ImageError, match="even"):
        image_from_message(bad)


def test_png_is_lossless_and_truncated_jpeg_is_refused():
    _, png = cv2.imencode(".png", RGB[..., ::-1])
    read = image_from_compressed(SimpleNamespace(format="png", data=png.reshape(-1)))
    assert np.array_equal(read, RGB)
    _, jpeg = cv2.imencode(".jpg", RGB)
    with pytest.raises(ImageError, match="cut short"):
        image_from_compressed(SimpleNamespace(format="jpeg", data=jpeg.reshape(-1)[:-40]))


def test_camera_keeps_intrinsics_and_distortion():
    camera = camera_from_info(info(d=np.array([0.1, -0.2, 0.001, 0.002, 0.05])))
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500, 510, 320.5, 240.5)
    assert camera.distortion == (0.1, -0.2, 0.001, 0.002, 0.05)
    assert camera.distortion_model == "plumb_bob"
    assert camera.metric


@pytest.mark.parametrize(
    ("model", "d", "expected"),
    [
        ("plumb_bob", [0.0] * 5, ("", ())),
        ("inverse_brown_conrady", [0.0] * 5, ("", ())),
        ("", [], ("", ())),
        ("fisheye", [0.1, 0, 0, 0], ("equidistant", (0.1, 0, 0, 0))),
        ("rational_polynomial", [0.1] * 8 + [0.0] * 4, ("rational_polynomial", (0.1,) * 8)),
    ],
)
def test_distortion_spellings(model, d, expected):
    camera = camera_from_info(info(distortion_model=model, d=np.array(d)))
    assert (camera.distortion_model, camera.distortion) == expected


def test_region_and_binning_move_the_principal_point():
    region = SimpleNamespace(x_offset=100, y_offset=40, width=400, height=400)
    camera = camera_from_info(info(roi=region, binning_x=2, binning_y=2))
    assert (camera.width, camera.height) == (200, 200)
    assert (camera.fx, camera.fy) == (250, 255)
    # Centres of pixels: (320.5 - 100 + 0.5) / 2 - 0.5.
    assert (camera.cx, camera.cy) == (110, 100)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_uncalibrated_info_is_refused_and_the_last_good_one_kept(bad):
    calibrations = Calibrations()
    calibrations.update(info())
    k = info().k.copy()
    k[0] = bad
    with pytest.raises(CameraError, match="calibrate"):
        calibrations.update(info(k=k))
    assert calibrations.camera_of("optical", 640, 480).fx == 500


def test_latest_calibration_counts_per_frame():
    calibrations = Calibrations()
    assert not calibrations
    assert calibrations.update(info()) == camera_from_info(info())
    assert calibrations.update(info()) is None  # nothing new
    calibrations.update(info(k=info().k * 2, header=SimpleNamespace(frame_id="other")))
    calibrations.update(info(k=info().k * 3))
    assert calibrations.camera_of("optical", 640, 480).fx == 1500
    assert calibrations.camera_of("other", 640, 480).fx == 1000


def test_camera_of_another_frame_or_size_is_refused():
    calibrations = Calibrations()
    calibrations.update(info())
    with pytest.raises(CameraError, match="'depth'.*'optical'"):
        calibrations.camera_of("depth", 640, 480)
    with pytest.raises(CameraError, match="320x240.*640x480"):
        calibrations.camera_of("optical", 320, 240)


def test_a_rectified_image_has_the_intrinsics_of_p_and_no_distortion():
    camera = camera_from_info(info(d=np.array([0.1, 0.0, 0.0, 0.0, 0.0])), rectified=True)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (480.0, 490.0, 318.0, 238.0)
    assert camera.distortion == ()
