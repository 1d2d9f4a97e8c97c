"""``hand-perception <command>``: one table of commands, each imported only when it is chosen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import hand_perception
from hand_perception.errors import HandPerceptionError

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
USAGE_ERROR = 2


@dataclass(frozen=True)
class Command:
    """Where a command lives: ``module`` with its ``add_arguments`` and ``run`` functions.

    extra: the pip extra that brings what the module imports, "" for none.
    """

    help: str
    module: str
    extra: str = ""
    add_arguments: str = "add_arguments"
    run: str = "run"


COMMANDS = {
    "predict": Command("hands in pictures, as JSON lines", "hand_perception.predict"),
    "demo": Command("hands in a video, a picture or from a webcam", "hand_perception.demo", "dds"),
    "node": Command(
        "the ROS 2 node, with or without a ROS installation",
        "hand_perception.dds.command",
        "dds",
        "add_node_arguments",
        "run_node",
    ),
    "camera": Command(
        "publish a video or a webcam as a ROS 2 camera",
        "hand_perception.dds.command",
        "dds",
        "add_camera_arguments",
        "run_camera",
    ),
    "bag": Command("hands into a recorded rosbag2", "hand_perception.bags.command", "bag"),
    "viewer": Command(
        "look at a running node in a web browser", "hand_perception.viewer.command", "viewer"
    ),
    "evaluate": Command(
        "accuracy on labelled data", "hand_perception.evaluation.command", "evaluate"
    ),
    "calibrate": Command(
        "scores that mean what they say", "hand_perception.evaluation.calibration"
    ),
    "propose": Command(
        "places that a detector takes for hands", "hand_perception.evaluation.proposals"
    ),
    "synthesize": Command("render training data", "hand_perception.synthesis.command", "train"),
    "pack": Command("public data sets into shards", "hand_perception.data.command", "train"),
    "train": Command("train a network", "hand_perception.training.command", "train"),
    "train-prior": Command(
        "an implicit prior of hand meshes", "hand_perception.training.mesh_prior", "train"
    ),
    "export": Command("a trained network to ONNX", "hand_perception.export.command", "train"),
    "profile": Command(
        "operations and memory of a network", "hand_perception.export.profile", "train"
    ),
    "lifting": Command(
        "a picture of HandOS's lifting matrix", "hand_perception.export.lifting", "train"
    ),
    "quantise": Command("a model folder to int8", "hand_perception.export.quantise", "train"),
    "doctor": Command("what this machine has and what it lacks", "hand_perception.doctor"),
    "build-engine": Command(
        "TensorRT engines for this machine", "hand_perception.export.engine", "tensorrt"
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    A HandPerceptionError becomes one line on stderr and status 2, an interrupt status 130.
    """
    parser = _parser()
    arguments = sys.argv[1:] if argv is None else list(argv)
    # The command's own options are parsed by its own parser, made once its module is in.
    chosen, rest = parser.parse_args(arguments[:1]).command, arguments[1:]
    command = COMMANDS[chosen]
    try:
        module = import_module(command.module)
        subparser = argparse.ArgumentParser(
            f"{parser.prog} {chosen}", description=f"{command.help[0].upper()}{command.help[1:]}."
        )
        getattr(module, command.add_arguments)(subparser)
        return getattr(module, command.run)(subparser.parse_args(rest))
    except HandPerceptionError as error:
        return _fail(parser, str(error))
    except ModuleNotFoundError as error:
        # A module of our own that is missing is a bug, and shows as one.
        if not command.extra or (error.name or "").partition(".")[0] == hand_perception.__name__:
            raise
        cure = f"pip install 'hand_perception[{command.extra}]'"
        if error.name == "rclpy":
            cure = "source a ROS 2 workspace"
        return _fail(parser, f"{chosen} needs {error.name}, which is not installed: {cure}")
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {c.help}" for name, c in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "hand-perception",
        description="Metric 3D hands for robots.",
        epilog=f"commands:\n{listing}\n\n'hand-perception COMMAND --help' explains each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=hand_perception.__version__)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    return parser


def _fail(parser: argparse.ArgumentParser, message: str) -> int:
    print(f"{parser.prog}: {' '.join(message.split())}", file=sys.stderr)
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
