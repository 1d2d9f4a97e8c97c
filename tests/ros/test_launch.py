from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="needs ROS 2's launch: source a ROS 2 workspace")

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument
from launch.utilities import perform_substitutions
from launch_ros.actions import ComposableNodeContainer, LifecycleNode, Node
from launch_ros.utilities import evaluate_parameters

from launch import LaunchContext

FOLDER = Path(__file__).parent.parent.parent / "launch"


def description(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def context_of(launched, **arguments: str) -> LaunchContext:
    """With the arguments' defaults where nothing is given, and no package to look them up in."""
    context = LaunchContext()
    context.launch_configurations["params"] = "params.yaml"
    for argument in arguments_of(launched):
        if argument.name != "params":
            default = perform_substitutions(context, argument.default_value)
            context.launch_configurations[argument.name] = default
    context.launch_configurations.update(arguments)
    return context


def arguments_of(launched):
    return [e for e in launched.entities if isinstance(e, DeclareLaunchArgument)]


def only(launched, kind, but=()):
    (found,) = (e for e in launched.entities if isinstance(e, kind) and not isinstance(e, but))
    return found


def remappings_of(node, context) -> dict[str, str]:
    return {
        perform_substitutions(context, old): perform_substitutions(context, new)
        for old, new in node._Node__remappings
    }


def own_parameters(node, context) -> dict:
    """What the launch file itself sets; the last wins."""
    return evaluate_parameters(context, node._Node__parameters)[-1]


@pytest.mark.parametrize(("name", "count"), [("hands", 10), ("cameras", 10)])
def test_every_argument_is_described(name, count):
    arguments = arguments_of(description(name))
    assert len(arguments) == count
    assert all(argument.description.endswith(".") for argument in arguments)


def test_camera_topics_are_remapped():
    launched = description("hands")
    context = context_of(launched, image="/left/image", camera_info="/left/info")
    node = only(launched, LifecycleNode)
    assert remappings_of(node, context) == {
        "image": "/left/image",
        "image/compressed": "/left/image/compressed",
        "camera_info": "/left/info",
        "depth": "depth",  # rcl takes no empty name
    }
    assert own_parameters(node, context) == {
        "depth_topic": "",
        "rectified": False,
        "use_sim_time": False,
    }


def test_as_it_is_the_launch_file_starts_an_active_node():
    try:
        get_package_prefix("hand_perception")
    except PackageNotFoundError:
        pytest.skip("needs the package as colcon installs it")
    launched = subprocess.Popen(
        ["ros2", "launch", str(FOLDER / "hands.launch.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": "87"},
    )
    patience = threading.Timer(120, os.killpg, (launched.pid, signal.SIGKILL))
    patience.start()
    said = []
    with launched, launched.stdout:
        try:
            for line in launched.stdout:
                said.append(line)
                if "active on" in line or "process has died" in line:
                    break
        finally:
            patience.cancel()
            os.killpg(launched.pid, signal.SIGINT)
    assert said and "active on" in said[-1], "".join(said)


def test_a_depth_topic_is_read_where_one_is_given():
    launched = description("hands")
    context = context_of(launched, depth="/camera/depth")
    node = only(launched, LifecycleNode)
    assert remappings_of(node, context)["depth"] == "/camera/depth"
    assert own_parameters(node, context)["depth_topic"] == "depth"


@pytest.mark.parametrize("wanted", [True, False])
def test_image_proc_stands_before_the_node_on_request(wanted):
    launched = description("hands")
    context = context_of(launched, rectify=str(wanted).lower())
    assert only(launched, ComposableNodeContainer).condition.evaluate(context) is wanted
    node = only(launched, LifecycleNode)
    seen = remappings_of(node, context)["image"]
    assert seen == ("image_rect" if wanted else "/camera/image_raw")
    assert own_parameters(node, context)["rectified"] is wanted


def test_several_cameras_become_a_list():
    launched = description("cameras")
    context = context_of(launched, cameras="[front, wrist]", depth_topic="depth")
    parameters = own_parameters(only(launched, LifecycleNode), context)
    assert list(parameters["cameras"]) == ["front", "wrist"]
    assert (parameters["image_topic"], parameters["depth_topic"]) == ("image_raw", "depth")


@pytest.mark.parametrize("wanted", ["true", "false"])
def test_rviz_starts_only_on_request(wanted):
    launched = description("hands")
    rviz = only(launched, Node, but=(LifecycleNode, ComposableNodeContainer))
    assert rviz.condition.evaluate(context_of(launched, rviz=wanted)) is (wanted == "true")
