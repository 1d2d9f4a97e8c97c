"""Either front end in a second process, spoken to over loopback as a ROS 2 system would."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace

import cv2
import numpy as np
from bright_square import DEPTH, BrightSquare, picture
from front_ends.conftest import command, environment
from front_ends.service_client import ServiceClient

from hand_perception import messages
from hand_perception.articulation import JOINT_NAMES
from hand_perception.dds.participant import BEST_EFFORT, LATCHED, RELIABLE, Participant
from hand_perception.depth import scaled, visible_surface
from hand_perception.frames import (
    camera_info_message,
    compressed_message,
    depth_message,
    image_message,
)
from hand_perception.geometry import project
from hand_perception.hands import Camera, Side
from hand_perception.parameters import NodeParameters
from hand_perception.topics import DIAGNOSTICS, MESH, TOPOLOGY

CAMERA = Camera(400, 400, 159.5, 119.5, 320, 240)
STAMP = 1_700_000_000_123_456_789
PATIENCE = 60.0  # seconds until a test gives up; nothing waits for so long


def test_an_image_becomes_mesh_keypoints_tf_markers_and_joint_states(start_node):
    node = start_node()
    node.send_info(CAMERA)
    node.take_value("camera", "calibrated")
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
    node.take_value("camera", "calibrated")
    _, png = cv2.imencode(".png", picture(320, 240, (100, 100))[..., ::-1])
    message = compressed_message(node.types, node.header(), png.tobytes(), "png")
    node.send("image/compressed", message)
    (mesh,) = node.take("hands/mesh").hands
    assert np.allclose(mesh.wrist.position.x, (100 - 159.5) / 400 * DEPTH, atol=1e-12)

    _, jpeg = cv2.imencode(".jpg", picture(320, 240, (100, 100)))
    cut = compressed_message(node.types, node.header(), jpeg.tobytes()[:-100], "jpeg")
    node.send("image/compressed", cut)
    status = node.take_status(lambda s: "cut short" in s.message)
    assert status.level == status.ERROR
    message.header.stamp = node.header().stamp
    node.send("image/compressed", message)
    assert len(node.take("hands/mesh").hands) == 1
    node.end()


def test_the_node_outlives_bad_input(start_node):
    node = start_node()
    node.send_info(CAMERA)
    node.take_value("camera", "calibrated")
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
        node.send("image", bad)
        status = node.take_status(lambda s, text=complaint: text in s.message)
        assert status.level == status.ERROR
    node.send_image(good)
    assert len(node.take("hands/mesh").hands) == 1
    assert node.received["hands/mesh"].empty()
    # One line each, no traceback.
    assert "Traceback" not in node.end()


def test_uncalibrated_info_is_reported_and_the_good_one_kept(start_node):
    node = start_node()
    node.send_info(CAMERA)
    node.take_value("camera", "calibrated")
    info = camera_info_message(node.types, node.header(), CAMERA)
    for bad in (np.zeros(9), np.full(9, np.nan)):
        node.send("camera_info", replace(info, k=bad))
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
        node.send("image", tiny)
        node.take_value("failed", str(count))
    assert node.end().count("too small") == 1


def test_diagnostics_name_the_model_and_the_rates(start_node):
    node = start_node()
    silent = node.take_status(lambda s: s.name.endswith("input"))
    assert (silent.level, silent.message) == (silent.WARN, "no image on /image yet")
    node.send_image(picture(320, 240, (160, 120)))
    node.take("hands/mesh")
    status = node.take_value("processed", "1")
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
        info = idle.publisher("camera_info", "sensor_msgs/msg/CameraInfo", BEST_EFFORT)
        node.until(lambda: info.num_listeners)
        while "nobody listens" not in statuses.get(timeout=PATIENCE)[0].message:
            pass
        # That the subscription is gone arrives by discovery, when it does.
        node.until(lambda: image.num_listeners == 0)
        idle.subscribe(MESH.topic, MESH.type_name, lambda *_: None, RELIABLE)
        node.until(lambda: image.num_listeners)
    node.end()


def test_signals_may_come_twice(start_node):
    node = start_node()
    node.process.send_signal(signal.SIGINT)
    node.process.send_signal(signal.SIGINT)
    node.end()


def test_a_model_that_does_not_exist_is_one_clear_line(front_end, domain):
    words = ["node", "--frontend", front_end, "-p", "model:=no_such_model"]
    words += ["--localhost", "--domain-id", str(domain)]
    done = subprocess.run(
        [sys.executable, "-m", "hand_perception.cli", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(domain),
    )
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "no_such_model" in said
    assert "Traceback" not in said


def test_late_joiners_get_the_topology(start_node):
    node = start_node()
    node.send_image(picture(320, 240, (160, 120)))
    node.take("hands/mesh")
    late = queue.SimpleQueue()
    node.participant.subscribe(
        TOPOLOGY.topic, TOPOLOGY.type_name, lambda message, *_: late.put(message), LATCHED
    )
    topology = late.get(timeout=PATIENCE)
    assert (topology.name, topology.num_vertices, len(topology.bones)) == ("open778", 778, 40)
    node.end()


def test_parameters_change_at_run_time_within_their_ranges(start_node):
    node = start_node()
    image = picture(320, 240, (160, 120))
    node.send_image(image)
    assert len(node.take("hands/mesh").hands) == 1  # it scores 0.9
    assert node.set("score_threshold", 0.95).successful
    node.send_image(image)
    assert node.take("hands/mesh").hands == []
    for name, value, complaint in (
        ("score_threshold", 1.5, "score_threshold"),
        ("hand_length_m", 0.05, "hand_length_m must be 0 or from 0.09"),
        ("model", "another", "cannot change while the node"),
        ("score_threshold", "high", ""),
    ):
        refused = node.set(name, value)
        assert not refused.successful
        assert complaint in refused.reason
    kind = "rcl_interfaces/srv/GetParameters"
    (value,) = node.call("get_parameters", kind, names=["score_threshold"]).values
    assert (value.type, value.double_value) == (3, 0.95)
    node.end()


def test_parameters_describe_themselves(start_node):
    node = start_node()
    listed = node.call("list_parameters", "rcl_interfaces/srv/ListParameters", prefixes=[], depth=0)
    ours = {spec.name: spec for spec in fields(NodeParameters)}
    assert set(ours) <= set(listed.result.names)
    kind = "rcl_interfaces/srv/DescribeParameters"
    names = [name for name in ours if name != "use_sim_time"]  # rclpy's own in one front end
    for descriptor in node.call("describe_parameters", kind, names=names).descriptors:
        metadata = ours[descriptor.name].metadata
        assert descriptor.description == metadata["description"]
        ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
        limits = [(r.from_value, r.to_value) for r in ranges]
        assert limits == ([metadata["limits"]] if metadata["limits"] else [])
    node.end()


def test_a_lost_camera_is_reported_and_taken_up_again(start_node):
    node = start_node("camera_timeout:=0.3")
    node.send_image(picture(320, 240, (160, 120)))
    node.take("hands/mesh")
    lost = node.take_status(lambda s: "no image on /image for" in s.message)
    assert lost.level == lost.ERROR
    node.send_image(picture(320, 240, (160, 120)))
    assert len(node.take("hands/mesh").hands) == 1
    node.set("camera_timeout", 60.0)
    back = node.take_status(lambda s: s.name.endswith("input") and s.level != s.ERROR)
    assert "is assumed" in back.message
    log = node.end()
    assert log.count("is the camera running?") >= 1
    assert "images on /image are back" in log


def test_time_that_jumps_back_starts_new_tracks(start_node):
    node = start_node()
    ids = []
    # A bag of three images at 10 Hz, played twice, and one image that the network held up.
    for second in (100.0, 100.1, 100.2, 100.0, 100.1, 100.05, 100.2):
        node.send_image(picture(320, 240, (160, 120)), round(second * 1e9))
        if second == 100.05:
            node.take_value("late (older than the last)", "1")
        else:
            ids.append(node.take("hands/mesh").hands[0].track_id)
    assert ids == [1, 1, 1, 2, 2, 2]
    node.take_value("jumps back in time", "1")
    assert node.end().count("time jumped back by 0.2 s") == 1


def test_pausing_lets_go_of_the_camera(start_node):
    node = start_node()
    response = node.call("pause", "std_srvs/srv/SetBool", data=True)
    assert (response.success, response.message) == (True, "paused")
    node.until(lambda: node.senders["image"].num_listeners == 0)
    assert node.take_status(lambda s: s.message == "paused").level == 0
    assert node.call("pause", "std_srvs/srv/SetBool", data=False).success
    node.until(lambda: node.senders["image"].num_listeners)
    node.send_image(picture(320, 240, (160, 120)))
    assert len(node.take("hands/mesh").hands) == 1
    node.end()


def test_snapshots_are_written_on_request(start_node, tmp_path):
    node = start_node(f"snapshot_folder:={tmp_path}")
    refused = node.call("snapshot", "std_srvs/srv/Trigger")
    assert (refused.success, "no image" in refused.message) == (False, True)
    node.send_image(picture(320, 240, (160, 120)), STAMP)
    node.take("hands/mesh")
    written = node.call("snapshot", "std_srvs/srv/Trigger")
    assert (written.success, written.message) == (True, str(tmp_path / str(STAMP)))
    assert cv2.imread(str(tmp_path / str(STAMP) / "image.png")).shape == (240, 320, 3)
    node.end()


def test_outputs_on_request_agree_with_the_mesh(start_node):
    node = start_node("publish_detections:=true")
    node.send_info(CAMERA)
    node.take_value("camera", "calibrated")
    node.send_image(picture(320, 240, (200, 60), left=True), STAMP)
    (mesh,) = node.take("hands/mesh").hands
    cloud = node.take("hands/points")
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "side", "track_id"]
    points = np.frombuffer(cloud.data, np.float32).reshape(-1, 5)
    assert np.array_equal(points[:, :3].reshape(-1), mesh.vertices)
    assert set(points[:, 4].view(np.uint32)) == {mesh.track_id}
    assert node.take("hands/left_wrist").pose == mesh.wrist
    assert node.received["hands/right_wrist"].empty()
    (detection,) = node.take("hands/detections").detections
    box = node.take("hands/keypoints").hands[0].box
    result = detection.results[0]
    assert result.hypothesis.class_id == "left_hand"
    assert detection.bbox.size_x == box[2] - box[0]
    assert np.array_equal(
        np.float32(result.pose.covariance).reshape(6, 6)[:3, :3].reshape(-1),
        mesh.position_covariance,
    )
    overlay = node.take("hands/overlay")
    assert (overlay.width, overlay.height, overlay.encoding) == (320, 240, "rgb8")
    node.end()


def test_depth_images_place_the_hand(start_node):
    node = start_node("depth_topic:=depth")
    camera = Camera(400, 400, 159.5, 119.5, 320, 240)
    node.send_info(camera)
    node.take_value("camera", "calibrated")
    image = picture(320, 240, (200, 180))
    (seen,) = BrightSquare()(image, camera, score_threshold=0.5).hands
    farther = scaled(seen, 1.1)
    pixels = project(farther.vertices, camera)
    faces = BrightSquare.topology.faces
    column, row, _, z = visible_surface(pixels, farther.vertices[:, 2], faces, 320, 240)
    depth = np.zeros((240, 320), np.uint16)
    depth[row, column] = np.round(1000 * z)
    node.send("depth", depth_message(node.types, node.header(STAMP), depth))
    node.send_image(image, STAMP)
    (mesh,) = node.take("hands/mesh").hands
    # Millimetres are rounded, and the mesh is sampled up to half a pixel beside them.
    assert abs(mesh.wrist.position.z - 1.1 * DEPTH) < 2e-3
    node.take_value("with depth", "1")
    node.end()


def test_two_cameras_share_a_node(start_node):
    node = start_node("cameras:=[left, right]")
    for number, name in enumerate(("left", "right")):
        node.send_image(picture(320, 240, (160, 120), left=not number), STAMP, f"{name}/image")
        (mesh,) = node.take(f"{name}/hands/mesh").hands
        assert mesh.side == number  # LEFT, RIGHT
        node.take_status(lambda s, name=name: s.name == f"hand_perception: input {name}")
    node.end()


def test_simulated_time(domain, start_node):
    node = start_node("use_sim_time:=true")
    clock = node.participant.publisher("/clock", "rosgraph_msgs/msg/Clock", RELIABLE)
    node.until(lambda: clock.num_listeners)
    for second in (50, 51, 7):  # also back in time
        now = messages.time_message(node.types, second * 10**9)
        deadline = time.monotonic() + PATIENCE
        while node.take("/diagnostics").header.stamp.sec != second:
            assert time.monotonic() < deadline
            clock.publish(node.types.make("rosgraph_msgs/msg/Clock", clock=now))
    node.end()


def test_quality_of_service_is_overridden_by_parameters(start_node):
    node = start_node("qos_overrides./hands/mesh.publisher.reliability:=best_effort")
    node.send_image(picture(320, 240, (160, 120)))
    node.take("hands/keypoints")  # published after the mesh
    node.take_value("processed", "1")
    # This process asks for reliable messages, which a best-effort publisher does not serve.
    assert node.received["hands/mesh"].empty()
    node.end()


def test_names_follow_namespace_and_remaps(domain, front_end):
    words = {
        "dds": ["--namespace", "robot", "--remap", "image:=/cam/image"],
        "ros": ["-r", "__ns:=/robot", "-r", "image:=/cam/image"],
    }
    process = subprocess.Popen(
        command(front_end, domain, (), *words[front_end]), env=environment(domain)
    )
    try:
        with Participant("tester", "robot", domain_id=domain, localhost=True) as tester:
            inbox = queue.SimpleQueue()
            tester.subscribe(
                MESH.topic, MESH.type_name, lambda message, *_: inbox.put(message), RELIABLE
            )
            image = tester.publisher("/cam/image", "sensor_msgs/msg/Image", BEST_EFFORT)
            top = messages.header(tester.types, STAMP, "optical")
            message = image_message(tester.types, top, picture(320, 240, (160, 120)))
            deadline = time.monotonic() + PATIENCE
            while inbox.empty():  # until both sides have found each other
                assert time.monotonic() < deadline
                image.publish(message)
                time.sleep(0.1)
            client = ServiceClient(tester, "hand_perception/pause", "std_srvs/srv/SetBool")
            assert client.call(data=True).success
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
