"""The whole demo: three processes on loopback, with the reconstructor of known answer."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="needs the dds extra")

from bright_square import DEPTH, picture
from rosbags.rosbag2 import Reader

from hand_perception.demo import add_arguments
from hand_perception.demo.command import play
from hand_perception.errors import DataError

TESTS = Path(__file__).parent.parent
NODE = [sys.executable, str(TESTS / "front_ends" / "serve_dds.py")]
FOCAL = 400.0
MADE = ("/hands/mesh", "/hands/keypoints", "/tf")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(8):
        bgr = picture(320, 240, (100 + 5 * number, 120))[..., ::-1]
        cv2.imwrite(str(folder / f"{number}.png"), bgr)
    K = np.array([[FOCAL, 0, 159.5], [0, FOCAL, 119.5], [0, 0, 1]])
    np.savez(tmp_path / "camera.npz", K=K)
    return folder


def run_demo(monkeypatch, *words: str) -> int:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return play(parser.parse_args(words), NODE)


def test_pictures_become_a_video_a_bag_and_a_report(pictures, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    camera = str(tmp_path / "camera.npz")
    words = ["--input", str(pictures), "--output", str(output), "--intrinsics", camera]
    assert run_demo(monkeypatch, *words, "--rate", "20") == 0
    report = capsys.readouterr().out
    assert "pictures played" in report
    video = cv2.VideoCapture(str(output / "overlay.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 8
    with Reader(output / "bag") as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        assert counts["/hands/topology"] == 1
        # Each keeps its last message only: a busy machine may drop some of the eight.
        for topic in ("/image/compressed", "/camera_info", *MADE):
            assert 1 <= counts[topic] <= 8, topic
    hands = int(re.search(r"^hands +(\d+)$", report, re.MULTILINE)[1])
    assert 1 <= hands <= min(counts["/hands/mesh"], counts["/hands/keypoints"])


def test_truth_beside_the_clip_is_compared_with(pictures, tmp_path, monkeypatch, capsys):
    clip = pictures / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"mp4v"), 20, (320, 240))
    for _ in range(6):
        writer.write(picture(320, 240, (130, 100))[..., ::-1])
    writer.release()
    # The true hand stands 10 mm farther away, on the same ray.
    ray = np.array([(130 - 159.5) / FOCAL, (100 - 119.5) / FOCAL, 1])
    K = np.load(tmp_path / "camera.npz")["K"]
    np.savez(
        pictures / "truth.npz",
        K=K,
        keypoints3d=np.broadcast_to(ray * (DEPTH + 0.010), (6, 1, 21, 3)),
        is_left=np.zeros((6, 1), bool),
    )
    assert run_demo(monkeypatch, "--input", str(clip), "--output", str(tmp_path / "out")) == 0
    report = {
        line.rsplit("  ", 1)[0].strip(): line.rsplit("  ", 1)[1]
        for line in capsys.readouterr().out.splitlines()
        if "  " in line
    }
    assert report["side right"] == "100.0 %"
    # 10 mm along rays of length 1.00 to 1.01 per metre of depth; the video's compression moves
    # the bright square by less than a pixel: 1 / 400 * 0.5 m = 1.25 mm across.
    error = float(report["wrist error, median"].removesuffix(" mm"))
    assert 10.0 <= error <= np.hypot(10.1, 1.25) + 0.05


def test_no_hand_is_a_failure(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "dark.png"), np.zeros((240, 320, 3), np.uint8))
    words = ["--input", str(tmp_path / "dark.png"), "--output", str(tmp_path / "out")]
    assert run_demo(monkeypatch, *words) == 1


def test_a_source_that_cannot_be_read_leaves_nothing_behind(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="cannot read video"):
        run_demo(monkeypatch, "--input", "none.mp4", "--output", str(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*"))
