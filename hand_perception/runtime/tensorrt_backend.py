"""TensorRT: a frame's bytes go to the GPU once, scores and boxes come back, then the hands.

Detector and decoder share device memory: feature maps are written by one and read by the other,
chosen queries are gathered by a kernel. All buffers are made when the backend opens. What a frame
puts into the stream is recorded as a CUDA graph, one a frame layout and one a number of hands, so
that the processor launches twice a frame and allocates nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from hand_perception.errors import ModelError
from hand_perception.runtime.backend import Decoded, Detected, ModelFolder
from hand_perception.runtime.engine_file import (
    SUFFIX,
    EngineIdentity,
    cure,
    engine_folder,
    load_engine,
)
from hand_perception.runtime.tensorrt_device import Device, Graph, Memory
from hand_perception.runtime.tensorrt_frame import (
    GATHER_ARGUMENTS,
    KERNELS,
    LETTERBOX_ARGUMENTS,
    RawImage,
    letterbox_arguments,
)
from hand_perception.runtime.tensorrt_library import Context, Engine, load_tensorrt

_ARGUMENTS = {"letterbox_normalise": LETTERBOX_ARGUMENTS, "gather_rows": GATHER_ARGUMENTS}
_DECODED = ("joints2d", "vertices", "camera", "presence")
_GATHERED = ("instances", "boxes")


def expected_identity(
    folder: ModelFolder, graph: str, device: Device, trt: ModuleType, precision: str = ""
) -> EngineIdentity:
    """What an engine of that graph ("frame": the kernels) must be to run here."""
    if graph == "frame":
        source, version = hashlib.sha256(KERNELS.read_bytes()).hexdigest(), ""
    else:
        source, version = folder.card["sha256"][f"{graph}.onnx"], trt.__version__
    return EngineIdentity(
        folder.name, graph, source, precision, version, device.name, device.compute_capability
    )


def check_network(folder: ModelFolder) -> None:
    """Raises ModelError for a model whose decoder reads crops of the image."""
    if folder.network != "handos":
        raise ModelError(
            f"{folder.name} is a {folder.network} model, TensorRT runs handos models only: use "
            "backend onnxruntime"
        )


class TensorRTBackend:
    """detector, decoder: engines; kernels: the cubin of frame.cu.

    Raises ModelError when the engines do not fit together.
    """

    def __init__(
        self,
        folder: ModelFolder,
        device: Device,
        detector: Engine,
        decoder: Engine,
        kernels: bytes,
        identity: str,
    ) -> None:
        self._folder, self._device, self.identity = folder, device, identity
        with device.active():
            self._detector = _Detector(folder, device, detector, kernels)
            # The decoder's look-ups need boxes that are some.
            self._detector.load(RawImage.of(np.full((64, 64, 3), 114, np.uint8)))
            self._detector()
            self._decoder = _Decoder(device, decoder, self._detector)

    @classmethod
    def open(cls, folder: ModelFolder, engines: Path | None = None) -> TensorRTBackend:
        """The engines that `hand-perception build-engine` left for this machine.

        engines: their folder where it is another. Raises ModelError, one line with the cure, where
        they are missing, stale or of another machine, and without TensorRT, pycuda or a GPU.
        """
        check_network(folder)
        where, command = engines or engine_folder(folder), cure(folder)
        if not (where / f"detector{SUFFIX}").is_file():
            raise ModelError(f"no TensorRT engine of {folder.name} here: {command}")
        trt, device = load_tensorrt(), Device()
        plans, identities = {}, {}
        for graph in ("detector", "decoder", "frame"):
            wanted = expected_identity(folder, graph, device, trt)
            identities[graph], plans[graph] = load_engine(
                where / f"{graph}{SUFFIX}", wanted, command
            )
        found = identities["decoder"]
        identity = (
            f"{folder.name}-{found.source_sha256[:8]} {found.precision} "
            f"tensorrt-{found.tensorrt} {device.name}"
        )
        with device.active():
            detector = Engine(trt, plans["detector"], "detector")
            decoder = Engine(trt, plans["decoder"], "decoder")
        return cls(folder, device, detector, decoder, plans["frame"], identity)

    def prepare(self, image: np.ndarray | RawImage) -> RawImage:
        """RGB uint8 [H, W, 3] or a camera's own bytes; the kernel does the rest in `detect`."""
        raw = RawImage.of(image)
        with self._device.active():
            self._detector.load(raw)
        return raw

    def detect(self, prepared: RawImage) -> Detected:
        """Arrays are views of pinned memory: they hold until the next call."""
        with self._device.active():
            return self._detector()

    def decode(self, detected: Detected, chosen: np.ndarray) -> Decoded:
        """Of the frame detected last."""
        with self._device.active():
            return self._decoder(chosen)


class _Replayed:
    """Work for the stream: run as it is at first, which lets TensorRT settle, then recorded."""

    def __init__(self, device: Device, work: Callable[[], None]) -> None:
        self._device, self._work = device, work
        self._runs, self._graph = 0, None

    def __call__(self) -> None:
        if self._graph is not None:
            self._graph.launch()
        elif self._runs == 0:
            self._work()
        else:
            self._graph: Graph | None = self._device.capture(self._work)
            self._graph.launch()
        self._runs += 1

    def drop(self) -> None:
        """Forget the recording."""
        if self._graph is not None:
            self._graph.destroy()
            self._graph = None


class _Detector:
    """The frame's bytes, the canvas and the detector, in buffers that outlive the frame."""

    def __init__(self, folder: ModelFolder, device: Device, engine: Engine, kernels: bytes) -> None:
        self._folder, self._device = folder, device
        self.kernels = device.kernels(kernels, _ARGUMENTS)
        self.tensors = engine.tensors
        size = folder.image_size
        image = engine.tensors.get("image")
        if image is None or image.shape != (1, 3, size, size) or image.dtype != np.float32:
            raise ModelError(f"the detector engine does not read {size}x{size} images: rebuild it")
        self.memory = {
            t.name: device.memory(_nbytes(t.shape, t.dtype)) for t in self.tensors.values()
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
        self._run: _Replayed | None = None

    def load(self, raw: RawImage) -> None:
        """The frame's bytes into pinned memory; a new layout makes new buffers and a new graph."""
        layout = (raw.encoding, raw.width, raw.height, raw.step)
        if layout != self._layout:
            if self._run is not None:
                self._run.drop()
            if self._raw is None or self._raw.nbytes < raw.nbytes:
                self._bytes = self._device.pinned((raw.nbytes,), np.uint8)
                self._raw = self._device.memory(raw.nbytes)
            self._layout, self._run = layout, _Replayed(self._device, self._work(raw))
        self._bytes[: raw.nbytes] = raw.data[: raw.nbytes]

    def __call__(self) -> Detected:
        self._run()
        self._device.synchronize()
        return Detected(self._host["boxes"][0], self._host["scores"][0], None)

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


class _Decoder:
    """A context and a graph for each number of hands, over one set of buffers."""

    def __init__(self, device: Device, engine: Engine, detector: _Detector) -> None:
        self._device, self._detector = device, detector
        self._tensors = engine.tensors
        for name, tensor in self._tensors.items():
            self._check_shared(name, tensor.shape)
        self.most_hands = self._tensors["boxes"].largest[1]
        self._chosen = device.pinned((self.most_hands,), np.int32)
        self._chosen_memory = device.memory(self._chosen.nbytes)
        self._gathered = {
            name: device.memory(_nbytes(self._tensors[name].largest, np.float32))
            for name in _GATHERED
        }
        self._scratch = device.memory(engine.scratch_bytes)
        counts = range(1, self.most_hands + 1)
        self._contexts = {hands: self._context(engine, hands) for hands in counts}
        widest = self._contexts[self.most_hands]
        self._host = {n: device.pinned(widest.shape(n), np.float32) for n in _DECODED}
        self._memory = {n: device.memory(a.nbytes) for n, a in self._host.items()}
        self._runs = {hands: _Replayed(device, self._work(hands)) for hands in counts}
        self._chosen[:] = 0
        for hands in counts:
            for name, memory in self._memory.items():
                self._contexts[hands].set_address(name, memory.address)
            for _ in range(2):  # as it is, then recorded: no frame waits for that
                self._runs[hands]()
        device.synchronize()

    def __call__(self, chosen: np.ndarray) -> Decoded:
        if len(chosen) <= self.most_hands:
            return Decoded(*self._decode(chosen))
        groups = np.split(chosen, range(self.most_hands, len(chosen), self.most_hands))
        # Copies, as the next group is written over the last.
        done = [[v.copy() for v in self._decode(group)] for group in groups]
        return Decoded(*(np.concatenate(parts) for parts in zip(*done, strict=True)))

    def _decode(self, chosen: np.ndarray) -> list[np.ndarray]:
        """In the order of _DECODED, views of pinned memory."""
        hands = len(chosen)
        self._chosen[:hands] = chosen
        self._runs[hands]()
        self._device.synchronize()
        return [self._rows(name, hands)[0] for name in _DECODED]

    def _rows(self, name: str, hands: int) -> np.ndarray:
        """The host array of an output for that many hands: the first of the whole, contiguous."""
        whole = self._host[name]
        shape = (1, hands, *whole.shape[2:])
        return whole.reshape(-1)[: int(np.prod(shape))].reshape(shape)

    def _check_shared(self, name: str, shape: tuple[int, ...]) -> None:
        """What the decoder reads of the detector must be the detector's in type and shape."""
        tensor = self._tensors[name]
        if not tensor.is_input or name in _GATHERED:
            return
        other = self._detector.tensors.get(name)
        if other is None or (other.dtype, other.shape) != (tensor.dtype, shape):
            raise ModelError(f"detector and decoder engines differ in {name}: rebuild both")

    def _context(self, engine: Engine, hands: int) -> Context:
        context = engine.context(self._scratch.address, self._scratch.nbytes)
        for name, tensor in self._tensors.items():
            if name in _GATHERED:
                context.set_shape(name, (1, hands, *tensor.shape[2:]))
                context.set_address(name, self._gathered[name].address)
            elif tensor.is_input:
                context.set_address(name, self._detector.memory[name].address)
        return context

    def _work(self, hands: int) -> Callable[[], None]:
        device, detector = self._device, self._detector

        def work() -> None:
            chosen = self._chosen_memory.address
            device.upload(chosen, self._chosen[:hands])
            for name, memory in self._gathered.items():
                width = self._tensors[name].shape[2]
                rows = detector.memory[name].address
                detector.kernels["gather_rows"](
                    width, hands, rows, chosen, memory.address, hands, width
                )
            self._contexts[hands].enqueue(device.stream)
            for name in _DECODED:
                device.download(self._rows(name, hands), self._memory[name].address)

        return work


def _nbytes(shape: tuple[int, ...], dtype: np.dtype | type) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize
