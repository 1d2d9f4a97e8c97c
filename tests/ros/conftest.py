from __future__ import annotations

import os

import pytest

# Read when rclpy starts: tests stay on loopback.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs rclpy."""
    for item in items:
        if "tests/ros" in item.path.as_posix():
            item.add_marker(pytest.mark.ros)
