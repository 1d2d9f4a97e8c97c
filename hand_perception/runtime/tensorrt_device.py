"""All CUDA calls: a GPU's primary context through pycuda, and graphs through the driver itself.

pycuda knows no CUDA graphs; the driver's C interface for them has been stable since CUDA 11.4.
The primary context is the one that TensorRT and every other library of the process use.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hand_perception.errors import ModelError

# CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate meanwhile.
_CAPTURE_THREAD_LOCAL = 1
_BLOCK = (32, 8, 1)


class Memory:
    """Device memory; freed with the object."""

    def __init__(self, allocation: Any, nbytes: int) -> None:
        self._allocation = allocation
        self.address, self.nbytes = int(allocation), nbytes


class Device:
    """One GPU, one stream. Calls belong inside ``with device.active()``, in one thread at a time.

    Raises ModelError without a GPU, a driver or pycuda.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            import pycuda.driver as cuda
        except (ImportError, OSError) as error:
            raise ModelError(
                f"pycuda cannot be loaded ({error}): pip install 'hand_perception[tensorrt]' with "
                "NVIDIA's driver and CUDA toolkit installed"
            ) from error
        self._cuda = cuda
        try:
            cuda.init()
            device = cuda.Device(index)
            self._context = device.retain_primary_context()
        except cuda.Error as error:
            raise ModelError(f"no usable GPU ({error}): `hand-perception doctor`") from error
        self.name: str = device.name()
        self.compute_capability = "{}.{}".format(*device.compute_capability())
        with self.active():
            self._stream = cuda.Stream()
        self._graphs = _driver_graphs()

    @contextmanager
    def active(self) -> Iterator[None]:
        """The context is this thread's; afterwards no thread's, so that any may close it."""
        self._context.push()
        try:
            yield
        finally:
            self._cuda.Context.pop()

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream.handle)

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
        """Page-locked host memory, which copies run from and to beside the processor."""
        return self._cuda.pagelocked_empty(shape, np.dtype(dtype))

    def memory(self, nbytes: int) -> Memory:
        return Memory(self._cuda.mem_alloc(max(nbytes, 1)), nbytes)

    def upload(self, address: int, array: np.ndarray) -> None:
        """Pinned memory to the device, in the stream's order."""
        self._cuda.memcpy_htod_async(address, array, self._stream)

    def download(self, array: np.ndarray, address: int) -> None:
        """The device's memory to pinned memory, in the stream's order."""
        self._cuda.memcpy_dtoh_async(array, address, self._stream)

    def kernels(self, image: bytes, arguments: dict[str, str]) -> dict[str, Callable]:
        """Functions of a cubin by name; each is called with (columns, rows, *arguments).

        arguments: the types of each function's arguments in `struct`'s letters.
        """
        module = self._cuda.module_from_buffer(image)
        return {name: self._kernel(module, name, types) for name, types in arguments.items()}

    def synchronize(self) -> None:
        """Wait until all that was put into the stream is done."""
        self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> Graph:
        """What ``work`` puts into the stream, recorded and not run."""
        self._graphs.check("cuStreamBeginCapture_v2", self.stream, _CAPTURE_THREAD_LOCAL)
        graph = ctypes.c_void_p()
        try:
            work()
        finally:
            # Also after an error: a stream left capturing refuses all further work.
            self._graphs.check("cuStreamEndCapture", self.stream, ctypes.byref(graph))
        executable = ctypes.c_void_p()
        self._graphs.check("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, 0)
        self._graphs.check("cuGraphDestroy", graph)
        return Graph(self._graphs, executable, self.stream)

    def _kernel(self, module: Any, name: str, types: str) -> Callable:
        function = module.get_function(name)
        function.prepare(types)

        def launch(columns: int, rows: int, *arguments: Any) -> None:
            grid = (-(-columns // _BLOCK[0]), -(-rows // _BLOCK[1]))
            function.prepared_async_call(grid, _BLOCK, self._stream, *arguments)

        # A function may not outlive its module.
        launch.module = module
        return launch


class Graph:
    """Recorded work. Must be dropped while its device is active or at the process's end."""

    def __init__(self, graphs: _DriverGraphs, executable: ctypes.c_void_p, stream: int) -> None:
        self._graphs, self._executable, self._stream = graphs, executable, stream

    def launch(self) -> None:
        self._graphs.check("cuGraphLaunch", self._executable, self._stream)

    def destroy(self) -> None:
        self._graphs.check("cuGraphExecDestroy", self._executable)


class Replayed:
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


class _DriverGraphs:
    """The driver's functions for graphs, by their names in cuda.h."""

    _SIGNATURES = {
        "cuStreamBeginCapture_v2": (ctypes.c_void_p, ctypes.c_int),
        "cuStreamEndCapture": (ctypes.c_void_p, ctypes.c_void_p),
        "cuGraphInstantiateWithFlags": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulonglong),
        "cuGraphLaunch": (ctypes.c_void_p, ctypes.c_void_p),
        "cuGraphDestroy": (ctypes.c_void_p,),
        "cuGraphExecDestroy": (ctypes.c_void_p,),
    }

    def __init__(self, library: ctypes.CDLL) -> None:
        self._functions = {}
        for name, arguments in self._SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, ctypes.c_int
            self._functions[name] = function

    def check(self, name: str, *arguments: Any) -> None:
        """Raises ModelError when the call fails."""
        status = self._functions[name](*arguments)
        if status:
            raise ModelError(f"{name} failed with CUDA error {status}: update NVIDIA's driver")


def _driver_graphs() -> _DriverGraphs:
    return _DriverGraphs(ctypes.CDLL("libcuda.so.1"))


def nbytes_of(shape: tuple[int, ...], dtype: np.dtype | type) -> int:
    """Bytes of an array."""
    return int(np.prod(shape)) * np.dtype(dtype).itemsize
