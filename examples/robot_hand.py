"""Drives a robot hand of 16 joints from /hands/keypoints, without ROS.

    pip install 'hand_perception[dds,retargeting]'
    hand-perception camera 0 & hand-perception node &
    python examples/robot_hand.py [--side right] [--domain-id 0] [--localhost]

The robot is examples/robot_hand.urdf; dex-retargeting finds the joint angles whose bones point
where the human's do. They are published on /robot_hand/joint_states (sensor_msgs/JointState), as a
driver or robot_state_publisher takes them, and shown as bars.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dex_retargeting.retargeting_config import RetargetingConfig

from hand_perception.dds.participant import Participant
from hand_perception.dds.stop import stop_on_signals
from hand_perception.geometry import wrist_frame
from hand_perception.hands import Hand, Side
from hand_perception.retargeting import dex_retargeting_joints

URDF = Path(__file__).with_name("robot_hand.urdf")
FINGERS = ("thumb", "index", "middle", "ring")
# The robot's hand over a human's.
SCALE = 1.25
# Per finger: the links at its joints and its tip are the human's keypoints 1..4, 5..8 and so on.
LINKS = ("proximal", "middle", "distal", "tip")


class RobotHand:
    """A human hand's keypoints to the robot's joint angles."""

    def __init__(self, low_pass_alpha: float = 0.6) -> None:
        """low_pass_alpha: 1 follows at once; the node's tracker has smoothed already."""
        origins, tasks, pairs = [], [], []
        for f, finger in enumerate(FINGERS):
            for k in range(3):  # its bones
                origins.append(f"{finger}_{LINKS[k]}")
                tasks.append(f"{finger}_{LINKS[k + 1]}")
                pairs.append((4 * f + k + 1, 4 * f + k + 2))
            origins.append("palm")  # and where its tip is
            tasks.append(f"{finger}_tip")
            pairs.append((0, 4 * f + 4))
        self._human = np.array(pairs).T
        self._retargeting = RetargetingConfig(
            type="vector",
            urdf_path=str(URDF),
            target_origin_link_names=origins,
            target_task_link_names=tasks,
            target_link_human_indices=self._human,
            scaling_factor=SCALE,
            low_pass_alpha=low_pass_alpha,
        ).build()
        self.names: list[str] = self._retargeting.joint_names

    def __call__(self, keypoints3d: np.ndarray, side: Side) -> np.ndarray:
        """Joint angles in radians, in the order of ``names``.

        keypoints3d: [21, 3] metres in the camera frame. The robot is a right hand: a left one moves
        it as in a mirror. Raises DataError for keypoints that fix no wrist frame.
        """
        points = dex_retargeting_joints(_hand(keypoints3d, side))
        if side is Side.LEFT:
            points = points * (1, -1, 1)
        origins, tasks = self._human
        return np.array(self._retargeting.retarget(points[tasks] - points[origins]))


def _hand(keypoints3d: np.ndarray, side: Side) -> Hand:
    """A Hand of keypoints alone: /hands/keypoints has no mesh."""
    points = np.asarray(keypoints3d, np.float32).reshape(21, 3)
    return Hand(
        side=side,
        score=1.0,
        box=np.zeros(4),
        keypoints2d=np.zeros((21, 2)),
        confidences=np.ones(21),
        keypoints3d=points,
        vertices=np.zeros((0, 3)),
        wrist=wrist_frame(points, side),
    )


def drive(
    participant: Participant, robot: RobotHand, side: Side, show: Callable[[np.ndarray], None]
) -> None:
    """Subscribes, and publishes the angles of each image's first hand of that side."""
    publisher = participant.publisher("robot_hand/joint_states", "sensor_msgs/msg/JointState")

    def on_keypoints(message: Any, _cdr: bytes, _stamp: int) -> None:
        for hand in message.hands:
            if (hand.side == hand.LEFT) == (side is Side.LEFT):
                angles = robot(np.reshape(hand.keypoints3d, (21, 3)), side)
                state = participant.types.make(
                    "sensor_msgs/msg/JointState",
                    header=message.header,
                    name=robot.names,
                    position=angles,
                    velocity=np.zeros(0),
                    effort=np.zeros(0),
                )
                publisher.publish(state)
                show(angles)
                return

    participant.subscribe("hands/keypoints", "hand_perception/msg/HandKeypointsArray", on_keypoints)


def bars(names: list[str]) -> Callable[[np.ndarray], None]:
    """Shows how far each finger is bent, in one line."""

    def show(angles: np.ndarray) -> None:
        bent = {finger: 0.0 for finger in FINGERS}
        for name, angle in zip(names, angles, strict=True):
            finger, _, joint = name.partition("_")
            if joint != "spread":
                bent[finger] += float(angle) / 4
        cells = (f"{f} {'#' * round(10 * min(max(b, 0), 1)):10s}" for f, b in bent.items())
        print("\r" + "  ".join(cells), end="", flush=True)

    return show


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", choices=[side.value for side in Side], default="right")
    domain = int(os.environ.get("ROS_DOMAIN_ID", 0))
    parser.add_argument("--domain-id", type=int, default=domain, help="of DDS (%(default)s)")
    parser.add_argument("--localhost", action="store_true", help="talk on this machine only")
    args = parser.parse_args()

    robot = RobotHand()
    stop = stop_on_signals()
    with Participant("robot_hand", domain_id=args.domain_id, localhost=args.localhost) as network:
        drive(network, robot, Side(args.side), bars(robot.names))
        stop.wait()
    print()


if __name__ == "__main__":
    main()
