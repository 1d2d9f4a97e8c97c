"""The number format in which networks of our own train."""

from __future__ import annotations

from functools import cache

import torch


def mixed_precision(device: str, wanted: bool = True) -> torch.autocast:
    """bfloat16 where that is fast, if it is ``wanted``; float32 elsewhere. device: "cpu", "cuda".

    Processors without instructions for bfloat16 emulate it: a step of ``handos_s`` took 1.6 times
    as long on one.
    """
    enabled = wanted and (device != "cpu" or _cpu_multiplies_bfloat16())
    return torch.autocast(device, torch.bfloat16, enabled=enabled)


@cache
def _cpu_multiplies_bfloat16() -> bool:
    """True also where an older torch does not tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    return any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)
