"""``hand-perception node`` and ``hand-perception camera``."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hand_perception.arguments import add_parameter_arguments
from hand_perception.dds.network import (
    DISTROS,
    domain_id_from_environment,
    localhost_from_environment,
    peers_from_environment,
)
from hand_perception.dds.stop import stop_on_signals
from hand_perception.errors import HandPerceptionError
from hand_perception.node import ReconstructorWithTopology, load_reconstructor
from hand_perception.parameters import (
    NodeParameters,
    read_assignments,
    read_parameter_file,
    split_qos_overrides,
)
from hand_perception.topics import NODE_NAME

if TYPE_CHECKING:
    from hand_perception.dds.participant import Participant


def add_node_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``node``."""
    parser.add_argument(
        "--frontend",
        choices=("dds", "ros"),
        default="dds",
        help="dds needs no ROS installation; ros is the rclpy lifecycle node, activated at once",
    )
    add_parameter_arguments(parser)
    add_network_arguments(parser)


def add_camera_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``camera``."""
    parser.add_argument("source", help="video file, picture, folder of pictures or webcam index")
    parser.add_argument("--rate", type=positive, help="pictures per second (its own, or 30)")
    parser.add_argument("--loop", action="store_true", help="start again at the end")
    parser.add_argument("--compressed", action="store_true", help="publish JPEG images")
    parser.add_argument("--intrinsics", type=Path, help=".npz with the 3x3 matrix K")
    parser.add_argument("--fov", type=positive, help="degrees across the longer side, without K")
    parser.add_argument("--frame-id", default="camera_color_optical_frame", help="in the header")
    parser.add_argument(
        "--listeners",
        type=int,
        default=0,
        metavar="N",
        help="wait for so many subscribers before the first picture",
    )
    add_network_arguments(parser)


def positive(text: str) -> float:
    """An argument's number above zero."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of every command that joins a DDS domain."""
    network = parser.add_argument_group("network")
    network.add_argument("--domain-id", type=int, help="DDS domain (ROS_DOMAIN_ID, or 0)")
    network.add_argument(
        "--localhost",
        action="store_true",
        help="loopback only (as ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST says)",
    )
    network.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a machine that multicast does not reach (ROS_STATIC_PEERS); may be repeated",
    )
    network.add_argument(
        "--distro", choices=DISTROS, default="jazzy", help="ROS 2 version of the others"
    )
    network.add_argument("--namespace", default="/", help="of the node and its topics")
    network.add_argument(
        "--remap", action="append", default=[], metavar="FROM:=TO", help="rename a topic"
    )


def run_node(
    args: argparse.Namespace,
    load: Callable[[NodeParameters], ReconstructorWithTopology] = load_reconstructor,
) -> int:
    """Serve until SIGINT or SIGTERM. Raises HandPerceptionError on bad parameters or models."""
    if args.frontend == "ros":
        return _run_ros_node(args)
    values = read_parameter_file(args.params) if args.params else {}
    values, overrides = split_qos_overrides({**values, **read_assignments(args.param)})
    parameters = NodeParameters().changed(values)
    from hand_perception.dds.node import serve

    start_logging()
    stop = stop_on_signals()
    reconstructor = load(parameters)
    with make_participant(NODE_NAME, args, overrides) as participant:
        serve(participant, parameters, reconstructor, stop)
    return 0


def _run_ros_node(args: argparse.Namespace) -> int:
    try:
        from hand_perception.ros.node import main
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hand_perception."):
            cure = "build this package with colcon and source its workspace"
        else:
            cure = "source a ROS 2 installation, or use --frontend dds"
        raise HandPerceptionError(f"cannot import {error.name}: {cure}") from error
    if args.domain_id is not None:
        os.environ["ROS_DOMAIN_ID"] = str(args.domain_id)
    if args.localhost and args.distro == "humble":
        os.environ["ROS_LOCALHOST_ONLY"] = "1"
    elif args.localhost:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if args.peer:
        os.environ["ROS_STATIC_PEERS"] = ";".join(args.peer)
    return main(ros_arguments(args), autostart=True)


def run_camera(args: argparse.Namespace) -> int:
    """Publish until the source ends, SIGINT or SIGTERM. Raises DataError on bad sources."""
    start_logging()
    stop = stop_on_signals()
    with make_participant("camera", args) as participant:
        from hand_perception.dds.camera import play
        from hand_perception.sources import Source

        source = Source(args.source)
        play(
            participant,
            source,
            stop,
            rate=args.rate or source.rate or 30.0,
            frame_id=args.frame_id,
            intrinsics=args.intrinsics,
            horizontal_fov=args.fov,
            compressed=args.compressed,
            loop=args.loop,
            listeners=args.listeners,
        )
    return 0


def make_participant(
    name: str, args: argparse.Namespace, qos_overrides: Mapping[str, Any] | None = None
) -> Participant:
    """A Participant by the network arguments, ROS's environment variables and QoS parameters."""
    from hand_perception.dds.participant import Participant
    from hand_perception.dds.qos import QosOverrides

    domain_id = args.domain_id if args.domain_id is not None else domain_id_from_environment()
    return Participant(
        name,
        args.namespace,
        domain_id=domain_id,
        localhost=args.localhost or localhost_from_environment(),
        peers=args.peer or peers_from_environment(),
        distro=args.distro,
        remaps=_remaps(args.remap),
        qos_overrides=QosOverrides(qos_overrides),
    )


def ros_arguments(args: argparse.Namespace) -> list[str]:
    """The node's arguments in ROS's own spelling."""
    words = ["--ros-args"]
    words += ["--params-file", str(args.params)] if args.params else []
    for assignment in args.param:
        words += ["-p", assignment]
    for remap in args.remap:
        words += ["-r", remap]
    if args.namespace != "/":
        words += ["-r", f"__ns:=/{args.namespace.strip('/')}"]
    return words


def start_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s] [%(name)s] %(message)s")


def _remaps(texts: list[str]) -> dict[str, str]:
    remaps = {}
    for text in texts:
        old, separator, new = text.partition(":=")
        if not (old and separator and new):
            raise HandPerceptionError(f"--remap {text!r} must be written from:=to")
        remaps[old] = new
    return remaps
