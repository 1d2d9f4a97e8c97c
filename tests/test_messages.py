from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from bright_square import BrightSquare, picture
from cdr_messages import CAMERA, HEADER, MAKE, hands, through_cdr

from hand_perception import messages
from hand_perception.frames import (
    camera_from_info,
    camera_info_message,
    image_from_message,
    image_message,
)
from hand_perception.hands import BONES, Pose, Side


def test_header_splits_nanoseconds():
    assert (HEADER.stamp.sec, HEADER.stamp.nanosec, HEADER.frame_id) == (12, 345, "optical")
    assert messages.nanoseconds_of(HEADER.stamp) == 12_000_000_345


def test_mesh_survives_the_wire():
    given = hands()
    array = through_cdr(messages.mesh_array(MAKE, HEADER, given))
    assert array.header == HEADER
    assert [(m.track_id, m.side) for m in array.hands] == [(7, m.LEFT) for m in array.hands[:1]] + [
        (8, array.hands[1].RIGHT)
    ]
    for sent, received in zip(given, array.hands, strict=True):
        assert received.topology == "open778"
        assert received.metric
        assert np.array_equal(received.vertices.reshape(-1, 3), sent.vertices)
        position = received.wrist.position
        assert (position.x, position.y, position.z) == tuple(sent.wrist.translation)


def test_keypoints_survive_the_wire():
    given = hands()
    array = through_cdr(messages.keypoints_array(MAKE, HEADER, given))
    for sent, received in zip(given, array.hands, strict=True):
        assert np.array_equal(received.keypoints3d.reshape(21, 3), sent.keypoints3d)
        assert np.array_equal(received.keypoints2d.reshape(21, 2), sent.keypoints2d)
        assert np.array_equal(received.box, sent.box)
        assert np.array_equal(received.confidences, sent.confidences)


def test_listeners_get_the_hands_back():
    given = hands()
    received = messages.hands_of(
        through_cdr(messages.mesh_array(MAKE, HEADER, given)),
        through_cdr(messages.keypoints_array(MAKE, HEADER, given)),
    )
    for sent, back in zip(given, received, strict=True):
        assert (back.side, back.track_id, back.metric) == (sent.side, sent.track_id, sent.metric)
        assert np.array_equal(back.vertices, sent.vertices)
        assert np.array_equal(back.keypoints2d, sent.keypoints2d)
        # The wrist frame is computed again from float32 keypoints: directions over a palm's
        # 0.1 m keep 6e-8 * 0.5 m / 0.1 m = 3e-7, some ten of them add up.
        assert np.allclose(back.wrist.rotation, sent.wrist.rotation, atol=3e-6)


def test_no_hands_is_an_empty_array():
    assert through_cdr(messages.mesh_array(MAKE, HEADER, [])).hands == []
    assert through_cdr(messages.keypoints_array(MAKE, HEADER, [])).hands == []


def test_topology_regresses_the_keypoints_from_the_mesh():
    hand = hands()[1]
    topology = through_cdr(messages.topology_message(MAKE, BrightSquare.topology))
    regressor = topology.regressor.reshape(21, topology.num_vertices)
    # Rows of the regressor sum to one and the coordinates are below 1 m: float32 keeps 1e-6.
    assert np.allclose(regressor @ hand.vertices, hand.keypoints3d, atol=1e-6)
    assert np.array_equal(topology.triangles.reshape(-1, 3), BrightSquare.topology.faces)
    assert [tuple(bone) for bone in topology.bones.reshape(-1, 2)] == list(BONES)
    assert topology.keypoint_names[8] == "index_tip"


def test_transform_turns_wrist_axes_into_the_optical_frame():
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # 90 degrees about z
    hand = replace(hands()[1], wrist=Pose(quarter, np.array([0.1, 0.2, 0.5])))
    (transform,) = through_cdr(
        messages.tf_message(MAKE, messages.transforms(MAKE, HEADER, [hand], ["right_hand"]))
    ).transforms
    q = transform.transform.rotation
    # Closed form: (0, 0, sin 45, cos 45).
    assert np.allclose((q.x, q.y, q.z, q.w), (0, 0, np.sqrt(0.5), np.sqrt(0.5)), atol=1e-15)
    t = transform.transform.translation
    assert (t.x, t.y, t.z) == (0.1, 0.2, 0.5)
    assert (transform.header.frame_id, transform.child_frame_id) == ("optical", "right_hand")


@pytest.mark.parametrize(
    ("sides_and_ids", "names"),
    [
        ([("left", 3), ("right", 9)], ["left_hand", "right_hand"]),
        ([("right", 9), ("right", 4)], ["right_hand_9", "right_hand"]),
        (
            [("right", 0), ("right", 0), ("right", 0)],
            ["right_hand", "right_hand_2", "right_hand_3"],
        ),
    ],
)
def test_frames_are_unique_and_the_oldest_hand_has_the_plain_name(sides_and_ids, names):
    given = [SimpleNamespace(side=Side(side), track_id=number) for side, number in sides_and_ids]
    assert messages.hand_frames(given) == names
    assert messages.hand_frames(given, "robot/") == [f"robot/{name}" for name in names]


def test_diagnostics_carry_levels_and_texts():
    statuses = [
        messages.Status("node: input", "ERROR", "no image", {"rate": 12.3456, "topic": "image"}),
        messages.Status("node: inference", "OK", "fine", {}),
    ]
    array = through_cdr(messages.diagnostics(MAKE, 5_000_000_000, statuses))
    assert [status.level for status in array.status] == [2, 0]
    assert {v.key: v.value for v in array.status[0].values} == {"rate": "12.3", "topic": "image"}


def test_a_camera_sends_what_the_node_reads():
    image = picture(320, 240, (50, 60))
    assert np.array_equal(
        image_from_message(through_cdr(image_message(MAKE, HEADER, image))), image
    )
    lens = replace(CAMERA, distortion=(0.1, 0.01, 0.0, 0.0, 0.2), distortion_model="plumb_bob")
    for camera in (CAMERA, lens):
        sent = through_cdr(camera_info_message(MAKE, HEADER, camera))
        assert camera_from_info(sent) == camera
