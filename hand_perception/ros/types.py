"""rclpy's generated message classes, by ROS name."""

from __future__ import annotations

import array
from functools import cache

import numpy as np
from rosidl_runtime_py.utilities import get_message, get_service

from hand_perception.errors import HandPerceptionError
from hand_perception.messages import MessageTypes


def _sequence(values: np.ndarray) -> array.array:
    """rclpy checks an ndarray element by element; an array.array it takes as it is."""
    values = np.ascontiguousarray(values)
    sequence = array.array(values.dtype.char)
    sequence.frombytes(values.tobytes())
    return sequence


class InterfaceError(HandPerceptionError):
    """A message package that is not installed."""


@cache
def message_class(name: str) -> type:
    """By a name such as "std_msgs/msg/Header". Raises InterfaceError."""
    try:
        return get_message(name)
    except ModuleNotFoundError as error:
        package = name.partition("/")[0]
        if package == "hand_perception":
            cure = "build this package with colcon and source its workspace"
        else:
            cure = f"install ros-$ROS_DISTRO-{package.replace('_', '-')}"
        raise InterfaceError(f"{name} is not installed: {cure}") from error


service_class = cache(get_service)
TYPES = MessageTypes(find=message_class, sequence=_sequence)
