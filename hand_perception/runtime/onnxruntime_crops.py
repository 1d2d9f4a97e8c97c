"""ONNX Runtime for networks that read crops: the detector finds boxes, the image is cut there."""

from __future__ import annotations

import numpy as np

from hand_perception.imaging import Crop, Letterbox, letterbox, normalise
from hand_perception.runtime.backend import Decoded, Detected, ModelFolder
from hand_perception.runtime.crops import CROP_OUTPUTS, Cutting
from hand_perception.runtime.onnxruntime_backend import identity_of, open_session


class OnnxRuntimeCropBackend:
    """threads: intra-op threads; provider: as OnnxRuntimeBackend takes them.

    Raises ModelError when the provider is not installed or a graph cannot be loaded.
    """

    def __init__(self, folder: ModelFolder, threads: int = 0, provider: str = "cpu") -> None:
        self._folder = folder
        self._detector = open_session(folder.path / "detector.onnx", threads, provider)
        self._decoder = open_session(folder.path / "decoder.onnx", threads, provider)
        self._cutting = Cutting.of(folder, self._decoder.get_inputs()[0].shape[-1])
        self.identity = identity_of(folder, provider)

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, Letterbox]:
        """RGB uint8 [H, W, 3] -> float32 [1, 3, S, S], the image and how it lies in there."""
        canvas, fit = letterbox(image, (self._folder.image_size,) * 2)
        return normalise(canvas, self._folder.mean, self._folder.std), image, fit

    def detect(self, prepared: tuple[np.ndarray, np.ndarray, Letterbox]) -> Detected:
        _, image, fit = prepared
        boxes, scores = self._detector.run(("boxes", "scores"), self.detector_inputs(prepared))
        return Detected(boxes[0], scores[0], (image, fit))

    def given(self, image: np.ndarray, fit: Letterbox, boxes: np.ndarray) -> Detected:
        """Boxes [H, 4] in pixels of the image as if the detector had found them, for certain."""
        return self._cutting.given(image, fit, boxes)

    def decode(self, detected: Detected, chosen: np.ndarray) -> Decoded:
        image, fit = detected.features
        crops = self._cutting.crops(detected, chosen)
        found = self._decoder.run(CROP_OUTPUTS, self._pixels(image, crops))
        return self._cutting.decoded(fit, crops, dict(zip(CROP_OUTPUTS, found, strict=True)))

    def detector_inputs(
        self, prepared: tuple[np.ndarray, np.ndarray, Letterbox]
    ) -> dict[str, np.ndarray]:
        """What the detector's graph is fed."""
        return {"image": prepared[0]}

    def decoder_inputs(self, detected: Detected, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """What the decoder's graph is fed for those boxes: crops [H, 3, s, s]."""
        return self._pixels(detected.features[0], self._cutting.crops(detected, chosen))

    def _pixels(self, image: np.ndarray, crops: list[Crop]) -> dict[str, np.ndarray]:
        mean, std = self._folder.mean, self._folder.std
        return {"crops": np.concatenate([normalise(c.cut(image), mean, std) for c in crops])}
