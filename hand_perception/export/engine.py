"""``hand-perception build-engine``: a model folder to TensorRT engines for this machine.

Every new engine is run on stored frames against ONNX Runtime and refused where they disagree.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from hand_perception.errors import ModelError
from hand_perception.export.agreement import LIMITS, Agreement, compare
from hand_perception.export.engine_builder import (
    BuildSettings,
    build_plan,
    compile_kernels,
    profile,
    typed_graph,
)
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
from hand_perception.runtime.select import (
    IMAGES_ON_A_GPU,
    on_tensorrt,
    open_backend,
    reads_crops,
)
from hand_perception.runtime.tensorrt_device import Device
from hand_perception.runtime.tensorrt_engines import Engines, expected_identity
from hand_perception.runtime.tensorrt_library import load_plugins, load_tensorrt

GRAPHS = ("detector", "decoder")
PRECISIONS = ("fp16", "fp32")
ATTENTIONS = ("gather", "plugin")
# Stored inputs: frames of the shipped clip, whose hands the shipped engines find.
CHECK_FRAMES = 12
CHECK_CLIP = MODELS.parent / "demo" / "clip.mp4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    usual = BuildSettings()
    parser.add_argument("model", nargs="?", default="mobrecon", help="name or folder (%(default)s)")
    parser.add_argument("--precision", choices=PRECISIONS, default=usual.precision)
    parser.add_argument(
        "--max-hands", type=int, default=usual.max_hands, help="at once (%(default)s)"
    )
    parser.add_argument(
        "--cameras",
        type=int,
        default=usual.cameras,
        help="whose images are read in one go, by networks that read crops (%(default)s)",
    )
    parser.add_argument(
        "--workspace", type=int, default=usual.workspace_mib, metavar="MIB", help="(%(default)s)"
    )
    parser.add_argument(
        "--level", type=int, choices=range(6), default=usual.level, help="effort (%(default)s)"
    )
    parser.add_argument(
        "--attention",
        choices=ATTENTIONS,
        default=usual.attention,
        help="deformable attention in plain operators, or by TensorRT's plugin (%(default)s)",
    )
    parser.add_argument("--output", type=Path, help="folder of the engines (the user's cache)")
    parser.add_argument("--force", action="store_true", help="build even what is up to date")


def run(args: argparse.Namespace) -> int:
    folder = ModelFolder.open(args.model)
    # A quantised graph says itself where it is int8; the rest becomes float16.
    precision = "int8" if folder.card.get("precision") == "int8" else args.precision
    settings = BuildSettings(
        precision, args.max_hands, args.cameras, args.workspace, args.level, args.attention
    )
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
    if not 1 <= settings.cameras <= IMAGES_ON_A_GPU:
        raise ModelError(f"--cameras must be from 1 to {IMAGES_ON_A_GPU}, got {settings.cameras}")
    reads_crops(folder)  # refuses an unknown network before minutes are spent
    trt, device = load_tensorrt(), Device()
    wanted = {
        graph: replace(
            expected_identity(folder, graph, device, trt, settings.precision),
            shapes=profile(folder, graph, settings),
            attention=settings.attention,
        )
        for graph in (*GRAPHS, "frame")
    }
    if not force and _up_to_date(where, wanted, folder):
        return "up to date"
    where.mkdir(parents=True, exist_ok=True)
    plugin = load_plugins(trt) if settings.attention == "plugin" else ""
    plans = {"frame": compile_kernels(device.compute_capability)}
    for graph in GRAPHS:
        model = typed_graph(folder, graph, settings.precision, settings.cameras, plugin)
        onnx_bytes = model.SerializeToString()
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


def check(
    folder: ModelFolder, device: Device, trt: ModuleType, plans: dict[str, bytes]
) -> Agreement:
    """The new engines against ONNX Runtime on the CPU, over stored frames."""
    backend = on_tensorrt(folder, Engines.of(device, trt, plans, "under test"))
    reference = open_backend(folder, "onnxruntime")
    return compare(reference, backend, check_frames(), folder.image_size)


def check_frames(count: int = CHECK_FRAMES) -> list[np.ndarray]:
    """RGB frames spread over the shipped clip."""
    video = cv2.VideoCapture(str(CHECK_CLIP))
    wanted = np.linspace(0, video.get(cv2.CAP_PROP_FRAME_COUNT) - 1, count).astype(int)
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
        chosen = ("precision", "shapes", "attention")
        if any(getattr(found, name) != getattr(identity, name) for name in chosen):
            return False
    return True
