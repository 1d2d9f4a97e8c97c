"""A planner's view of /hands/mesh: how near is the nearest hand to the robot's tool?

ros2 run needs no package for this: source the workspace, then python examples/planner.py
[--ros-args -p tool_frame:=tool0 -p keep_away:=0.25]
"""

import numpy as np
import rclpy
from hand_perception.msg import HandMeshArray
from rclpy.node import Node
from rclpy.time import Time
from tf2_ros import Buffer, TransformException, TransformListener


class Planner(Node):
    def __init__(self) -> None:
        super().__init__("planner")
        self.tool = self.declare_parameter("tool_frame", "tool0").value
        self.keep_away = self.declare_parameter("keep_away", 0.25).value  # metres
        self.frames = Buffer()
        self.listener = TransformListener(self.frames, self)
        self.create_subscription(HandMeshArray, "hands/mesh", self.on_hands, 1)

    def on_hands(self, message: HandMeshArray) -> None:
        try:
            camera = message.header.frame_id
            t = self.frames.lookup_transform(camera, self.tool, Time()).transform.translation
        except TransformException as error:
            return self.get_logger().warning(str(error), throttle_duration_sec=5.0)
        for hand in message.hands:
            if not hand.metric:
                continue  # no CameraInfo: distances would be guesses
            vertices = np.frombuffer(hand.vertices, np.float32).reshape(-1, 3)
            distance = np.linalg.norm(vertices - (t.x, t.y, t.z), axis=1).min()
            side = "left" if hand.side == hand.LEFT else "right"
            verb = "stop for" if distance < self.keep_away else "watch"
            self.get_logger().info(f"{verb} {side} hand {hand.track_id} at {distance:.2f} m")


rclpy.init()
rclpy.spin(Planner())
