from __future__ import annotations

import pytest
import torch
from models.tiny import tiny_model
from script_file import load_script

from hand_perception.training import checkpoint

HALVE = load_script("scripts/halve_checkpoint.py")


def test_a_network_goes_on_from_a_file_of_half_the_size(tmp_path, monkeypatch):
    model = tiny_model()
    whole, half = tmp_path / "mesh.safetensors", tmp_path / "half.safetensors"
    checkpoint.save(whole, {"model": model.state_dict()}, {"config": {}})
    monkeypatch.setattr("sys.argv", ["halve_checkpoint.py", str(whole), str(half)])
    HALVE.main()
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    again = tiny_model()
    again.load_state_dict(checkpoint.load_model(half))
    for (name, before), after in zip(
        model.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert after.dtype == before.dtype
        # Eleven bits, and the smallest numbers in steps of 2^-24.
        bound = before.abs() * 2.0**-11 + 2.0**-25 if before.ndim > 1 else 0
        assert ((after - before).abs() <= bound).all(), name


def test_what_half_precision_does_not_reach_is_named():
    with pytest.raises(ValueError, match="too large for half precision: wide"):
        HALVE.halved({"wide": torch.full((2, 2), 7e4), "vector": torch.full((2,), 7e4)})
