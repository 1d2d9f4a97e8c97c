"""What the launch files share: the node's process and its way to active."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from launch.action import Action
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

SHARE = FindPackageShare("hand_perception")


def argument(name: str, default: Any, description: str) -> DeclareLaunchArgument:
    return DeclareLaunchArgument(name, default_value=default, description=description)


def node_arguments() -> list[DeclareLaunchArgument]:
    """Launch arguments that every launch file of the node takes."""
    return [
        argument(
            "params",
            PathJoinSubstitution([SHARE, "config", "hands.yaml"]),
            "Parameter file of the node.",
        ),
        argument("namespace", "", "Namespace of the node and its topics."),
        argument(
            "autostart",
            "true",
            "Configure and activate the node; false leaves that to `ros2 lifecycle`.",
        ),
        argument("use_sim_time", "false", "Take the time from /clock, as with `ros2 bag play`."),
        argument("rviz", "false", "Open RViz with this package's view."),
        argument("log_level", "info", "debug, info, warn, error or fatal."),
    ]


def node_actions(
    parameters: dict[str, Any], remappings: Iterable[tuple[Any, Any]] = ()
) -> list[Action]:
    """The node by ``node_arguments``, its transitions, and RViz on request.

    parameters: win over those of the file.
    """
    sim_time = {"use_sim_time": LaunchConfiguration("use_sim_time")}
    node = LifecycleNode(
        package="hand_perception",
        executable="hand_perception_node",
        name="hand_perception",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params"), {**parameters, **sim_time}],
        remappings=list(remappings),
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        emulate_tty=True,
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", PathJoinSubstitution([SHARE, "config", "hands.rviz"])],
        parameters=[sim_time],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return [*_transitions(node), node, rviz]


def _transitions(node: LifecycleNode) -> list[Action]:
    autostart = IfCondition(LaunchConfiguration("autostart"))

    def change(transition: int) -> EmitEvent:
        event = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
        return EmitEvent(event=event)

    # A failed configure leaves the node unconfigured: nothing is activated and the log says why.
    configure = RegisterEventHandler(
        OnProcessStart(target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)]),
        condition=autostart,
    )
    activate = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[change(Transition.TRANSITION_ACTIVATE)],
            handle_once=True,  # later configurations are somebody's own
        ),
        condition=autostart,
    )
    return [activate, configure]
