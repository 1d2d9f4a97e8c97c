"""Every name that the TensorRT code calls exists in the oldest and the newest bindings it supports.

The table was read from the published wheels tensorrt-cu12-bindings 10.3.0 and
tensorrt-cu13-bindings 11.4.0.106, imported over empty libraries and asked with dir() and __doc__;
pycuda's from the wrapper's source at v2024.1 and v2026.1; the driver's from cuda.h of CUDA 11.4 on.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hand_perception
from hand_perception.runtime.tensorrt_device import _DriverGraphs

PACKAGE = Path(hand_perception.__file__).parent
TENSORRT_FILES = ("runtime/tensorrt_library.py", "export/engine_builder.py")

# Class: names that both versions have, with the arguments that both take.
IN_BOTH = {
    "": {
        "Builder": "logger",
        "OnnxParser": "network, logger",
        "Runtime": "logger",
        "nptype": "trt_type",  # of the package's __init__.py
        "init_libnvinfer_plugins": "logger, namespace",
        "__version__": "",
    },
    "ILogger": {"__init__": "", "log": "severity, msg", "ERROR": "", "INTERNAL_ERROR": ""},
    "IProgressMonitor": {
        "__init__": "",
        "phase_start": "phase_name, parent_phase, num_steps",
        "step_complete": "phase_name, step",
        "phase_finish": "phase_name",
    },
    "Builder": {
        "create_network": "flags",
        "create_builder_config": "",
        "create_optimization_profile": "",
        "build_serialized_network": "network, config",
    },
    "OnnxParser": {"parse": "model, path", "num_errors": "", "get_error": "index"},
    "ParserError": {"desc": ""},
    "IBuilderConfig": {
        "set_memory_pool_limit": "pool, pool_size",
        "builder_optimization_level": "",
        "add_optimization_profile": "profile",
        "create_timing_cache": "serialized_timing_cache",
        "set_timing_cache": "cache, ignore_mismatch",
        "get_timing_cache": "",
        "progress_monitor": "",
    },
    "ITimingCache": {"serialize": ""},
    "IOptimizationProfile": {"set_shape": "input, min, opt, max"},
    "Runtime": {"deserialize_cuda_engine": "serialized_engine"},
    "ICudaEngine": {
        "num_io_tensors": "",
        "get_tensor_name": "index",
        "get_tensor_mode": "name",
        "get_tensor_shape": "name",
        "get_tensor_profile_shape": "name, profile_index",
        "get_tensor_dtype": "name",
        "device_memory_size_v2": "",
        "create_execution_context": "strategy",
    },
    "IExecutionContext": {
        "set_device_memory": "memory, size",
        "set_input_shape": "name, shape",
        "get_tensor_shape": "name",
        "set_tensor_address": "name, memory",
        "execute_async_v3": "stream_handle",
    },
    "TensorIOMode": {"INPUT": ""},
    "MemoryPoolType": {"WORKSPACE": ""},
    "ExecutionContextAllocationStrategy": {"USER_MANAGED": ""},
    # 1 in 10.3 and 0 in 11.4: only `1 << int(...)` of it may be written.
    "NetworkDefinitionCreationFlag": {"STRONGLY_TYPED": ""},
}
# In 10.3 and no more in 11.4: none of these may be written at all.
GONE_IN_11 = {
    *("EXPLICIT_BATCH", "device_memory_size", "create_execution_context_without_device_memory"),
    *("FP16", "INT8", "BF16", "FP8", "int8_calibrator", "all_shape_inputs_specified"),
    *("platform_has_fast_fp16", "platform_has_fast_int8", "IInt8EntropyCalibrator2"),
}
# What a name in the source holds.
HOLDERS = {
    "builder": "Builder",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "cache": "ITimingCache",
    "shapes": "IOptimizationProfile",
    "self._runtime": "Runtime",
    "self._engine": "ICudaEngine",
    "self._context": "IExecutionContext",
}
PYCUDA = {
    *("Error", "init", "Device", "Context", "Context.pop", "Stream"),
    *("pagelocked_empty", "mem_alloc", "module_from_buffer"),
    *("memcpy_htod_async", "memcpy_dtoh_async"),
}
# Argument counts of CUDA 11.4's cuda.h.
DRIVER = {
    "cuStreamBeginCapture_v2": 2,
    "cuStreamEndCapture": 2,
    "cuGraphInstantiateWithFlags": 3,
    "cuGraphLaunch": 2,
    "cuGraphDestroy": 1,
    "cuGraphExecDestroy": 1,
}


def attributes(file: str) -> list[tuple[str, str]]:
    """(what is before the last dot, what is after it) of every attribute in a source file."""
    tree = ast.parse((PACKAGE / file).read_text())
    return [(ast.unparse(n.value), n.attr) for n in ast.walk(tree) if isinstance(n, ast.Attribute)]


@pytest.mark.parametrize("file", TENSORRT_FILES)
def test_tensorrt_names_are_in_both_versions(file):
    checked = 0
    for value, name in attributes(file):
        module = value in ("trt", "self._trt", "tensorrt")
        holder = value.removeprefix("self._trt.").removeprefix("trt.")
        if module:
            assert name in IN_BOTH[""] or name in IN_BOTH, f"tensorrt.{name}"
        elif value in HOLDERS:
            assert name in IN_BOTH[HOLDERS[value]], f"{HOLDERS[value]}.{name}"
        elif holder in IN_BOTH and holder != value:
            assert name in IN_BOTH[holder], f"{holder}.{name}"
        else:
            continue
        checked += 1
    assert checked >= 15


@pytest.mark.parametrize("file", TENSORRT_FILES)
def test_nothing_that_went_with_11_is_used(file):
    assert not {name for _, name in attributes(file)} & GONE_IN_11


def test_overridden_methods_take_what_tensorrt_passes():
    trees = [ast.parse((PACKAGE / file).read_text()) for file in TENSORRT_FILES]
    found = set()
    for node in (n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ClassDef)):
        for base in node.bases:
            kind = ast.unparse(base).removeprefix("trt.")
            for method in (m for m in node.body if isinstance(m, ast.FunctionDef)):
                if method.name in IN_BOTH.get(kind, {}) and method.name != "__init__":
                    arguments = ", ".join(a.arg for a in method.args.args[1:])
                    assert arguments == IN_BOTH[kind][method.name], f"{kind}.{method.name}"
                    found.add(f"{kind}.{method.name}")
    assert found == {
        *("ILogger.log", "IProgressMonitor.phase_start"),
        *("IProgressMonitor.step_complete", "IProgressMonitor.phase_finish"),
    }


def test_pycudas_names_are_in_both_versions():
    used = {
        name if value in ("cuda", "self._cuda") else f"Context.{name}"
        for value, name in attributes("runtime/tensorrt_device.py")
        if value in ("cuda", "self._cuda", "self._cuda.Context")
    }
    assert used and used <= PYCUDA


def test_the_drivers_functions_take_that_many_arguments():
    assert {name: len(types) for name, types in _DriverGraphs._SIGNATURES.items()} == DRIVER
