"""The demo's ears: what camera and node say, recorded and brought together by stamp."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from hand_perception.bags.writer import BagWriter
from hand_perception.dds.participant import BEST_EFFORT, LATCHED, RELIABLE, Participant
from hand_perception.frames import camera_from_info
from hand_perception.hands import Camera, Hand
from hand_perception.messages import hands_of, nanoseconds_of
from hand_perception.topics import DIAGNOSTICS, KEYPOINTS, MESH, TF, TOPOLOGY

_IMAGE = ("/image/compressed", "sensor_msgs/msg/CompressedImage")
_INFO = ("/camera_info", "sensor_msgs/msg/CameraInfo")
_ROOM = 64  # messages kept while the listener draws


@dataclass(frozen=True)
class Result:
    """The hands of one picture. index: its number, from 0."""

    index: int
    hands: list[Hand]


@dataclass(frozen=True)
class Picture:
    """A CompressedImage and the camera it was taken with. index: its number, from 0."""

    index: int
    stamp_ns: int
    message: Any
    camera: Camera | None


class Listener:
    """Records all messages; brings meshes and keypoints together by their stamp."""

    def __init__(self, participant: Participant, bag: BagWriter) -> None:
        self.events: queue.SimpleQueue[Picture | Result] = queue.SimpleQueue()
        self.topology: Any = None
        self.node_ready = threading.Event()
        self.pictures = 0
        self.results: list[Result] = []
        self.diagnostics: dict[str, str] = {}
        self._bag = bag
        self._camera: Camera | None = None
        self._index: dict[int, int] = {}
        self._halves: dict[int, dict[str, Any]] = {}
        subscribe = partial(self._subscribe, participant)
        subscribe(*_INFO, self._on_info, BEST_EFFORT)
        subscribe(*_IMAGE, self._on_picture, RELIABLE)
        subscribe(TOPOLOGY.topic, TOPOLOGY.type_name, self._on_topology, LATCHED)
        subscribe(MESH.topic, MESH.type_name, partial(self._on_half, "mesh"), RELIABLE)
        subscribe(
            KEYPOINTS.topic, KEYPOINTS.type_name, partial(self._on_half, "keypoints"), RELIABLE
        )
        subscribe(TF.topic, TF.type_name, lambda message: None, RELIABLE)
        subscribe(DIAGNOSTICS.topic, DIAGNOSTICS.type_name, self._on_diagnostics, RELIABLE)

    def _subscribe(
        self,
        participant: Participant,
        topic: str,
        type_name: str,
        handle: Callable[[Any], None],
        qos: tuple,
    ) -> None:
        name = f"/{topic.lstrip('/')}"

        def callback(message: Any, cdr: bytes, stamp_ns: int) -> None:
            self._bag.write(name, type_name, cdr, time.time_ns(), latched=qos is LATCHED)
            handle(message)

        participant.subscribe(topic, type_name, callback, qos, depth=_ROOM)

    def _on_info(self, message: Any) -> None:
        self._camera = camera_from_info(message)

    def _on_picture(self, message: Any) -> None:
        stamp = nanoseconds_of(message.header.stamp)
        self._index[stamp] = self.pictures
        self.events.put(Picture(self.pictures, stamp, message, self._camera))
        self.pictures += 1
        self._complete(stamp)

    def _on_topology(self, message: Any) -> None:
        self.topology = message
        self.node_ready.set()

    def _on_half(self, name: str, message: Any) -> None:
        stamp = nanoseconds_of(message.header.stamp)
        self._halves.setdefault(stamp, {})[name] = message
        self._complete(stamp)

    def _complete(self, stamp: int) -> None:
        """Topics may overtake each other, a picture sent anew even the hands found in it."""
        halves = self._halves.get(stamp, {})
        if len(halves) == 2 and stamp in self._index:
            del self._halves[stamp]
            result = Result(self._index[stamp], hands_of(halves["mesh"], halves["keypoints"]))
            self.results.append(result)
            self.events.put(result)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            self.diagnostics.update({value.key: value.value for value in status.values})
