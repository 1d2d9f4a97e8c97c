"""Command line arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parameter_arguments(parser: argparse.ArgumentParser) -> None:
    """``--params`` and ``-p``: the node's parameters, from a file and one by one."""
    parser.add_argument("--params", type=Path, help="parameter file, ROS's YAML layout")
    parser.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="one parameter of the node; may be repeated, wins over --params",
    )
