from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cyclonedds", reason="needs the dds extra")

from hand_perception import messages
from hand_perception.dds.participant import BEST_EFFORT, LATCHED, RELIABLE, Participant
from hand_perception.frames import camera_info_message, image_message
from hand_perception.hands import Camera
from hand_perception.node import OUTPUTS

PATIENCE = 60.0  # seconds until a test gives up; nothing waits for so long


@pytest.fixture
def domain() -> int:
    """A domain of this test run's own: two runs on one machine must not meet."""
    return 20 + os.getpid() % 80


class NodeProcess:
    """The node under test in a second process, and a participant that talks to it."""

    def __init__(self, domain: int, *parameters: str) -> None:
        script = Path(__file__).parent / "serve_bright_square.py"
        words = ["--localhost", "--domain-id", str(domain), "-p", "diagnostics_period:=0.1"]
        for assignment in parameters:
            words += ["-p", assignment]
        self.process = subprocess.Popen(
            [sys.executable, str(script), *words],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(script.parent.parent)},
        )
        self.participant = Participant("tester", domain_id=domain, localhost=True)
        self.types = self.participant.types
        self.received: dict[str, queue.SimpleQueue] = {}
        for output in OUTPUTS:
            inbox = self.received[output.topic] = queue.SimpleQueue()
            self.participant.subscribe(
                output.topic,
                output.type_name,
                lambda message, *_, inbox=inbox: inbox.put(message),
                LATCHED if output.latched else RELIABLE,
                depth=32,
            )
        self.image = self.participant.publisher("image", "sensor_msgs/msg/Image", BEST_EFFORT)
        self.compressed = self.participant.publisher(
            "image/compressed", "sensor_msgs/msg/CompressedImage", BEST_EFFORT
        )
        self.info = self.participant.publisher(
            "camera_info", "sensor_msgs/msg/CameraInfo", BEST_EFFORT
        )
        self.pictures = self.compressed if "compressed:=true" in parameters else self.image

    def wait_until_ready(self) -> None:
        self.until(lambda: self.pictures.num_listeners and self.info.num_listeners)
        # The node's writers must know this process's readers as well.
        self.take("hands/topology")
        self.take("/diagnostics")

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "the node did not answer in time"
            assert self.process.poll() is None, "the node died"
            time.sleep(0.01)

    def take(self, topic: str) -> Any:
        return self.received[topic].get(timeout=PATIENCE)

    def take_status(self, wanted: Callable[[Any], bool]) -> Any:
        """The next diagnostics entry that fits."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for status in self.take("/diagnostics").status:
                if wanted(status):
                    return status
        raise AssertionError("no such diagnostics entry came")

    def header(self, stamp_ns: int | None = None, frame_id: str = "optical") -> Any:
        return messages.header(self.types, stamp_ns or time.time_ns(), frame_id)

    def send_info(self, camera: Camera) -> None:
        self.info.publish(camera_info_message(self.types, self.header(), camera))

    def send_image(self, rgb, stamp_ns: int | None = None) -> None:
        self.image.publish(image_message(self.types, self.header(stamp_ns), rgb))

    def end(self) -> str:
        """Stop the node; returns what it logged."""
        self.participant.close()
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, log
        return log


@pytest.fixture
def start_node(domain: int) -> Iterator[Callable[..., NodeProcess]]:
    started: list[NodeProcess] = []

    def start(*parameters: str) -> NodeProcess:
        node = NodeProcess(domain, *parameters)
        started.append(node)
        node.wait_until_ready()
        return node

    yield start
    for node in started:
        node.participant.close()
        if node.process.poll() is None:
            node.process.kill()
            node.process.communicate()
