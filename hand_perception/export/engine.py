"""``hand-perception build-engine``: a model folder to TensorRT engines for this machine.

Networks are strongly typed: an engine computes in the precision that `export.precision` wrote into
the graph, as builder flags for it are gone in TensorRT 11 and only hints before. Every new engine
is run on stored frames against ONNX Runtime and refused where they disagree.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import onnx
from tqdm import tqdm

from hand_perception.errors import ModelError
from hand_perception.export.agreement import LIMITS, Agreement, compare
from hand_perception.export.precision import folded, half_precision
from hand_perception.postprocess import MAX_HANDS
from hand_perception.runtime.backend import MODELS, ModelFolder
from hand_perception.runtime.engine_file import (
    SUFFIX,
    EngineIdentity,
    cure,
    engine_folder,
    load_engine,
    write_engine,
)
from hand_perception.runtime.onnxruntime_backend import OnnxRuntimeBackend
from hand_perception.runtime.tensorrt_backend import (
    TensorRTBackend,
    check_network,
    expected_identity,
)
from hand_perception.runtime.tensorrt_device import Device
from hand_perception.runtime.tensorrt_frame import KERNELS
from hand_perception.runtime.tensorrt_library import Engine, load_tensorrt, make_logger

GRAPHS = ("detector", "decoder")
PRECISIONS = ("fp16", "fp32")
# Stored inputs: frames of the shipped clip, whose hands the shipped engines find.
CHECK_FRAMES = 12
CHECK_CLIP = MODELS.parent / "demo" / "clip.mp4"
USUAL_HANDS = 2


@dataclass(frozen=True)
class BuildSettings:
    """max_hands: the most that the decoder takes at once. workspace_mib: device memory that a
    layer may use while it runs. level: TensorRT's builder optimisation level, 0 to 5."""

    precision: str = "fp16"
    max_hands: int = MAX_HANDS
    workspace_mib: int = 2048
    level: int = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    usual = BuildSettings()
    parser.add_argument("model", nargs="?", default="handos_s", help="name or folder (%(default)s)")
    parser.add_argument("--precision", choices=PRECISIONS, default=usual.precision)
    parser.add_argument(
        "--max-hands", type=int, default=usual.max_hands, help="at once (%(default)s)"
    )
    parser.add_argument(
        "--workspace", type=int, default=usual.workspace_mib, metavar="MIB", help="(%(default)s)"
    )
    parser.add_argument(
        "--level", type=int, choices=range(6), default=usual.level, help="effort (%(default)s)"
    )
    parser.add_argument("--output", type=Path, help="folder of the engines (the user's cache)")
    parser.add_argument("--force", action="store_true", help="build even what is up to date")


def run(args: argparse.Namespace) -> int:
    folder = ModelFolder.open(args.model)
    settings = BuildSettings(args.precision, args.max_hands, args.workspace, args.level)
    where = args.output or engine_folder(folder)
    built = build(folder, settings, where, args.force)
    print(f"{where}: {built}")
    return 0


def build(folder: ModelFolder, settings: BuildSettings, where: Path, force: bool = False) -> str:
    """Builds what is missing or stale, checks it, and says in one line what was done.

    Raises ModelError without TensorRT, pycuda, nvcc or a GPU, where TensorRT refuses the network,
    and where the engine disagrees with ONNX Runtime: then no engine is left.
    """
    if not 1 <= settings.max_hands <= MAX_HANDS:
        raise ModelError(f"--max-hands must be from 1 to {MAX_HANDS}, got {settings.max_hands}")
    check_network(folder)
    trt, device = load_tensorrt(), Device()
    wanted = {
        graph: replace(
            expected_identity(folder, graph, device, trt, settings.precision),
            shapes=profile(folder, graph, settings.max_hands),
        )
        for graph in (*GRAPHS, "frame")
    }
    if not force and _up_to_date(where, wanted, folder):
        return "up to date"
    where.mkdir(parents=True, exist_ok=True)
    plans = {"frame": compile_kernels(device.compute_capability)}
    for graph in GRAPHS:
        onnx_bytes = typed_graph(folder, graph, settings.precision).SerializeToString()
        with device.active():
            plans[graph] = build_plan(
                trt, onnx_bytes, wanted[graph], settings, where / "timing.cache"
            )
    agreement = check(folder, device, trt, plans)
    print(agreement.line())
    what = f"the {settings.precision} engine of {folder.name}"
    LIMITS[settings.precision].check(agreement, what)
    for graph, plan in plans.items():
        identity = replace(wanted[graph], agreement=agreement.to_dict())
        write_engine(where / f"{graph}{SUFFIX}", identity, plan)
    return f"built {settings.precision} for {device.name} with TensorRT {trt.__version__}"


def typed_graph(folder: ModelFolder, graph: str, precision: str) -> onnx.ModelProto:
    """The graph as the engine computes it; between two float16 engines the maps are float16."""
    model = folded(folder.path / f"{graph}.onnx")
    return half_precision(model, feature_names(folder)) if precision == "fp16" else model


def feature_names(folder: ModelFolder) -> list[str]:
    """What the detector hands to the decoder besides instances and boxes."""
    model = onnx.load(folder.path / "decoder.onnx", load_external_data=False)
    return [i.name for i in model.graph.input if i.name not in ("instances", "boxes")]


def profile(folder: ModelFolder, graph: str, max_hands: int) -> dict[str, list[list[int]]]:
    """Smallest, usual and largest shape of each input that follows the number of hands."""
    if graph == "frame":
        return {}
    model = onnx.load(folder.path / f"{graph}.onnx", load_external_data=False)
    counts = (1, min(USUAL_HANDS, max_hands), max_hands)
    shapes = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if any(d.dim_param for d in dims):
            shapes[value.name] = [[h if d.dim_param else d.dim_value for d in dims] for h in counts]
    return shapes


def build_plan(
    trt: ModuleType,
    onnx_bytes: bytes,
    identity: EngineIdentity,
    settings: BuildSettings,
    timing_cache: Path,
) -> bytes:
    """The serialised engine of one graph. Raises ModelError with TensorRT's own reason."""
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_bytes):
        reasons = [parser.get_error(k).desc() for k in range(parser.num_errors)]
        raise ModelError(f"TensorRT cannot read the {identity.graph}: {'; '.join(reasons)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    config.builder_optimization_level = settings.level
    if identity.shapes:
        shapes = builder.create_optimization_profile()
        for name, (smallest, usual, largest) in identity.shapes.items():
            shapes.set_shape(name, tuple(smallest), tuple(usual), tuple(largest))
        if config.add_optimization_profile(shapes) < 0:
            raise ModelError(f"TensorRT refused the profile {identity.shapes}: {logger.last_error}")
    # Another TensorRT or GPU makes it useless, not wrong: mismatches are TensorRT's to refuse.
    known = timing_cache.read_bytes() if timing_cache.is_file() else b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    # Kept in a variable: the configuration does not hold it.
    monitor = make_monitor(trt, f"{identity.graph} {settings.precision}")
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModelError(f"TensorRT cannot build the {identity.graph}: {logger.last_error}")
    timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def make_monitor(trt: ModuleType, title: str) -> Any:
    """Progress bars of the build's outermost phases, on a terminal only."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._bars: dict[str, tqdm] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                name = f"{title}: {phase_name}"
                self._bars[phase_name] = tqdm(total=num_steps, desc=name, disable=None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._bars:
                self._bars[phase_name].update(step + 1 - self._bars[phase_name].n)
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self._bars:
                self._bars.pop(phase_name).close()

    return Monitor()


def compile_kernels(compute_capability: str) -> bytes:
    """frame.cu for one kind of GPU, by nvcc. Raises ModelError where it is missing or fails."""
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        raise ModelError(
            "nvcc, CUDA's compiler, is missing: install the CUDA toolkit and put its bin folder "
            "on the PATH"
        )
    architecture = f"sm_{compute_capability.replace('.', '')}"
    with TemporaryDirectory() as scratch:
        target = Path(scratch) / "frame.cubin"
        command = [nvcc, "-cubin", f"-arch={architecture}", "-o", str(target), str(KERNELS)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ModelError(f"nvcc cannot compile {KERNELS.name}: {done.stderr.strip()[:300]}")
        return target.read_bytes()


def check(
    folder: ModelFolder, device: Device, trt: ModuleType, plans: dict[str, bytes]
) -> Agreement:
    """The new engines against ONNX Runtime on the CPU, over stored frames."""
    with device.active():
        engines = [Engine(trt, plans[graph], graph) for graph in GRAPHS]
    backend = TensorRTBackend(folder, device, *engines, plans["frame"], "under test")
    return compare(OnnxRuntimeBackend(folder), backend, check_frames(), folder.image_size)


def check_frames() -> list[np.ndarray]:
    """RGB frames spread over the shipped clip."""
    video = cv2.VideoCapture(str(CHECK_CLIP))
    wanted = np.linspace(0, video.get(cv2.CAP_PROP_FRAME_COUNT) - 1, CHECK_FRAMES).astype(int)
    frames = []
    for k in range(wanted[-1] + 1):
        if not video.grab():
            break
        if k in wanted:
            frames.append(cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB))
    return frames


def _up_to_date(where: Path, wanted: dict[str, EngineIdentity], folder: ModelFolder) -> bool:
    """Whether all engines are there, of this machine, and built with these settings."""
    for graph, identity in wanted.items():
        try:
            found, _ = load_engine(where / f"{graph}{SUFFIX}", identity, cure(folder))
        except ModelError as error:
            print(f"{error}", file=sys.stderr)
            return False
        if (found.precision, found.shapes) != (identity.precision, identity.shapes):
            return False
    return True
