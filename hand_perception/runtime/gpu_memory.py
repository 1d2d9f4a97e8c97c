"""How full the GPUs are, from NVIDIA's management library."""

from __future__ import annotations

_MIB = 2**20


def gpu_memory() -> str:
    """Such as "812 of 8192 MiB" for each GPU of this machine, all its processes together.

    "not known" without NVIDIA's driver or without nvidia-ml-py.
    """
    try:
        import pynvml
    except ImportError:
        return "not known"
    try:
        pynvml.nvmlInit()
        devices = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        infos = [pynvml.nvmlDeviceGetMemoryInfo(device) for device in devices]
    except pynvml.NVMLError:
        return "not known"
    return ", ".join(f"{info.used // _MIB} of {info.total // _MIB} MiB" for info in infos)
