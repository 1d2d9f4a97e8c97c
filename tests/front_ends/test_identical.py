"""Two front ends, one bag in, the same bytes out."""

from __future__ import annotations

import pytest
from bright_square import picture
from front_ends.conftest import FRONT_ENDS
from rosbags.rosbag2 import Reader

from hand_perception.bags.writer import BagWriter
from hand_perception.cdr import message_types, serialize, type_store
from hand_perception.frames import camera_info_message, image_message
from hand_perception.hands import Camera
from hand_perception.messages import header
from hand_perception.topics import DIAGNOSTICS, OUTPUTS

CAMERA = Camera(400, 400, 159.5, 119.5, 320, 240)
STAMP = 1_700_000_000_000_000_000
# Diagnostics tell times, which no two runs share.
COMPARED = [output.topic for output in OUTPUTS if output is not DIAGNOSTICS]


def record(folder):
    """A hand that moves for five images, then a left one."""
    store = type_store()
    types = message_types(store)
    with BagWriter(folder, store) as bag:
        for number in range(7):
            stamp = STAMP + number * 33_333_333
            top = header(types, stamp, "optical")
            image = picture(320, 240, (100 + 8 * number, 120), left=number >= 5)
            for topic, message in (
                ("/camera_info", camera_info_message(types, top, CAMERA)),
                ("/image", image_message(types, top, image)),
            ):
                bag.write(topic, message.__msgtype__, serialize(store, message), stamp)


def play(node, folder) -> dict[str, list[bytes]]:
    """What the node publishes for the bag, one image after the other so that none is dropped."""
    store = type_store()
    with Reader(folder) as bag:
        for connection, _, data in bag.messages():
            message = store.deserialize_cdr(data, connection.msgtype)
            node.send(connection.topic.removeprefix("/"), message)
            if connection.topic == "/image":
                node.take("hands/detections")  # the last that is published
            elif not node.received["hands/mesh"].qsize():
                node.take_value("camera", "calibrated")
    node.take_value("processed", "7")
    return {topic: node.samples[topic] for topic in COMPARED}


@pytest.mark.parametrize("other", FRONT_ENDS)
def test_a_bag_gives_the_same_bytes_in_every_front_end(launch, domain, tmp_path, other):
    record(tmp_path / "bag")
    runs = []
    for number, front_end in enumerate(("dds", other)):
        node = launch(front_end, "publish_detections:=true", domain=domain + 80 * number)
        runs.append(play(node, tmp_path / "bag"))
        node.end()
    first, second = runs
    assert [len(first[topic]) for topic in ("hands/mesh", "hands/keypoints", "/tf")] == [7, 7, 7]
    assert len(first["hands/topology"]) == 1
    for topic in COMPARED:
        assert first[topic] == second[topic], topic
