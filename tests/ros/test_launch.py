from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="needs ROS 2's launch: source a ROS 2 workspace")

from launch.actions import DeclareLaunchArgument
from launch_ros.actions import LifecycleNode, Node

from launch import LaunchContext

PATH = Path(__file__).parent.parent.parent / "launch" / "hands.launch.py"


@pytest.fixture
def description():
    spec = importlib.util.spec_from_file_location("hands_launch", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def test_every_argument_is_described(description):
    arguments = [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]
    assert len(arguments) == 7
    assert all(argument.description.endswith(".") for argument in arguments)


def test_camera_topics_are_remapped(description):
    context = LaunchContext()
    context.launch_configurations.update(image="/left/image", camera_info="/left/info")
    (node,) = (e for e in description.entities if isinstance(e, LifecycleNode))
    remappings = {
        "".join(s.perform(context) for s in old): "".join(s.perform(context) for s in new)
        for old, new in node._Node__remappings
    }
    assert remappings == {
        "image": "/left/image",
        "image/compressed": "/left/image/compressed",
        "camera_info": "/left/info",
    }


@pytest.mark.parametrize("wanted", ["true", "false"])
def test_rviz_starts_only_on_request(description, wanted):
    context = LaunchContext()
    context.launch_configurations.update(rviz=wanted)
    (rviz,) = (
        e for e in description.entities if isinstance(e, Node) and not isinstance(e, LifecycleNode)
    )
    assert rviz.condition.evaluate(context) is (wanted == "true")
