"""What the processor is good at."""

from __future__ import annotations

from pathlib import Path

# Sums of int8 products in one instruction: x86 from 2019 or so on, ARM from v8.2 on (all Jetsons
# since Xavier). Without them int8 is hardly faster in ONNX Runtime, and on x86 sums may overflow.
_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp"}


def has_int8_dot_product(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether Linux says so; False where it says nothing."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    for line in text.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return bool(_DOT_PRODUCTS & set(flags.split()))
    return False
