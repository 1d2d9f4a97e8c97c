"""The commands as users type them."""

from __future__ import annotations

import re
import signal
from importlib.util import find_spec

import cv2
import pytest
from bright_square import picture

from hand_perception import cli
from hand_perception.errors import DataError
from hand_perception.sources import Source


@pytest.fixture(autouse=True)
def _own_signal_handlers():
    """The commands take SIGINT over; the test run wants it back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["node", "-p", "score_threshold:=2"], "score_threshold must be from 0.0 to 1.0"),
        (["node", "-p", "model:=no_such_model"], "no_such_model"),
        (["node", "--params", "none.yaml"], "cannot read the parameters in none.yaml"),
        (["camera", "none.mp4"], "cannot read video none.mp4"),
        (["camera", "none.jpg"], "none.jpg"),
        (["camera", "none.mp4", "--remap", "image"], "must be written from:=to"),
        (["camera", "none.mp4", "--intrinsics", "none.npz"], "none.npz holds no 3x3 intrinsics"),
    ],
)
def test_mistakes_are_one_line_and_a_status(words, complaint, domain, capsys):
    assert cli.main([*words, "--localhost", "--domain-id", str(domain)]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert re.search(re.escape(complaint), line)


@pytest.mark.skipif(find_spec("rclpy") is not None, reason="ROS 2 is sourced")
def test_the_ros_front_end_says_what_it_needs(capsys):
    assert cli.main(["node", "--frontend", "ros"]) == 2
    assert "source a ROS 2 installation" in capsys.readouterr().err


def test_sources_know_their_rate_and_length(tmp_path):
    path = tmp_path / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12.5, (64, 48))
    for x in (20, 30, 40):
        writer.write(picture(64, 48, (x, 20)))
    writer.release()
    source = Source(str(path))
    assert (source.rate, source.length) == (12.5, 3)
    assert [image.shape for image in source.pictures()] == [(48, 64, 3)] * 3


def test_folders_play_their_pictures_in_order(tmp_path):
    for name, x in (("b.png", 40), ("a.png", 20)):
        cv2.imwrite(str(tmp_path / name), picture(64, 48, (x, 20)))
    (tmp_path / "notes.txt").write_text("no picture")
    source = Source(str(tmp_path))
    assert (source.rate, source.length) == (None, None)
    first, second = source.pictures()
    assert first[20, 20].max() == second[20, 40].max() == 255


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(DataError, match="no pictures"):
        list(Source(str(tmp_path)).pictures())
