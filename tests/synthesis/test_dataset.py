import argparse
import json

import numpy as np
import pytest
import torch

from hand_perception.errors import DataError
from hand_perception.synthesis import command
from hand_perception.synthesis.contact_sheet import contact_sheet
from hand_perception.synthesis.dataset import SyntheticDataset, shard_paths
from hand_perception.synthesis.recipe import RECIPES
from hand_perception.synthesis.render import Renderer


def synthesize(*options):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(o) for o in options]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "train"
    assert synthesize("--output", path, "--count", 18, "--size", 64, "--seed", 4) == 0
    return path


def test_what_is_written_is_what_was_rendered(folder):
    dataset = SyntheticDataset(folder)
    assert len(dataset) == 18
    batch = Renderer("cpu", 4, recipe=RECIPES["scene"]).render(1, 8, 64, 64)
    for i in range(8):
        item, valid = dataset[8 + i], batch.valid[i]
        assert item["image"].shape == (64, 64, 3) and item["image"].dtype == np.uint8
        rendered = batch.rgb[i].permute(1, 2, 0).numpy().astype(float)
        # JPEG of quality 55 and better, with noise in the picture.
        assert np.abs(item["image"] - rendered).mean() < 12
        assert len(item["is_left"]) == int(valid.sum())
        for key in ("keypoints2d", "keypoints3d", "vertices", "boxes", "is_left"):
            np.testing.assert_array_equal(item[key], getattr(batch, key)[i][valid].numpy())
        np.testing.assert_array_equal(item["K"], batch.K[i].numpy())
        assert item["streak"] == batch.streak[i]
    with pytest.raises(IndexError):
        dataset[18]
    np.testing.assert_array_equal(dataset[-1]["image"], dataset[17]["image"])


def test_growing_and_interrupted_folders(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "BATCHES_PER_SHARD", 1)
    monkeypatch.setattr(command, "SHARD", 8)
    path = tmp_path / "grown"
    synthesize("--output", path, "--count", 8, "--size", 64, "--seed", 4)
    assert len(SyntheticDataset(path)) == 8
    (path / "shard-00001.bin").write_bytes(b"a shard that was interrupted")
    assert len(SyntheticDataset(path)) == 8
    first = shard_paths(path, 0)[1].stat().st_mtime_ns
    synthesize("--output", path, "--count", 18, "--size", 64, "--seed", 4)
    assert shard_paths(path, 0)[1].stat().st_mtime_ns == first
    grown, whole = SyntheticDataset(path), SyntheticDataset(folder)
    assert len(grown) == 18
    for i in (0, 9, 17):
        np.testing.assert_array_equal(grown[i]["keypoints3d"], whole[i]["keypoints3d"])


def test_other_options_do_not_mix(folder):
    with pytest.raises(DataError, match="other options"):
        synthesize("--output", folder, "--count", 8, "--size", 64, "--seed", 5)
    assert json.loads((folder / "dataset.json").read_text())["seed"] == 4


def test_damage_is_named(folder, tmp_path):
    with pytest.raises(DataError, match="synthesize"):
        SyntheticDataset(tmp_path)
    for path in shard_paths(folder, 0):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    images, labels = shard_paths(tmp_path, 0)
    images.write_bytes(images.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged"):
        SyntheticDataset(tmp_path)[17]
    labels.write_bytes(labels.read_bytes()[:500])
    with pytest.raises(DataError, match="damaged"):
        SyntheticDataset(tmp_path)


@pytest.mark.parametrize(
    "options", [("--count", 0), ("--size", 8), ("--max-hands", 0), ("--backgrounds", "/nowhere")]
)
def test_options_that_cannot_be_used(tmp_path, options):
    with pytest.raises(DataError):
        synthesize("--output", tmp_path / "out", *options)


def test_contact_sheet_has_a_row_for_each_view(folder):
    batch = Renderer("cpu", 4).render(0, 3, 32, 32)
    sheet = contact_sheet(batch, columns=2)
    assert sheet.shape == (2 * 4 * 32, 2 * 32, 3)
    np.testing.assert_array_equal(sheet[:32, :32], batch.rgb[0].permute(1, 2, 0).numpy())
    assert (folder / "contact_sheet.png").stat().st_size > 1000


def test_torch_is_not_needed_to_read(folder):
    assert all(isinstance(v, np.ndarray) for v in SyntheticDataset(folder)[0].values())
    assert not any(isinstance(v, torch.Tensor) for v in SyntheticDataset(folder)[0].values())
