"""The node in a second process, spoken to over loopback as a ROS 2 system would."""

from __future__ import annotations

import queue
import signal
from dataclasses import replace

import cv2
import numpy as np
from bright_square import DEPTH, picture

from hand_perception import messages
from hand_perception.articulation import JOINT_NAMES
from hand_perception.dds.participant import BEST_EFFORT, RELIABLE, Participant
from hand_perception.frames import camera_info_message, compressed_message, image_message
from hand_perception.hands import Camera, Side
from hand_perception.node import DIAGNOSTICS

CAMERA = Camera(400, 400, 159.5, 119.5, 320, 240)
STAMP = 1_700_000_000_123_456_789
PATIENCE = 60.0  # seconds until a test gives up; nothing waits for so long


def test_an_image_becomes_mesh_keypoints_tf_markers_and_joint_states(start_node):
    node = start_node()
    node.send_info(CAMERA)
    node.take_status(lambda s: any(v.value == "calibrated" for v in s.values))
    node.send_image(picture(320, 240, (200, 60)), STAMP)
    meshes = node.take("hands/mesh")
    assert messages.nanoseconds_of(meshes.header.stamp) == STAMP
    assert meshes.header.frame_id == "optical"
    (mesh,) = meshes.hands
    assert (mesh.side, mesh.track_id, mesh.metric) == (mesh.RIGHT, 1, True)
    assert mesh.vertices.shape == (778 * 3,)
    # The square's centre, back-projected to the known depth, in float64 all the way.
    wrist = [(200 - 159.5) / 400 * DEPTH, (60 - 119.5) / 400 * DEPTH, DEPTH]
    position = mesh.wrist.position
    assert np.allclose((position.x, position.y, position.z), wrist, atol=1e-12)
    (keypoints,) = node.take("hands/keypoints").hands
    assert np.allclose(keypoints.keypoints2d[:2], (200, 60), atol=1e-4)  # float32 of pixels
    (transform,) = node.take("/tf").transforms
    assert transform.child_frame_id == "right_hand"
    assert transform.transform.translation.z == DEPTH
    markers = node.take("hands/markers").markers
    assert {marker.ns for marker in markers} == {"surface", "skeleton"}
    joints = node.take("hands/joint_states")
    assert joints.header == meshes.header
    assert joints.name == list(JOINT_NAMES[Side.RIGHT])
    # The rest hand; single precision at half a metre (3e-8 m) over the shortest bone.
    assert np.allclose(joints.position, 0, atol=1e-5)
    node.end()


def test_an_image_without_hands_gives_empty_arrays(start_node):
    node = start_node()
    node.send_info(CAMERA)
    node.send_image(np.zeros((240, 320, 3), np.uint8))
    assert node.take("hands/mesh").hands == []
    assert node.take("hands/keypoints").hands == []
    assert node.received["/tf"].empty()
    node.end()


def test_without_camera_info_nothing_is_called_metric(start_node):
    node = start_node()
    node.send_image(picture(320, 240, (160, 120), left=True))
    (mesh,) = node.take("hands/mesh").hands
    assert (mesh.side, mesh.metric) == (mesh.LEFT, False)
    status = node.take_status(lambda s: "is assumed" in s.message)
    assert status.level == status.WARN
    node.send_image(picture(320, 240, (160, 120), left=True))
    node.take("hands/mesh")
    assert node.received["/tf"].empty()
    log = node.end()
    assert log.count("a 60 degree lens is assumed") == 1


def test_compressed_images(start_node):
    node = start_node("compressed:=true")
    node.send_info(CAMERA)
    node.take_status(lambda s: any(v.value == "calibrated" for v in s.values))
    _, png = cv2.imencode(".png", picture(320, 240, (100, 100))[..., ::-1])
    message = compressed_message(node.types, node.header(), png.tobytes(), "png")
    node.compressed.publish(message)
    (mesh,) = node.take("hands/mesh").hands
    assert np.allclose(mesh.wrist.position.x, (100 - 159.5) / 400 * DEPTH, atol=1e-12)

    _, jpeg = cv2.imencode(".jpg", picture(320, 240, (100, 100)))
    cut = compressed_message(node.types, node.header(), jpeg.tobytes()[:-100], "jpeg")
    node.compressed.publish(cut)
    status = node.take_status(lambda s: s.level == s.ERROR)
    assert "cut short" in status.message
    node.compressed.publish(message)
    assert len(node.take("hands/mesh").hands) == 1
    node.end()


def test_the_node_outlives_bad_input(start_node):
    node = start_node()
    node.send_info(CAMERA)
    node.take_status(lambda s: any(v.value == "calibrated" for v in s.values))
    good = picture(320, 240, (160, 120))
    image = image_message(node.types, node.header(), good)
    tiny = image_message(node.types, node.header(), np.zeros((1, 1, 3), np.uint8))
    other_size = image_message(node.types, node.header(), np.zeros((120, 160, 3), np.uint8))
    for bad, complaint in (
        (replace(image, encoding="16UC1"), "encoding '16UC1' is not supported"),
        (replace(image, step=959), "step 959 is shorter than a row"),
        (replace(image, data=image.data[:-960]), "truncated"),
        (tiny, "1x1 pixels is too small"),
        (other_size, "160x120 pixels, its CameraInfo says 320x240"),
        (replace(image, header=node.header(frame_id="depth")), "the image is in frame 'depth'"),
    ):
        node.image.publish(bad)
        status = node.take_status(lambda s, text=complaint: text in s.message)
        assert status.level == status.ERROR
    node.send_image(good)
    assert len(node.take("hands/mesh").hands) == 1
    assert node.received["hands/mesh"].empty()
    # One line each: nothing but logged lines, no traceback.
    assert all(line.startswith("[") for line in node.end().splitlines())


def test_uncalibrated_info_is_reported_and_the_good_one_kept(start_node):
    node = start_node()
    node.send_info(CAMERA)
    node.take_status(lambda s: any(v.value == "calibrated" for v in s.values))
    info = camera_info_message(node.types, node.header(), CAMERA)
    for bad in (np.zeros(9), np.full(9, np.nan)):
        node.info.publish(replace(info, k=bad))
        fx = f"fx={bad[0]}"
        status = node.take_status(lambda s, fx=fx: fx in s.message)
        assert status.level == status.ERROR
    node.send_image(picture(320, 240, (160, 120)))
    (mesh,) = node.take("hands/mesh").hands
    assert mesh.metric
    node.end()


def test_a_stream_of_errors_is_logged_once(start_node):
    node = start_node()
    tiny = image_message(node.types, node.header(), np.zeros((1, 1, 3), np.uint8))
    for count in range(1, 6):
        node.image.publish(tiny)
        node.take_status(
            lambda s, n=str(count): any(v.key == "failed" and v.value == n for v in s.values)
        )
    assert node.end().count("too small") == 1


def test_diagnostics_name_the_model_and_the_rates(start_node):
    node = start_node()
    silent = node.take_status(lambda s: s.name.endswith("input"))
    assert (silent.level, silent.message) == (silent.WARN, "no image on /image yet")
    node.send_image(picture(320, 240, (160, 120)))
    node.take("hands/mesh")
    status = node.take_status(
        lambda s: any(v.key == "processed" and v.value == "1" for v in s.values)
    )
    values = {v.key: v.value for v in status.values}
    assert values["model"] == "bright square"
    assert {"decode (ms)", "detector (ms)", "publish (ms)", "total (ms)"} <= set(values)
    node.end()


def test_a_lazy_node_rests_while_nobody_listens(domain, start_node):
    node = start_node("lazy:=true")
    # This process listens to everything: the node works.
    node.send_image(picture(320, 240, (160, 120)))
    node.take("hands/mesh")
    node.participant.close()
    with Participant("idle", domain_id=domain, localhost=True) as idle:
        statuses = queue.SimpleQueue()
        idle.subscribe(
            DIAGNOSTICS.topic, DIAGNOSTICS.type_name, lambda m, *_: statuses.put(m.status), RELIABLE
        )
        image = idle.publisher("image", "sensor_msgs/msg/Image", BEST_EFFORT)
        node.until(lambda: image.num_listeners)
        received = [value_of(statuses.get(timeout=PATIENCE), "received") for _ in range(2)]
        for _ in range(3):
            header = messages.header(idle.types, STAMP, "optical")
            image.publish(image_message(idle.types, header, picture(320, 240, (9, 9))))
        # Two periods later those would have been counted.
        received += [value_of(statuses.get(timeout=PATIENCE), "received") for _ in range(3)]
    assert set(received) == {"1"}
    node.end()


def value_of(statuses, key):
    return next(v.value for status in statuses for v in status.values if v.key == key)


def test_signals_may_come_twice(start_node):
    node = start_node()
    node.process.send_signal(signal.SIGINT)
    node.process.send_signal(signal.SIGINT)
    node.end()
