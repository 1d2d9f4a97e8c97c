"""What colcon and rosdep read agrees with the rest of the repository."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

import hand_perception
from hand_perception.parameters import NodeParameters
from hand_perception.topics import MARKERS, OUTPUTS, OVERLAY, POINTS, SERVICES, camera_inputs

ROOT = Path(__file__).parent.parent
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()


def test_package_is_what_colcon_needs():
    assert PACKAGE.findtext("name") == hand_perception.__name__
    assert PACKAGE.findtext("version") == hand_perception.__version__
    assert PACKAGE.findtext("export/build_type") == "ament_cmake"
    assert PACKAGE.findtext("member_of_group") == "rosidl_interface_packages"
    # With an invalid address colcon falls back to plain cmake, and the build fails.
    assert re.fullmatch(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", PACKAGE.find("maintainer").get("email"))


def test_every_message_is_generated_and_every_type_is_a_dependency():
    cmake = (ROOT / "CMakeLists.txt").read_text()
    listed = re.findall(r'"msg/(\w+)\.msg"', cmake)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "msg").glob("*.msg"))
    depends = {element.text for element in PACKAGE if element.tag.endswith("depend")}
    types = [output.type_name for output in OUTPUTS]
    types += [service.type_name for service in SERVICES]
    types += [camera_inputs(NodeParameters()).image.type_name]
    for package in {name.split("/")[0] for name in types} - {"hand_perception"}:
        assert package in depends


@pytest.mark.parametrize("path", sorted((ROOT / "msg").glob("*.msg")), ids=lambda p: p.stem)
def test_messages_explain_their_fields(path):
    fields = [line for line in path.read_text().splitlines() if re.match(r"[a-zA-Z]", line)]
    assert path.read_text().startswith("# ")
    for line in fields:
        name, _, comment = line.partition("#")
        assert comment or "=" in name, f"{path.name}: {line!r} has no comment"


def test_rviz_shows_what_the_node_publishes():
    config = yaml.safe_load((ROOT / "config" / "hands.rviz").read_text())
    topics = {
        display["Topic"]["Value"]
        for display in config["Visualization Manager"]["Displays"]
        if "Topic" in display
    }
    assert {f"/{output.topic}" for output in (MARKERS, OVERLAY, POINTS)} <= topics
