"""ONNX Runtime for networks that read crops: the detector finds boxes, the image is cut there."""

from __future__ import annotations

import numpy as np

from hand_perception.imaging import Crop, Letterbox, letterbox, normalise
from hand_perception.runtime.backend import Decoded, Detected, ModelFolder
from hand_perception.runtime.onnxruntime_backend import identity_of, open_session

_DECODED = ("joints2d", "vertices", "presence", "right")


class OnnxRuntimeCropBackend:
    """threads: intra-op threads; provider: as OnnxRuntimeBackend takes them.

    Raises ModelError when the provider is not installed or a graph cannot be loaded.
    """

    def __init__(self, folder: ModelFolder, threads: int = 0, provider: str = "cpu") -> None:
        self._folder = folder
        self._detector = open_session(folder.path / "detector.onnx", threads, provider)
        self._decoder = open_session(folder.path / "decoder.onnx", threads, provider)
        self._crop_size = self._decoder.get_inputs()[0].shape[-1]
        self._crop_scale = float(folder.card["config"]["crop_scale"])
        self.identity = identity_of(folder, provider)

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, Letterbox]:
        """RGB uint8 [H, W, 3] -> float32 [1, 3, S, S], the image and how it lies in there."""
        canvas, fit = letterbox(image, (self._folder.image_size,) * 2)
        return normalise(canvas, self._folder.mean, self._folder.std), image, fit

    def detect(self, prepared: tuple[np.ndarray, np.ndarray, Letterbox]) -> Detected:
        tensor, image, fit = prepared
        boxes, scores = self._detector.run(("boxes", "scores"), {"image": tensor})
        return Detected(boxes[0], scores[0], (image, fit))

    def given(self, image: np.ndarray, fit: Letterbox, boxes: np.ndarray) -> Detected:
        """Boxes [H, 4] in pixels of the image as if the detector had found them, for certain."""
        corners = (fit.boxes_to_network(boxes) + 0.5) / self._folder.image_size
        low, high = corners[:, :2], corners[:, 2:]
        found = np.concatenate([(low + high) / 2, high - low], -1)
        return Detected(found, np.ones(len(boxes), np.float32), (image, fit))

    def decode(self, detected: Detected, chosen: np.ndarray) -> Decoded:
        image, fit = detected.features
        canvas = self._folder.image_size
        centre, half = detected.boxes[chosen, :2], detected.boxes[chosen, 2:] / 2
        corners = np.concatenate([centre - half, centre + half], -1).astype(np.float64)
        boxes = fit.boxes_to_image(corners * canvas - 0.5)
        crops = [Crop.around(box, self._crop_scale, self._crop_size) for box in boxes]
        pixels = [normalise(c.cut(image), self._folder.mean, self._folder.std) for c in crops]
        joints, vertices, presence, right = self._decoder.run(
            _DECODED, {"crops": np.concatenate(pixels)}
        )
        in_image = [c.points_to_image(j) for c, j in zip(crops, joints, strict=True)]
        return Decoded(
            joints2d=(fit.points_to_network(np.stack(in_image)) + 0.5) / canvas,
            vertices=vertices,
            camera=np.zeros((len(crops), 3), np.float32),
            presence=presence,
            right=right,
            gaze=(fit.points_to_network(np.stack([c.centre for c in crops])) + 0.5) / canvas,
        )
