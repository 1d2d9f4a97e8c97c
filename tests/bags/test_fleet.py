from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="needs the bag extra")
pytest.importorskip("ray", reason="needs the ray extra")
pytest.importorskip("pyarrow", reason="needs the ray extra")

import ray
from bright_square import BrightSquare
from recordings import write_bag

from hand_perception.bags.fleet import find_recordings, process_all
from hand_perception.bags.process import Settings
from hand_perception.bags.reader import BagRecording
from hand_perception.errors import DataError
from hand_perception.parameters import NodeParameters

SETTINGS = Settings(NodeParameters(smoothing=False))


@pytest.fixture(scope="module")
def local_ray():
    # Ray's workers must find what the tests stand on.
    environment = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent.parent)}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


def load():
    """As a lambda, which travels to Ray's workers by value: they cannot import a test."""
    return lambda parameters: BrightSquare()


def test_an_archive_is_worked_on_and_a_bad_bag_ends_nothing(tmp_path, local_ray):
    archive, output = tmp_path / "archive", tmp_path / "out"
    write_bag(archive / "monday" / "a", 3)
    write_bag(archive / "b", 2, "sqlite3")
    broken = write_bag(archive / "broken", 2)
    (file,) = broken.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-100])
    assert process_all(archive, output, SETTINGS, cpus=1, load=load()) == 1
    rows = {
        row["recording"].rpartition("/")[2]: row
        for row in map(json.loads, (output / "report.jsonl").read_text().splitlines())
    }
    assert (rows["a"]["hands"], rows["b"]["hands"]) == (3, 2)
    assert rows["a"]["error"] == "" and "mcap recover" in rows["broken"]["error"]
    topics = {topic.name: topic.count for topic in BagRecording(output / "monday/a").topics}
    assert topics["/hands/mesh"] == 3
    # The same command again looks only at what has no output.
    assert process_all(archive, output, SETTINGS, cpus=1, load=load()) == 1
    assert len((output / "report.jsonl").read_text().splitlines()) == 4


def test_recordings_are_found_by_folder_and_by_list(tmp_path):
    write_bag(tmp_path / "x" / "bag", 1)
    (tmp_path / "x" / "film.mp4").write_bytes(b"")
    assert set(find_recordings(tmp_path / "x")) == {"bag", "film"}
    (tmp_path / "list.txt").write_text(f"{tmp_path}/x/bag\n\n{tmp_path}/x/film.mp4\n")
    assert set(find_recordings(tmp_path / "list.txt")) == {"bag", "film"}


def test_what_cannot_be_an_archive_is_said(tmp_path):
    with pytest.raises(DataError, match="no recordings"):
        find_recordings(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        find_recordings(tmp_path / "gone")
    (tmp_path / "list.txt").write_text("a/bag\nb/bag\n")
    with pytest.raises(DataError, match="several recordings"):
        find_recordings(tmp_path / "list.txt")
