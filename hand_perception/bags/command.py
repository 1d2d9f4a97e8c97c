"""``hand-perception bag``: a recording in, the same recording with its hands out."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from hand_perception.arguments import add_parameter_arguments
from hand_perception.bags.process import Settings, process
from hand_perception.parameters import NodeParameters
from hand_perception.topics import MARKERS, OVERLAY, POINTS

log = logging.getLogger("hand_perception.bag")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recording",
        type=Path,
        help="rosbag2 folder, .mcap, .db3 or video; with --ray a folder of them or a list of paths",
    )
    parser.add_argument(
        "output", type=Path, help="folder that does not exist; with --ray one for all"
    )
    parser.add_argument("--image", help="topic of the images (the only colour camera's)")
    parser.add_argument("--camera-info", help="topic of their CameraInfo (the one beside them)")
    parser.add_argument(
        "--camera",
        nargs=4,
        type=float,
        metavar=("FX", "FY", "CX", "CY"),
        help="intrinsics in pixels for a recording without CameraInfo",
    )
    add_parameter_arguments(parser)
    parser.add_argument("--namespace", default="", help="of the topics added (none)")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        choices=[output.topic for output in (MARKERS, POINTS, OVERLAY)],
        help="a large topic to add as well; may be repeated",
    )
    parser.add_argument(
        "--storage", choices=("mcap", "sqlite3"), help="of the output (the recording's own)"
    )
    fleet = parser.add_argument_group("many recordings")
    fleet.add_argument("--ray", action="store_true", help="work as a Ray Data job")
    fleet.add_argument("--ray-address", help="of a running cluster (this machine alone)")
    fleet.add_argument(
        "--cpus", type=int, default=2, help="cores per recording at a time (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Returns 1 when images, or with --ray recordings, failed. Raises HandPerceptionError."""
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s] %(message)s")
    settings = settings_of(args)
    if args.ray:
        from hand_perception.bags.fleet import process_all

        failed = process_all(
            args.recording, args.output, settings, cpus=args.cpus, address=args.ray_address
        )
        return 1 if failed else 0
    with logging_redirect_tqdm():
        try:
            summary = process(args.recording, args.output, settings)
        except KeyboardInterrupt:
            log.info("interrupted: the same command goes on from here")
            raise
    rate = (summary.images - summary.known) / max(summary.seconds, 1e-9)
    print(
        f"{args.output}: {summary.hands} hands in {summary.images} images, "
        f"{summary.failed} failed, {rate:.1f} images per second"
    )
    return 1 if summary.failed else 0


def settings_of(args: argparse.Namespace) -> Settings:
    """Raises ParameterError."""
    parameters = NodeParameters.from_yaml(args.params) if args.params else NodeParameters()
    return Settings(
        parameters.with_assignments(args.param),
        image=args.image,
        info=args.camera_info,
        namespace=args.namespace,
        also=tuple(args.also),
        storage=args.storage,
        intrinsics=tuple(args.camera) if args.camera else None,
    )
