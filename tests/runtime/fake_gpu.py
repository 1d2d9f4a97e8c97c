"""A strict stand-in for pycuda, the driver's graphs and TensorRT, on the CPU.

It is there for the order and the arguments of calls: device memory is memory that only copies and
kernels may touch, a stream runs nothing before it is waited for, and what the real interfaces
refuse is refused here. An engine is its ONNX graph in ONNX Runtime, a kernel is the CUDA source
compiled as C++, so that results are real as well. Names and signatures are those that
test_tensorrt_names.py lists.
"""

from __future__ import annotations

import ctypes
import json
import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import onnxruntime
from runtime.plugin_stand_in import check_plugins, expanded, plugins_of

from hand_perception.runtime import tensorrt_device
from hand_perception.runtime.tensorrt_frame import ENCODINGS

_PLAN = b"fake plan\n"
_POISON = 0xFF  # as float16 and float32 this is NaN


class FakeCudaError(Exception):
    """pycuda.driver.Error"""


class FakeGpu:
    """One GPU's memory, current contexts, one capture at a time."""

    def __init__(self, kernels: dict, version: str = "10.3.0", name: str = "Fake RTX") -> None:
        self.kernels, self.version, self.name = kernels, version, name
        self.capability = (8, 7)
        self.current: dict[int, list] = {}
        self.device: dict[int, np.ndarray] = {}
        self.pinned: dict[int, np.ndarray] = {}
        self.queues: dict[int, list] = {}
        self.capture: list | None = None
        self.graphs: dict[int, list] = {}
        self.executables: dict[int, list] = {}
        self.next_handle = 1000
        self.launches = 0
        self.allocations = 0
        self.builds = 0
        self.plugins, self.has_plugins = False, True

    def install(self, monkeypatch) -> None:
        driver = self.driver_module()
        package = ModuleType("pycuda")
        package.driver = driver
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
        monkeypatch.setitem(sys.modules, "tensorrt", self.tensorrt_module())
        graphs = tensorrt_device._DriverGraphs
        monkeypatch.setattr(tensorrt_device, "_driver_graphs", lambda: graphs(self.libcuda()))

    # -- state ------------------------------------------------------------------------------------

    def handle(self) -> int:
        self.next_handle += 1
        return self.next_handle

    def need_context(self) -> None:
        if not self.current.get(threading.get_ident()):
            raise FakeCudaError("invalid device context: none is current in this thread")

    def need_no_capture(self, what: str) -> None:
        if self.capture is not None:
            raise FakeCudaError(f"{what}: operation not permitted when stream is capturing")

    def bytes_at(self, address: int, nbytes: int, where: dict[int, np.ndarray]) -> np.ndarray:
        for base, block in where.items():
            if base <= address and address + nbytes <= base + block.nbytes:
                return block[address - base : address - base + nbytes]
        raise FakeCudaError(f"invalid argument: {nbytes} bytes at {address:#x} are not one block's")

    def put(self, stream: int, work) -> None:
        self.need_context()
        if stream not in self.queues:
            raise FakeCudaError(f"invalid resource handle: {stream} is no stream")
        (self.queues[stream] if self.capture is None else self.capture).append(work)

    # -- pycuda -----------------------------------------------------------------------------------

    def driver_module(self) -> ModuleType:
        gpu = self
        state = SimpleNamespace(initialised=False)

        class Context:
            def push(self):
                gpu.current.setdefault(threading.get_ident(), []).append(self)

            @staticmethod
            def pop():
                gpu.need_context()
                gpu.current[threading.get_ident()].pop()

        class Device:
            def __init__(self, index):
                if not state.initialised or index != 0:
                    raise FakeCudaError("not initialized, or no such device")

            def name(self):
                return gpu.name

            def compute_capability(self):
                return gpu.capability

            def retain_primary_context(self):
                return Context()

        class Stream:
            def __init__(self, flags=0):
                gpu.need_context()
                self.handle = gpu.handle()
                gpu.queues[self.handle] = []

            def synchronize(self):
                gpu.need_context()
                gpu.need_no_capture("cuStreamSynchronize")
                queue, gpu.queues[self.handle] = gpu.queues[self.handle], []
                for work in queue:
                    work()

        class DeviceAllocation:
            def __init__(self, nbytes):
                # TensorRT wants tensors aligned to 256 bytes, as cuMemAlloc gives them.
                self._whole = np.full(nbytes + 256, _POISON, np.uint8)
                start = -self._whole.ctypes.data % 256
                self._block = self._whole[start : start + nbytes]
                self._address = self._block.ctypes.data
                gpu.device[self._address] = self._block

            def __int__(self):
                return self._address

            def __del__(self):
                gpu.device.pop(self._address, None)

        class Function:
            def __init__(self, name):
                self._name, self._types = name, None

            def prepare(self, types):
                if set(types) - set("Pif"):
                    raise FakeCudaError(f"unknown argument types {types}")
                self._types = types
                return self

            def prepared_async_call(self, grid, block, stream, *arguments):
                if len(arguments) != len(self._types):
                    raise FakeCudaError(f"{self._name} takes {len(self._types)} arguments")
                for letter, value in zip(self._types, arguments, strict=True):
                    if type(value) is not (float if letter == "f" else int):
                        raise FakeCudaError(f"{self._name}: {value!r} is no {letter}")
                for k, nbytes in _touched(self._name, arguments).items():
                    gpu.bytes_at(arguments[k], nbytes, gpu.device)
                # letterbox: canvas x canvas; gather: width x count
                extent = {"letterbox_normalise": (6, 6), "gather_rows": (4, 3)}[self._name]
                for axis, k in enumerate(extent):
                    if grid[axis] * block[axis] < arguments[k]:
                        raise FakeCudaError(f"{self._name}: the grid does not cover axis {axis}")
                kernel = gpu.kernels[self._name]
                gpu.put(stream.handle, lambda: kernel(*arguments))

        class Module:
            def get_function(self, name):
                if name not in gpu.kernels:
                    raise FakeCudaError(f"named symbol {name} not found")
                return Function(name)

        def module_from_buffer(image):
            gpu.need_context()
            if not bytes(image).startswith(b"\x7fELF"):
                raise FakeCudaError("device kernel image is invalid")
            return Module()

        def mem_alloc(nbytes):
            gpu.need_context()
            gpu.need_no_capture("cuMemAlloc")
            if nbytes <= 0:
                raise FakeCudaError("cuMemAlloc: invalid argument")
            gpu.allocations += 1
            return DeviceAllocation(nbytes)

        def pagelocked_empty(shape, dtype, order="C", mem_flags=0):
            gpu.need_context()
            gpu.need_no_capture("cuMemHostAlloc")
            gpu.allocations += 1
            block = np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize, _POISON, np.uint8)
            gpu.pinned[block.ctypes.data] = block
            return block.view(dtype).reshape(shape)

        def copy(device_address, array, stream, to_device):
            if not array.flags.c_contiguous:
                raise FakeCudaError("ndarray is not contiguous")
            host = gpu.bytes_at(array.ctypes.data, array.nbytes, gpu.pinned)
            device = gpu.bytes_at(device_address, array.nbytes, gpu.device)
            target, source = (device, host) if to_device else (host, device)
            gpu.put(stream.handle, lambda: np.copyto(target, source))

        module = ModuleType("pycuda.driver")
        module.Error = FakeCudaError
        module.init = lambda flags=0: setattr(state, "initialised", True)
        module.Device, module.Context, module.Stream = Device, Context, Stream
        module.mem_alloc, module.pagelocked_empty = mem_alloc, pagelocked_empty
        module.module_from_buffer = module_from_buffer
        module.memcpy_htod_async = lambda dest, src, stream: copy(dest, src, stream, True)
        module.memcpy_dtoh_async = lambda dest, src, stream: copy(src, dest, stream, False)
        return module

    # -- the driver's graphs ----------------------------------------------------------------------

    def libcuda(self):
        """CUresult 0 is success, 1 an invalid value, 201 no context, 900 a capture's error."""

        def begin(stream, mode):
            self.need_context()
            if stream not in self.queues or mode not in (0, 1, 2) or self.capture is not None:
                return 1
            self.capture = []
            return 0

        def end(stream, graph):
            if self.capture is None:
                return 900
            graph._obj.value = handle = self.handle()
            self.graphs[handle], self.capture = self.capture, None
            return 0

        def instantiate(executable, graph, flags):
            if graph.value not in self.graphs:
                return 1
            executable._obj.value = handle = self.handle()
            self.executables[handle] = list(self.graphs[graph.value])
            return 0

        def launch(executable, stream):
            if executable.value not in self.executables:
                return 1
            self.launches += 1
            for work in self.executables[executable.value]:
                self.put(stream, work)
            return 0

        def destroy(table):
            return lambda handle: 0 if table.pop(handle.value, None) is not None else 1

        functions = {
            "cuStreamBeginCapture_v2": begin,
            "cuStreamEndCapture": end,
            "cuGraphInstantiateWithFlags": instantiate,
            "cuGraphLaunch": launch,
            "cuGraphDestroy": destroy(self.graphs),
            "cuGraphExecDestroy": destroy(self.executables),
        }
        return SimpleNamespace(**{name: _Function(f) for name, f in functions.items()})

    # -- TensorRT ---------------------------------------------------------------------------------

    def load_plugins(self, logger, namespace: str) -> bool:
        assert logger.started and namespace == ""
        self.plugins = self.has_plugins
        return self.plugins

    def need_plugins(self, model: onnx.ModelProto) -> None:
        if plugins_of(model):
            assert self.plugins, "Plugin not found, are its name and version right?"
            renewed = tuple(map(int, self.version.split(".")[:2])) >= (10, 11)
            check_plugins(model, "2" if renewed else "1")

    def tensorrt_module(self) -> ModuleType:
        trt = ModuleType("tensorrt")
        trt.__version__ = self.version
        trt.ILogger = _Logger
        trt.TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
        trt.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        trt.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")
        # Its number changed when EXPLICIT_BATCH went.
        self.strongly_typed = 0 if self.version.startswith("11") else 1
        flag = self.strongly_typed
        trt.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=flag)
        trt.IProgressMonitor = _ProgressMonitor
        trt.nptype = lambda kind: {"FLOAT": np.float32, "HALF": np.float16}[kind]
        trt.Builder = lambda logger: _Builder(self, logger)
        trt.OnnxParser = lambda network, logger: _Parser(self, network)
        trt.init_libnvinfer_plugins = self.load_plugins
        trt.Runtime = lambda logger: _Runtime(self, logger)
        return trt


def _touched(kernel: str, arguments: tuple) -> dict[int, int]:
    """How many bytes a kernel reads or writes at each of its addresses, by argument."""
    if kernel == "gather_rows":
        _, _, _, count, width = arguments
        return {0: 4 * width, 1: 4 * count, 2: 4 * count * width}
    height, step, encoding, canvas = (arguments[k] for k in (2, 3, 4, 6))
    rows = height * 3 // 2 if ENCODINGS[encoding].startswith("nv") else height
    return {0: rows * step, 5: 3 * 4 * canvas**2}


class _Function:
    """A C function: its types are set before it is called."""

    def __init__(self, work) -> None:
        self._work, self.argtypes, self.restype = work, None, None

    def __call__(self, *arguments):
        assert self.restype is ctypes.c_int and len(arguments) == len(self.argtypes)
        return self._work(*arguments)


class _Logger:
    ERROR, INTERNAL_ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        self.started = True


class _ProgressMonitor:
    def __init__(self) -> None:
        self.started = True


def _refuse(logger, message: str):
    assert logger.started, "the logger's own __init__ was not called"
    logger.log(_Logger.ERROR, message)


class _Builder:
    def __init__(self, gpu: FakeGpu, logger) -> None:
        gpu.need_context()
        self._gpu, self._logger = gpu, logger

    def create_network(self, flags: int = 0):
        assert flags == 1 << self._gpu.strongly_typed, (
            "not strongly typed: precision would be TensorRT's own choice"
        )
        return SimpleNamespace(model=None)

    def create_builder_config(self):
        return _Config()

    def create_optimization_profile(self):
        return _Profile()

    def build_serialized_network(self, network, config):
        if network.model is None or not config.pools.get("workspace"):
            return _refuse(self._logger, "empty network or no workspace")
        profile = config.profiles[0].shapes if config.profiles else {}
        for value in network.model.graph.input:
            dims = value.type.tensor_type.shape.dim
            if any(d.dim_param for d in dims) and value.name not in profile:
                return _refuse(self._logger, f"{value.name} is dynamic but has no profile")
        if config.progress_monitor is not None:
            assert config.progress_monitor.started
            config.progress_monitor.phase_start("Building Engine", None, 2)
            config.progress_monitor.phase_start("Tactics", "Building Engine", 1)
            assert config.progress_monitor.step_complete("Tactics", 0)
            config.progress_monitor.phase_finish("Tactics")
            for step in range(2):
                assert config.progress_monitor.step_complete("Building Engine", step)
            config.progress_monitor.phase_finish("Building Engine")
        self._gpu.builds += 1
        header = json.dumps({"profile": profile, "version": self._gpu.version}).encode()
        return memoryview(_PLAN + header + b"\n" + network.model.SerializeToString())


class _Config:
    def __init__(self) -> None:
        self.pools, self.profiles, self.cache = {}, [], None
        self.progress_monitor, self.builder_optimization_level = None, 3

    def set_memory_pool_limit(self, pool, size) -> None:
        self.pools[pool] = int(size)

    def add_optimization_profile(self, profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, data):
        return _TimingCache(bytes(data))

    def set_timing_cache(self, cache, ignore_mismatch) -> bool:
        assert isinstance(ignore_mismatch, bool)
        self.cache = cache
        return cache.data in (b"", b"cache")

    def get_timing_cache(self):
        return self.cache


class _TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self):
        return memoryview(b"cache")


class _Profile:
    def __init__(self) -> None:
        self.shapes = {}

    def set_shape(self, input, min, opt, max) -> None:
        assert len(min) == len(opt) == len(max)
        assert all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True))
        self.shapes[input] = [list(min), list(opt), list(max)]


class _Parser:
    def __init__(self, gpu: FakeGpu, network) -> None:
        self._gpu, self._network, self._errors = gpu, network, []

    def parse(self, model: bytes, path: str | None = None) -> bool:
        try:
            loaded = onnx.load_from_string(model)
            # Types of every operator's inputs, as a strongly typed network wants them.
            onnx.checker.check_model(loaded, full_check=True)
            self._gpu.need_plugins(loaded)
        except Exception as error:
            reason = str(error)
            self._errors = [SimpleNamespace(desc=lambda: reason)]
            return False
        self._network.model = loaded
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int):
        return self._errors[index]


class _Runtime:
    def __init__(self, gpu: FakeGpu, logger) -> None:
        gpu.need_context()
        self._gpu, self._logger = gpu, logger

    def deserialize_cuda_engine(self, plan):
        plan = bytes(plan)
        if not plan.startswith(_PLAN):
            return _refuse(self._logger, "magic tag does not match")
        header, _, model = plan[len(_PLAN) :].partition(b"\n")
        loaded = onnx.load_from_string(model)
        try:
            self._gpu.need_plugins(loaded)
        except AssertionError as error:
            return _refuse(self._logger, str(error))
        model = expanded(loaded).SerializeToString()
        header = json.loads(header)
        if header["version"] != self._gpu.version:
            return _refuse(self._logger, "the engine plan was made by another version")
        return _Engine(self._gpu, self._logger, model, header["profile"])


class _Engine:
    device_memory_size_v2 = 4096

    def __init__(self, gpu: FakeGpu, logger, model: bytes, profile: dict) -> None:
        self.gpu, self.logger, self.profile = gpu, logger, profile
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(model, options, providers=providers)
        self.inputs = {i.name: i for i in self.session.get_inputs()}
        self.outputs = {o.name: o for o in self.session.get_outputs()}
        self.names = [*self.inputs, *self.outputs]
        self._shapes: dict[tuple, dict] = {}

    @property
    def num_io_tensors(self) -> int:
        return len(self.names)

    def get_tensor_name(self, index):
        return self.names[index]

    def get_tensor_mode(self, name):
        return "input" if name in self.inputs else "output"

    def get_tensor_shape(self, name):
        value = self.inputs.get(name) or self.outputs[name]
        return tuple(d if isinstance(d, int) else -1 for d in value.shape)

    def get_tensor_dtype(self, name):
        value = self.inputs.get(name) or self.outputs[name]
        return {"tensor(float)": "FLOAT", "tensor(float16)": "HALF"}[value.type]

    def get_tensor_profile_shape(self, name, profile_index):
        assert name in self.inputs and profile_index == 0
        return [tuple(shape) for shape in self.profile[name]]

    def create_execution_context(self, strategy):
        self.gpu.need_context()
        assert strategy == "user"
        return _Context(self)

    def output_shapes(self, shapes: dict[str, tuple]) -> dict[str, tuple]:
        """By running on zeros once, as ONNX does not always say."""
        key = tuple(sorted(shapes.items()))
        if key not in self._shapes:
            feed = {n: np.zeros(s, self.dtype(n)) for n, s in shapes.items()}
            run = self.session.run(list(self.outputs), feed)
            self._shapes[key] = {n: v.shape for n, v in zip(self.outputs, run, strict=True)}
        return self._shapes[key]

    def dtype(self, name: str) -> np.dtype:
        kind = {"FLOAT": np.float32, "HALF": np.float16}[self.get_tensor_dtype(name)]
        return np.dtype(kind)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine, self._gpu = engine, engine.gpu
        self._shapes = {n: engine.get_tensor_shape(n) for n in engine.inputs}
        self._addresses: dict[str, int] = {}
        self._scratch = None
        self._settled = False
        self.changes = 0

    def set_device_memory(self, memory, size) -> None:
        self._gpu.bytes_at(memory, size, self._gpu.device)
        assert size >= self._engine.device_memory_size_v2
        self._scratch = memory
        self.changes += 1

    def set_input_shape(self, name, shape) -> bool:
        declared = self._engine.get_tensor_shape(name) if name in self._engine.inputs else None
        if declared is None or len(shape) != len(declared):
            return bool(_refuse(self._engine.logger, f"no input {name} of rank {len(shape)}"))
        low, _, high = self._engine.profile.get(name, [declared] * 3)
        if not all(a <= s <= b for a, s, b in zip(low, shape, high, strict=True)):
            return bool(_refuse(self._engine.logger, f"{name}: {shape} is outside the profile"))
        self._shapes[name] = tuple(int(s) for s in shape)
        self._settled = False
        self.changes += 1
        return True

    def get_tensor_shape(self, name):
        if name in self._shapes:
            return self._shapes[name]
        if any(-1 in shape for shape in self._shapes.values()):
            return self._engine.get_tensor_shape(name)
        return self._engine.output_shapes(self._shapes)[name]

    def set_tensor_address(self, name, memory) -> bool:
        if name not in self._engine.names or type(memory) is not int:
            return bool(_refuse(self._engine.logger, f"no tensor {name}"))
        self._addresses[name] = memory
        self.changes += 1
        return True

    def execute_async_v3(self, stream_handle) -> bool:
        engine, gpu = self._engine, self._gpu
        if self._scratch is None:
            return bool(_refuse(engine.logger, "no device memory was set"))
        if missing := set(engine.names) - set(self._addresses):
            return bool(_refuse(engine.logger, f"address of {sorted(missing)} is not set"))
        if any(-1 in shape for shape in self._shapes.values()):
            return bool(_refuse(engine.logger, "an input's shape is not specified"))
        if gpu.capture is not None and not self._settled:
            raise FakeCudaError("work that is only allowed outside of a capture")
        shapes = self._shapes | engine.output_shapes(self._shapes)
        views = {}
        for name, shape in shapes.items():
            dtype = engine.dtype(name)
            nbytes = int(np.prod(shape)) * dtype.itemsize
            if self._addresses[name] % 256:
                return bool(_refuse(engine.logger, f"{name} is not aligned"))
            block = gpu.bytes_at(self._addresses[name], nbytes, gpu.device)
            views[name] = block.view(dtype).reshape(shape)
        self._settled = True
        changes = self.changes

        def work() -> None:
            assert self.changes == changes, "the context was changed after it was recorded"
            feed = {name: views[name] for name in engine.inputs}
            for name, value in feed.items():
                assert np.isfinite(value).all(), f"{name} was read before it was written"
            results = engine.session.run(list(engine.outputs), feed)
            for name, value in zip(engine.outputs, results, strict=True):
                np.copyto(views[name], value)

        gpu.put(stream_handle, work)
        return True


def fake_cubin(*_) -> bytes:
    """Stands for compiled kernels where there is no nvcc."""
    return b"\x7fELF of no machine"
