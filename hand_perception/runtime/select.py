"""The table of backends, and which one `auto` takes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hand_perception.errors import ModelError
from hand_perception.runtime.backend import Backend, ModelFolder
from hand_perception.runtime.processor import has_int8_dot_product

if TYPE_CHECKING:
    from hand_perception.runtime.tensorrt_engines import Engines

AUTO_MODEL = "auto"
# A processor computes images one after the other, so together the first would only wait for the
# last. Nobody has more cameras on one GPU.
IMAGES_ON_A_GPU = 8


@dataclass(frozen=True)
class Option:
    """open(folder, threads) raises ModelError where the backend cannot run. needs_gpu: pointless
    to try without NVIDIA's driver. automatic: `auto` may take it."""

    open: Callable[[ModelFolder, int], Backend]
    needs_gpu: bool = False
    automatic: bool = True


def reads_crops(folder: ModelFolder) -> bool:
    """Whether the decoder reads crops of the image rather than the detector's features.

    Raises ModelError for a network that this package does not know.
    """
    kinds = {"handos": False, "mobrecon": True, "handar": True}
    if folder.network not in kinds:
        raise ModelError(f"{folder.path}: unknown network {folder.network!r}: update this package")
    return kinds[folder.network]


def on_tensorrt(folder: ModelFolder, engines: Engines) -> Backend:
    """The backend for that network over loaded engines."""
    from hand_perception.runtime.tensorrt_backend import TensorRTBackend
    from hand_perception.runtime.tensorrt_crops import TensorRTCropBackend

    return (TensorRTCropBackend if reads_crops(folder) else TensorRTBackend)(folder, engines)


def open_tensorrt(folder: ModelFolder, where: Path | None = None) -> Backend:
    """Over the engines of this machine; raises ModelError as `Engines.open` does."""
    from hand_perception.runtime.tensorrt_engines import Engines

    return on_tensorrt(folder, Engines.open(folder, where))


def _open_onnxruntime(provider: str) -> Callable[[ModelFolder, int], Backend]:
    def open_it(folder: ModelFolder, threads: int) -> Backend:
        from hand_perception.runtime.onnxruntime_backend import OnnxRuntimeBackend
        from hand_perception.runtime.onnxruntime_crops import OnnxRuntimeCropBackend

        if not reads_crops(folder):
            return OnnxRuntimeBackend(folder, threads, provider)
        at_once = 1 if provider == "cpu" else IMAGES_ON_A_GPU
        return OnnxRuntimeCropBackend(folder, threads, provider, at_once)

    return open_it


# Fastest first: the order in which `auto` tries them.
BACKENDS = {
    "tensorrt": Option(lambda folder, threads: open_tensorrt(folder), needs_gpu=True),
    "onnxruntime-cuda": Option(_open_onnxruntime("cuda"), needs_gpu=True),
    # Builds engines of its own for minutes at its first frame, so only on request.
    "onnxruntime-tensorrt": Option(_open_onnxruntime("tensorrt"), needs_gpu=True, automatic=False),
    "onnxruntime": Option(_open_onnxruntime("cpu")),
}


def open_backend(folder: ModelFolder, backend: str = "auto", threads: int = 0) -> Backend:
    """The named backend, or with "auto" the fastest that runs here; its identity then says why.

    threads: of ONNX Runtime on the CPU, 0 lets it choose. Raises ModelError on an unknown name, and
    when the backend asked for cannot run here.
    """
    if backend != "auto":
        if backend not in BACKENDS:
            known = ", ".join(("auto", *BACKENDS))
            raise ModelError(f"unknown backend {backend!r}, use one of: {known}")
        return BACKENDS[backend].open(folder, threads)
    refusals: list[str] = []
    if not has_nvidia_driver():
        refusals.append("no NVIDIA driver")
    for name, option in BACKENDS.items():
        if not option.automatic or (option.needs_gpu and refusals[:1] == ["no NVIDIA driver"]):
            continue
        try:
            opened = option.open(folder, threads)
        except ModelError as error:
            refusals.append(f"{name}: {error}")
            continue
        reason = "; ".join(refusals) or "the fastest there is"
        opened.identity = f"{opened.identity} (auto: {reason})"
        return opened
    raise ModelError(f"no backend runs {folder.name}: {'; '.join(refusals)}")


def model_called(name: str | Path) -> str | Path:
    """The name itself; for AUTO_MODEL the shipped engine that serves this machine best: MobRecon,
    in int8 where that is faster and no GPU wants it in float."""
    if name != AUTO_MODEL:
        return name
    if not has_nvidia_driver() and has_int8_dot_product():
        return "mobrecon_int8"
    return "mobrecon"


def has_nvidia_driver() -> bool:
    """Whether the CUDA driver's library is installed; on a Jetson it comes with JetPack."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
