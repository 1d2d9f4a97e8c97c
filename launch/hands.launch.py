"""ros2 launch hand_perception hands.launch.py image:=/camera/image_raw ..."""

from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import ComposableNodeContainer
from launch_ros.descriptions import ComposableNode

from hand_perception.ros.launching import argument, node_actions, node_arguments
from launch import LaunchDescription

# Where image_proc puts the rectified image, and the node looks for it.
_RECTIFIED = "image_rect"


def generate_launch_description() -> LaunchDescription:
    image, camera_info = LaunchConfiguration("image"), LaunchConfiguration("camera_info")
    depth, rectify = LaunchConfiguration("depth"), LaunchConfiguration("rectify")
    seen = PythonExpression([f"'{_RECTIFIED}' if '", rectify, "' == 'true' else '", image, "'"])
    # One process for what comes before the node: image_proc's nodes are C++ components.
    container = ComposableNodeContainer(
        name="image_proc",
        namespace=LaunchConfiguration("namespace"),
        package="rclcpp_components",
        executable="component_container",
        composable_node_descriptions=[
            ComposableNode(
                package="image_proc",
                plugin="image_proc::RectifyNode",
                name="rectify",
                namespace=LaunchConfiguration("namespace"),
                remappings=[("image", image), ("camera_info", camera_info)],
            )
        ],
        condition=IfCondition(rectify),
    )
    node = node_actions(
        {
            "depth_topic": PythonExpression(["'depth' if '", depth, "' else ''"]),
            # A rectified image has the intrinsics of the raw one, but no distortion.
            "rectified": rectify,
        },
        [
            ("image", seen),
            ("image/compressed", [image, "/compressed"]),
            ("camera_info", camera_info),
            # Nothing may be remapped to an empty name.
            ("depth", PythonExpression(["'", depth, "' or 'depth'"])),
        ],
    )
    return LaunchDescription(
        [
            argument(
                "image",
                "/camera/image_raw",
                "Topic of the colour images; for compressed ones without '/compressed'.",
            ),
            argument(
                "camera_info",
                "/camera/camera_info",
                "Topic of the CameraInfo that belongs to the images.",
            ),
            argument("depth", "", "Topic of depth images aligned to the colour ones, if any."),
            argument("rectify", "false", "Undistort the images with image_proc first."),
            *node_arguments(),
            container,
            *node,
        ]
    )
