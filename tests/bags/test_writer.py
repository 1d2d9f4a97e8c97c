from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs the bag extra")

from bright_square import BrightSquare, picture
from rosbags.rosbag2 import Reader

from hand_perception import cdr, messages
from hand_perception.bags.writer import BagWriter
from hand_perception.errors import DataError
from hand_perception.hands import Camera

STORE = cdr.type_store()
MAKE = cdr.message_types(STORE)


def test_what_is_recorded_can_be_read_with_its_types(tmp_path):
    camera = Camera(400, 400, 159.5, 119.5, 320, 240)
    header = messages.header(MAKE, 42, "optical")
    hands = BrightSquare()(picture(320, 240, (99, 80)), camera, score_threshold=0.5).hands
    mesh = messages.mesh_array(MAKE, header, hands)
    topology = messages.topology_message(MAKE, BrightSquare.topology)
    with BagWriter(tmp_path / "bag", STORE) as bag:
        for stamp in (100, 200):
            bag.write("/hands/mesh", mesh.__msgtype__, cdr.serialize(STORE, mesh), stamp)
        data = cdr.serialize(STORE, topology)
        bag.write("/hands/topology", topology.__msgtype__, data, 150, latched=True)
    with Reader(tmp_path / "bag") as reader:
        records = [(c.topic, c.msgtype, stamp, bytes(raw)) for c, stamp, raw in reader.messages()]
        assert "float32[] vertices" in reader.connections[0].msgdef.data
    assert [(topic, stamp) for topic, _, stamp, _ in records] == [
        ("/hands/mesh", 100),
        ("/hands/topology", 150),
        ("/hands/mesh", 200),
    ]
    _, kind, _, raw = records[0]
    read = STORE.deserialize_cdr(raw, kind)
    assert np.array_equal(read.hands[0].vertices.reshape(-1, 3), hands[0].vertices)


def test_without_a_message_there_is_no_bag(tmp_path):
    with BagWriter(tmp_path / "bag", STORE):
        pass
    assert not (tmp_path / "bag").exists()


def test_a_recording_is_never_overwritten(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        BagWriter(tmp_path, STORE)
