"""The command as users type it."""

from __future__ import annotations

import argparse

import pytest

pytest.importorskip("rosbags", reason="needs the bag extra")

from recordings import write_bag

from hand_perception import cli
from hand_perception.bags.command import add_arguments, settings_of


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["none", "out"], "none does not exist"),
        (["{bag}", "{bag}"], "exists: choose another output"),
        (["{bag}", "out", "--image", "/front"], "no image topic /front"),
        (["{bag}", "out", "-p", "score_threshold:=2"], "score_threshold must be from 0.0 to 1.0"),
        (["{bag}", "out", "-p", "depth_topic:=/depth"], "no depth topic /depth"),
        (["{bag}", "out", "-p", "model:=no_such_model"], "no_such_model"),
    ],
)
def test_mistakes_are_one_line_and_a_status(words, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bag = write_bag(tmp_path / "bag", 1)
    assert cli.main(["bag", *(word.format(bag=bag) for word in words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert complaint in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag"]


def test_options_become_settings(tmp_path):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = "in out --image /l/image --camera 1 2 3 4 --also hands/markers --storage mcap".split()
    settings = settings_of(parser.parse_args([*words, "-p", "smoothing:=false"]))
    assert settings.image == "/l/image" and settings.intrinsics == (1.0, 2.0, 3.0, 4.0)
    assert settings.also == ("hands/markers",) and settings.storage == "mcap"
    assert settings.parameters.smoothing is False
