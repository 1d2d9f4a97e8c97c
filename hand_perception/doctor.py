"""``hand-perception doctor``: what this machine has for the node, and how to get what it lacks.

Each line is one finding: ok, missing (with the cure) or broken (with the cure). Nothing that is
missing is needed unless it says so; the status is 1 only where the node could not run at all.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path

from hand_perception.dds.network import domain_id_from_environment
from hand_perception.errors import HandPerceptionError
from hand_perception.runtime.backend import MODELS, ModelFolder
from hand_perception.runtime.engine_file import SUFFIX, cure, engine_folder, read_engine

OK, MISSING, BROKEN = "ok", "missing", "broken"


@dataclass(frozen=True)
class Finding:
    """state: OK, MISSING or BROKEN. cure: a command, or what to do; needed: the node cannot run
    without it."""

    name: str
    state: str
    what: str
    cure: str = ""
    needed: bool = False

    def line(self) -> str:
        mend = f" -> {self.cure}" if self.cure and self.state != OK else ""
        return f"{self.state:8}{self.name:24}{self.what}{mend}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="findings as a JSON list")


def run(args: argparse.Namespace) -> int:
    """Returns 1 where something that the node needs is missing or broken."""
    findings = list(examine())
    if args.json:
        print(json.dumps([asdict(f) for f in findings], indent=2))
    else:
        print("\n".join(f.line() for f in findings))
    return int(any(f.needed and f.state != OK for f in findings))


def examine() -> Iterator[Finding]:
    """All findings, in the order in which they build on each other."""
    yield python()
    yield from drivers()
    yield from cuda_tools()
    yield from libraries()
    yield from providers()
    yield from models()
    yield from transports()


def python() -> Finding:
    what = f"{platform.python_version()} on {platform.platform(terse=True)} {platform.machine()}"
    return Finding("Python", OK, what, needed=True)


def drivers() -> Iterator[Finding]:
    """NVIDIA's driver and its GPUs, asked through the driver itself."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        yield Finding(
            "NVIDIA driver",
            MISSING,
            "the node runs on the CPU",
            "with an NVIDIA GPU: sudo ubuntu-drivers install; on a Jetson: JetPack",
        )
        return
    version, count = ctypes.c_int(), ctypes.c_int()
    status = driver.cuInit(0)
    if status or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        yield Finding(
            "NVIDIA driver",
            BROKEN,
            f"installed, but it finds no GPU (CUDA error {status})",
            "check nvidia-smi; in a container: docker run --gpus all",
        )
        return
    driver.cuDriverGetVersion(ctypes.byref(version))
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    yield Finding("NVIDIA driver", OK, f"for CUDA up to {cuda}")
    for index in range(count.value):
        name = ctypes.create_string_buffer(256)
        driver.cuDeviceGetName(name, len(name), index)
        yield Finding(f"GPU {index}", OK, name.value.decode())


def cuda_tools() -> Iterator[Finding]:
    """What `build-engine` needs besides TensorRT."""
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        yield Finding(
            "CUDA compiler (nvcc)",
            MISSING,
            "build-engine needs it",
            "sudo apt install nvidia-cuda-toolkit, or NVIDIA's cuda-nvcc package",
        )
        return
    done = subprocess.run([nvcc, "--version"], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if "release" in line]
    if done.returncode or not lines:
        yield Finding("CUDA compiler (nvcc)", BROKEN, nvcc, "reinstall the CUDA toolkit")
    else:
        yield Finding("CUDA compiler (nvcc)", OK, f"{lines[0].split(',')[1].strip()}, {nvcc}")


def libraries() -> Iterator[Finding]:
    """Python packages beyond those that pip always brings."""
    tensorrt_cure = "install NVIDIA's TensorRT 10.3 to 11 with its Python bindings, or JetPack 6.1+"
    for package in (
        ("ONNX Runtime", "onnxruntime", "runs the networks", "pip install onnxruntime", True),
        ("OpenCV", "cv2", "reads images", "pip install opencv-python-headless", True),
        ("TensorRT", "tensorrt", "the fastest engines on a GPU", tensorrt_cure, False),
        ("pycuda", "pycuda.driver", "TensorRT's memory and kernels", _extra("tensorrt"), False),
        ("onnx", "onnx", "build-engine rewrites graphs", _extra("tensorrt"), False),
        ("PyTorch", "torch", "training and export only", _extra("train"), False),
    ):
        yield _package(*package)


def providers() -> Iterator[Finding]:
    """Where ONNX Runtime can compute."""
    if util.find_spec("onnxruntime") is None:
        return
    from hand_perception.runtime.onnxruntime_backend import available_providers

    yield Finding("ONNX Runtime providers", OK, ", ".join(available_providers()))


def models() -> Iterator[Finding]:
    """The shipped models, whether they are whole, and the engines built of those in float32."""
    for path in sorted(p for p in MODELS.glob("*") if p.is_dir()):
        try:
            folder = ModelFolder.open(path.name)
        except HandPerceptionError as error:
            reinstall = "pip install --force-reinstall hand_perception"
            yield Finding(f"model {path.name}", BROKEN, str(error), reinstall, needed=True)
            continue
        version = folder.card["sha256"]["decoder.onnx"][:8]
        yield Finding(f"model {path.name}", OK, f"{version}, {folder.image_size} px", needed=True)
        if folder.card.get("precision") == "fp32":  # int8 is for processors
            yield _engine(folder)


def _engine(folder: ModelFolder) -> Finding:
    name, build = f"engine {folder.name}", cure(folder).removeprefix("run ").strip("`")
    file = engine_folder(folder) / f"decoder{SUFFIX}"
    if not file.is_file():
        return Finding(name, MISSING, "with TensorRT the node runs ONNX Runtime until then", build)
    try:
        identity, _ = read_engine(file)
    except HandPerceptionError as error:
        return Finding(name, BROKEN, str(error), f"{build} --force")
    what = f"{identity.precision} for {identity.gpu}, TensorRT {identity.tensorrt}"
    if identity.source_sha256 != folder.card["sha256"]["decoder.onnx"]:
        return Finding(name, BROKEN, f"{what}, of another version of the network", build)
    agreement = identity.agreement
    measured = f"joints {agreement['joints_px']:.2g} px, mesh {agreement['vertices_mm']:.2g} mm"
    return Finding(name, OK, f"{what}; worst hand against ONNX Runtime: {measured}")


def transports() -> Iterator[Finding]:
    """ROS, and DDS without it: the node needs one of the two."""
    distribution = os.environ.get("ROS_DISTRO")
    has_ros = util.find_spec("rclpy") is not None
    has_dds = util.find_spec("cyclonedds") is not None
    if has_ros:
        rmw = os.environ.get("RMW_IMPLEMENTATION", "the default middleware")
        yield Finding("ROS 2", OK, f"{distribution or 'sourced'}, {rmw}")
    elif setups := sorted(Path("/opt/ros").glob("*/setup.bash")):
        yield Finding("ROS 2", MISSING, "installed, not sourced", f"source {setups[-1]}")
    else:
        yield Finding("ROS 2", MISSING, "`node` runs without it", "see docs/ros.md")
    neither = not (has_ros or has_dds)
    yield _package("DDS (cyclonedds)", "cyclonedds", "node and demo", _extra("dds"), neither)
    try:
        yield Finding("ROS_DOMAIN_ID", OK, str(domain_id_from_environment()))
    except HandPerceptionError as error:
        yield Finding("ROS_DOMAIN_ID", BROKEN, str(error), "export ROS_DOMAIN_ID=0", needed=True)


def _package(name: str, module: str, why: str, mend: str, needed: bool) -> Finding:
    """Whether a module is installed and imports; importing is what finds a missing library."""
    top = module.partition(".")[0]
    if util.find_spec(top) is None:
        return Finding(name, MISSING, why, mend, needed)
    # In a process of its own: a broken extension can abort, and torch takes long to leave.
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"], capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it ends the process"])[-1]
        return Finding(name, BROKEN, f"does not import: {reason:.120}", mend, needed)
    return Finding(name, OK, _version(top), needed=needed)


def _version(module: str) -> str:
    for distribution in metadata.packages_distributions().get(module, ()):
        return f"{distribution} {metadata.version(distribution)}"
    return "installed without pip"


def _extra(name: str) -> str:
    return f"pip install 'hand_perception[{name}]'"
