"""Which topics of a recording are the camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hand_perception.bags.reader import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, Topic
from hand_perception.errors import DataError

# Images that are no colour pictures, by what drivers put into their names.
_OTHER_KINDS = ("depth", "infra", "disparity", "confidence", "mask", "hands/")
_COMPRESSED = "/compressed"


@dataclass(frozen=True)
class CameraTopics:
    """info: None where the recording has none that belongs to the images."""

    image: Topic
    info: Topic | None

    @property
    def compressed(self) -> bool:
        return self.image.type_name == COMPRESSED_IMAGE


def choose_topics(
    topics: Sequence[Topic], image: str | None = None, info: str | None = None
) -> CameraTopics:
    """The camera's topics, as named or found by type, name and what belongs together.

    Raises DataError when a named topic is not there or is no image, and when there is no image or
    more than one camera to choose from; the message lists them.
    """
    images = [t for t in topics if t.type_name in (IMAGE, COMPRESSED_IMAGE) and t.count]
    if image is not None:
        chosen = named_topic(images, image, "image")
    else:
        chosen = _only_camera(images, topics)
    infos = [t for t in topics if t.type_name == CAMERA_INFO and t.count]
    if info is not None:
        return CameraTopics(chosen, named_topic(infos, info, "CameraInfo"))
    return CameraTopics(chosen, _info_of(chosen, infos))


def named_topic(topics: Sequence[Topic], name: str, kind: str) -> Topic:
    """The topic of that name. Raises DataError, listing what there is."""
    absolute = f"/{name.lstrip('/')}"
    found = next((topic for topic in topics if topic.name == absolute), None)
    if found is None:
        there = ", ".join(sorted(t.name for t in topics)) or "none"
        raise DataError(f"no {kind} topic {absolute} in the recording, there are: {there}")
    return found


def _only_camera(images: Sequence[Topic], topics: Sequence[Topic]) -> Topic:
    pictures = [t for t in images if not any(kind in t.name for kind in _OTHER_KINDS)]
    if not pictures:
        raise DataError(
            "the recording has no colour images "
            f"({', '.join(sorted(t.name for t in images)) or 'no images at all'}): "
            "name one with --image"
        )
    # One camera in several transports: raw pixels first, they have lost nothing.
    cameras: dict[str, Topic] = {}
    for topic in sorted(pictures, key=lambda t: t.type_name != IMAGE):
        cameras.setdefault(_base(topic), topic)
    if len(cameras) > 1:
        # Drivers publish a CameraInfo with what the camera saw, others rarely do.
        infos = [t for t in topics if t.type_name == CAMERA_INFO]
        with_info = {base: t for base, t in cameras.items() if _sibling(t, infos)}
        cameras = with_info or cameras
    if len(cameras) > 1:
        names = ", ".join(sorted(topic.name for topic in cameras.values()))
        raise DataError(f"the recording has several cameras: choose with --image, of {names}")
    return next(iter(cameras.values()))


def _base(topic: Topic) -> str:
    """image_transport's base topic: that of the raw images."""
    return topic.name.removesuffix(_COMPRESSED)


def _sibling(image: Topic, infos: Sequence[Topic]) -> Topic | None:
    """image_transport's rule: camera_info beside the base topic."""
    folder = _base(image).rpartition("/")[0]
    return next((topic for topic in infos if topic.name == f"{folder}/camera_info"), None)


def _info_of(image: Topic, infos: Sequence[Topic]) -> Topic | None:
    sibling = _sibling(image, infos)
    if sibling is None and len(infos) == 1:
        return infos[0]
    return sibling
