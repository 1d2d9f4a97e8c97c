"""The planner examples, each in a process of its own, told of one hand at a known place."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from open_hand import make_hand

pytest.importorskip("cyclonedds", reason="needs the dds extra")

from hand_perception import messages
from hand_perception.dds.network import configuration
from hand_perception.dds.participant import RELIABLE, Participant
from hand_perception.hands import Pose
from hand_perception.topics import MESH, TF

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PATIENCE = 60.0  # seconds until a test gives up; nothing waits for so long
HAND = make_hand(at=(0.0, 0.0, 0.6), track_id=3)


@pytest.mark.parametrize(
    ("script", "tool", "words"),
    [
        # Without ROS: the distance to the camera.
        ("planner_dds.py", (0.0, 0.0, 0.0), "right hand 3 at {:.2f} m"),
        pytest.param(
            "planner.py",
            (0.0, 0.0, 0.5),  # 10 cm in front of the hand
            "stop for right hand 3 at {:.2f} m",
            marks=[
                pytest.mark.ros,
                pytest.mark.skipif(find_spec("rclpy") is None, reason="needs rclpy"),
            ],
        ),
    ],
)
def test_a_planner_knows_how_near_the_hand_is(script, tool, words):
    distance = np.linalg.norm(HAND.vertices - np.array(tool, np.float32), axis=1).min()
    domain = 20 + os.getpid() % 80
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "CYCLONEDDS_URI": configuration(localhost=True),
        "PYTHONUNBUFFERED": "1",
    }
    planner = subprocess.Popen(
        [sys.executable, str(EXAMPLES / script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        with Participant("node", domain_id=domain, localhost=True) as participant:
            talk(participant, planner, tool)
            planner.kill()
            heard, _ = planner.communicate(timeout=PATIENCE)
    finally:
        planner.kill()
    assert words.format(distance) in heard, heard


def talk(participant: Participant, planner: subprocess.Popen, tool: tuple) -> None:
    """Publish the hand and the tool's frame for a while, once the planner listens."""
    types = participant.types
    mesh = participant.publisher(MESH.topic, MESH.type_name, RELIABLE)
    tf = participant.publisher(TF.topic, TF.type_name, RELIABLE)
    deadline = time.monotonic() + PATIENCE
    while not mesh.num_listeners:
        assert time.monotonic() < deadline, "the planner did not subscribe"
        assert planner.poll() is None, planner.stdout.read()
        time.sleep(0.05)
    for _ in range(30):
        header = messages.header(types, time.time_ns(), "optical")
        tool_frame = types.make(
            "geometry_msgs/msg/TransformStamped",
            header=header,
            child_frame_id="tool0",
            transform=transform(types, Pose(np.eye(3), np.array(tool))),
        )
        tf.publish(types.make("tf2_msgs/msg/TFMessage", transforms=[tool_frame]))
        mesh.publish(messages.mesh_array(types, header, [HAND]))
        time.sleep(0.05)


def transform(types, pose: Pose):
    return types.make(
        "geometry_msgs/msg/Transform",
        translation=messages.xyz_message(types, "Vector3", pose.translation),
        rotation=types.make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
    )
