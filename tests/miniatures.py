"""Two or three samples of each public data set, in the layout its authors publish.

The hands are our template's, placed by hand; every label is written from the truth by the formula
of the release, so that reading it back must give the truth.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml

from hand_perception.data.datasets import comphand, dexycb, ho3d, interhand, obman, rhd
from hand_perception.data.mano import ManoTemplate, fingers_from_components, mean_fingers, posed
from hand_perception.hands import Camera, Side
from hand_perception.template import load_template

TEMPLATE = load_template()
# From the template's rest axes to a hand seen from its back, fingers up.
UPRIGHT = np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]])


@dataclass
class Truth:
    """joints [21, 3], vertices [778, 3]: metres, camera frame. pixels [21, 2]."""

    joints: np.ndarray
    vertices: np.ndarray
    pixels: np.ndarray
    side: Side


def place(K: np.ndarray, at, side: Side = Side.RIGHT) -> Truth:
    """The rest hand with its middle MCP at a point, as a camera with matrix K sees it."""
    mirror = np.array([1.0 if side is Side.RIGHT else -1.0, 1, 1])
    root = TEMPLATE.keypoints[9].astype(np.float64)
    joints, vertices = (
        (points.astype(np.float64) - root) * mirror + at
        for points in (TEMPLATE.keypoints, TEMPLATE.vertices)
    )
    return Truth(joints, vertices, see(joints, K), side)


def see(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    seen = points @ np.asarray(K).T
    return seen[:, :2] / seen[:, 2:]


def camera_matrix(focal: float, width: int, height: int) -> np.ndarray:
    return np.array([[focal, 0, width / 2], [0, focal + 1, height / 2], [0, 0, 1.0]])


def write_image(path: Path, width: int, height: int, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((height, width, 3), value, np.uint8)
    image[: height // 2, : width // 2] = (10, 120, 240)  # B, G, R
    assert cv2.imwrite(str(path), image)


def write_json(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_pickle(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_freihand(root: Path, split: str = "training") -> list[Truth]:
    K = [camera_matrix(480, 224, 224), camera_matrix(500, 224, 224)]
    truth = [place(K[0], (0.01, -0.02, 0.6)), place(K[1], (-0.03, 0.01, 0.7))]
    versions = 4 if split == "training" else 1
    for k in range(2 * versions):
        write_image(root / split / "rgb" / f"{k:08d}.jpg", 224, 224, 40 + 20 * k)
    write_json(root / f"{split}_K.json", [k.tolist() for k in K])
    write_json(root / f"{split}_xyz.json", [t.joints.tolist() for t in truth])
    write_json(root / f"{split}_verts.json", [t.vertices.tolist() for t in truth])
    write_json(root / f"{split}_scale.json", [0.03, 0.03])
    return truth * versions


def _mano_hand(mano, pose, shape, translation, side, K, to_camera, mirrored_shape=True) -> Truth:
    vertices, joints = posed(mano, pose, shape, translation, side, mirrored_shape)
    vertices, joints = (p @ to_camera[:, :3].T + to_camera[:, 3] for p in (vertices, joints))
    return Truth(joints, vertices, see(joints, K), side)


_OPENGL = np.concatenate([np.diag(ho3d.FROM_OPENGL), np.zeros((3, 1))], 1)


def _to_mano_joints(joints: np.ndarray) -> np.ndarray:
    """Our order to HO-3D's, in OpenGL's camera."""
    theirs = np.zeros((21, 3))
    theirs[list(ho3d.JOINTS)] = joints * (1, -1, -1)
    return theirs


def write_ho3d(root: Path, mano: ManoTemplate, suffix: str = ".jpg", split: str = "train"):
    rng, K = np.random.default_rng(0), camera_matrix(600, 640, 480)
    truth, names = [], []
    for k in range(2):
        name = f"ABF{k}/{k:04d}"
        pose, shape = rng.normal(0, 0.2, 48), rng.normal(size=10)
        at = np.array([0.02 * k, 0.03, -0.6])
        hand = _mano_hand(mano, pose, shape, at, Side.RIGHT, K, _OPENGL)
        sequence, frame = name.split("/")
        folder = root / split / sequence
        write_image(folder / "rgb" / f"{frame}{suffix}", 640, 480)
        joints = _to_mano_joints(hand.joints)
        meta = {"camMat": K, "handJoints3D": joints, "handPose": pose, "handTrans": at}
        meta["handBeta"] = shape
        if split == "evaluation":
            meta = {"camMat": K, "handJoints3D": joints[0], "handBoundingBox": [1, 2, 3, 4]}
        write_pickle(folder / "meta" / f"{frame}.pkl", meta)
        truth.append(hand)
        names.append(name)
    (root / f"{split}.txt").write_text("\n".join(names) + "\n")
    if split == "evaluation":
        xyz = [_to_mano_joints(t.joints).tolist() for t in truth]
        write_json(root / "evaluation_xyz.json", xyz)
        flipped = [(t.vertices * (1, -1, -1)).tolist() for t in truth]
        write_json(root / "evaluation_verts.json", flipped)
    return truth


def write_h2o3d(root: Path, mano: ManoTemplate) -> list[Truth]:
    """One frame with both hands; the left one's shape is not mirrored."""
    rng, K = np.random.default_rng(1), camera_matrix(600, 640, 480)
    shape, meta, truth = 2 * rng.normal(size=10), {"camMat": K}, []
    for side, x in ((Side.RIGHT, -0.1), (Side.LEFT, 0.1)):
        pose, at = rng.normal(0, 0.2, 48), np.array([x, 0.0, -0.7])
        hand = _mano_hand(mano, pose, shape, at, side, K, _OPENGL, mirrored_shape=False)
        prefix = f"{side.value}Hand"
        meta |= {f"{prefix}Pose": pose, f"{prefix}Trans": at, "handBeta": shape}
        meta[f"{prefix}Joints3D"] = _to_mano_joints(hand.joints)
        truth.append(hand)
    write_image(root / "train" / "S1" / "rgb" / "0007.jpg", 640, 480)
    write_pickle(root / "train" / "S1" / "meta" / "0007.pkl", meta)
    (root / "train.txt").write_text("S1/0007\n")
    return truth


def write_dexycb(root: Path, mano: ManoTemplate) -> list[Truth | None]:
    """Subject 7, which is all of split "s1_val": one sequence of two frames, one with a hand."""
    rng, subject = np.random.default_rng(2), dexycb.SUBJECTS[6]
    K = np.array([[610.0, 0, 312], [0, 611, 240], [0, 0, 1]])
    for serial in dexycb.SERIALS:
        path = root / "calibration" / "intrinsics" / f"{serial}_640x480.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        color = {"fx": 610.0, "fy": 611.0, "ppx": 312.0, "ppy": 240.0}
        path.write_text(yaml.safe_dump({"color": color, "depth": color}))
    shape = rng.normal(size=10).astype(np.float32)
    calibration = root / "calibration" / "mano_a" / "mano.yml"
    calibration.parent.mkdir(parents=True)
    calibration.write_text(yaml.safe_dump({"betas": shape.tolist()}))
    for k in range(100):
        folder = root / subject / f"2020{k:04d}"
        folder.mkdir(parents=True)
        frames = 2 if k == 30 else 0
        meta = {"num_frames": frames, "mano_sides": ["left"], "mano_calib": ["a"]}
        (folder / "meta.yml").write_text(yaml.safe_dump(meta | {"serials": list(dexycb.SERIALS)}))
    coefficients = rng.normal(0, 0.2, 45).astype(np.float32)
    turn, at = np.float32([0.1, 0.2, -0.1]), np.float32([0.05, 0.02, 0.8])
    fingers = fingers_from_components(mano, coefficients, Side.LEFT)
    pose = np.concatenate([turn, fingers])
    eye = np.eye(3, 4)
    hand = _mano_hand(mano, pose, shape, at, Side.LEFT, K, eye, mirrored_shape=True)
    truth = []
    for serial in dexycb.SERIALS:
        for frame in range(2):
            folder = root / subject / "20200030" / serial
            write_image(folder / f"color_{frame:06d}.jpg", 640, 480)
            seen = frame == 1
            np.savez(
                folder / f"labels_{frame:06d}.npz",
                pose_m=np.concatenate([turn, coefficients, at])[None] * seen,
                joint_3d=hand.joints[None].astype(np.float32) if seen else -np.ones((1, 21, 3)),
                joint_2d=hand.pixels[None].astype(np.float32) if seen else -np.ones((1, 21, 2)),
                seg=np.zeros((2, 2), np.uint8),
            )
            truth.append(hand if seen else None)
    return truth


def write_hint(root: Path, split: str = "TEST") -> dict[str, Truth]:
    # Photographs have no intrinsics; these are seen by the camera that is assumed for them.
    K = Camera.assumed(320, 240).matrix
    truth = {}
    for folder, name, side in (
        ("newdays_img", "ND_a_frame1_r", Side.RIGHT),
        ("newdays_img", "ND_b_frame2_l", Side.LEFT),
        ("epick_img", "EK_c_frame3_l", Side.LEFT),
    ):
        hand = place(K, (0.01, 0.02, 0.6), side)
        existence, occlusion = np.ones(21), np.zeros(21)
        existence[3], occlusion[[7, 8]] = 0, 1
        points = hand.pixels.copy()
        points[3] = 0
        box = [*hand.pixels.min(0).tolist(), *hand.pixels.max(0).tolist()]
        row = {"bbox": [box], "keypoints": points.tolist()}
        row |= {"existence": existence.tolist(), "occlusion": occlusion.tolist()}
        write_json(root / f"{split}_{folder}" / f"{name}.json", [row])
        write_image(root / f"{split}_{folder}" / f"{name}.jpg", 320, 240)
        truth[f"{split}_{folder}/{name}"] = hand
    ego = {**row, "bbox": [box]}
    write_json(root / f"{split}_ego4d_img" / "clip_9_r.json", [ego])
    return truth


def write_coco(root: Path, split: str = "train") -> list[Truth]:
    """A picture with a person's two hands, and one where no hand is valid."""
    K = camera_matrix(500, 400, 300)
    hands = [place(K, (-0.1, 0, 0.8), Side.RIGHT), place(K, (0.1, 0, 0.8), Side.LEFT)]
    person = {"id": 1, "image_id": 5, "iscrowd": 0, "bbox": [0, 0, 400, 300]}
    for hand in hands:
        points = np.concatenate([hand.pixels, np.full((21, 1), 2.0)], 1)
        points[20] = 0
        low, high = hand.pixels.min(0), hand.pixels.max(0)
        person[f"{hand.side.value}hand_kpts"] = points.ravel().tolist()
        person[f"{hand.side.value}hand_valid"] = True
        person[f"{hand.side.value}hand_box"] = [*low.tolist(), *(high - low).tolist()]
    nobody = {"id": 2, "image_id": 5, "iscrowd": 0, "bbox": [0, 0, 9, 9]}
    for side in Side:
        nobody[f"{side.value}hand_kpts"] = [0.0] * 63
        nobody[f"{side.value}hand_valid"] = False
        nobody[f"{side.value}hand_box"] = [300.0, 10, 20, 30] if side is Side.LEFT else [0.0] * 4
    blurred = nobody | {"id": 3, "image_id": 6}
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "height": 300, "width": 400} for i in (5, 6)]
    for image in images:
        write_image(root / f"{split}2017" / image["file_name"], 400, 300)
    content = {"images": images, "annotations": [person, nobody, blurred]}
    write_json(root / "annotations" / f"coco_wholebody_{split}_v1.0.json", content)
    return hands


def write_onehand10k(root: Path) -> list[Truth]:
    hand = place(camera_matrix(450, 300, 200), (0, 0, 0.7))
    points = np.round(hand.pixels).astype(int)
    points[4] = -1
    write_image(root / "Train" / "source" / "17.jpg", 300, 200)
    row = ["17.jpg", 300, 200, 1, *points.ravel().tolist()]
    (root / "Train" / "label_joint.txt").write_text(",".join(map(str, row)) + "\n")
    return [hand]


def write_rhd(root: Path) -> list[Truth]:
    """A frame with a left hand of which some joints are hidden; the right one is out of it."""
    K = np.array([[282.0, 0, 160], [0, 282, 160], [0, 0, 1]])
    hand, away = place(K, (0, 0, 0.6), Side.LEFT), place(K, (3, 0, 0.6))
    xyz, uv_vis = np.zeros((42, 3)), np.zeros((42, 3))
    for truth, (_, rows) in zip((hand, away), rhd.SIDES, strict=True):
        theirs, pixels = np.zeros((21, 3)), np.zeros((21, 3))
        theirs[list(rhd.JOINTS)] = truth.joints
        pixels[list(rhd.JOINTS), :2] = truth.pixels
        pixels[list(rhd.JOINTS), 2] = truth is hand
        xyz[rows], uv_vis[rows] = theirs, pixels
    uv_vis[1, 2] = 0  # the left thumb's tip
    write_image(root / "training" / "color" / "00000.png", 320, 320)
    label = {"xyz": xyz, "uv_vis": uv_vis, "K": K}
    write_pickle(root / "training" / "anno_training.pickle", {0: label})
    return [hand]


def write_obman(root: Path) -> list[Truth]:
    hand = place(obman.K, (0.02, 0, 0.6))
    write_image(root / "train" / "rgb" / "00000012.jpg", 256, 256)
    meta = {"side": "right", "coords_3d": (hand.joints * (1, -1, -1)).astype(np.float32)}
    meta["verts_3d"] = (hand.vertices * (1, -1, -1)).astype(np.float32)
    meta["coords_2d"] = hand.pixels.astype(np.float32)
    write_pickle(root / "train" / "meta" / "00000012.pkl", meta)
    return [hand]


def write_comphand(root: Path, mano: ManoTemplate) -> list[Truth]:
    hand = place(comphand.K, (0, 0.01, 0.6))
    write_image(root / "base_pose" / "pic256" / "p1" / "view3" / "img.42.png", 256, 256)
    lines = [f"v {-x:.9f} {y:.9f} {z:.9f}" for x, y, z in hand.vertices]
    path = root / "base_pose" / "model_mano" / "p1" / "42.obj"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([*lines, "f 1/1 2/2 3/3"]) + "\n")
    joints = mano.regressor.astype(np.float64) @ hand.vertices
    return [Truth(joints, hand.vertices, see(joints, comphand.K), Side.RIGHT)]


def write_interhand(root: Path, mano: ManoTemplate) -> list[Truth]:
    """One frame: both hands, millimetres in a world that a turned camera looks into."""
    rng, K = np.random.default_rng(3), camera_matrix(700, 512, 334)
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    position = np.array([30.0, -20, -900])
    to_camera = np.concatenate([turn, (-turn @ position / 1000)[:, None]], 1)
    world, fits, truth = np.zeros((42, 3)), {}, []
    for (side, rows), y in zip(interhand.SIDES, (-0.12, 0.12), strict=True):
        pose, shape = rng.normal(0, 0.15, 48), rng.normal(size=10)
        at = np.array([0.02, y, 0.05])
        full = pose.copy()
        full[3:] += mean_fingers(mano, side)
        hand = _mano_hand(mano, full, shape, at, side, K, to_camera)
        _, joints = posed(mano, full, shape, at, side)
        theirs = np.zeros((21, 3))
        theirs[list(interhand.JOINTS)] = joints * 1000
        world[rows] = theirs
        numbers = {"pose": pose.tolist(), "shape": shape.tolist(), "trans": at.tolist()}
        fits[side.value] = numbers
        truth.append(hand)
    folder = root / "annotations" / "train"
    image = {"id": 9, "file_name": "Capture0/ROM01/cam400262/image77.jpg", "width": 512}
    image |= {"height": 334, "capture": 0, "camera": "400262", "frame_idx": 77}
    label = {"id": 1, "image_id": 9, "hand_type": "interacting", "joint_valid": [[1]] * 42}
    views = {"campos": position.tolist(), "camrot": turn.tolist()}
    views |= {"focal": [700.0, 701.0], "princpt": [256.0, 167.0]}
    contents = {
        "data": {"images": [image], "annotations": [label]},
        "camera": {"0": {key: {"400262": value} for key, value in views.items()}},
        "joint_3d": {"0": {"77": {"world_coord": world.tolist(), "joint_valid": [[1]] * 42}}},
        "MANO_NeuralAnnot": {"0": {"77": fits}},
    }
    for what, content in contents.items():
        write_json(folder / f"InterHand2.6M_train_{what}.json", content)
    write_image(root / "images" / "train" / image["file_name"], 512, 334)
    return truth
