"""Who may import what. The deployed node never loads torch; only one folder knows ROS."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import hand_perception

PACKAGE = Path(hand_perception.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

# Third-party package: where it may be imported, as path prefixes inside the package.
ALLOWED = {
    "rclpy": ("ros/",),
    "tf2_ros": ("ros/",),
    "cyclonedds": ("dds/",),
    "rosbags": ("dds/", "bags/", "cdr.py"),
    "ray": ("bags/fleet.py",),
    "viser": ("viewer/",),
    "tensorrt": ("runtime/tensorrt", "export/engine"),
    "pycuda": ("runtime/tensorrt", "export/engine"),
    "cuda": ("runtime/tensorrt", "export/engine"),
    "pynvml": ("runtime/",),
    "onnxruntime": ("runtime/", "export/"),
    "torch": ("models/", "training/", "synthesis/", "export/", "data/"),
    "scipy": ("training/", "synthesis/", "data/"),
    "transformers": ("models/",),
    "numba": ("synthesis/", "training/", "data/"),
}
# What a frame passes through, and what must not know who calls it.
CORE = ("errors", "hands", "geometry", "imaging", "template", "smoothing", "tracking", "overlay")
CORE += ("postprocess", "articulation", "retargeting", "reconstructor", "runtime", "depth")
CORE += ("uncertainty", "matching", "mano_pose", "skeleton", "pose_fitting", "view", "windows")
CORE += ("second_look", "close_looks", "following")
FRONT_ENDS = ("ros", "dds", "demo", "node", "worker", "messages", "cli", "predict", "evaluation")
FRONT_ENDS += ("articulation_messages", "camera_pipeline", "depth_matching", "publishing")
FRONT_ENDS += ("complaints", "snapshot", "topics", "parameters", "frames", "markers")
FRONT_ENDS += ("camera_watch", "placing", "interop_messages", "arguments")
FRONT_ENDS += ("bags", "viewer", "cdr", "sources")
LABORATORY = ("models", "training", "synthesis", "data", "export")
# Modules of a running system: its nodes, its commands and what judges it.
DEPLOYED = ("reconstructor", "predict", "messages", "worker", "node", "dds.node", "dds.command")
DEPLOYED += ("evaluation.command", "demo", "cli")


def imports_of(source: str) -> set[str]:
    """Absolute names of all imported modules, also those inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}: write it in full"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_imports_are_found_wherever_they_hide():
    source = "import a.b\ndef f():\n    from c import d\n    import e as g\n"
    assert imports_of(source) == {"a.b", "c", "c.d", "e"}


@pytest.mark.parametrize("package", ALLOWED)
def test_third_party_packages_stay_behind_their_walls(package):
    outside = [file for file in FILES if not file.startswith(ALLOWED[package])]
    trespassers = [
        file
        for file in outside
        if any(name.partition(".")[0] == package for name in imports_of(read(file)))
    ]
    assert trespassers == [], f"{package} belongs in {ALLOWED[package]}"


def test_the_core_knows_neither_front_ends_nor_laboratory():
    forbidden = {f"hand_perception.{name}" for name in FRONT_ENDS + LABORATORY}
    trespassers = {
        file: sorted(names)
        for file in FILES
        if file.partition("/")[0].removesuffix(".py") in CORE
        and (
            names := {
                name
                for name in imports_of(read(file))
                if ".".join(name.split(".")[:2]) in forbidden
            }
        )
    }
    assert trespassers == {}


def test_the_vocabulary_stands_on_nothing():
    ours = {name for name in imports_of(read("hands.py")) if name.startswith("hand_perception")}
    assert {name.split(".")[1] for name in ours} == {"errors"}


@pytest.mark.parametrize("module", DEPLOYED)
def test_a_deployed_system_never_loads_torch(module):
    if module.startswith(("dds", "demo")) and find_spec("cyclonedds") is None:
        pytest.skip("needs cyclonedds: pip install 'hand_perception[dds]'")
    script = f"import sys, hand_perception.{module}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "torch is loaded"


def read(file: str) -> str:
    return (PACKAGE / file).read_text(encoding="utf-8")
