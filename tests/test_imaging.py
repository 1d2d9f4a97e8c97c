from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hand_perception import imaging
from hand_perception.errors import ImageError
from hand_perception.hands import Camera


def scene(height: int = 120, width: int = 160) -> np.ndarray:
    """A smooth picture with a gradient of its own in each channel."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8)


sides = st.integers(16, 3000)


@given(sides, sides, st.sampled_from([(320, 320), (256, 192), (480, 640)]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_letterbox_maps_back_exactly(width, height, size):
    fit = imaging.Letterbox.fit(width, height, size)
    points = np.array([[0, 0], [width - 1, height - 1], [-5.5, 7.25], [width / 2, height / 3]])
    np.testing.assert_allclose(
        fit.points_to_image(fit.points_to_network(points)), points, atol=1e-9
    )
    boxes = points.reshape(2, 4)
    np.testing.assert_allclose(fit.boxes_to_image(fit.boxes_to_network(boxes)), boxes, atol=1e-9)
    np.testing.assert_array_equal(
        fit.boxes_to_network(boxes).reshape(4, 2), fit.points_to_network(points)
    )


def test_a_window_lies_in_the_canvas_as_an_image_of_its_own():
    window = (40, 10, 120, 100)
    own = imaging.Letterbox.fit(80, 90, (256, 256))
    fit = imaging.Letterbox.of_window(160, 120, window, (256, 256))
    points = np.array([[40.0, 10], [119, 99], [-3, 200]])
    np.testing.assert_allclose(
        fit.points_to_network(points), own.points_to_network(points - (40, 10)), atol=1e-9
    )
    np.testing.assert_allclose(
        fit.points_to_image(fit.points_to_network(points)), points, atol=1e-9
    )
    assert (fit.width, fit.height) == (160, 120)


def test_a_window_is_a_part_of_the_image():
    image = scene()
    inside = imaging.in_window(image, (40, 10, 120, 100), 256)
    np.testing.assert_array_equal(inside, image[10:100, 40:120])
    assert inside.flags.c_contiguous


def test_beyond_the_image_a_window_shows_grey():
    image = scene()
    window = (-40, -30, 216, 226)
    around = imaging.in_window(image, window, 128)
    assert around.shape == (128, 128, 3)
    grey = imaging.letterbox(image, (256, 256))[0][-1, -1]
    fit = imaging.Letterbox.of_window(160, 120, window, (128, 128))
    rows, columns = np.mgrid[:128, :128]
    x, y = fit.points_to_image(np.stack([columns, rows], -1)).transpose(2, 0, 1)
    beyond = (x < -2) | (y < -2) | (x > 161) | (y > 121)
    assert (around[beyond] == grey).all()
    # The letterbox of what is seen leaves it as it is.
    np.testing.assert_array_equal(imaging.letterbox(around, (128, 128))[0], around)
    # The scene rises by 255 / 160 and 255 / 120 a pixel, in whole steps: one, and one of rounding.
    inside = (x > 3) & (y > 3) & (x < 156) & (y < 116)
    assert np.abs(around[..., 0] - x * 255 / 160)[inside].max() < 2.2
    assert np.abs(around[..., 1] - y * 255 / 120)[inside].max() < 2.2


@given(sides, sides)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_letterbox_fills_one_side_and_keeps_the_aspect(width, height):
    fit = imaging.Letterbox.fit(width, height, (320, 320))
    inner = fit.inner_size
    assert max(inner) == 320 and min(inner) >= 1
    # The shorter side is rounded to whole pixels: half a pixel off at most, unless it would vanish.
    exact = min(width, height) * 320 / max(width, height)
    assert abs(min(inner) - exact) <= max(0.5, 1 - exact)


def test_letterbox_agrees_with_the_resized_camera():
    camera = Camera(600.0, 605.0, 641.0, 362.0, 1280, 720)
    fit = imaging.Letterbox.fit(1280, 720, (320, 320))
    small = camera.resized(*fit.inner_size)
    np.testing.assert_allclose(
        fit.points_to_network([camera.cx, camera.cy]), (small.cx, small.cy), atol=1e-9
    )


@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (60, 80)])
def test_canvas_shows_a_point_where_the_map_says(shape):
    # A blurred dot: its centre of gravity survives resampling in either direction.
    y, x = np.mgrid[: shape[0], : shape[1]]
    centre = np.array([shape[1] * 0.3, shape[0] * 0.7])
    sigma = max(shape) / 30
    dot = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 2 / sigma**2)
    canvas, fit = imaging.letterbox(np.repeat(dot[..., None], 3, -1).astype(np.uint8), (320, 320))
    width, height = fit.inner_size
    mass = canvas[:height, :width, 0].astype(float)
    v, u = np.mgrid[:height, :width]
    found = np.array([(u * mass).sum(), (v * mass).sum()]) / mass.sum()
    # Rounding to uint8 hits all sides of the dot alike; a convention half a pixel off would show
    # as 0.25 to 1.5 px.
    np.testing.assert_allclose(found, fit.points_to_network(centre), atol=0.05)


def test_padding_is_grey_and_on_the_right_or_below():
    canvas, _ = imaging.letterbox(np.zeros((100, 200, 3), np.uint8), (320, 320))
    assert (canvas[:160] == 0).all() and (canvas[160:] == 114).all()
    canvas, _ = imaging.letterbox(np.zeros((200, 100, 3), np.uint8), (320, 320))
    assert (canvas[:, :160] == 0).all() and (canvas[:, 160:] == 114).all()


def test_normalise_by_channel():
    canvas = scene(32, 48)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensor = imaging.normalise(canvas, mean, std)
    assert tensor.shape == (1, 3, 32, 48) and tensor.dtype == np.float32
    expected = ((canvas / 255 - mean) / std).transpose(2, 0, 1)[None]
    # Four roundings to float32 (gain, offset, product, difference) of values up to 5.
    np.testing.assert_allclose(tensor, expected, atol=4 * 5 * 2.0**-24)


@pytest.mark.parametrize(
    "image",
    [np.zeros((64, 64, 3)), np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8)],
    ids=["float", "grey", "alpha"],
)
def test_wrong_arrays_are_refused(image):
    with pytest.raises(ImageError, match="RGB"):
        imaging.letterbox(image, (320, 320))


def test_tiny_images_are_refused():
    with pytest.raises(ImageError, match="too small"):
        imaging.letterbox(np.zeros((15, 400, 3), np.uint8), (320, 320))
    imaging.letterbox(np.zeros((16, 400, 3), np.uint8), (320, 320))


def encoded(extension: str, *parameters: int) -> bytes:
    bgr = cv2.cvtColor(scene(), cv2.COLOR_RGB2BGR)
    return cv2.imencode(extension, bgr, list(parameters))[1].tobytes()


FORMATS = {
    "jpeg": encoded(".jpg"),
    "progressive": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "png": encoded(".png"),
    "webp": encoded(".webp"),
    "bmp": encoded(".bmp"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_reads_rgb(name, tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(FORMATS[name])
    image = imaging.read_image(path)
    # The two smooth channels survive lossy coding to a few levels; swapped channels would not.
    assert np.abs(image[..., :2].astype(int) - scene()[..., :2]).mean() < 8


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.95, 0.99])
def test_truncated_files_are_errors(name, kept, tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(FORMATS[name][: int(len(FORMATS[name]) * kept)])
    with pytest.raises(ImageError, match="picture: .*(cut short|corrupt)"):
        imaging.read_image(path)


def test_end_of_a_thumbnail_is_not_the_end_of_the_jpeg():
    thumbnail = b"Exif\0\0" + FORMATS["jpeg"][:500] + b"\xff\xd9"
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = FORMATS["jpeg"][:2] + segment + FORMATS["jpeg"][2:]
    assert imaging.decode_image(whole).shape == (120, 160, 3)
    with pytest.raises(ImageError, match="cut short"):
        imaging.decode_image(whole[: len(whole) // 2])


def test_trailers_behind_the_picture_are_allowed():
    assert imaging.decode_image(FORMATS["jpeg"] + b"SEFT" * 30).shape == (120, 160, 3)


@pytest.mark.parametrize(
    ("content", "cure"),
    [(b"", "empty"), (b"not an image at all", "JPEG"), (b"\xff\xd8\xff\xd9", "cut short")],
)
def test_files_that_are_no_images(content, cure, tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=cure) as caught:
        imaging.read_image(path)
    assert "\n" not in str(caught.value)


def test_missing_file_names_the_path(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png.*check the path"):
        imaging.read_image(tmp_path / "gone.png")


def test_header_that_claims_a_huge_picture_is_an_error():
    png = bytearray(FORMATS["png"])
    png[16:24] = (200_000).to_bytes(4, "big") * 2
    with pytest.raises(ImageError):
        imaging.decode_image(bytes(png))


# -- crops ------------------------------------------------------------------------------------


def test_a_crop_is_the_square_about_its_box():
    crop = imaging.Crop.around(np.array([20.0, 30, 60, 50]), 1.5, 120)
    # 40 pixels times 1.5; the centre stays, and pixel centres are half a pixel in.
    assert crop.size / crop.scale == pytest.approx(60)
    np.testing.assert_allclose(crop.centre, [40, 40])
    corners = crop.points_to_image(np.array([[0.0, 0.0], [1, 1], [0.5, 0.5]]))
    np.testing.assert_allclose(corners, [[10, 10], [70, 70], [40, 40]])
    # A box of no size is a pixel.
    assert imaging.Crop.around(np.array([5.0, 5, 5, 5]), 1.3, 64).scale == 64


@pytest.mark.parametrize("side, size", [(40, 128), (60, 60), (100, 64), (110, 16)])
def test_a_crop_shows_a_point_where_its_map_says(side, size):
    image = scene(120, 160)[..., :2]
    image = np.dstack([image, np.zeros_like(image[..., 0])])
    crop = imaging.Crop.around(
        np.array([75.3 - side / 2, 60 - side / 2, 75.3 + side / 2, 60]), 1.0, size
    )
    cut = crop.cut(image).astype(float)
    assert cut.shape == (size, size, 3)
    centres = (np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1) + 0.5) / size
    x, y = np.moveaxis(crop.points_to_image(centres), -1, 0)
    # Away from the borders, where grey mixes in; larger pixels see further.
    reach = 2 + 2 * side / size
    inside = (x > reach) & (x < 159 - reach) & (y > reach) & (y < 119 - reach)
    assert inside.sum() > size
    # The scene rises by 255 / 160 and 255 / 120 a pixel, in whole steps: one, and one of rounding.
    assert np.abs(cut[..., 0] - x * 255 / 160)[inside].max() < 2.2
    assert np.abs(cut[..., 1] - y * 255 / 120)[inside].max() < 2.2


def test_what_lies_outside_of_the_image_is_grey():
    image = np.full((50, 60, 3), 200, np.uint8)
    beside = imaging.Crop.around(np.array([500.0, 500, 540, 540]), 1.3, 32).cut(image)
    assert (beside == beside[0, 0, 0]).all() and 100 < beside[0, 0, 0] < 130
    over = imaging.Crop.around(np.array([-20.0, 10, 20, 50]), 1.0, 40).cut(image)
    assert (over[:, :18] == beside[0, 0, 0]).all() and (over[:18, 22:] == 200).all()
    before = imaging.Crop.around(np.array([-90.0, -90, -50, -50]), 1.0, 16).cut(image)
    assert (before == beside[0, 0, 0]).all()
