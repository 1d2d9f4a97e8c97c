"""What the node publishes, and for whom, without a network."""

from __future__ import annotations

import logging
import queue
from dataclasses import replace

import numpy as np
import pytest
from open_hand import CAMERA, TEMPLATE, make_hand

from hand_perception import messages
from hand_perception.articulation import ANGLE_NAMES, JOINT_NAMES, articulate
from hand_perception.frames import camera_info_message, image_message
from hand_perception.hands import Hand, Reconstruction, Side
from hand_perception.node import JOINT_STATES, MESH, OUTPUTS, HandNode
from hand_perception.parameters import NodeParameters

types = pytest.importorskip("hand_perception.cdr", reason="needs the dds extra")

MAKE = types.message_types(types.type_store())
HEADER = messages.header(MAKE, 12_000_000_345, "optical")
PATIENCE = 60.0  # seconds until a test gives up; nothing waits for so long
# Untracked, the node passes on the ids that a test gives its hands.
PARAMETERS = NodeParameters(tracking=False)


class TheseHands:
    """A reconstructor that sees the same hands in every image."""

    identity = "these hands"
    topology = TEMPLATE

    def __init__(self, hands: list[Hand]) -> None:
        self._hands = hands

    def __call__(self, image_rgb, camera, *, score_threshold) -> Reconstruction:
        return Reconstruction(list(self._hands))


class Inboxes:
    """A transport whose messages are kept. listened: what has subscribers."""

    def __init__(self, listened=OUTPUTS) -> None:
        self.received = {output: queue.SimpleQueue() for output in OUTPUTS}
        self._listened = listened

    def publish(self, output, message) -> None:
        self.received[output].put(message)

    def has_listener(self, output) -> bool:
        return output in self._listened

    def resolve(self, topic: str) -> str:
        return f"/{topic}"


def published(hands, inboxes, parameters=PARAMETERS):
    """The mesh array and the joint states (or None) that one image gives."""
    log = logging.getLogger(__name__)
    node = HandNode(PARAMETERS, TheseHands(hands), MAKE, inboxes, log)
    try:
        node.parameters = parameters
        node.on_camera_info(camera_info_message(MAKE, HEADER, CAMERA))
        node.on_image(image_message(MAKE, HEADER, np.zeros((480, 640, 3), np.uint8)))
        mesh_array = inboxes.received[MESH].get(timeout=PATIENCE)
    finally:
        node.stop()  # the image's work is finished when this returns
    states = inboxes.received[JOINT_STATES]
    return mesh_array, None if states.empty() else states.get()


def bent(hand: Hand, finger: int) -> Hand:
    """The hand with a fingertip moved towards the palm."""
    keypoints = hand.keypoints3d.copy()
    keypoints[4 * finger + 4] -= 0.01 * hand.wrist.rotation[:, 2].astype(np.float32)
    return replace(hand, keypoints3d=keypoints)


def test_joint_states_are_those_of_the_longest_tracked_hand_of_each_side():
    right, left = bent(make_hand(track_id=3), 1), bent(make_hand(Side.LEFT, track_id=5), 2)
    others = [make_hand(track_id=4), make_hand(Side.LEFT, track_id=9)]
    mesh_array, states = published([*others, right, left], Inboxes())
    assert states.header == mesh_array.header
    assert states.name == [*JOINT_NAMES[Side.LEFT], *JOINT_NAMES[Side.RIGHT]]
    angles = np.reshape(states.position, (2, 20))
    for row, hand, bend in zip(angles, (left, right), ("middle", "index"), strict=True):
        np.testing.assert_array_equal(row, articulate(hand, TEMPLATE).angles)
        assert row[ANGLE_NAMES.index(f"{bend}_dip_flexion")] > 0.1
    assert (len(states.velocity), len(states.effort)) == (0, 0)


def test_a_hand_without_a_pose_is_left_out_and_the_frame_is_kept(caplog):
    shapeless = replace(make_hand(track_id=1), keypoints3d=np.ones((21, 3), np.float32))
    hands = [shapeless, make_hand(track_id=2), make_hand(Side.LEFT, track_id=3)]
    mesh_array, states = published(hands, Inboxes())
    assert [mesh.track_id for mesh in mesh_array.hands] == [1, 2, 3]
    # Nor does the other right hand stand in for it.
    assert states.name == list(JOINT_NAMES[Side.LEFT])
    assert "lie on one spot" in caplog.text


def test_no_joint_states_without_a_hand_a_listener_or_the_wish():
    silent = replace(PARAMETERS, publish_joint_states=False)
    nobody = [output for output in OUTPUTS if output is not JOINT_STATES]
    for hands, inboxes, parameters in (
        ([], Inboxes(), PARAMETERS),
        ([make_hand()], Inboxes(nobody), PARAMETERS),
        ([make_hand()], Inboxes(), silent),
    ):
        mesh_array, states = published(hands, inboxes, parameters)
        assert len(mesh_array.hands) == len(hands)
        assert states is None
    _, states = published([make_hand()], Inboxes())
    assert len(states.position) == 20
