"""HandOS on TensorRT: a frame's bytes go to the GPU once, scores and boxes come back, then hands.

Detector and decoder share device memory: feature maps are written by one and read by the other,
chosen queries are gathered by a kernel. All buffers are made when the backend opens. What a frame
puts into the stream is recorded as a CUDA graph, one a frame layout and one a number of hands, so
that the processor launches twice a frame and allocates nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hand_perception.errors import ModelError
from hand_perception.runtime.backend import DECODED, Decoded, Detected, ModelFolder, outputs_among
from hand_perception.runtime.tensorrt_decoder import Decoder, most_hands
from hand_perception.runtime.tensorrt_detector import Detector
from hand_perception.runtime.tensorrt_device import Device, nbytes_of
from hand_perception.runtime.tensorrt_engines import Engines
from hand_perception.runtime.tensorrt_frame import RawImage
from hand_perception.runtime.tensorrt_library import Engine, TensorInfo


class TensorRTBackend:
    """Its decoder reads the maps of one image. Raises ModelError when the engines do not fit
    together."""

    images_at_once = 1

    def __init__(self, folder: ModelFolder, engines: Engines) -> None:
        self._device, self.identity = engines.device, engines.identity
        with self._device.active():
            self._detector = Detector(folder, engines)
            queries = _Queries(self._device, engines.decoder, self._detector)
            outputs = outputs_among(DECODED, engines.decoder.tensors)
            self._decoder = Decoder(self._device, engines.decoder, queries, outputs)

    def prepare(self, image: np.ndarray | RawImage) -> RawImage:
        """RGB uint8 [H, W, 3] or a camera's own bytes; the kernel does the rest in `detect`."""
        return RawImage.of(image)

    def detect(self, prepared: RawImage) -> Detected:
        """Arrays are views of pinned memory: they hold until the next call."""
        with self._device.active():
            boxes, scores = self._detector([prepared])
        return Detected(boxes[0], scores[0], None)

    def decode(self, detected: Detected, chosen: np.ndarray) -> Decoded:
        """Of the frame detected last."""
        with self._device.active():
            found = self._decoder(chosen)
        return Decoded(**{name: value[0] for name, value in found.items()})


class _Queries:
    """The decoder's feed: rows of chosen queries, and the detector's maps where they lie."""

    axis = 1
    per_hand = ("boxes", "instances")

    def __init__(self, device: Device, engine: Engine, detector: Detector) -> None:
        self._device, self._detector, self._tensors = device, detector, engine.tensors
        self._chosen = device.pinned((most_hands(engine, "boxes", self.axis),), np.int32)
        # Before the first frame: look-ups need boxes that are some.
        self._chosen[:] = 0
        self._chosen_memory = device.memory(self._chosen.nbytes)
        inputs = [tensor for tensor in engine.tensors.values() if tensor.is_input]
        self.inputs = {
            t.name: device.memory(nbytes_of(t.largest, np.float32))
            if t.name in self.per_hand
            else detector.memory[self._shared(t)]
            for t in inputs
        }

    def load(self, hands: Sequence[int]) -> None:
        """Indices of queries."""
        self._chosen[: len(hands)] = hands

    def enqueue(self, count: int) -> None:
        chosen = self._chosen_memory.address
        self._device.upload(chosen, self._chosen[:count])
        for name in self.per_hand:
            width = self._tensors[name].shape[2]
            rows, target = self._detector.memory[name].address, self.inputs[name].address
            self._detector.kernels["gather_rows"](width, count, rows, chosen, target, count, width)

    def _shared(self, tensor: TensorInfo) -> str:
        """Its name, where the detector has it in the same type and shape; else ModelError."""
        other = self._detector.tensors.get(tensor.name)
        if other is None or (other.dtype, other.shape) != (tensor.dtype, tensor.shape):
            raise ModelError(f"detector and decoder engines differ in {tensor.name}: rebuild both")
        return tensor.name
