import pytest
import torch
from models.tiny import tiny_model
from script_file import load_script

from hand_perception.training import checkpoint

AVERAGE = load_script("scripts/average_checkpoints.py")


def test_the_target_holds_the_means_and_the_last_end_s_card(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "mean.safetensors")]
    weights = [
        {"w": torch.tensor([1.0, 2.0]), "half": torch.tensor([2.0]).half(), "n": torch.tensor(3)},
        {"w": torch.tensor([3.0, 6.0]), "half": torch.tensor([4.0]).half(), "n": torch.tensor(5)},
    ]
    for path, end in zip(paths, weights, strict=False):
        checkpoint.save(path, {"model": end}, {"config": {}, "recipe": {"seed": int(end["n"])}})
    monkeypatch.setattr("sys.argv", ["average_checkpoints.py", *map(str, paths)])
    AVERAGE.main()
    mean, meta = checkpoint.load_stage(paths[2])
    assert mean["w"].tolist() == [2.0, 4.0] and mean["n"] == 5
    assert mean["half"].dtype is torch.float16 and mean["half"].tolist() == [3.0]
    assert meta["recipe"] == {"seed": 5}


def test_another_network_is_refused():
    ends = [tiny_model().state_dict(), {"w": torch.zeros(1)}]
    with pytest.raises(ValueError, match="different networks"):
        AVERAGE.averaged(ends)
