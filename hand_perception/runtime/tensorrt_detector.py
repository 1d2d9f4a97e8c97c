"""The half of every TensorRT backend that sees the whole frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hand_perception.errors import ModelError
from hand_perception.runtime.backend import ModelFolder
from hand_perception.runtime.tensorrt_device import Device, Replayed, nbytes_of
from hand_perception.runtime.tensorrt_engines import Engines
from hand_perception.runtime.tensorrt_frame import KERNEL_ARGUMENTS, RawImage, letterbox_arguments
from hand_perception.runtime.tensorrt_library import Context


class Detector:
    """The frames' bytes, their canvases and the detector, in buffers that outlive the frames.

    Frames of several cameras go through it in one go, as many as the engine takes (images_at_once).
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
        if image is None or image.shape[1:] != (3, size, size) or image.dtype != np.float32:
            raise ModelError(f"the detector engine does not read {size}x{size} images: rebuild it")
        self.images_at_once = most = image.largest[0]
        scratch = device.memory(engine.scratch_bytes)
        self._scratch = scratch
        counts = range(1, most + 1)
        self._contexts = {n: engine.context(scratch.address, scratch.nbytes) for n in counts}
        for count, context in self._contexts.items():
            if image.shape[0] == -1:
                context.set_shape("image", (count, *image.shape[1:]))
        widest: Context = self._contexts[most]
        self.memory = {
            t.name: device.memory(nbytes_of(widest.shape(t.name), t.dtype))
            for t in self.tensors.values()
        }
        for context in self._contexts.values():
            for name, memory in self.memory.items():
                context.set_address(name, memory.address)
        self._host = {n: device.pinned(widest.shape(n), np.float32) for n in ("boxes", "scores")}
        self._slots = [_Slot(device) for _ in counts]
        self._runs: dict[tuple, Replayed] = {}
        # Whatever reads its outputs finds some that are.
        self([RawImage.of(np.full((64, 64, 3), 114, np.uint8))])

    def __call__(self, images: Sequence[RawImage]) -> tuple[np.ndarray, np.ndarray]:
        """Boxes [N, Q, 4] and scores [N, Q] of images_at_once images at most: views of pinned
        memory. New layouts make new buffers and a new graph."""
        grown = [slot.load(raw) for slot, raw in zip(self._slots, images, strict=False)]
        layouts = tuple((raw.encoding, raw.width, raw.height, raw.step) for raw in images)
        if any(grown):
            self._forget(len(self._runs))
        if layouts not in self._runs:
            # As many as cameras of two sizes make, with windows of some sizes; one that sends
            # another size has changed.
            self._forget(len(self._runs) + 1 - 8 * self.images_at_once**2)
            self._runs[layouts] = Replayed(self._device, self._work(images))
        self._runs[layouts]()
        self._device.synchronize()
        return self._host["boxes"][: len(images)], self._host["scores"][: len(images)]

    def _forget(self, count: int) -> None:
        """The oldest recordings."""
        for layouts in list(self._runs)[: max(count, 0)]:
            self._runs.pop(layouts).drop()

    def _work(self, images: Sequence[RawImage]) -> Callable[[], None]:
        folder, device, size = self._folder, self._device, self._folder.image_size
        canvas_bytes = nbytes_of((3, size, size), np.float32)
        copies, arguments = [], []
        for k, (slot, raw) in enumerate(zip(self._slots, images, strict=False)):
            target = self.memory["image"].address + k * canvas_bytes
            copies.append((slot.address, slot.bytes[: raw.nbytes]))
            arguments.append(
                letterbox_arguments(raw, slot.address, target, size, folder.mean, folder.std)
            )
        context = self._contexts[len(images)]
        found = [(host[: len(images)], self.memory[n].address) for n, host in self._host.items()]

        def work() -> None:
            for address, bytes_ in copies:
                device.upload(address, bytes_)
            for own in arguments:
                self.kernels["letterbox_normalise"](size, size, *own)
            context.enqueue(device.stream)
            for array, address in found:
                device.download(array, address)

        return work


class _Slot:
    """Where one image's bytes lie, pinned and on the device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.bytes = np.zeros(0, np.uint8)

    @property
    def address(self) -> int:
        return self._memory.address

    def load(self, raw: RawImage) -> bool:
        """The image's bytes into pinned memory; whether that had to be made anew."""
        grows = self.bytes.nbytes < raw.nbytes
        if grows:
            self.bytes = self._device.pinned((raw.nbytes,), np.uint8)
            self._memory = self._device.memory(raw.nbytes)
        self.bytes[: raw.nbytes] = raw.data[: raw.nbytes]
        return grows
