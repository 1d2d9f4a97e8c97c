"""ros2 launch hand_perception cameras.launch.py cameras:='[front, wrist]'

One node, one network, several cameras: each camera's images are expected below its name, and its
hands are published there.
"""

from launch.substitutions import LaunchConfiguration
from launch_ros.parameter_descriptions import ParameterValue

from hand_perception.ros.launching import argument, node_actions, node_arguments
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    text = {
        name: ParameterValue(LaunchConfiguration(name), value_type=str)
        for name in ("image_topic", "camera_info_topic", "depth_topic")
    }
    cameras = ParameterValue(LaunchConfiguration("cameras"), value_type=list[str])
    return LaunchDescription(
        [
            argument("cameras", "[front, left, right]", "Names of the cameras, as a YAML list."),
            argument("image_topic", "image_raw", "Colour images, below each camera's name."),
            argument("camera_info_topic", "camera_info", "Their intrinsics, likewise."),
            argument("depth_topic", "", "Aligned depth images, likewise; empty: none."),
            *node_arguments(),
            *node_actions({"cameras": cameras, **text}),
        ]
    )
