from __future__ import annotations

import sqlite3
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from bright_square import DEPTH, BrightSquare, picture

pytest.importorskip("rosbags", reason="needs the bag extra")

from recordings import (
    CAMERA,
    FRAME,
    PERIOD_NS,
    RECORDING_DELAY_NS,
    START_NS,
    STORE,
    TYPES,
    TestBag,
    square_at,
    stamp_of,
    write_bag,
)
from rosbags.interfaces import QosDurability

from hand_perception import messages
from hand_perception.bags.process import Settings, _hand_frame, process
from hand_perception.bags.reader import BagRecording, Record
from hand_perception.errors import DataError
from hand_perception.frames import image_message
from hand_perception.hands import WRIST
from hand_perception.parameters import NodeParameters

FRAMES = 6
ADDED = {"/hands/mesh", "/hands/keypoints", "/hands/topology", "/hands/joint_states"}
UNSMOOTHED = Settings(NodeParameters(smoothing=False))


def load(parameters):
    return BrightSquare()


def by_topic(bag: Path) -> dict[str, list[Record]]:
    found = defaultdict(list)
    for record in BagRecording(bag).records():
        found[record.topic.name].append(record)
    return dict(found)


def read(record: Record):
    return STORE.deserialize_cdr(record.cdr, record.topic.type_name)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_image_gets_its_hands_at_its_place_with_its_stamp(tmp_path, storage, compressed):
    source = write_bag(tmp_path / "in", FRAMES, storage, compressed=compressed)
    summary = process(source, tmp_path / "out", UNSMOOTHED, load)
    assert (summary.images, summary.failed, summary.hands) == (FRAMES, 0, FRAMES)
    before, after = by_topic(source), by_topic(tmp_path / "out")
    assert set(before) | ADDED <= set(after)
    assert BagRecording(tmp_path / "out").storage == storage
    for index, (mesh, points) in enumerate(
        zip(after["/hands/mesh"], after["/hands/keypoints"], strict=True)
    ):
        assert mesh.stamp_ns == points.stamp_ns == stamp_of(index) + RECORDING_DELAY_NS
        message = read(points)
        assert messages.nanoseconds_of(message.header.stamp) == stamp_of(index)
        assert message.header.frame_id == FRAME
        (hand,) = message.hands
        # The wrist stands on the ray of the square's centre, DEPTH metres along the axis.
        pixel = np.array([100 + 5 * index, 120])
        ray = (pixel - (CAMERA.cx, CAMERA.cy)) / (CAMERA.fx, CAMERA.fy)
        wrist = hand.keypoints3d.reshape(21, 3)[WRIST]
        # float32 metres below 1 m: 6e-8 of rounding.
        np.testing.assert_allclose(wrist, [*(ray * DEPTH), DEPTH], atol=1e-6)
        assert hand.track_id == 1


def test_other_topics_are_copied_to_the_byte_and_to_the_qos(tmp_path):
    source = write_bag(tmp_path / "in", FRAMES)
    process(source, tmp_path / "out", UNSMOOTHED, load)
    before, after = by_topic(source), by_topic(tmp_path / "out")
    for name in ("/tf_static", "/camera/camera_info", "/camera/image_raw"):
        assert [(r.stamp_ns, r.cdr) for r in before[name]] == [
            (r.stamp_ns, r.cdr) for r in after[name]
        ]
        assert before[name][0].topic.qos == after[name][0].topic.qos
        assert before[name][0].topic.type_hash == after[name][0].topic.type_hash
    (latched,) = after["/hands/topology"]
    assert latched.topic.qos[0].durability is QosDurability.TRANSIENT_LOCAL


def test_tf_holds_the_robot_s_and_the_hands_frames(tmp_path):
    process(write_bag(tmp_path / "in", FRAMES), tmp_path / "out", UNSMOOTHED, load)
    frames = [r.transforms[0].child_frame_id for r in map(read, by_topic(tmp_path / "out")["/tf"])]
    assert sorted(frames) == ["arm"] * FRAMES + ["right_hand"] * FRAMES


def test_a_bag_that_has_hands_already_gets_new_ones(tmp_path):
    process(write_bag(tmp_path / "in", FRAMES), tmp_path / "once", UNSMOOTHED, load)
    settings = Settings(NodeParameters(smoothing=False, frame_prefix="new_"))
    process(tmp_path / "once", tmp_path / "twice", Settings(UNSMOOTHED.parameters), load)
    once, twice = by_topic(tmp_path / "once"), by_topic(tmp_path / "twice")
    assert {name: len(records) for name, records in once.items()} == {
        name: len(records) for name, records in twice.items()
    }
    # Other hands' frames, under another prefix, are somebody else's and stay.
    process(tmp_path / "once", tmp_path / "other", settings, load)
    names = {r.transforms[0].child_frame_id for r in map(read, by_topic(tmp_path / "other")["/tf"])}
    assert names == {"arm", "right_hand", "new_right_hand"}


class Interrupted(BrightSquare):
    """Ends the process's patience at the third image."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, image_rgb, camera, *, score_threshold):
        self.asked += 1
        return super().__call__(image_rgb, camera, score_threshold=score_threshold)


def contents(bag: Path) -> list[tuple]:
    return [(r.topic.name, r.stamp_ns, r.cdr) for r in BagRecording(bag).records()]


def test_an_interrupted_run_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    source = write_bag(tmp_path / "in", FRAMES)
    process(source, tmp_path / "whole", UNSMOOTHED, load)
    records = BagRecording.records

    def interrupted(self, topics=None):
        for record in records(self, topics):
            if topics is None and record.stamp_ns > stamp_of(3):
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(BagRecording, "records", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process(source, tmp_path / "out", UNSMOOTHED, load)
    assert not (tmp_path / "out").exists(), "what is not complete has not its name"
    monkeypatch.undo()
    counting = Interrupted()
    summary = process(source, tmp_path / "out", UNSMOOTHED, lambda parameters: counting)
    assert (summary.known, counting.asked, summary.images) == (3, FRAMES - 3, FRAMES)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "whole"]


def test_a_truncated_bag_is_one_error_and_no_output(tmp_path):
    source = write_bag(tmp_path / "in", FRAMES)
    (file,) = source.glob("*.mcap")
    data = file.read_bytes()
    middle = data.index(b"zstd") + 100
    file.write_bytes(data[:middle] + data[middle + 200 :])
    with pytest.raises(DataError, match="mcap recover"):
        process(source, tmp_path / "out", UNSMOOTHED, load)
    assert not (tmp_path / "out").exists()


def test_an_output_is_never_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="exists"):
        process(write_bag(tmp_path / "in", 1), tmp_path / "out", UNSMOOTHED, load)


def test_a_bad_image_costs_itself_only(tmp_path):
    with TestBag(tmp_path / "in") as bag:
        bag.add_frame(0, square_at(0))
        header = messages.header(TYPES, stamp_of(1), FRAME)
        short = image_message(TYPES, header, square_at(1))
        short.data = short.data[:1000]
        bag.add("/camera/image_raw", short, stamp_of(1))
        bag.add_frame(2, square_at(2))
    summary = process(tmp_path / "in", tmp_path / "out", UNSMOOTHED, load)
    assert (summary.images, summary.failed) == (2, 1)
    assert len(by_topic(tmp_path / "out")["/camera/image_raw"]) == 3


def test_a_calibration_recorded_late_holds_from_the_first_image(tmp_path):
    with TestBag(tmp_path / "in") as bag:
        header = messages.header(TYPES, START_NS, FRAME)
        bag.add("/camera/image_raw", image_message(TYPES, header, square_at(0)), START_NS)
        bag.add_frame(1, square_at(1))
    process(tmp_path / "in", tmp_path / "out", UNSMOOTHED, load)
    meshes = map(read, by_topic(tmp_path / "out")["/hands/mesh"])
    assert [mesh.hands[0].metric for mesh in meshes] == [True, True]


def without_info(folder: Path) -> Path:
    with TestBag(folder) as bag:
        header = messages.header(TYPES, START_NS, FRAME)
        bag.add("/video", image_message(TYPES, header, square_at(0)), START_NS)
    return folder


@pytest.mark.parametrize("intrinsics", [None, (400.0, 400.0, 159.5, 119.5)])
def test_without_camera_info_given_intrinsics_make_it_metric(tmp_path, intrinsics):
    settings = Settings(UNSMOOTHED.parameters, intrinsics=intrinsics)
    process(without_info(tmp_path / "in"), tmp_path / "out", settings, load)
    after = by_topic(tmp_path / "out")
    (mesh,) = after["/hands/mesh"]
    assert read(mesh).hands[0].metric == (intrinsics is not None)
    assert ("/tf" in after) == (intrinsics is not None)


def test_heavy_topics_come_on_request_and_below_a_namespace(tmp_path):
    settings = Settings(UNSMOOTHED.parameters, namespace="left", also=("hands/markers",))
    process(write_bag(tmp_path / "in", 2), tmp_path / "out", settings, load)
    names = set(by_topic(tmp_path / "out"))
    assert {f"/left{name}" for name in ADDED} | {"/left/hands/markers"} <= names
    assert not any(name.startswith("/hands") for name in names)


def test_depth_images_are_matched_without_loss(tmp_path):
    """Depth recorded after its image, as drivers send it; it is 10 % more."""
    true_depth = 1.1 * DEPTH
    with TestBag(tmp_path / "in") as bag:
        for index in range(3):
            bag.add_frame(index, square_at(index))
            header = messages.header(TYPES, stamp_of(index), FRAME)
            depth = image_message(TYPES, header, square_at(index))
            depth.encoding, depth.step = "32FC1", 4 * CAMERA.width
            metres = np.full(CAMERA.width * CAMERA.height, true_depth, np.float32)
            depth.data = metres.view(np.uint8)
            bag.add("/camera/depth", depth, stamp_of(index) + 2 * RECORDING_DELAY_NS)
    parameters = NodeParameters(smoothing=False, depth_topic="camera/depth")
    summary = process(tmp_path / "in", tmp_path / "out", Settings(parameters), load)
    assert summary.images == 3
    meshes = map(read, by_topic(tmp_path / "out")["/hands/mesh"])
    # How a plane is fitted is the node's business; that it moved the hands by much of the way to
    # it shows that no image went without its depth image. Only the first one cannot know yet that
    # depth images will come, and is not held up for them.
    moved = [mesh.hands[0].wrist.position.z - DEPTH for mesh in meshes]
    assert len(moved) == 3 and min(moved[1:]) > 0.4 * (true_depth - DEPTH)


def test_a_video_becomes_a_bag(tmp_path):
    path = tmp_path / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 20, (320, 240))
    for index in range(4):
        writer.write(np.ascontiguousarray(picture(320, 240, (100 + 5 * index, 120))[..., ::-1]))
    writer.release()
    settings = Settings(UNSMOOTHED.parameters, intrinsics=(400.0, 400.0, 159.5, 119.5))
    summary = process(path, tmp_path / "out", settings, load)
    assert (summary.images, summary.hands) == (4, 4)
    after = by_topic(tmp_path / "out")
    added = ADDED | {"/tf", "/hands/right_wrist"}
    assert {"/image/compressed", "/camera_info"} | added == set(after)
    stamps = [r.stamp_ns for r in after["/hands/mesh"]]
    assert np.diff(stamps).tolist() == [PERIOD_NS] * 3
    assert read(after["/hands/mesh"][0]).hands[0].metric


def test_types_that_nobody_knows_are_copied(tmp_path):
    """As in bags of Humble, which carry no definitions."""
    source = write_bag(tmp_path / "in", 1, "sqlite3")
    metadata = (source / "metadata.yaml").read_text()
    (source / "metadata.yaml").write_text(metadata.replace("tf2_msgs/msg/TF", "own_msgs/msg/TF"))
    with sqlite3.connect(next(source.glob("*.db3"))) as database:
        database.execute(
            "UPDATE topics SET type = 'own_msgs/msg/TFMessage' WHERE name = '/tf_static'"
        )
        database.execute("UPDATE topics SET type = 'own_msgs/msg/TFMessage' WHERE name = '/tf'")
        database.execute("DELETE FROM message_definitions")
    process(source, tmp_path / "out", UNSMOOTHED, load)
    kinds = {t.name: t.type_name for t in BagRecording(tmp_path / "out").topics}
    assert kinds["/tf_static"] == "own_msgs/msg/TFMessage"


@pytest.mark.parametrize(
    ("frame", "ours"),
    [
        ("right_hand", True),
        ("left_hand_7", True),
        ("right_hand_index_mcp", True),
        ("left_hand_7_thumb_tip", True),
        ("right_hand_gripper", False),
        ("arm_right_hand", False),
    ],
)
def test_a_robot_s_frames_are_not_taken_for_a_hand_s(frame, ours):
    assert bool(_hand_frame("").fullmatch(frame)) == ours
