"""The rclpy lifecycle node, spoken to through rclpy in the same process."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
from bright_square import DEPTH, BrightSquare, picture

pytest.importorskip("rclpy", reason="needs rclpy: source a ROS 2 workspace")

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data

from hand_perception import messages
from hand_perception.articulation import JOINT_NAMES
from hand_perception.errors import ModelError
from hand_perception.frames import camera_info_message, image_message
from hand_perception.hands import Camera, Side
from hand_perception.node import DIAGNOSTICS, JOINT_STATES, KEYPOINTS, MARKERS, MESH, TF, TOPOLOGY
from hand_perception.ros.node import HandPerceptionNode
from hand_perception.ros.types import TYPES

PATIENCE = 60.0  # seconds until a test gives up; nothing waits for so long
CAMERA = Camera(400, 400, 159.5, 119.5, 320, 240)
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


def test_an_image_becomes_mesh_keypoints_tf_markers_and_joint_states(start):
    system = start()
    assert system.change(CONFIGURE)
    for output in (MESH, KEYPOINTS, TOPOLOGY, MARKERS, JOINT_STATES, TF):
        system.listen(output)
    assert system.change(ACTIVATE)
    image, info = system.camera()
    topology = system.take(TOPOLOGY)
    assert (topology.name, topology.num_vertices) == ("open778", 778)
    publishers = system.node._outputs
    system.until(lambda: all(publishers[o].get_subscription_count() for o in system.received))
    info.publish(camera_info_message(TYPES, header(), CAMERA))
    system.until(lambda: system.node._core._calibrations)
    image.publish(image_message(TYPES, header(), picture(320, 240, (200, 60))))
    meshes = system.take(MESH)
    assert meshes.header == header()
    (mesh,) = meshes.hands
    assert (mesh.side, mesh.metric, len(mesh.vertices)) == (mesh.RIGHT, True, 778 * 3)
    wrist = [(200 - 159.5) / 400 * DEPTH, (60 - 119.5) / 400 * DEPTH, DEPTH]
    position = mesh.wrist.position
    assert np.allclose((position.x, position.y, position.z), wrist, atol=1e-12)
    (keypoints,) = system.take(KEYPOINTS).hands
    assert np.allclose(keypoints.keypoints2d[:2], (200, 60), atol=1e-4)
    assert system.take(TF).transforms[0].child_frame_id == "right_hand"
    assert {marker.ns for marker in system.take(MARKERS).markers} == {"surface", "skeleton"}
    joints = system.take(JOINT_STATES)
    assert joints.header == header()
    assert joints.name == list(JOINT_NAMES[Side.RIGHT])
    # The rest hand; single precision at half a metre (3e-8 m) over the shortest bone.
    assert np.allclose(joints.position, 0, atol=1e-5)
    # Deactivated, it clears its markers and is deaf.
    assert system.change(DEACTIVATE)
    (last,) = system.take(MARKERS).markers
    assert last.action == last.DELETEALL
    system.until(lambda: image.get_subscription_count() == 0)


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


def test_parameters_are_checked_and_some_change_while_active(start):
    system = start()
    assert system.change(CONFIGURE)
    assert system.set("model", "other").successful
    assert system.change(ACTIVATE)
    assert system.set("score_threshold", 0.95).successful
    assert not system.set("score_threshold", 1.5).successful
    refused = system.set("model", "another")
    assert not refused.successful
    assert "deactivate" in refused.reason
    system.listen(MESH)
    image, _ = system.camera()
    system.until(lambda: system.node._outputs[MESH].get_subscription_count())
    image.publish(image_message(TYPES, header(), picture(320, 240, (200, 60))))
    assert system.take(MESH).hands == []  # the hand scores 0.9


def test_bad_images_become_diagnostics(start):
    system = start()
    assert system.set("diagnostics_period", 0.1).successful
    assert system.change(CONFIGURE)
    system.listen(DIAGNOSTICS)
    assert system.change(ACTIVATE)
    image, _ = system.camera()
    bad = image_message(TYPES, header(), picture(320, 240, (200, 60)))
    bad.encoding = "32FC1"
    image.publish(bad)
    system.until(
        lambda: any(
            status.level == status.ERROR and "32FC1" in status.message
            for array in list(system.received[DIAGNOSTICS])
            for status in array.status
        )
    )
