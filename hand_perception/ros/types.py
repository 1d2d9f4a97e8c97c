"""rclpy's generated message classes, by ROS name."""

from __future__ import annotations

import array
from functools import cache

import numpy as np
from rosidl_runtime_py.utilities import get_message

from hand_perception.messages import MessageTypes


def _sequence(values: np.ndarray) -> array.array:
    """rclpy checks an ndarray element by element; an array.array it takes as it is."""
    values = np.ascontiguousarray(values)
    sequence = array.array(values.dtype.char)
    sequence.frombytes(values.tobytes())
    return sequence


TYPES = MessageTypes(find=cache(get_message), sequence=_sequence)
