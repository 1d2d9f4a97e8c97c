"""The half of every TensorRT backend that sees the whole frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hand_perception.errors import ModelError
from hand_perception.runtime.backend import ModelFolder
from hand_perception.runtime.tensorrt_device import Memory, Replayed, nbytes_of
from hand_perception.runtime.tensorrt_engines import Engines
from hand_perception.runtime.tensorrt_frame import KERNEL_ARGUMENTS, RawImage, letterbox_arguments


class Detector:
    """The frame's bytes, the canvas and the detector, in buffers that outlive the frame.

    memory: of its inputs and outputs by name, written once it is made. kernels: functions of
    frame.cu. Raises ModelError where the engine is of another image size.
    """

    def __init__(self, folder: ModelFolder, engines: Engines) -> None:
        self._folder, self._device = folder, engines.device
        device, engine = engines.device, engines.detector
        self.kernels = device.kernels(engines.kernels, KERNEL_ARGUMENTS)
        self.tensors = engine.tensors
        size = folder.image_size
        image = engine.tensors.get("image")
        if image is None or image.shape != (1, 3, size, size) or image.dtype != np.float32:
            raise ModelError(f"the detector engine does not read {size}x{size} images: rebuild it")
        self.memory = {
            t.name: device.memory(nbytes_of(t.shape, t.dtype)) for t in self.tensors.values()
        }
        scratch = device.memory(engine.scratch_bytes)
        self._scratch = scratch
        self._context = engine.context(scratch.address, scratch.nbytes)
        for name, memory in self.memory.items():
            self._context.set_address(name, memory.address)
        self._host = {
            n: device.pinned(self.tensors[n].shape, np.float32) for n in ("boxes", "scores")
        }
        self._bytes: np.ndarray | None = None
        self._raw: Memory | None = None
        self._layout: tuple | None = None
        self._run: Replayed | None = None
        # Whatever reads its outputs finds some that are.
        self.load(RawImage.of(np.full((64, 64, 3), 114, np.uint8)))
        self()

    def load(self, raw: RawImage) -> None:
        """The frame's bytes into pinned memory; a new layout makes new buffers and a new graph."""
        layout = (raw.encoding, raw.width, raw.height, raw.step)
        if layout != self._layout:
            if self._run is not None:
                self._run.drop()
            if self._raw is None or self._raw.nbytes < raw.nbytes:
                self._bytes = self._device.pinned((raw.nbytes,), np.uint8)
                self._raw = self._device.memory(raw.nbytes)
            self._layout, self._run = layout, Replayed(self._device, self._work(raw))
        self._bytes[: raw.nbytes] = raw.data[: raw.nbytes]

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes [Q, 4] and scores [Q] of the frame loaded last, views of pinned memory."""
        self._run()
        self._device.synchronize()
        return self._host["boxes"][0], self._host["scores"][0]

    def _work(self, raw: RawImage) -> Callable[[], None]:
        folder, device, size = self._folder, self._device, self._folder.image_size
        arguments = letterbox_arguments(
            raw, self._raw.address, self.memory["image"].address, size, folder.mean, folder.std
        )
        bytes_ = self._bytes[: raw.nbytes]
        source = self._raw.address

        def work() -> None:
            device.upload(source, bytes_)
            self.kernels["letterbox_normalise"](size, size, *arguments)
            self._context.enqueue(device.stream)
            for name, array in self._host.items():
                device.download(array, self.memory[name].address)

        return work
