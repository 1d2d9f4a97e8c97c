"""Two participants of one process on the loopback interface; domains of their own."""

from __future__ import annotations

import queue
import time

import numpy as np
import pytest
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader

from hand_perception import messages
from hand_perception.dds import wire
from hand_perception.dds.participant import LATCHED, RELIABLE, Participant
from hand_perception.dds.types import dds_type
from hand_perception.frames import image_message

PATIENCE = 60.0  # seconds until a test gives up; nothing waits for so long
GRAPH = "rmw_dds_common/msg/ParticipantEntitiesInfo"
HEADER = "std_msgs/msg/Header"


@pytest.fixture
def participant(domain):
    with Participant("node", "robot", domain_id=domain, localhost=True) as participant:
        yield participant


def collect(participant, topic, type_name, qos=RELIABLE):
    inbox = queue.SimpleQueue()
    participant.subscribe(topic, type_name, lambda message, *_: inbox.put(message), qos, depth=8)
    return inbox


def test_messages_arrive_as_they_were_sent(participant):
    inbox = collect(participant, "chatter", HEADER)
    publisher = participant.publisher("chatter", HEADER)
    for number in range(3):
        sent = messages.header(participant.types, 10**9 + number, "frame é")
        publisher.publish(sent)
        assert inbox.get(timeout=PATIENCE) == sent


def test_latched_messages_reach_late_listeners(participant):
    publisher = participant.publisher("map", HEADER, LATCHED)
    sent = messages.header(participant.types, 5, "late")
    publisher.publish(sent)
    assert collect(participant, "map", HEADER, LATCHED).get(timeout=PATIENCE) == sent


def test_an_error_in_a_callback_spares_the_next_message(participant):
    stamps = queue.SimpleQueue()

    def callback(message, *_):
        stamps.put(message.stamp.sec)
        raise ValueError("a bug")

    participant.subscribe("chatter", HEADER, callback, RELIABLE)
    publisher = participant.publisher("chatter", HEADER)
    for second in (1, 2):
        publisher.publish(messages.header(participant.types, second * 10**9, ""))
        assert stamps.get(timeout=PATIENCE) == second


def test_names_follow_namespace_and_remaps(domain):
    remaps = {"image": "/camera/image_raw", "/tf": "tf"}
    with Participant(
        "node", "/robot/", domain_id=domain, localhost=True, remaps=remaps
    ) as participant:
        assert participant.resolve("hands/mesh") == "/robot/hands/mesh"
        assert participant.resolve("image") == "/camera/image_raw"
        assert participant.resolve("/tf") == "/robot/tf"
        assert participant.resolve("/diagnostics") == "/diagnostics"


@pytest.mark.parametrize(("distro", "gid_size"), [("humble", 24), ("jazzy", 16)])
def test_the_node_graph_lists_the_endpoints(domain, distro, gid_size):
    with Participant(
        "node", "robot", domain_id=domain, localhost=True, distro=distro
    ) as participant:
        participant.publisher("hands/mesh", HEADER)
        participant.subscribe("image", HEADER, lambda *_: None)
        graph = read_graph(participant)
        (node,) = graph.node_entities_info_seq
        assert (node.node_namespace, node.node_name) == ("/robot", "node")
        (writer,) = participant._writers
        (reader, *_) = participant._readers[0]
        for listed, entity in (
            (graph.gid, participant._participant),
            (node.writer_gid_seq[0], writer),
            (node.reader_gid_seq[0], reader),
        ):
            assert bytes(listed.data) == entity.guid.bytes.ljust(gid_size, b"\0")
        type_hash = participant.store.hash_rihs01(HEADER)
        announced = Policy.Userdata(f"typehash={type_hash};".encode())
        # Type hashes came with Iron.
        assert (announced in reader.get_qos()) is (distro != "humble")


def read_graph(participant):
    """The latest graph message, as ROS reads it."""
    topic = wire.create_topic(
        participant._participant, "ros_discovery_info", dds_type(participant.store, GRAPH)
    )
    reader = DataReader(participant._participant, topic, Qos(*LATCHED, Policy.History.KeepLast(1)))
    deadline = time.monotonic() + PATIENCE
    while not (samples := wire.take(reader)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return participant.store.deserialize_cdr(samples[-1][0], GRAPH)


def test_large_images_pass_whole(participant):
    inbox = collect(participant, "image", "sensor_msgs/msg/Image")
    publisher = participant.publisher("image", "sensor_msgs/msg/Image")
    image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    header = messages.header(participant.types, 1, "optical")
    publisher.publish(image_message(participant.types, header, image))
    received = inbox.get(timeout=PATIENCE)
    assert np.array_equal(received.data.reshape(720, 1280, 3), image)


def test_closing_twice_is_allowed_and_frees_the_domain(domain):
    for _ in range(2):
        participant = Participant("node", domain_id=domain, localhost=True)
        participant.close()
        participant.close()
