from __future__ import annotations

import shutil
import sqlite3

import pytest

pytest.importorskip("rosbags", reason="needs the bag extra")

from recordings import START_NS, write_bag

from hand_perception.bags.reader import BagRecording
from hand_perception.errors import DataError


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_topics_and_records_in_the_order_of_recording(tmp_path, storage):
    recording = BagRecording(write_bag(tmp_path / "bag", 3, storage))
    counts = {topic.name: topic.count for topic in recording.topics}
    assert recording.storage == storage
    assert counts == {
        "/tf_static": 1,
        "/tf": 3,
        "/camera/camera_info": 3,
        "/camera/image_raw": 3,
    }
    records = list(recording.records())
    assert len(records) == 10 and records[0].stamp_ns == START_NS
    assert [r.stamp_ns for r in records] == sorted(r.stamp_ns for r in records)
    (tf,) = (topic for topic in recording.topics if topic.name == "/tf")
    assert [r.topic for r in recording.records([tf])] == [tf] * 3


def test_a_single_file_is_a_recording_too(tmp_path):
    write_bag(tmp_path / "bag", 2)
    (file,) = (tmp_path / "bag").glob("*.mcap")
    alone = shutil.copy(file, tmp_path / "alone.mcap")
    assert len(list(BagRecording(alone).records())) == 7


def truncated_mcap(tmp_path):
    bag = write_bag(tmp_path / "bag", 4)
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-200])
    return bag


def damaged_mcap(tmp_path):
    """Both ends are there, a part of the messages is missing."""
    bag = write_bag(tmp_path / "bag", 4)
    (file,) = bag.glob("*.mcap")
    data = file.read_bytes()
    middle = data.index(b"zstd") + 100
    file.write_bytes(data[:middle] + data[middle + 200 :])
    return bag


def truncated_sqlite(tmp_path):
    bag = write_bag(tmp_path / "bag", 4, "sqlite3")
    (file,) = bag.glob("*.db3")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return bag


def without_metadata(tmp_path):
    bag = write_bag(tmp_path / "bag", 1)
    (bag / "metadata.yaml").unlink()
    return bag


def half_metadata(tmp_path):
    bag = write_bag(tmp_path / "bag", 1)
    text = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(text[: len(text) // 2])
    return bag


def missing(tmp_path):
    return tmp_path / "gone"


def a_folder(tmp_path):
    return tmp_path


def a_text(tmp_path):
    (tmp_path / "notes.txt").write_text("no bag")
    return tmp_path / "notes.txt"


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (truncated_mcap, "mcap recover"),
        (damaged_mcap, "mcap recover"),
        (truncated_sqlite, r"sqlite3 FILE.db3 .recover"),
        (without_metadata, "ros2 bag reindex"),
        (half_metadata, "truncated or damaged"),
        (missing, "does not exist"),
        (a_folder, "no rosbag2"),
        (a_text, "no recording"),
    ],
)
def test_damage_is_one_line_that_names_the_cure(tmp_path, make, complaint):
    path = make(tmp_path)
    with pytest.raises(DataError, match=complaint) as caught:
        list(BagRecording(path).records())
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_errors_of_the_reader_s_user_are_not_the_bag_s(tmp_path):
    recording = BagRecording(write_bag(tmp_path / "bag", 1))
    with pytest.raises(sqlite3.OperationalError, match="mine"):
        for _ in recording.records():
            raise sqlite3.OperationalError("mine")
