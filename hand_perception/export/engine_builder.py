"""One graph to one plan: TensorRT's builder, and nvcc for the kernels beside it.

Networks are strongly typed: an engine computes in the precision that `export.precision` wrote into
the graph, as builder flags for it are gone in TensorRT 11 and only hints before.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import onnx
from tqdm import tqdm

from hand_perception.errors import ModelError
from hand_perception.export.attention_plugin import with_plugin
from hand_perception.export.precision import folded, half_precision
from hand_perception.postprocess import MAX_HANDS
from hand_perception.runtime.backend import ModelFolder
from hand_perception.runtime.crops import IMAGES
from hand_perception.runtime.engine_file import EngineIdentity
from hand_perception.runtime.tensorrt_frame import KERNELS
from hand_perception.runtime.tensorrt_library import make_logger

USUAL_HANDS = 2


@dataclass(frozen=True)
class BuildSettings:
    """max_hands: the most that the decoder takes at once. cameras: images that the detector takes
    at once. workspace_mib: device memory that a layer may use while it runs. level: TensorRT's
    builder optimisation level, 0 to 5. attention: deformable attention in plain operators
    ("gather"), or by TensorRT's "plugin"."""

    precision: str = "fp16"
    max_hands: int = MAX_HANDS
    cameras: int = 1
    workspace_mib: int = 2048
    level: int = 3
    attention: str = "gather"


def typed_graph(
    folder: ModelFolder, graph: str, precision: str, cameras: int = 1, plugin: str = ""
) -> onnx.ModelProto:
    """The graph as the engine computes it; between two float16 engines the maps are float16.

    plugin: version of TensorRT's own deformable attention, none for ours. Raises ModelError for
    int8 that TensorRT does not take.
    """
    model = folded(folder.path / f"{graph}.onnx", {IMAGES: 1} if cameras == 1 else {})
    if plugin:
        model = with_plugin(model, plugin)
    if precision == "int8" and not folder.card.get("symmetric"):
        raise ModelError(
            f"{folder.name} was quantised for a CPU: run `hand-perception quantise --symmetric`"
        )
    return model if precision == "fp32" else half_precision(model, feature_names(folder))


def feature_names(folder: ModelFolder) -> list[str]:
    """What the detector hands to the decoder besides instances and boxes; nothing to crops."""
    detector, decoder = (
        onnx.load(folder.path / f"{graph}.onnx", load_external_data=False).graph
        for graph in ("detector", "decoder")
    )
    handed = {value.name for value in detector.output} - {"instances", "boxes"}
    return [value.name for value in decoder.input if value.name in handed]


def profile(folder: ModelFolder, graph: str, settings: BuildSettings) -> dict[str, list[list[int]]]:
    """Smallest, usual and largest shape of each input that follows the number of hands or images.

    Raises ModelError for several cameras where the detector takes one image only.
    """
    if graph == "frame":
        return {}
    most, cameras = settings.max_hands, settings.cameras
    counts = {"hands": (1, min(USUAL_HANDS, most), most)}
    if cameras > 1:  # one is folded away
        counts[IMAGES] = (1, cameras, cameras)
    model = onnx.load(folder.path / f"{graph}.onnx", load_external_data=False)
    shapes = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if any(d.dim_param in counts for d in dims):
            lengths = [counts.get(d.dim_param, (d.dim_value,) * 3) for d in dims]
            shapes[value.name] = [list(shape) for shape in zip(*lengths, strict=True)]
    # The detector follows nothing but the number of images.
    if graph == "detector" and cameras > 1 and not shapes:
        raise ModelError(
            f"{folder.name} reads one image at once: build it without --cameras, or export a "
            "network that reads crops again"
        )
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
