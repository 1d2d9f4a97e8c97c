"""What a node says over DDS, brought together by stamp and shown on the page."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hand_perception.dds.participant import BEST_EFFORT, LATCHED, RELIABLE, Participant
from hand_perception.errors import HandPerceptionError
from hand_perception.frames import camera_from_info, image_from_compressed, image_from_message
from hand_perception.hands import Camera
from hand_perception.messages import hands_of, nanoseconds_of
from hand_perception.topics import DIAGNOSTICS, KEYPOINTS, MESH, TOPOLOGY
from hand_perception.viewer.page import HandPage

log = logging.getLogger(__name__)

_ROOM = 32  # images kept until their hands come
_DEPTH = 8  # messages a topic may be ahead
_INFO_TYPE = "sensor_msgs/msg/CameraInfo"


@dataclass(frozen=True)
class _Result:
    """Both messages of one image; the image itself where it was received."""

    stamp_ns: int
    mesh: Any
    keypoints: Any
    image: Any | None


class Feed:
    """Shows the newest result, as fast as the page takes them. Use as a context manager.

    image, info: the topics that the node reads, without "/compressed". compressed: as the node's
    parameter of that name.
    """

    def __init__(
        self,
        participant: Participant,
        page: HandPage,
        *,
        image: str = "image",
        info: str = "camera_info",
        compressed: bool = False,
    ) -> None:
        self._page = page
        self._read = image_from_compressed if compressed else image_from_message
        self._camera: Camera | None = None
        self._faces: np.ndarray | None = None
        self._images: OrderedDict[int, Any] = OrderedDict()
        self._halves: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._changed = threading.Condition()
        self._newest: _Result | None = None
        self._closing = False
        topic, kind = (f"{image}/compressed", "CompressedImage") if compressed else (image, "Image")
        subscribe = participant.subscribe
        subscribe(info, _INFO_TYPE, self._on_info, BEST_EFFORT)
        subscribe(topic, f"sensor_msgs/msg/{kind}", self._on_image, BEST_EFFORT, _DEPTH)
        subscribe(TOPOLOGY.topic, TOPOLOGY.type_name, self._on_topology, LATCHED)
        for name, output in (("mesh", MESH), ("keypoints", KEYPOINTS)):
            half = partial(self._on_half, name)
            subscribe(output.topic, output.type_name, half, RELIABLE, _DEPTH)
        subscribe(DIAGNOSTICS.topic, DIAGNOSTICS.type_name, self._on_diagnostics, RELIABLE)
        self._thread = threading.Thread(target=self._run, name="viewer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- in the participant's thread ---------------------------------------------------------

    def _on_info(self, message: Any, *_: object) -> None:
        self._camera = camera_from_info(message)

    def _on_topology(self, message: Any, *_: object) -> None:
        self._faces = np.reshape(message.triangles, (-1, 3)).astype(np.int32)

    def _on_image(self, message: Any, *_: object) -> None:
        _keep(self._images, nanoseconds_of(message.header.stamp), message)

    def _on_half(self, name: str, message: Any, *_: object) -> None:
        stamp_ns = nanoseconds_of(message.header.stamp)
        halves = self._halves.get(stamp_ns, {})
        halves[name] = message
        _keep(self._halves, stamp_ns, halves)
        if len(halves) == 2:
            del self._halves[stamp_ns]
            result = _Result(stamp_ns, image=self._images.get(stamp_ns), **halves)
            with self._changed:
                self._newest = result
                self._changed.notify()

    def _on_diagnostics(self, message: Any, *_: object) -> None:
        self._page.note("  \n".join(f"{s.name}: {s.message}" for s in message.status))

    # -- in a thread of its own: drawing must not hold messages up ----------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._newest is not None)
                if self._closing:
                    return
                result, self._newest = self._newest, None
            try:
                self._show(result)
            except Exception:  # one bad message must not end the page
                log.exception("a result could not be shown")

    def _show(self, result: _Result) -> None:
        if self._faces is None:
            return  # the latched topology is on its way
        image = self._decoded(result.image)
        camera = self._camera
        if camera is None:
            height, width = image.shape[:2] if image is not None else (480, 640)
            camera = Camera.assumed(width, height)
        if image is not None and image.shape[:2] != (camera.height, camera.width):
            image = None  # the hands are the node's business, the picture is another camera's
        hands = hands_of(result.mesh, result.keypoints)
        latency_ms = (time.time_ns() - result.stamp_ns) / 1e6
        self._page.show(image, camera, hands, self._faces, result.stamp_ns / 1e9, latency_ms)

    def _decoded(self, message: Any | None) -> np.ndarray | None:
        if message is None:
            return None
        try:
            return self._read(message)
        except HandPerceptionError as error:
            log.warning("%s", error)
            return None


def _keep(store: OrderedDict[int, Any], stamp_ns: int, value: Any) -> None:
    store[stamp_ns] = value
    while len(store) > _ROOM:
        store.popitem(last=False)
