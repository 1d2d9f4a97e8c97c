"""ONNX Runtime for networks that read crops: the detector finds boxes, the image is cut there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hand_perception.imaging import Letterbox, letterbox, normalise
from hand_perception.runtime.backend import Detected, ModelFolder, outputs_among
from hand_perception.runtime.crops import CROP_OUTPUTS, IMAGES, CropBackend, Cutting
from hand_perception.runtime.onnxruntime_backend import identity_of, open_session

# What `prepare` gives: the detector's float32 [1, 3, S, S], the image and how it lies in there.
Prepared = tuple[np.ndarray, np.ndarray, Letterbox]


class OnnxRuntimeCropBackend(CropBackend):
    """threads: intra-op threads; provider: as OnnxRuntimeBackend takes them. images_at_once: the
    most that the detector is to read in one go; fewer where its graph takes one only.

    Raises ModelError when the provider is not installed or a graph cannot be loaded.
    """

    def __init__(
        self, folder: ModelFolder, threads: int = 0, provider: str = "cpu", images_at_once: int = 1
    ) -> None:
        # With the number of images known, the graph is folded and runs a twentieth faster.
        known = {IMAGES: 1} if images_at_once == 1 else {}
        self._folder = folder
        self._detector = open_session(folder.path / "detector.onnx", threads, provider, known)
        self._decoder = open_session(folder.path / "decoder.onnx", threads, provider)
        self._outputs = outputs_among(
            CROP_OUTPUTS, [tensor.name for tensor in self._decoder.get_outputs()]
        )
        super().__init__(Cutting.of(folder, self._decoder.get_inputs()[0].shape[-1]))
        one_only = self._detector.get_inputs()[0].shape[0] == 1
        self.images_at_once = 1 if one_only else images_at_once
        self.identity = identity_of(folder, provider)

    def prepare(self, image: np.ndarray) -> Prepared:
        """RGB uint8 [H, W, 3] to what `detect` takes."""
        canvas, fit = letterbox(image, (self._folder.image_size,) * 2)
        return normalise(canvas, self._folder.mean, self._folder.std), image, fit

    def detect_together(self, prepared: Sequence[Prepared]) -> list[Detected]:
        canvases = np.concatenate([canvas for canvas, _, _ in prepared])
        boxes, scores = self._detector.run(("boxes", "scores"), {"image": canvases})
        return [
            Detected(boxes[k], scores[k], (image, fit))
            for k, (_, image, fit) in enumerate(prepared)
        ]

    def read(self, crops: list[np.ndarray]) -> dict[str, np.ndarray]:
        found = self._decoder.run(self._outputs, self._feed(crops))
        return dict(zip(self._outputs, found, strict=True))

    def detector_inputs(self, prepared: Prepared) -> dict[str, np.ndarray]:
        """What the detector's graph is fed, to calibrate with."""
        return {"image": prepared[0]}

    def decoder_inputs(self, detected: Detected, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """What the decoder's graph is fed for those boxes, to calibrate with."""
        image, _ = detected.features
        return self._feed([crop.cut(image) for crop in self._cutting.crops(detected, chosen)])

    def _feed(self, crops: list[np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [H, 3, s, s]."""
        mean, std = self._folder.mean, self._folder.std
        return {"crops": np.concatenate([normalise(pixels, mean, std) for pixels in crops])}
