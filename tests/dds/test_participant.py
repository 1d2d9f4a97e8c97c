"""Two participants of one process on the loopback interface; domains of their own."""

from __future__ import annotations

import queue
import time

import numpy as np
import pytest
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from front_ends.service_client import ServiceClient

from hand_perception import messages
from hand_perception.cdr import type_store
from hand_perception.dds import wire
from hand_perception.dds.participant import LATCHED, RELIABLE, Participant
from hand_perception.dds.qos import QosOverrides
from hand_perception.dds.service_types import register_services
from hand_perception.dds.types import dds_type
from hand_perception.frames import image_message
from hand_perception.parameters import ParameterError

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
        reader = participant._subscriptions[0].reader
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


def test_a_closed_subscription_hears_nothing_and_leaves_the_graph(participant):
    inbox = queue.SimpleQueue()
    subscription = participant.subscribe(
        "chatter", HEADER, lambda message, *_: inbox.put(message), RELIABLE
    )
    publisher = participant.publisher("chatter", HEADER)
    publisher.publish(messages.header(participant.types, 1, "one"))
    assert inbox.get(timeout=PATIENCE).frame_id == "one"
    subscription.close()
    assert publisher.num_listeners == 0
    (node,) = read_graph(participant).node_entities_info_seq
    assert node.reader_gid_seq == []
    # And it can be taken up again.
    again = collect(participant, "chatter", HEADER)
    publisher.publish(messages.header(participant.types, 2, "two"))
    assert again.get(timeout=PATIENCE).frame_id == "two"


def test_a_subscription_may_be_closed_from_its_own_callback(participant):
    heard = queue.SimpleQueue()

    def once(message, *_):
        subscription.close()
        heard.put(message)

    subscription = participant.subscribe("chatter", HEADER, once, RELIABLE, depth=8)
    publisher = participant.publisher("chatter", HEADER)
    for number in range(3):
        publisher.publish(messages.header(participant.types, number, ""))
    heard.get(timeout=PATIENCE)
    other = collect(participant, "other", HEADER)  # the thread lives on
    participant.publisher("other", HEADER).publish(messages.header(participant.types, 9, ""))
    other.get(timeout=PATIENCE)
    assert heard.empty()


def test_timers_repeat_and_survive_their_errors(participant):
    beats = queue.SimpleQueue()

    def beat():
        beats.put(time.monotonic())
        raise ValueError("a bug")

    start = time.monotonic()
    participant.every(0.02, beat)
    times = [beats.get(timeout=PATIENCE) for _ in range(3)]
    assert times[0] >= start + 0.02
    assert times == sorted(times)


def test_services_answer_each_client_its_own_requests(participant):
    types = participant.types

    def answer(request):
        return {"success": request.data, "message": f"{request.data}"}

    participant.service("~/switch", "std_srvs/srv/SetBool", answer)
    assert participant.resolve("~/switch") == "/robot/node/switch"
    clients = [ServiceClient(participant, "node/switch", "std_srvs/srv/SetBool") for _ in range(2)]
    for client, data in zip(clients * 2, (True, False, False, True), strict=True):
        response = client.call(data=data)
        assert (response.success, response.message) == (data, str(data))
    assert types.find("std_srvs/srv/SetBool_Request").__msgtype__ == "std_srvs/srv/SetBool_Request"


def test_qos_overrides_name_topic_kind_and_policy(domain):
    overrides = QosOverrides(
        {
            "qos_overrides./chatter.subscription.reliability": "best_effort",
            "qos_overrides./chatter.subscription.depth": 5,
            "qos_overrides./chatter.publisher.durability": "transient_local",
        }
    )
    with Participant("n", domain_id=domain, localhost=True, qos_overrides=overrides) as talker:
        subscription = talker.subscribe("chatter", HEADER, lambda *_: None, RELIABLE, depth=1)
        talker.publisher("chatter", HEADER)
        reader_qos, writer_qos = subscription.reader.get_qos(), talker._writers[0].get_qos()
        assert Policy.Reliability.BestEffort in reader_qos
        assert Policy.History.KeepLast(5) in reader_qos
        assert Policy.Durability.TransientLocal in writer_qos
        assert Policy.History.KeepLast(1) in writer_qos


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("qos_overrides./chatter.subscription.reliability", "certain"),
        ("qos_overrides./chatter.subscription.depth", 0),
        ("qos_overrides./chatter.reader.depth", 1),
        ("qos_overrides./chatter.subscription.colour", "red"),
        ("qos_overrides./chatter", 1),
    ],
)
def test_qos_overrides_that_mean_nothing_are_refused(name, value):
    with pytest.raises(ParameterError, match=name.replace(".", "[.]")):
        QosOverrides({name: value})


# What ROS 2 Jazzy announces for the same types (share/std_srvs/srv/*.json of an installation).
@pytest.mark.parametrize(
    ("name", "type_hash"),
    [
        (
            "std_srvs/srv/Trigger_Request",
            "RIHS01_d010825374ce8918e72bfd826c82603e60f45419e932ea976f807b74a863a199",
        ),
        (
            "std_srvs/srv/SetBool_Response",
            "RIHS01_d0814e7f7b4880ab77e9c57426c7aa1562ab69f11eef8e2e968812f9cbd0b059",
        ),
    ],
)
def test_services_have_ros_s_type_hashes(name, type_hash):
    store = type_store()
    register_services(store)
    assert store.hash_rihs01(name) == type_hash
