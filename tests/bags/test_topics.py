from __future__ import annotations

import pytest

pytest.importorskip("rosbags", reason="needs the bag extra")

from hand_perception.bags.reader import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, Topic
from hand_perception.bags.topics import choose_topics
from hand_perception.errors import DataError


def topics(*names: str) -> list[Topic]:
    """By their names: camera_info, .../compressed, images; others are no images."""
    kinds = {"camera_info": CAMERA_INFO, "compressed": COMPRESSED_IMAGE, "tf": "tf2_msgs/msg/TF"}
    return [Topic(n, kinds.get(n.rpartition("/")[2], IMAGE), count=5) for n in names]


@pytest.mark.parametrize(
    ("names", "image", "info"),
    [
        (("/camera/image_raw", "/camera/camera_info"), "/camera/image_raw", "/camera/camera_info"),
        (
            # RealSense: colour and aligned depth of one camera
            (
                "/camera/camera/aligned_depth_to_color/image_raw",
                "/camera/camera/aligned_depth_to_color/camera_info",
                "/camera/camera/color/image_raw",
                "/camera/camera/color/camera_info",
                "/camera/camera/infra1/image_rect_raw",
                "/tf",
            ),
            "/camera/camera/color/image_raw",
            "/camera/camera/color/camera_info",
        ),
        (
            # both transports: the raw one
            ("/cam/image_raw/compressed", "/cam/image_raw", "/cam/camera_info"),
            "/cam/image_raw",
            "/cam/camera_info",
        ),
        (
            ("/image/compressed", "/camera_info"),
            "/image/compressed",
            "/camera_info",
        ),
        (
            # a debug picture has no CameraInfo beside it, the camera has
            ("/detector/debug", "/cam/image_raw", "/cam/camera_info"),
            "/cam/image_raw",
            "/cam/camera_info",
        ),
        (("/video", "/other/camera_info"), "/video", "/other/camera_info"),
        (("/video",), "/video", None),
        (("/hands/overlay", "/video"), "/video", None),
    ],
)
def test_the_camera_is_found(names, image, info):
    chosen = choose_topics(topics(*names))
    assert chosen.image.name == image
    assert (chosen.info.name if chosen.info else None) == info
    assert chosen.compressed == image.endswith("/compressed")


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (("/tf",), "no colour images .no images at all."),
        (("/depth/image",), "no colour images ./depth/image."),
        (("/left/image", "/right/image"), "--image, of /left/image, /right/image"),
    ],
)
def test_what_cannot_be_guessed_is_asked_for(names, complaint):
    with pytest.raises(DataError, match=complaint):
        choose_topics(topics(*names))


def test_named_topics_win():
    recorded = topics("/left/image", "/left/camera_info", "/right/image", "/right/camera_info")
    chosen = choose_topics(recorded, image="right/image")
    assert (chosen.image.name, chosen.info.name) == ("/right/image", "/right/camera_info")
    chosen = choose_topics(recorded, "/right/image", "/left/camera_info")
    assert chosen.info.name == "/left/camera_info"


def test_a_named_topic_must_be_there():
    with pytest.raises(DataError, match="no image topic /front/image .* there are: /left/image"):
        choose_topics(topics("/left/image"), image="/front/image")
    with pytest.raises(DataError, match="no CameraInfo topic /x"):
        choose_topics(topics("/left/image"), info="/x")
