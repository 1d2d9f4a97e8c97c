"""One tester for both front ends: it speaks ROS 2's wire protocol, whichever answers."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="needs the dds extra")

from front_ends.service_client import ServiceClient

from hand_perception import messages
from hand_perception.dds.network import configuration
from hand_perception.dds.participant import BEST_EFFORT, LATCHED, RELIABLE, Participant
from hand_perception.frames import camera_info_message, image_message
from hand_perception.hands import Camera
from hand_perception.parameters import NodeParameters, read_assignments, split_qos_overrides
from hand_perception.topics import NODE_NAME, camera_inputs, node_outputs

PATIENCE = 60.0  # seconds until a test gives up; nothing waits for so long
HERE = Path(__file__).parent
FRONT_ENDS = (
    "dds",
    pytest.param(
        "ros",
        marks=[
            pytest.mark.ros,
            pytest.mark.skipif(
                find_spec("rclpy") is None, reason="needs rclpy: source a ROS 2 workspace"
            ),
        ],
    ),
)


@pytest.fixture
def domain() -> int:
    """A domain of this test run's own: two runs on one machine must not meet."""
    return 20 + os.getpid() % 80


@pytest.fixture(params=FRONT_ENDS)
def front_end(request: pytest.FixtureRequest) -> str:
    return request.param


def environment(domain: int) -> dict[str, str]:
    """For a node's process: loopback only, whatever ROS 2 makes of its variables."""
    python_path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        **os.environ,
        "PYTHONPATH": python_path,
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
        "CYCLONEDDS_URI": configuration(localhost=True),
    }


def command(front_end: str, domain: int, parameters: tuple[str, ...], *more: str) -> list[str]:
    """What starts a node with the reconstructor of known answer."""
    assignments = [word for assignment in parameters for word in ("-p", assignment)]
    if front_end == "ros":
        return [sys.executable, str(HERE / "serve_ros.py"), "--ros-args", *assignments, *more]
    network = ["--localhost", "--domain-id", str(domain)]
    return [sys.executable, str(HERE / "serve_dds.py"), *network, *assignments, *more]


class NodeProcess:
    """The node under test in a second process, and a participant that talks to it."""

    def __init__(self, front_end: str, domain: int, *parameters: str) -> None:
        self.front_end, self.domain = front_end, domain
        own, _ = split_qos_overrides(read_assignments(parameters))
        settings = NodeParameters().changed(own)
        self.parameters = settings
        self.process = subprocess.Popen(
            command(front_end, domain, ("diagnostics_period:=0.1", *parameters)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(domain),
        )
        self.participant = Participant("tester", domain_id=domain, localhost=True)
        self.types = self.participant.types
        self.received: dict[str, queue.SimpleQueue] = {}
        self.samples: dict[str, list[bytes]] = {}
        for output in node_outputs(settings):
            inbox = self.received[output.topic] = queue.SimpleQueue()
            samples = self.samples[output.topic] = []

            def keep(message, cdr, _, inbox=inbox, samples=samples):
                samples.append(cdr)
                inbox.put(message)

            self.participant.subscribe(
                output.topic,
                output.type_name,
                keep,
                LATCHED if output.latched else RELIABLE,
                depth=32,
            )
        self.senders = {
            source.topic: self.participant.publisher(source.topic, source.type_name, BEST_EFFORT)
            for camera in settings.cameras or ("",)
            for source in vars(camera_inputs(settings, camera)).values()
            if source is not None
        }

    def wait_until_ready(self) -> None:
        self.until(lambda: all(sender.num_listeners for sender in self.senders.values()))
        # The node's writers must know this process's readers as well.
        for topic in self.received:
            if topic.endswith(("hands/topology", "/diagnostics")):
                self.take(topic)

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

    def take_value(self, key: str, value: str) -> Any:
        """The next diagnostics entry in which the key has the value."""
        return self.take_status(lambda s: any((v.key, v.value) == (key, value) for v in s.values))

    def call(self, service: str, type_name: str, **fields: Any) -> Any:
        name = f"{NODE_NAME}/{service}"
        return ServiceClient(self.participant, name, type_name).call(**fields)

    def set(self, name: str, value: bool | float | str) -> Any:
        """Set a parameter; returns the result."""
        number, field = {
            bool: (1, "bool_value"),
            float: (3, "double_value"),
            str: (4, "string_value"),
        }[type(value)]
        empty = dict(bool_value=False, integer_value=0, double_value=0.0, string_value="")
        kinds = {"byte": np.uint8, "bool": bool, "integer": np.int64, "double": np.float64}
        empty |= {f"{name}_array_value": np.zeros(0, kind) for name, kind in kinds.items()}
        empty["string_array_value"] = []
        make = self.types.make
        filled = make("rcl_interfaces/msg/ParameterValue", type=number, **{**empty, field: value})
        parameter = make("rcl_interfaces/msg/Parameter", name=name, value=filled)
        kind = "rcl_interfaces/srv/SetParameters"
        (result,) = self.call("set_parameters", kind, parameters=[parameter]).results
        return result

    def header(self, stamp_ns: int | None = None, frame_id: str = "optical") -> Any:
        return messages.header(self.types, stamp_ns or time.time_ns(), frame_id)

    def send(self, topic: str, message: Any) -> None:
        self.senders[topic].publish(message)

    def send_info(self, camera: Camera, topic: str = "camera_info") -> None:
        self.send(topic, camera_info_message(self.types, self.header(), camera))

    def send_image(self, rgb, stamp_ns: int | None = None, topic: str = "image") -> None:
        self.send(topic, image_message(self.types, self.header(stamp_ns), rgb))

    def end(self) -> str:
        """Stop the node; returns what it logged."""
        self.participant.close()
        self.process.send_signal(signal.SIGTERM)
        log, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, log
        return log


@pytest.fixture
def launch(domain: int) -> Iterator[Callable[..., NodeProcess]]:
    """Starts a node of a front end with parameters, in a domain of this test run's own."""
    started: list[NodeProcess] = []

    def start(front_end: str, *parameters: str, domain: int = domain) -> NodeProcess:
        node = NodeProcess(front_end, domain, *parameters)
        started.append(node)
        node.wait_until_ready()
        return node

    yield start
    for node in started:
        node.participant.close()
        if node.process.poll() is None:
            node.process.kill()
            node.process.communicate()


@pytest.fixture
def start_node(launch: Callable[..., NodeProcess], front_end: str) -> Callable[..., NodeProcess]:
    """Starts a node with parameters; every test runs once per front end."""
    return lambda *parameters: launch(front_end, *parameters)
