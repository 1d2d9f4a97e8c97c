"""Joint angles as a ROS message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hand_perception.articulation import Articulation
from hand_perception.hands import Side
from hand_perception.messages import MessageTypes


def joint_state(types: MessageTypes, header: Any, articulations: Sequence[Articulation]) -> Any:
    """sensor_msgs/JointState: the joints of one left and one right hand, radians.

    A name stands for one joint, so of several hands of a side the first is told. Velocities and
    efforts are empty, which in this message means not known.
    """
    first: dict[Side, Articulation] = {}
    for articulation in articulations:
        first.setdefault(articulation.side, articulation)
    told = list(first.values())
    positions = np.concatenate([np.zeros(0), *(a.angles for a in told)])
    unknown = np.zeros(0)
    return types.make(
        "sensor_msgs/msg/JointState",
        header=header,
        name=[name for a in told for name in a.names],
        position=types.sequence(positions),
        velocity=types.sequence(unknown),
        effort=types.sequence(unknown),
    )
