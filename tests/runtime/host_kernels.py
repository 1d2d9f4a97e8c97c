"""The CUDA source compiled as C++ and called through ctypes: the kernels' arithmetic on the CPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from hand_perception.runtime.tensorrt_frame import KERNEL_ARGUMENTS, KERNELS

_CTYPES = {"P": ctypes.c_void_p, "i": ctypes.c_int, "f": ctypes.c_float}


@cache
def host_kernels(folder: Path) -> dict:
    """Kernel functions by name. Skips where there is no C++ compiler."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler: apt install g++")
    library = folder / "frame.so"
    # No contraction: the reference is plain IEEE arithmetic.
    flags = ["-O2", "-shared", "-fPIC", "-ffp-contract=off", "-Wall", "-Werror", "-x", "c++"]
    subprocess.run([compiler, *flags, str(KERNELS), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    functions = {}
    for name, letters in KERNEL_ARGUMENTS.items():
        functions[name] = getattr(loaded, name)
        functions[name].argtypes = [_CTYPES[letter] for letter in letters]
        functions[name].restype = None
    return functions
