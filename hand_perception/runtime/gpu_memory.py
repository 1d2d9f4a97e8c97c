"""How full the GPUs are, from NVIDIA's management library."""

from __future__ import annotations

_MIB = 2**20


def gpu_memory() -> dict[str, str]:
    """Name of each GPU of this machine to "used of total MiB", all its processes together.

    Empty without NVIDIA's driver or without nvidia-ml-py. A call takes some tenths of a
    millisecond.
    """
    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        memory = {}
        for index in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            info = pynvml.nvmlDeviceGetMemoryInfo(device)
            name = f"GPU {index} memory"
            memory[name] = f"{info.used // _MIB} of {info.total // _MIB} MiB"
        return memory
    except pynvml.NVMLError:
        return {}
