"""``hand-perception viewer``: look at a running node from a browser."""

from __future__ import annotations

import argparse

from hand_perception.dds.command import add_network_arguments, make_participant, start_logging
from hand_perception.dds.stop import stop_on_signals
from hand_perception.viewer.arguments import add_page_arguments, open_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", default="image", help="the node's image topic (%(default)s)")
    parser.add_argument(
        "--camera-info", default="camera_info", help="the node's CameraInfo topic (%(default)s)"
    )
    parser.add_argument(
        "--compressed", action="store_true", help="subscribe to IMAGE/compressed, as the node does"
    )
    add_page_arguments(parser)
    add_network_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM. Raises HandPerceptionError."""
    from hand_perception.viewer.feed import Feed

    start_logging()
    stop = stop_on_signals()
    with (
        open_page(args) as page,
        make_participant("hand_viewer", args) as participant,
        Feed(
            participant,
            page,
            image=args.image,
            info=args.camera_info,
            compressed=args.compressed,
        ),
    ):
        print(f"look at {page.url}", flush=True)
        stop.wait()
    return 0
