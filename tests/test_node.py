"""What the node publishes, and for whom, without a network."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from open_hand import CAMERA, TEMPLATE, make_hand

from hand_perception import messages
from hand_perception.articulation import ANGLE_NAMES, JOINT_NAMES, articulate
from hand_perception.depth import hand_length, scaled, visible_surface
from hand_perception.frames import camera_info_message, depth_message, image_message
from hand_perception.geometry import project
from hand_perception.hands import MIDDLE_MCP, Hand, Reconstruction, Side
from hand_perception.node import HandNode
from hand_perception.parameters import NodeParameters
from hand_perception.topics import (
    CALIBRATE,
    DETECTIONS,
    JOINT_STATES,
    KEYPOINTS,
    LEFT_WRIST,
    MESH,
    OUTPUTS,
    OVERLAY,
    PAUSE,
    POINTS,
    RIGHT_WRIST,
    SNAPSHOT,
    TF,
)

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
        self.received = defaultdict(queue.SimpleQueue)
        self.inputs = {}
        self.changes = {}
        self.listened = listened

    def publish(self, output, message) -> None:
        self.received[output].put(message)

    def has_listener(self, output) -> bool:
        return output in self.listened

    def subscribe(self, source, callback) -> None:
        assert source.topic not in self.inputs
        self.inputs[source.topic] = callback

    def unsubscribe(self, source) -> None:
        del self.inputs[source.topic]

    def change_parameters(self, values) -> None:
        self.changes.update(values)

    def resolve(self, topic: str) -> str:
        return f"/{topic}"

    def take(self, output):
        return self.received[output].get(timeout=PATIENCE)


IMAGE = image_message(MAKE, HEADER, np.zeros((480, 640, 3), np.uint8))
INFO = camera_info_message(MAKE, HEADER, CAMERA)


@contextmanager
def running(hands, inboxes, parameters=PARAMETERS, **options):
    log = logging.getLogger(__name__)
    node = HandNode(parameters, TheseHands(hands), MAKE, inboxes, log, **options)
    try:
        yield node
    finally:
        node.stop()


def published(hands, inboxes, parameters=PARAMETERS):
    """The mesh array and the joint states (or None) that one image gives."""
    with running(hands, inboxes) as node:
        node.parameters = parameters
        inboxes.inputs["camera_info"](INFO)
        inboxes.inputs["image"](IMAGE)
        mesh_array = inboxes.take(MESH)
    # The image's work is finished when the node has stopped.
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


def test_what_nobody_listens_to_is_not_made():
    hands = [make_hand(track_id=1), make_hand(Side.LEFT, track_id=2)]
    on_request = (POINTS, OVERLAY, DETECTIONS, LEFT_WRIST, RIGHT_WRIST)
    asked = replace(PARAMETERS, publish_detections=True)
    for listened in (OUTPUTS, ()):
        inboxes = Inboxes(listened)
        with running(hands, inboxes, asked):
            inboxes.inputs["camera_info"](INFO)
            inboxes.inputs["image"](IMAGE)
            inboxes.take(MESH)
        sent = [not inboxes.received[output].empty() for output in on_request]
        assert all(sent) if listened else not any(sent)


def test_detections_are_for_those_who_ask():
    inboxes = Inboxes()
    published([make_hand()], inboxes)
    assert inboxes.received[DETECTIONS].empty()


def test_wrists_are_those_of_the_meshes_and_of_measured_cameras_only():
    hands = [make_hand(track_id=3), make_hand(track_id=2, at=(0.1, 0, 0.6))]
    inboxes = Inboxes()
    mesh_array, _ = published(hands, inboxes)
    wrist = inboxes.take(RIGHT_WRIST)
    assert wrist.header == mesh_array.header
    assert wrist.pose == mesh_array.hands[1].wrist  # the longest tracked one
    assert inboxes.received[LEFT_WRIST].empty()

    inboxes = Inboxes()
    with running(hands, inboxes):
        inboxes.inputs["image"](IMAGE)  # no CameraInfo
        inboxes.take(MESH)
    assert inboxes.received[RIGHT_WRIST].empty()
    assert inboxes.received[TF].empty()


def test_the_place_comes_with_its_uncertainty():
    mesh_array, _ = published([make_hand()], Inboxes())
    covariance = np.reshape(mesh_array.hands[0].position_covariance, (3, 3))
    # A hand's size is known to six per cent (uncertainty.HAND_SIZE_STD), so is its distance.
    assert np.sqrt(covariance[2, 2]) >= 0.06 * 0.5
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_the_overlay_is_the_image_with_something_on_it():
    inboxes = Inboxes()
    mesh_array, _ = published([make_hand()], inboxes)
    overlay = inboxes.take(OVERLAY)
    assert overlay.header == mesh_array.header
    assert (overlay.width, overlay.height, overlay.encoding) == (640, 480, "rgb8")
    assert overlay.data.max() > 100


def test_several_cameras_have_topics_of_their_own_and_one_network():
    parameters = replace(PARAMETERS, cameras=("left", "right"))
    outputs = {name: [output.of_camera(name) for output in OUTPUTS] for name in parameters.cameras}
    inboxes = Inboxes([*outputs["left"], *outputs["right"]])
    with running([make_hand(track_id=1)], inboxes, parameters):
        assert set(inboxes.inputs) == {
            f"{name}/{topic}" for name in parameters.cameras for topic in ("image", "camera_info")
        }
        for name in parameters.cameras:
            header = messages.header(MAKE, 10**9, f"{name}_optical")
            inboxes.inputs[f"{name}/camera_info"](replace(INFO, header=header))
            inboxes.inputs[f"{name}/image"](replace(IMAGE, header=header))
            meshes = inboxes.take(MESH.of_camera(name))
            assert meshes.header.frame_id == f"{name}_optical"
            assert len(inboxes.take(KEYPOINTS.of_camera(name)).hands) == 1
            # /tf is shared: one hand that two cameras see may not have two parents.
            (transform,) = inboxes.take(TF).transforms
            assert transform.child_frame_id == f"{name}_right_hand"


class OfSeveralImages(TheseHands):
    """Reads several images in one go, once the gate is open."""

    images_at_once = 2
    canvas = 256

    def __init__(self, hands: list[Hand]) -> None:
        super().__init__(hands)
        self.counts, self.entered, self.gate = [], threading.Event(), threading.Event()

    def together(self, views):
        if views:
            self.counts.append(len(views))
            self.entered.set()
            assert self.gate.wait(PATIENCE)
        return [Reconstruction(list(self._hands), {"detector": 1.0}) for _ in views]


def test_images_of_several_cameras_that_wait_are_read_in_one_go():
    inboxes, network = Inboxes(), OfSeveralImages([make_hand(track_id=1)])
    parameters = replace(PARAMETERS, cameras=("front", "left", "right"))
    node = HandNode(parameters, network, MAKE, inboxes, logging.getLogger(__name__))
    inboxes.inputs["front/image"](IMAGE)
    assert network.entered.wait(PATIENCE)
    for name in parameters.cameras:
        inboxes.inputs[f"{name}/image"](IMAGE)
    network.gate.set()
    for name, count in (("front", 2), ("left", 1), ("right", 1)):
        for _ in range(count):
            assert len(inboxes.take(MESH.of_camera(name)).hands) == 1
    node.stop()
    # Those that have waited longest, two at once; the one that is left comes by itself.
    assert network.counts == [1, 2, 1]


def test_a_lazy_node_listens_while_it_is_listened_to():
    inboxes = Inboxes([])
    with running([make_hand()], inboxes, replace(PARAMETERS, lazy=True)) as node:
        assert set(inboxes.inputs) == {"camera_info"}
        inboxes.listened = [POINTS]
        node.tick()
        assert set(inboxes.inputs) == {"camera_info", "image"}
        inboxes.listened = []
        node.tick()
        assert set(inboxes.inputs) == {"camera_info"}
        node.parameters = PARAMETERS  # not lazy
        node.tick()
        assert set(inboxes.inputs) == {"camera_info", "image"}


def test_pausing_ends_the_subscription():
    inboxes = Inboxes()
    with running([make_hand()], inboxes) as node:
        assert node.call(PAUSE, SimpleNamespace(data=True)) == (True, "paused")
        assert set(inboxes.inputs) == {"camera_info"}
        assert node.call(PAUSE, SimpleNamespace(data=False)) == (True, "at work")
        assert set(inboxes.inputs) == {"camera_info", "image"}


def test_snapshots_hold_the_image_and_the_hands(tmp_path):
    parameters = replace(PARAMETERS, snapshot_folder=str(tmp_path))
    inboxes = Inboxes()
    with running([make_hand(track_id=4)], inboxes, parameters) as node:
        success, message = node.call(SNAPSHOT, None)
        assert (success, "no image" in message) == (False, True)
        inboxes.inputs["camera_info"](INFO)
        inboxes.inputs["image"](IMAGE)
        inboxes.take(MESH)
        success, message = node.call(SNAPSHOT, None)
    assert (success, message) == (True, str(tmp_path / "12000000345"))
    folder = tmp_path / "12000000345"
    assert sorted(path.name for path in folder.iterdir()) == [
        "hands.json",
        "image.png",
        "overlay.png",
    ]
    assert not cv2.imread(str(folder / "image.png")).any()
    record = json.loads((folder / "hands.json").read_text())
    assert (record["frame_id"], record["camera"]["fx"]) == ("optical", CAMERA.fx)
    (hand,) = record["hands"]
    assert (hand["track_id"], hand["side"]) == (4, "right")


def test_a_snapshot_that_cannot_be_written_says_where(tmp_path):
    (tmp_path / "file").write_text("in the way")
    inboxes = Inboxes()
    parameters = replace(PARAMETERS, snapshot_folder=str(tmp_path / "file"))
    with running([], inboxes, parameters) as node:
        inboxes.inputs["image"](IMAGE)
        inboxes.take(MESH)
        success, message = node.call(SNAPSHOT, None)
    assert not success
    assert "set snapshot_folder" in message


def test_finger_frames_hang_on_the_hand_s_frame():
    hand = make_hand(Side.LEFT, track_id=1)
    inboxes = Inboxes()
    published([hand], inboxes, replace(PARAMETERS, publish_finger_frames=True))
    wrist, *fingers = inboxes.take(TF).transforms
    assert (wrist.header.frame_id, wrist.child_frame_id) == ("optical", "left_hand")
    assert len(fingers) == 15
    assert {finger.header.frame_id for finger in fingers} == {"left_hand"}
    place = {f.child_frame_id: f.transform.translation for f in fingers}["left_hand_middle_mcp"]
    bone = hand.keypoints3d[MIDDLE_MCP] - hand.keypoints3d[0]
    expected = hand.wrist.rotation.T @ bone
    np.testing.assert_allclose((place.x, place.y, place.z), expected, atol=1e-7)


def test_hands_are_published_where_they_are_now():
    now = [10**9]
    hands = [make_hand()]
    inboxes = Inboxes()
    parameters = NodeParameters(predict_to_now=True, smoothing=False)
    shifts = []
    with running(hands, inboxes, parameters, now_ns=lambda: now[0]):
        inboxes.inputs["camera_info"](INFO)
        for number in range(20):  # 25 Hz, 5 mm from image to image
            stamp = 10**9 + number * 40_000_000
            now[0] = stamp + 20_000_000
            x = 0.005 * number
            hands[:] = [make_hand(at=(x, 0.0, 0.5))]
            image = replace(IMAGE, header=messages.header(MAKE, stamp, "optical"))
            inboxes.inputs["image"](image)
            meshes = inboxes.take(MESH)
            assert messages.nanoseconds_of(meshes.header.stamp) == now[0]
            shifts.append(meshes.hands[0].wrist.position.x - x)
            assert inboxes.take(OVERLAY).header.stamp == image.header.stamp
    assert shifts[0] == pytest.approx(0, abs=1e-6)  # nothing is known of its motion
    # Half a step; the filter of the velocity has nearly settled after twenty images.
    assert shifts[-1] == pytest.approx(0.0025, rel=0.1)


def test_a_track_s_settings_change_while_the_node_works():
    inboxes = Inboxes()
    with running([make_hand()], inboxes, NodeParameters(smoothing=False)) as node:
        for tracking, track_id in ((True, 1), (False, 0)):
            node.parameters = NodeParameters(smoothing=False, tracking=tracking)
            inboxes.inputs["image"](IMAGE)
            assert inboxes.take(MESH).hands[0].track_id == track_id


# -- depth ----------------------------------------------------------------------------------------

WITH_DEPTH = replace(PARAMETERS, depth_topic="depth")
FACTOR = 1.1  # the person's hand is larger than the network's, and so farther away


def depth_of(hand: Hand) -> np.ndarray:
    """What a depth camera sees of the hand alone: metres [480, 640], NaN elsewhere."""
    depth = np.full((480, 640), np.nan, np.float32)
    pixels = project(hand.vertices, CAMERA)
    column, row, _, z = visible_surface(pixels, hand.vertices[:, 2], TEMPLATE.faces, 640, 480)
    depth[row, column] = z
    return depth


def with_depth(stamp_ns: int, depth: np.ndarray):
    header = messages.header(MAKE, stamp_ns, "optical")
    return replace(IMAGE, header=header), depth_message(MAKE, header, depth)


def test_depth_places_the_hand_and_halves_its_uncertainty():
    hand = make_hand(track_id=1)
    inboxes = Inboxes()
    with running([hand], inboxes, WITH_DEPTH):
        inboxes.inputs["camera_info"](INFO)
        image, _ = with_depth(10**9, np.zeros((480, 640), np.float32))
        inboxes.inputs["image"](image)
        alone = inboxes.take(MESH).hands[0]
        image, depth = with_depth(2 * 10**9, depth_of(scaled(hand, FACTOR)))
        inboxes.inputs["depth"](depth)
        inboxes.inputs["image"](image)
        measured = inboxes.take(MESH).hands[0]
    assert alone.wrist.position.z == pytest.approx(0.5, abs=1e-6)
    # The mesh's samples lie up to half a pixel beside the depth image's: a millimetre.
    assert measured.wrist.position.z == pytest.approx(FACTOR * 0.5, abs=1e-3)
    assert measured.position_covariance[8] < 0.25 * alone.position_covariance[8]


def test_a_known_hand_length_scales_hand_and_distance():
    hand = make_hand(track_id=1)
    length = FACTOR * hand_length(hand, TEMPLATE)
    mesh_array, _ = published([hand], Inboxes(), replace(PARAMETERS, hand_length_m=length))
    (mesh,) = mesh_array.hands
    np.testing.assert_allclose(
        np.reshape(mesh.vertices, (-1, 3)), FACTOR * hand.vertices, atol=1e-6
    )
    assert mesh.wrist.position.z == pytest.approx(FACTOR * 0.5, abs=1e-6)


def test_the_hand_s_length_is_measured_on_request():
    hand = make_hand(track_id=1)
    depth = depth_of(scaled(hand, FACTOR))
    inboxes = Inboxes()
    with running([hand], inboxes, WITH_DEPTH) as node:
        inboxes.inputs["camera_info"](INFO)
        assert node.call(CALIBRATE, None)[0]
        for number in range(1, 25):  # 15 Hz
            image, measured = with_depth(number * 10**9 // 15, depth)
            inboxes.inputs["depth"](measured)
            inboxes.inputs["image"](image)
            inboxes.take(MESH)
        node.tick()
    truth = FACTOR * hand_length(hand, TEMPLATE)
    assert inboxes.changes["hand_length_m"] == pytest.approx(truth, abs=1e-3)


def test_without_depth_images_no_length_is_measured():
    with running([], Inboxes()) as node:
        success, message = node.call(CALIBRATE, None)
    assert not success
    assert "set depth_topic" in message


def test_a_bad_depth_image_costs_the_depth_only(caplog):
    image, depth = with_depth(10**9, np.ones((240, 320), np.float32))
    inboxes = Inboxes()
    with running([make_hand()], inboxes, WITH_DEPTH):
        inboxes.inputs["camera_info"](INFO)
        inboxes.inputs["depth"](depth)
        inboxes.inputs["image"](image)
        assert len(inboxes.take(MESH).hands) == 1
    assert "align depth to colour" in caplog.text
