"""Writes docs/reference.md from the code: topics, messages, parameters, services, diagnostics.

python scripts/make_reference.py
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hand_perception import articulation
from hand_perception.cdr import message_types, type_store
from hand_perception.frames import camera_info_message, image_message
from hand_perception.hands import KEYPOINT_NAMES, Camera, Side
from hand_perception.messages import header
from hand_perception.node import HandNode, load_reconstructor
from hand_perception.parameters import NodeParameters
from hand_perception.sources import Source
from hand_perception.topics import OUTPUTS, SERVICES, Input, Output, camera_inputs

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference.md"
CLIP = ROOT / "hand_perception" / "assets" / "demo" / "clip.mp4"


def reference() -> str:
    """The page's text."""
    sections = [
        "# Reference",
        "Written by `python scripts/make_reference.py` from the code; a test fails when it is "
        "stale. What the numbers mean: [conventions.md](conventions.md). How to use the node: "
        "[ros.md](ros.md).",
        "## Topics the node reads",
        inputs_table(),
        "## Topics it publishes",
        "Relative names stand in the node's namespace and, with several `cameras`, below each "
        "camera's name. All are reliable, with a queue of one; *latched* ones are transient local "
        "as well.",
        outputs_table(),
        "## Services",
        services_table(),
        "## Parameters",
        "Both front ends have all of them. *live*: may change while the node is active "
        "(`ros2 param set`); the others after *deactivate* and *cleanup*.",
        parameters_table(),
        "## Launch arguments",
        "`ros2 launch hand_perception hands.launch.py name:=value`, or `cameras.launch.py` for one "
        "node with several cameras.",
        launch_table(),
        "## Diagnostics",
        "Keys of the two statuses of each camera on `/diagnostics`.",
        diagnostics_table(),
        "## Messages",
        *message_sections(),
        "## Frames",
        "![The camera's optical frame and the wrist frames of either hand](images/frames.svg)",
        "Transforms on `/tf` go from the image's optical frame (the header's `frame_id`) to "
        "`left_hand` and `right_hand`; with `publish_finger_frames` from there to each joint.",
        "## Keypoints",
        "The order of `keypoints3d`, `keypoints2d`, `confidences` and the topology's "
        "`keypoint_names`:",
        ", ".join(f"{index} `{name}`" for index, name in enumerate(KEYPOINT_NAMES)) + ".",
        "![The 21 keypoints on the template, numbered](images/joints.png)",
        "## Joint names",
        "Of `hands/joint_states`, radians, for a right hand; a left hand's begin with `left_`:",
        ", ".join(f"`{name}`" for name in articulation.JOINT_NAMES[Side.RIGHT]) + ".",
    ]
    return "\n\n".join(sections) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code(text: Any) -> str:
    return f"`{text}`" if text != "" else ""


def short(type_name: str) -> str:
    return code(type_name.replace("/msg/", "/").replace("/srv/", "/"))


def inputs_table() -> str:
    raw = camera_inputs(NodeParameters(depth_topic="depth"))
    compressed = camera_inputs(NodeParameters(compressed=True))
    conditions = {raw.image: "", compressed.image: "with `compressed`", raw.info: ""}
    conditions[raw.depth] = "what `depth_topic` names"
    return table(
        ("topic", "type", "", "when"),
        [
            (code(source.topic), short(source.type_name), source.description, condition)
            for source, condition in conditions.items()
        ],
    )


def outputs_table() -> str:
    return table(
        ("topic", "type", "when", ""),
        [
            (code(o.topic), short(o.type_name), o.description, "*latched*" if o.latched else "")
            for o in OUTPUTS
        ],
    )


def services_table() -> str:
    return table(
        ("service", "type", ""),
        [(code(s.name), short(s.type_name), s.description) for s in SERVICES],
    )


def parameters_table() -> str:
    rows = []
    for spec in fields(NodeParameters):
        limits = spec.metadata["limits"]
        rows.append(
            (
                code(spec.name),
                kind_of(spec.default),
                code(default_text(spec.default)),
                f"{limits[0]:g} to {limits[1]:g}" if limits else "",
                "*live*" if spec.metadata["live"] else "",
                spec.metadata["description"].replace("<", "&lt;"),
            )
        )
    return table(("parameter", "type", "default", "range", "", ""), rows)


def kind_of(default: Any) -> str:
    return "list of str" if isinstance(default, tuple) else type(default).__name__


def default_text(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return "[" + ", ".join(default) + "]"
    return f"{default:g}" if isinstance(default, float) else str(default)


def launch_table() -> str:
    """Read from the source, as `launch` is there with ROS only."""
    rows = []
    for file, path in (
        ("hands.launch.py", "launch/hands.launch.py"),
        ("cameras.launch.py", "launch/cameras.launch.py"),
        ("both", "hand_perception/ros/launching.py"),
    ):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "argument":
                name, default, description = call.args
                fixed = isinstance(default, ast.Constant)
                text = code(default.value) if fixed else "this package's"
                rows.append((file, code(name.value), text, ast.literal_eval(description)))
    return table(("of", "argument", "default", ""), rows)


def message_sections() -> list[str]:
    found = []
    for path in sorted((ROOT / "msg").glob("*.msg")):
        found += [f"### hand_perception/{path.stem}", f"```\n{path.read_text().strip()}\n```"]
    return found


def diagnostics_table() -> str:
    """The keys of a node that has seen an image."""
    array = published_diagnostics()
    rows = []
    for status in array.status:
        name = status.name.partition(": ")[2]
        rows += [(name, code(value.key)) for value in status.values]
    return table(("status", "key"), rows)


def published_diagnostics() -> Any:
    """/diagnostics of the shipped model after one image of the shipped clip."""
    types = message_types(type_store())
    rgb = next(Source(str(CLIP)).pictures())
    height, width = rgb.shape[:2]
    head = header(types, 1, "optical")
    parameters = NodeParameters(threads=1)
    transport = _Transport()
    log = logging.getLogger("reference")
    node = HandNode(parameters, load_reconstructor(parameters), types, transport, log)
    inputs = camera_inputs(parameters)
    camera = Camera.assumed(width, height)
    transport.callbacks[inputs.info.topic](camera_info_message(types, head, camera))
    transport.callbacks[inputs.image.topic](image_message(types, head, rgb))
    node.drain()
    node.publish_diagnostics()
    node.stop()
    return transport.published["/diagnostics"]


class _Transport:
    """Keeps the last message of each topic."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[Any], None]] = {}
        self.published: dict[str, Any] = {}

    def publish(self, output: Output, message: Any) -> None:
        self.published[output.topic] = message

    def has_listener(self, output: Output) -> bool:
        return False

    def subscribe(self, source: Input, callback: Callable[[Any], None]) -> None:
        self.callbacks[source.topic] = callback

    def resolve(self, topic: str) -> str:
        return topic


def main() -> None:
    text = reference()
    REFERENCE.write_text(text, encoding="utf-8")
    print(f"{REFERENCE}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
