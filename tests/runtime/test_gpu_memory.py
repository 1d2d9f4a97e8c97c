from __future__ import annotations

import re
from pathlib import Path

import pytest

from hand_perception.runtime.gpu_memory import gpu_memory

DRIVER = Path("/proc/driver/nvidia/version").is_file()


@pytest.mark.skipif(DRIVER, reason="this machine has an NVIDIA GPU")
def test_a_machine_without_a_gpu_has_nothing_to_tell():
    assert gpu_memory() == "not known"


@pytest.mark.gpu
@pytest.mark.skipif(not DRIVER, reason="needs an NVIDIA GPU")
def test_every_gpu_tells_how_full_it_is():
    pytest.importorskip(
        "pynvml", reason="needs nvidia-ml-py: pip install 'hand_perception[tensorrt]'"
    )
    for text in gpu_memory().split(", "):
        used, total = map(int, re.fullmatch(r"(\d+) of (\d+) MiB", text).groups())
        assert 0 <= used <= total
