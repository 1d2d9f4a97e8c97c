"""ONNX Runtime on the CPU: the reference backend and the default without a GPU."""

from __future__ import annotations

import numpy as np
import onnxruntime

from hand_perception.errors import ModelError
from hand_perception.runtime.backend import Decoded, Detected, ModelFolder


class OnnxRuntimeBackend:
    """Both graphs of a model folder. threads: intra-op threads, 0 lets ONNX Runtime choose.

    Raises ModelError when a graph cannot be loaded.
    """

    def __init__(self, folder: ModelFolder, threads: int = 0) -> None:
        self._detector = _session(folder, "detector.onnx", threads)
        self._decoder = _session(folder, "decoder.onnx", threads)
        self._features = [
            i.name for i in self._decoder.get_inputs() if i.name not in ("instances", "boxes")
        ]
        self._outputs = ["boxes", "scores", "instances", *self._features]
        version = folder.card["sha256"]["decoder.onnx"][:8]
        self.identity = f"{folder.name}-{version} fp32 onnxruntime-{onnxruntime.__version__} cpu"

    def detect(self, image: np.ndarray) -> Detected:
        boxes, scores, instances, *features = self._detector.run(self._outputs, {"image": image})
        return Detected(boxes[0], scores[0], instances[0], features)

    def decode(self, detected: Detected, chosen: np.ndarray) -> Decoded:
        feed = dict(zip(self._features, detected.features, strict=True))
        feed["instances"] = detected.instances[None, chosen]
        feed["boxes"] = detected.boxes[None, chosen]
        outputs = ("joints2d", "vertices", "camera", "presence")
        return Decoded(*(value[0] for value in self._decoder.run(outputs, feed)))


def _session(folder: ModelFolder, graph: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Spinning threads take a core from everything else on a robot's computer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = folder.path / graph
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises its own classes, unexported
        raise ModelError(f"{path} cannot be loaded ({error}): reinstall the model") from error
