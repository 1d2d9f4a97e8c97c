"""What only the rclpy front end has: the life cycle; spoken to through rclpy in one process."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
from bright_square import BrightSquare, picture

pytest.importorskip("rclpy", reason="needs rclpy: source a ROS 2 workspace")

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs_py import point_cloud2
from std_srvs.srv import Trigger

from hand_perception import messages
from hand_perception.errors import HandPerceptionError, ModelError
from hand_perception.frames import image_message
from hand_perception.ros import types
from hand_perception.ros.node import HandPerceptionNode
from hand_perception.ros.types import TYPES, message_class
from hand_perception.topics import DIAGNOSTICS, MARKERS, MESH, POINTS

PATIENCE = 60.0  # seconds until a test gives up; nothing waits for so long
CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = 1, 2, 3, 4


class System:
    """The node under test and a client node, each with its own executor thread."""

    def __init__(self, load=lambda parameters: BrightSquare()) -> None:
        self.context = rclpy.Context()
        # A domain of this test run's own: two runs on one machine must not meet.
        rclpy.init(context=self.context, domain_id=20 + os.getpid() % 80)
        self.node = HandPerceptionNode(load=load, context=self.context)
        self.client = rclpy.create_node("tester", context=self.context)
        self.received: dict = {}
        self.executors = []
        for node in (self.node, self.client):
            executor = SingleThreadedExecutor(context=self.context)
            executor.add_node(node)
            thread = threading.Thread(target=executor.spin, daemon=True)
            thread.start()
            self.executors.append((executor, thread))

    def close(self) -> None:
        for executor, thread in self.executors:
            executor.shutdown()
            thread.join()
        self.node.destroy_node()
        self.client.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def call(self, kind, service, **request):
        client = self.client.create_client(kind, f"/hand_perception/{service}")
        assert client.wait_for_service(PATIENCE)
        future = client.call_async(kind.Request(**request))
        self.until(future.done)
        self.client.destroy_client(client)
        return future.result()

    def change(self, transition: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = transition
        return self.call(ChangeState, "change_state", transition=request.transition).success

    @property
    def state(self) -> int:
        return self.call(GetState, "get_state").current_state.id

    def set(self, name: str, value):
        parameter = Parameter(name, value=value).to_parameter_msg()
        return self.call(SetParameters, "set_parameters", parameters=[parameter]).results[0]

    def listen(self, output) -> None:
        inbox = self.received[output] = []
        qos = QoSProfile(depth=10)
        if output.latched:
            qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
        kind = TYPES.find(output.type_name)
        self.client.create_subscription(kind, output.topic, inbox.append, qos)

    def camera(self):
        image = self.client.create_publisher(
            TYPES.find("sensor_msgs/msg/Image"), "image", qos_profile_sensor_data
        )
        info = self.client.create_publisher(
            TYPES.find("sensor_msgs/msg/CameraInfo"), "camera_info", qos_profile_sensor_data
        )
        self.until(lambda: image.get_subscription_count() and info.get_subscription_count())
        return image, info

    def take(self, output):
        self.until(lambda: self.received[output])
        return self.received[output].pop(0)

    def until(self, condition) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "nothing came in time"
            time.sleep(0.01)


@pytest.fixture
def start():
    systems = []

    def start(**options) -> System:
        systems.append(System(**options))
        return systems[-1]

    yield start
    for system in systems:
        system.close()


def header(stamp_ns: int = 1_700_000_000_123_456_789):
    return messages.header(TYPES, stamp_ns, "optical")


def test_deactivated_the_node_clears_its_markers_and_is_deaf(start):
    system = start()
    assert system.change(CONFIGURE)
    system.listen(MARKERS)
    assert system.change(ACTIVATE)
    image, _ = system.camera()
    system.until(lambda: system.node.has_listener(MARKERS))
    image.publish(image_message(TYPES, header(), picture(320, 240, (200, 60))))
    assert {marker.ns for marker in system.take(MARKERS).markers} == {"surface", "skeleton"}
    assert system.change(DEACTIVATE)
    (last,) = system.take(MARKERS).markers
    assert last.action == last.DELETEALL
    system.until(lambda: image.get_subscription_count() == 0)


def test_sensor_msgs_py_reads_the_point_cloud(start):
    system = start()
    assert system.change(CONFIGURE)
    system.listen(MESH)
    system.listen(POINTS)
    assert system.change(ACTIVATE)
    image, _ = system.camera()
    system.until(lambda: system.node.has_listener(POINTS) and system.node.has_listener(MESH))
    image.publish(image_message(TYPES, header(), picture(320, 240, (200, 60))))
    (mesh,) = system.take(MESH).hands
    cloud = system.take(POINTS)
    points = point_cloud2.read_points_numpy(cloud, ["x", "y", "z"])
    assert np.array_equal(points, np.reshape(mesh.vertices, (-1, 3)))
    assert set(point_cloud2.read_points(cloud, ["track_id"])["track_id"]) == {mesh.track_id}
    # And it would have made the same one.
    again = point_cloud2.create_cloud(cloud.header, cloud.fields, point_cloud2.read_points(cloud))
    again.is_dense = True  # it does not look
    assert again == cloud


def test_services_say_that_the_node_is_not_active(start):
    response = start().call(Trigger, "snapshot")
    assert (response.success, "activate" in response.message) == (False, True)


def test_the_life_cycle_can_be_walked_twice(start):
    system = start()
    assert system.state == State.PRIMARY_STATE_UNCONFIGURED
    for _ in range(2):
        assert system.change(CONFIGURE)
        assert system.state == State.PRIMARY_STATE_INACTIVE
        assert system.change(ACTIVATE)
        assert system.state == State.PRIMARY_STATE_ACTIVE
        assert system.change(DEACTIVATE)
        assert system.change(CLEANUP)
        assert system.state == State.PRIMARY_STATE_UNCONFIGURED


@pytest.mark.parametrize("error", [ModelError("no such model"), ZeroDivisionError()])
def test_a_model_that_does_not_load_leaves_the_node_unconfigured(start, error):
    loads = iter([error, None])

    def load(parameters):
        failure = next(loads)
        if failure:
            raise failure
        return BrightSquare()

    system = start(load=load)
    assert not system.change(CONFIGURE)
    assert system.state == State.PRIMARY_STATE_UNCONFIGURED
    assert system.change(CONFIGURE)


def test_parameters_of_a_resting_node_all_change(start):
    system = start()
    assert system.change(CONFIGURE)
    assert system.set("model", "other").successful
    assert system.set("cameras", ["left", "right"]).successful
    assert system.change(CLEANUP)
    assert system.change(CONFIGURE)
    assert system.change(ACTIVATE)
    assert not system.set("model", "another").successful
    topics = {name for name, _ in system.node.get_topic_names_and_types()}
    assert {"/left/hands/mesh", "/right/hands/mesh", "/left/image", "/right/image"} <= topics


def test_a_message_package_that_is_missing_is_named(start, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name=name)

    system = start()
    assert system.set("publish_detections", True).successful
    with monkeypatch.context() as patched:
        message_class.cache_clear()
        patched.setattr(types, "get_message", missing)
        with pytest.raises(HandPerceptionError, match="install ros-.*-vision-msgs"):
            message_class("vision_msgs/msg/Detection2DArray")
        assert not system.change(CONFIGURE)
    assert system.state == State.PRIMARY_STATE_UNCONFIGURED


def test_the_wall_s_clock_drives_the_node_when_time_stands_still(start):
    system = start()
    assert system.set("use_sim_time", True).successful
    assert system.set("diagnostics_period", 0.1).successful
    assert system.change(CONFIGURE)
    system.listen(DIAGNOSTICS)
    assert system.change(ACTIVATE)
    assert system.take(DIAGNOSTICS).header.stamp.sec == 0  # nobody publishes /clock
    assert system.take(DIAGNOSTICS).header.stamp.sec == 0
