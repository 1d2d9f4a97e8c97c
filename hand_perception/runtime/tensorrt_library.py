"""TensorRT's Python bindings, 10.3 to 11: loaded when needed, every call's result checked.

TensorRT comes with JetPack or the system and is never a pip dependency. What changed between its
versions stays in this file: 11 dropped the builder's precision flags and calibrators (precision
stands in the graph here), EXPLICIT_BATCH, `device_memory_size` and
`create_execution_context_without_device_memory`. Only what 10.3 and 11 both have is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from hand_perception.errors import ModelError

OLDEST, TOO_NEW = (10, 3), (12,)
# The deformable-attention plugin's second version, with the interface that 11 asks for.
PLUGIN_RENEWED = (10, 11)


def load_tensorrt() -> ModuleType:
    """The tensorrt module. Raises ModelError when it is missing or of another version."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise ModelError(
            f"TensorRT cannot be loaded ({error}): install NVIDIA's TensorRT 10.3 or later with "
            "its Python bindings; on a Jetson, JetPack 6.1 or later"
        ) from error
    if not OLDEST <= _version(tensorrt) < TOO_NEW:
        raise ModelError(
            f"TensorRT {tensorrt.__version__} is installed, 10.3 to 11 are supported: "
            "install one of these"
        )
    return tensorrt


def load_plugins(trt: ModuleType) -> str:
    """Makes TensorRT's own plugins known, and says which version of its deformable attention this
    one has. Raises ModelError where its library of plugins is missing."""
    if not trt.init_libnvinfer_plugins(make_logger(trt), ""):
        raise ModelError(
            "TensorRT's plugins cannot be loaded: install libnvinfer_plugin of the same version or "
            "build with --attention gather"
        )
    return "2" if _version(trt) >= PLUGIN_RENEWED else "1"


def _version(trt: ModuleType) -> tuple[int, ...]:
    return tuple(int(part) for part in trt.__version__.split(".")[:2])


def make_logger(trt: ModuleType) -> Any:
    """A logger whose ``last_error`` says why a call returned nothing."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = "TensorRT gave no reason"

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.last_error = " ".join(msg.split())

    return Logger()


@dataclass(frozen=True)
class TensorInfo:
    """shape: -1 where it follows the number of hands or images. largest: of the profile; for
    outputs, as ``shape``."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    largest: tuple[int, ...]
    is_input: bool


class Engine:
    """A deserialised plan. Raises ModelError where TensorRT refuses it.

    One profile. Contexts share the scratch memory they are given, so one of them may run at a time.
    """

    def __init__(self, trt: ModuleType, plan: bytes, name: str) -> None:
        self._trt, self._name = trt, name
        self._logger = make_logger(trt)
        # Kept: an engine may not outlive its runtime.
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ModelError(f"TensorRT cannot load the {name} engine ({self._logger.last_error})")
        self.tensors = {t.name: t for t in map(self._info, range(self._engine.num_io_tensors))}

    @property
    def scratch_bytes(self) -> int:
        """Device memory that a context needs for its activations, of any shape."""
        return int(self._engine.device_memory_size_v2)

    def context(self, scratch: int, scratch_bytes: int) -> Context:
        """A context on the given scratch memory."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise ModelError(f"no context for the {self._name} engine: {self._logger.last_error}")
        context.set_device_memory(scratch, scratch_bytes)
        return Context(context, self._logger, self._name)

    def _info(self, index: int) -> TensorInfo:
        name = self._engine.get_tensor_name(index)
        is_input = self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT
        shape = tuple(self._engine.get_tensor_shape(name))
        largest = shape
        if is_input and -1 in shape:
            largest = tuple(self._engine.get_tensor_profile_shape(name, 0)[2])
        dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        return TensorInfo(name, dtype, shape, largest, is_input)


class Context:
    """An engine's context for one set of input shapes. Raises ModelError where a call fails."""

    def __init__(self, context: Any, logger: Any, name: str) -> None:
        self._context, self._logger, self._name = context, logger, name

    def set_shape(self, name: str, shape: Sequence[int]) -> None:
        self._must(self._context.set_input_shape(name, tuple(shape)), f"shape of {name}")

    def shape(self, name: str) -> tuple[int, ...]:
        """With all input shapes set, the whole shape of an output."""
        return tuple(self._context.get_tensor_shape(name))

    def set_address(self, name: str, address: int) -> None:
        self._must(self._context.set_tensor_address(name, address), f"address of {name}")

    def enqueue(self, stream: int) -> None:
        self._must(self._context.execute_async_v3(stream), "launch")

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise ModelError(
                f"TensorRT refused the {what} in the {self._name} engine: {self._logger.last_error}"
            )
