import argparse
import json
import logging

import miniatures as mini
import numpy as np
import pytest
import webdataset
from one_hand import one_hand

from hand_perception.data import command
from hand_perception.data.datasets import open_dataset
from hand_perception.data.shards import PackedSamples, write_shards
from hand_perception.errors import DataError, ImageError


def pack(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(a) for a in arguments]))


@pytest.fixture
def freihand(tmp_path):
    mini.write_freihand(tmp_path / "freihand")
    return tmp_path / "freihand"


def test_packed_samples_are_the_samples(freihand, tmp_path, capsys):
    assert pack(f"freihand={freihand}", "--output", tmp_path / "s", "--shard-size", 3) == 0
    assert "8 samples, 0 left out" in capsys.readouterr().out
    packed = open_dataset("freihand", tmp_path / "s" / "freihand")
    assert packed.blocks == (3, 3, 2) and len(packed) == 8
    loose = open_dataset("freihand", freihand)
    by_name = {loose[k].name: loose[k] for k in range(8)}
    seen = set()
    for k in range(8):
        sample = packed[k]
        seen.add(sample.name)
        expected = by_name[sample.name]
        for key in ("keypoints2d", "joints3d", "vertices", "translation", "known", "weight_mesh"):
            np.testing.assert_array_equal(
                getattr(sample.hands, key), getattr(expected.hands, key), err_msg=key
            )
        assert sample.camera == expected.camera
        assert (sample.topology, sample.exhaustive) == ("mano", True)
        # JPEG of quality 95 moves a flat colour by a level or two; edges ring a little.
        assert np.abs(sample.image.astype(int) - expected.image).mean() < 2
    assert seen == set(by_name)


def test_weak_labels_survive_packing(tmp_path):
    mini.write_hint(tmp_path, "TRAIN")
    source = open_dataset("hint", tmp_path)
    write_shards(source.__getitem__, range(len(source)), tmp_path / "s", 10)
    for k in range(len(source)):
        again = PackedSamples(tmp_path / "s")[k]
        assert not again.exhaustive and again.hands.side == source[k].hands.side
        np.testing.assert_array_equal(again.hands.known, source[k].hands.known)
        np.testing.assert_array_equal(again.hands.occluded, source[k].hands.occluded)
        assert not again.hands.vertices.any()


def test_shards_are_webdatasets(freihand, tmp_path):
    pack(f"freihand={freihand}", "--output", tmp_path / "s", "--shard-size", 5)
    folder = tmp_path / "s" / "freihand"
    pattern = str(folder / "shard-{000000..000001}.tar")
    records = list(webdataset.WebDataset(pattern, shardshuffle=False))
    assert len(records) == 8
    assert {"jpg", "labels.npz"} <= set(records[0])


def test_broken_samples_are_reported_and_left_out(freihand, tmp_path, caplog, capsys):
    broken = freihand / "training" / "rgb" / "00000002.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        pack(f"freihand={freihand}", "--output", tmp_path / "s", "--shard-size", 4)
    assert "00000002.jpg" in caplog.text and "7 samples, 1 left out" in capsys.readouterr().out
    folder = tmp_path / "s" / "freihand"
    assert len(PackedSamples(folder)) == 7
    assert "00000002.jpg" in json.loads((folder / "shards.json").read_text())["skipped"][0]


def test_nothing_readable_is_an_error(freihand, tmp_path):
    for path in (freihand / "training" / "rgb").glob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no sample"):
        pack(f"freihand={freihand}", "--output", tmp_path / "s")


def test_shards_are_not_overwritten(freihand, tmp_path):
    pack(f"freihand={freihand}", "--output", tmp_path / "s")
    with pytest.raises(DataError, match="another folder"):
        pack(f"freihand={freihand}", "--output", tmp_path / "s")


def test_a_shard_that_is_cut_or_damaged_loses_its_own_samples_only(tmp_path):
    write_shards(lambda index: one_hand(), range(6), tmp_path, 3)
    first, second = tmp_path / "shard-000000.tar", tmp_path / "shard-000001.tar"
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    content = bytearray(second.read_bytes())
    start = content.index(b"PK\x03\x04")  # the first sample's labels are a zip file
    content[start : start + 200] = b"x" * 200
    second.write_bytes(bytes(content))
    samples = PackedSamples(tmp_path)
    assert len(samples) == 6
    with pytest.raises(DataError, match="cut short"):
        samples[2]
    assert len(samples[0].hands) == 1
    with pytest.raises((DataError, ImageError), match=r"shard-000001\.tar"):
        samples[3]
    assert len(samples[4].hands) == 1
    second.unlink()
    with pytest.raises(DataError, match=r"shard-000001\.tar"):
        PackedSamples(tmp_path)[5]


def test_an_interrupted_pack_says_so(tmp_path):
    (tmp_path / "shards.json").write_text('{"counts": [3')
    with pytest.raises(DataError, match="pack again"):
        open_dataset("freihand", tmp_path)


@pytest.mark.parametrize("text", ["freihand", "=x", "freihand="])
def test_names_and_paths_come_in_pairs(text):
    with pytest.raises(argparse.ArgumentTypeError, match="NAME=PATH"):
        command.named_path(text)
