"""sensor_msgs Image, CompressedImage and CameraInfo to and from RGB arrays and Cameras.

What reads a message reads its attributes only, so rclpy's and any others with the same fields do.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from hand_perception.errors import CameraError, ImageError
from hand_perception.hands import Camera
from hand_perception.imaging import MIN_IMAGE_SIDE, decode_image
from hand_perception.messages import MessageTypes

# Encoding: bytes per pixel in a row of `step` bytes, and the conversion to RGB (None: is RGB).
_INTERLEAVED = {
    "rgb8": (3, None),
    "8UC3": (3, cv2.COLOR_BGR2RGB),  # OpenCV's own order
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUYV),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUYV),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "bayer_rggb8": (1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGRBG2RGB),
}
# A full-size luma plane above a half-height plane of interleaved chroma, same step.
_SEMI_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
_EVEN_WIDTH = ("yuyv", "yuv422_yuy2", "uyvy", "yuv422", *_SEMI_PLANAR)


def image_from_message(message: Any) -> np.ndarray:
    """sensor_msgs/Image to RGB uint8 [height, width, 3]; rows may be padded (``step``).

    An ``rgb8`` image is a view of the message's data. Raises ImageError on an unknown encoding,
    an image that is too small, a step shorter than a row or data shorter than the image.
    """
    encoding, width, height = message.encoding, message.width, message.height
    interleaved = _INTERLEAVED.get(encoding)
    if interleaved is None and encoding not in _SEMI_PLANAR:
        known = ", ".join((*_INTERLEAVED, *_SEMI_PLANAR))
        raise ImageError(f"image encoding {encoding!r} is not supported, use one of: {known}")
    _check_size(width, height)
    pixel_bytes, conversion = interleaved or (1, _SEMI_PLANAR[encoding])
    rows = height if interleaved else height + height // 2
    if encoding in _EVEN_WIDTH and (width % 2 or (not interleaved and height % 2)):
        raise ImageError(f"a {encoding} image needs an even size, got {width}x{height}")
    if message.step < width * pixel_bytes:
        raise ImageError(
            f"image step {message.step} is shorter than a row of {width} {encoding} pixels "
            f"({width * pixel_bytes} bytes): correct the camera driver"
        )
    data = np.frombuffer(message.data, np.uint8)
    if data.size < message.step * rows:
        raise ImageError(
            f"image data has {data.size} bytes, {message.step * rows} expected (step "
            f"{message.step} x {rows} rows): the image was truncated"
        )
    image = data[: message.step * rows].reshape(rows, message.step)[:, : width * pixel_bytes]
    if pixel_bytes > 1:
        image = image.reshape(rows, width, pixel_bytes)
    return image if conversion is None else cv2.cvtColor(np.ascontiguousarray(image), conversion)


def image_from_compressed(message: Any) -> np.ndarray:
    """sensor_msgs/CompressedImage (JPEG, PNG, WebP) to RGB uint8 [height, width, 3].

    Raises ImageError on other formats, on truncated or corrupt data and on tiny images.
    """
    return decode_image(bytes(message.data))


# Depth encoding: type of a pixel, and metres per unit.
_DEPTH = {"16UC1": ("u2", 0.001), "mono16": ("u2", 0.001), "32FC1": ("f4", 1.0)}


def depth_from_message(message: Any, width: int, height: int) -> np.ndarray:
    """sensor_msgs/Image of depths (REP-118) to float32 [height, width] metres, NaN where unknown.

    width, height: of the colour image that it must be aligned with. 16UC1 counts millimetres with 0
    for unknown, 32FC1 metres with NaN, infinity or 0. Raises ImageError on another encoding or
    size, a step shorter than a row or data shorter than the image.
    """
    kind = _DEPTH.get(message.encoding)
    if kind is None:
        known = ", ".join(_DEPTH)
        raise ImageError(
            f"depth encoding {message.encoding!r} is not supported, use one of: {known}"
        )
    if (message.width, message.height) != (width, height):
        raise ImageError(
            f"the depth image has {message.width}x{message.height} pixels, the colour image "
            f"{width}x{height}: let the camera driver align depth to colour"
        )
    pixel = np.dtype(kind[0]).newbyteorder(">" if message.is_bigendian else "<")
    row_bytes = width * pixel.itemsize
    data = np.frombuffer(message.data, np.uint8)
    if message.step < row_bytes or data.size < message.step * height:
        raise ImageError(
            f"depth image of {width}x{height} {message.encoding} has step {message.step} and "
            f"{data.size} bytes, at least {row_bytes} and {row_bytes * height} expected: the image "
            "was truncated"
        )
    rows = data[: message.step * height].reshape(height, message.step)[:, :row_bytes]
    depth = np.ascontiguousarray(rows).view(pixel).astype(np.float32)
    depth *= np.float32(kind[1])
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_IMAGE_SIDE:
        raise ImageError(
            f"image of {width}x{height} pixels is too small, "
            f"at least {MIN_IMAGE_SIDE}x{MIN_IMAGE_SIDE} are needed"
        )


def camera_from_info(info: Any, rectified: bool = False) -> Camera:
    """sensor_msgs/CameraInfo to the Camera of the image it is published with.

    rectified: the image went through image_proc: its intrinsics are those of P, not of K, and it
    has no distortion. Region of interest and binning are applied, as ROS gives both matrices for
    the full sensor.
    Raises CameraError on K with zeros or NaN, on an unknown distortion model and on a wrong number
    of coefficients.
    """
    matrix, places = (info.p, (0, 5, 2, 6)) if rectified else (info.k, (0, 4, 2, 5))
    fx, fy, cx, cy = (float(matrix[i]) for i in places)
    if fx == 0 or not all(map(math.isfinite, (fx, fy, cx, cy))):
        raise CameraError(
            f"CameraInfo holds no calibration (fx={fx}, fy={fy}, cx={cx}, cy={cy}): "
            "calibrate the camera or do not publish its CameraInfo"
        )
    width, height = info.width, info.height
    roi = info.roi
    if roi.width and roi.height:
        width, height = roi.width, roi.height
        cx, cy = cx - roi.x_offset, cy - roi.y_offset
    model, distortion = ("", ()) if rectified else _distortion(info)
    camera = Camera(fx, fy, cx, cy, width, height, distortion, model)
    bins_x, bins_y = max(info.binning_x, 1), max(info.binning_y, 1)
    return camera.resized(width // bins_x, height // bins_y)


def _distortion(info: Any) -> tuple[str, tuple[float, ...]]:
    coefficients = [float(value) for value in info.d]
    if not any(coefficients):  # rectified image or an ideal lens, whatever the model's name
        return "", ()
    model = {"fisheye": "equidistant"}.get(info.distortion_model, info.distortion_model)
    length = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}.get(model)
    if length and not any(coefficients[length:]):  # thin prism terms, present but zero
        coefficients = coefficients[:length]
    return model, tuple(coefficients)


class Calibrations:
    """The latest usable CameraInfo of each frame, and which camera took an image.

    Not locked: assignment and look-up of one dictionary entry are atomic in Python.
    """

    def __init__(self, rectified: bool = False) -> None:
        self._rectified = rectified
        self._cameras: dict[str, Camera] = {}
        self._messages: dict[str, Any] = {}

    def update(self, info: Any) -> Camera | None:
        """Take a CameraInfo; returns its camera where that is new.

        Raises CameraError and keeps the last good one.
        """
        frame = info.header.frame_id
        last = self._messages.get(frame)
        # Drivers repeat the calibration with every image: only a changed one is parsed.
        if last is not None and _same_calibration(last, info):
            return None
        self._cameras[frame] = camera_from_info(info, self._rectified)
        self._messages[frame] = info
        return self._cameras[frame]

    def __bool__(self) -> bool:
        return bool(self._cameras)

    def camera_of(self, frame: str, width: int, height: int) -> Camera:
        """The camera of an image. Raises CameraError when the CameraInfo seen belongs to another
        frame or another image size."""
        camera = self._cameras.get(frame)
        if camera is None:
            frames = ", ".join(repr(name) for name in self._cameras)
            raise CameraError(
                f"the image is in frame {frame!r}, the CameraInfo in {frames}: "
                "check that camera_info belongs to the image topic"
            )
        if (camera.width, camera.height) != (width, height):
            raise CameraError(
                f"the image has {width}x{height} pixels, its CameraInfo says "
                f"{camera.width}x{camera.height}: check that both come from the same camera mode"
            )
        return camera


def _same_calibration(a: Any, b: Any) -> bool:
    def scalars(info: Any) -> tuple:
        roi = info.roi
        region = (roi.x_offset, roi.y_offset, roi.width, roi.height)
        size = (info.width, info.height, info.binning_x, info.binning_y)
        return (*size, *region, info.distortion_model)

    arrays = ((a.k, b.k), (a.d, b.d), (a.p, b.p))
    return scalars(a) == scalars(b) and all(np.array_equal(x, y) for x, y in arrays)


# -- what a camera sends --------------------------------------------------------------------------


def depth_message(types: MessageTypes, header: Any, depth: np.ndarray) -> Any:
    """sensor_msgs/Image of [H, W]: uint16 millimetres as 16UC1, float32 metres as 32FC1."""
    encoding = {np.dtype(np.uint16): "16UC1", np.dtype(np.float32): "32FC1"}[depth.dtype]
    return _image(types, header, depth, encoding)


def image_message(types: MessageTypes, header: Any, rgb: np.ndarray) -> Any:
    """sensor_msgs/Image, rgb8, of uint8 [H, W, 3]."""
    return _image(types, header, rgb, "rgb8")


def _image(types: MessageTypes, header: Any, pixels: np.ndarray, encoding: str) -> Any:
    data = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
    height, width = pixels.shape[:2]
    return types.make(
        "sensor_msgs/msg/Image",
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=data.size // height,
        data=types.sequence(data),
    )


def compressed_message(types: MessageTypes, header: Any, data: bytes, format: str) -> Any:
    """sensor_msgs/CompressedImage of an encoded picture."""
    data = types.sequence(np.frombuffer(data, np.uint8))
    return types.make("sensor_msgs/msg/CompressedImage", header=header, format=format, data=data)


def camera_info_message(types: MessageTypes, header: Any, camera: Camera) -> Any:
    """sensor_msgs/CameraInfo of an unrectified camera."""
    projection = np.concatenate([camera.matrix, np.zeros((3, 1))], axis=1)
    return types.make(
        "sensor_msgs/msg/CameraInfo",
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model or "plumb_bob",
        d=types.sequence(np.array(camera.distortion or [0.0] * 5, np.float64)),
        k=camera.matrix.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=projection.reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=types.make(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        ),
    )
