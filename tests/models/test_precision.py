import pytest
import torch

from hand_perception.models import precision


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"sve_bf16": True}, True),
    ],
)
def test_processors_that_would_emulate_bfloat16_train_in_float32(monkeypatch, capabilities, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    precision._cpu_multiplies_bfloat16.cache_clear()
    try:
        x = torch.ones(2, 2)
        with precision.mixed_precision("cpu"):
            assert (x @ x).dtype == (torch.bfloat16 if fast else torch.float32)
        with precision.mixed_precision("cpu", wanted=False):
            assert (x @ x).dtype == torch.float32
    finally:
        precision._cpu_multiplies_bfloat16.cache_clear()
