"""From a node's messages to the page, over DDS on loopback."""

from __future__ import annotations

import os
import queue
import time

import numpy as np
import pytest
from bright_square import BrightSquare, picture

pytest.importorskip("viser", reason="needs the viewer extra")
pytest.importorskip("cyclonedds", reason="needs the dds extra")

from hand_perception import messages
from hand_perception.dds.participant import LATCHED, RELIABLE, Participant
from hand_perception.frames import camera_info_message, image_message
from hand_perception.hands import Camera
from hand_perception.topics import KEYPOINTS, MESH, TOPOLOGY
from hand_perception.viewer.feed import Feed

CAMERA = Camera(400, 400, 159.5, 119.5, 320, 240)
PATIENCE = 30.0  # seconds until the test gives up; nothing waits for so long


class RecordingPage:
    """Keeps what it was to show."""

    def __init__(self) -> None:
        self.shown: queue.SimpleQueue = queue.SimpleQueue()

    def show(self, *what) -> None:
        self.shown.put(what)

    def note(self, text: str) -> None:
        pass


@pytest.fixture
def participant():
    with Participant("tester", domain_id=20 + os.getpid() % 80, localhost=True) as participant:
        yield participant


def test_an_image_meets_its_hands_by_the_stamp(participant):
    page = RecordingPage()
    publish = participant.publisher
    image = publish("image", "sensor_msgs/msg/Image", RELIABLE, 8)
    info = publish("camera_info", "sensor_msgs/msg/CameraInfo", RELIABLE, 8)
    topology = publish(TOPOLOGY.topic, TOPOLOGY.type_name, LATCHED)
    mesh, keypoints = (publish(o.topic, o.type_name, RELIABLE, 8) for o in (MESH, KEYPOINTS))
    types = participant.types
    topology.publish(messages.topology_message(types, BrightSquare.topology))
    with Feed(participant, page):
        deadline = time.monotonic() + PATIENCE
        while not all(p.num_listeners for p in (image, info, topology, mesh, keypoints)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for x in (100, 200):
            rgb = picture(320, 240, (x, 120))
            hands = BrightSquare()(rgb, CAMERA, score_threshold=0.5).hands
            header = messages.header(types, time.time_ns(), "optical")
            info.publish(camera_info_message(types, header, CAMERA))
            image.publish(image_message(types, header, rgb))
            time.sleep(0.2)  # as an engine takes its time: topics may overtake each other
            mesh.publish(messages.mesh_array(types, header, hands))
            keypoints.publish(messages.keypoints_array(types, header, hands))
            shown, camera, found, faces, stamp_s, latency_ms = page.shown.get(timeout=PATIENCE)
            np.testing.assert_array_equal(shown, rgb)
            assert camera == CAMERA
            np.testing.assert_array_equal(faces, BrightSquare.topology.faces)
            np.testing.assert_array_equal(found[0].vertices, hands[0].vertices)
            assert stamp_s == pytest.approx(messages.nanoseconds_of(header.stamp) / 1e9)
            assert latency_ms >= 200.0
