"""Networks that read crops on TensorRT: the detector sees the frame, the decoder squares of it.

The processor cuts the squares, with the code that ONNX Runtime's backend has, so that the network
sees the same pixels to the bit; they go to the GPU as bytes and are normalised there. A hand that
is followed costs one upload of its crop and one launch: its frame stays where it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hand_perception.errors import ModelError
from hand_perception.imaging import Letterbox
from hand_perception.runtime.backend import Detected, ModelFolder, outputs_among
from hand_perception.runtime.crops import CROP_OUTPUTS, CropBackend, Cutting
from hand_perception.runtime.tensorrt_decoder import Decoder, most_hands
from hand_perception.runtime.tensorrt_detector import Detector
from hand_perception.runtime.tensorrt_device import nbytes_of
from hand_perception.runtime.tensorrt_engines import Engines
from hand_perception.runtime.tensorrt_frame import RawImage, letterbox_arguments


class TensorRTCropBackend(CropBackend):
    """Raises ModelError when the engines do not fit together."""

    def __init__(self, folder: ModelFolder, engines: Engines) -> None:
        self._device, self.identity = engines.device, engines.identity
        with self._device.active():
            self._detector = Detector(folder, engines)
            crops = _Crops(folder, engines, self._detector)
            super().__init__(Cutting.of(folder, crops.size))
            outputs = outputs_among(CROP_OUTPUTS, engines.decoder.tensors)
            self._decoder = Decoder(self._device, engines.decoder, crops, outputs)
        self.images_at_once = self._detector.images_at_once

    def prepare(self, image: np.ndarray | RawImage) -> RawImage:
        """RGB uint8 [H, W, 3], or the same as a camera's rgb8 bytes.

        Raises ImageError on other encodings: crops are cut from decoded pixels.
        """
        raw = RawImage.of(image)
        raw.rgb()
        return raw

    def detect_together(self, prepared: Sequence[RawImage]) -> list[Detected]:
        """Arrays are views of pinned memory: they hold until the next call."""
        with self._device.active():
            boxes, scores = self._detector(prepared)
        canvas = (self._cutting.canvas,) * 2
        return [
            Detected(*found, (raw.rgb(), Letterbox.fit(raw.width, raw.height, canvas)))
            for raw, *found in zip(prepared, boxes, scores, strict=True)
        ]

    def read(self, crops: list[np.ndarray]) -> dict[str, np.ndarray]:
        with self._device.active():
            return self._decoder(crops)


class _Crops:
    """The decoder's feed: crops as bytes, normalised by the kernel that reads frames.

    A crop is a frame of the network's own size, so nothing is resampled.
    """

    axis = 0
    per_hand = ("crops",)

    def __init__(self, folder: ModelFolder, engines: Engines, detector: Detector) -> None:
        tensor = engines.decoder.tensors.get("crops")
        if tensor is None or tensor.dtype != np.float32 or tensor.shape[2] != tensor.shape[3]:
            raise ModelError(f"the decoder engine of {folder.name} reads no crops: rebuild it")
        self._device, self.size = engines.device, tensor.shape[3]
        self._kernel = detector.kernels["letterbox_normalise"]
        most = most_hands(engines.decoder, "crops", self.axis)
        self._bytes = self._device.pinned((most, self.size, self.size, 3), np.uint8)
        self._bytes[:] = 0
        self._raw = self._device.memory(self._bytes.nbytes)
        target = self._device.memory(nbytes_of(tensor.largest, np.float32))
        self.inputs = {"crops": target}
        self._arguments = [
            letterbox_arguments(
                RawImage.of(crop),
                self._raw.address + k * crop.nbytes,
                target.address + k * nbytes_of((3, self.size, self.size), np.float32),
                self.size,
                folder.mean,
                folder.std,
            )
            for k, crop in enumerate(self._bytes)
        ]

    def load(self, hands: Sequence[np.ndarray]) -> None:
        """Crops, uint8 [size, size, 3] each."""
        for k, crop in enumerate(hands):
            self._bytes[k] = crop

    def enqueue(self, count: int) -> None:
        self._device.upload(self._raw.address, self._bytes[:count])
        for arguments in self._arguments[:count]:
            self._kernel(self.size, self.size, *arguments)
