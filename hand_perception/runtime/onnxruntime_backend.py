"""ONNX Runtime: the reference backend, on the CPU and through its CUDA and TensorRT providers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from hand_perception.errors import ModelError
from hand_perception.imaging import letterbox, normalise
from hand_perception.runtime.backend import DECODED, Decoded, Detected, ModelFolder, outputs_among

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class OnnxRuntimeBackend:
    """Both graphs of a model folder. threads: intra-op threads, 0 lets ONNX Runtime choose.
    provider: a key of PROVIDERS.

    Feature maps stay where the provider computed them: on the GPU they never cross to the host.
    They are those of one image.
    Raises ModelError when the provider is not installed or a graph cannot be loaded.
    """

    images_at_once = 1

    def __init__(self, folder: ModelFolder, threads: int = 0, provider: str = "cpu") -> None:
        self._folder = folder
        self._detector = open_session(folder.path / "detector.onnx", threads, provider)
        self._decoder = open_session(folder.path / "decoder.onnx", threads, provider)
        self._outputs = outputs_among(DECODED, [o.name for o in self._decoder.get_outputs()])
        self._device = "cpu" if provider == "cpu" else "cuda"
        inputs = [i.name for i in self._decoder.get_inputs()]
        self._features = [name for name in inputs if name not in ("instances", "boxes")]
        self.identity = identity_of(folder, provider)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """RGB uint8 [H, W, 3] -> float32 [1, 3, S, S]."""
        canvas, _ = letterbox(image, (self._folder.image_size,) * 2)
        return normalise(canvas, self._folder.mean, self._folder.std)

    def detect(self, prepared: np.ndarray) -> Detected:
        binding = self._detector.io_binding()
        binding.bind_cpu_input("image", prepared)
        for name in ("boxes", "scores", "instances"):
            binding.bind_output(name, "cpu")
        for name in self._features:
            binding.bind_output(name, self._device)
        self._detector.run_with_iobinding(binding)
        boxes, scores, instances, *maps = binding.get_outputs()
        features = instances.numpy()[0], maps
        return Detected(boxes.numpy()[0], scores.numpy()[0], features)

    def decode(self, detected: Detected, chosen: np.ndarray) -> Decoded:
        binding = self._decoder.io_binding()
        # Kept until the run: a binding does not own the arrays it reads.
        rows = _rows(detected, chosen)
        for name, value in rows.items():
            binding.bind_cpu_input(name, value)
        for name, value in zip(self._features, detected.features[1], strict=True):
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        self._decoder.run_with_iobinding(binding)
        values = (value.numpy()[0] for value in binding.get_outputs())
        return Decoded(**dict(zip(self._outputs, values, strict=True)))

    def detector_inputs(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        """What the detector's graph is fed, to calibrate with."""
        return {"image": prepared}

    def decoder_inputs(self, detected: Detected, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """What the decoder's graph is fed for those queries, to calibrate with."""
        maps = (value.numpy().copy() for value in detected.features[1])
        return _rows(detected, chosen) | dict(zip(self._features, maps, strict=True))


def _rows(detected: Detected, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Of the chosen queries, [1, H, ...]."""
    instances, _ = detected.features
    return {
        "instances": np.ascontiguousarray(instances[None, chosen]),
        "boxes": np.ascontiguousarray(detected.boxes[None, chosen]),
    }


def identity_of(folder: ModelFolder, provider: str) -> str:
    """Model, version, precision and engine in one line."""
    version = folder.card["sha256"]["decoder.onnx"][:8]
    return (
        f"{folder.name}-{version} {folder.card.get('precision', 'fp32')} "
        f"onnxruntime-{onnxruntime.__version__} {provider}"
    )


def open_session(
    path: Path, threads: int, provider: str, known: Mapping[str, int] | None = None
) -> onnxruntime.InferenceSession:
    """known: lengths of axes by name, for those that will never vary.

    Raises ModelError when the provider is not installed or the graph cannot be loaded.
    """
    if PROVIDERS[provider] not in onnxruntime.get_available_providers():
        raise ModelError(
            f"ONNX Runtime {onnxruntime.__version__} has no {provider} provider here: "
            "pip install onnxruntime-gpu in place of onnxruntime"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    for axis, length in (known or {}).items():
        options.add_free_dimension_override_by_name(axis, length)
    # Spinning threads take a core from everything else on a robot's computer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What a GPU provider lacks runs on the CPU; the TensorRT provider hands over to CUDA first.
    order = {"cpu": ("cpu",), "cuda": ("cuda", "cpu"), "tensorrt": ("tensorrt", "cuda", "cpu")}
    providers = [PROVIDERS[name] for name in order[provider]]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime raises its own classes, unexported
        raise ModelError(f"{path} cannot be loaded ({error}): reinstall the model") from error
    # A provider whose libraries or driver are missing is dropped with a log line only.
    if PROVIDERS[provider] not in session.get_providers():
        raise ModelError(
            f"ONNX Runtime's {provider} provider does not start here: `hand-perception doctor` "
            "says which library or driver is missing"
        )
    return session


def available_providers() -> list[str]:
    """Where this ONNX Runtime was built to compute, fastest first; drivers are another matter."""
    names = onnxruntime.get_available_providers()
    return [name.removesuffix("ExecutionProvider") for name in names]
