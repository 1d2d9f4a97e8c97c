from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mano_file import write_mano
from open_hand import make_hand

from hand_perception.articulation import axis_angle
from hand_perception.data.mano import load_mano, posed
from hand_perception.errors import DataError
from hand_perception.hands import Side
from hand_perception.mano_pose import ManoPoser

rotation = pytest.importorskip("scipy.spatial.transform", reason="needs SciPy").Rotation


@pytest.fixture(scope="module")
def mano(tmp_path_factory):
    return load_mano(write_mano(tmp_path_factory.mktemp("mano") / "MANO_RIGHT.pkl"))


def poses(count: int, seed: int) -> np.ndarray:
    """[N, 48]: any turn of the wrist, joints turned by up to half a radian about each axis."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(-0.5, 0.5, (count, 16, 3))
    found[:, 0] = rotation.random(count, random_state=seed).as_rotvec()
    return found.reshape(count, 48)


def hand_of(mano, pose, side, shape=None):
    shape = np.zeros(10) if shape is None else shape
    vertices, keypoints = posed(mano, pose, shape, np.array([0.1, -0.1, 0.6]), side)
    return replace(make_hand(side), vertices=vertices, keypoints3d=keypoints, topology="mano")


def degrees_off(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Angles between rotations given as [48] axis-angles, [16] degrees."""
    a, b = (rotation.from_rotvec(np.reshape(x, (16, 3))).as_matrix() for x in (found, true))
    return np.degrees(np.linalg.norm(axis_angle(a.swapaxes(-1, -2) @ b), axis=-1))


@pytest.mark.parametrize("side", Side)
def test_pose_to_mesh_to_pose(mano, side):
    rigid = replace(mano, pose_basis=np.zeros_like(mano.pose_basis))
    poser = ManoPoser(rigid)
    for pose in poses(20, seed=0):
        off = degrees_off(poser(hand_of(rigid, pose, side)), pose)
        # Each pass leaves a quarter or so of what blending adds, 8 degrees: 0.13 after three.
        assert off.max() < 0.5, off


@pytest.mark.parametrize("side", Side)
def test_bumps_and_other_peoples_shapes_cost_a_little(mano, side):
    poser = ManoPoser(mano)
    rng = np.random.default_rng(1)
    off = [
        degrees_off(poser(hand_of(mano, pose, side, rng.normal(0, 1, 10))), pose)
        for pose in poses(20, seed=1)
    ]
    # The file's shapes stretch a hand by 2 % per axis and its bumps are 0.1 mm times the entries of
    # R - I, some 1 mm at a finger's 10 mm of thickness over its length of 20: 3 degrees.
    assert np.mean(off) < 3


def test_the_rest_pose_is_zero(mano):
    for side in Side:
        pose = ManoPoser(mano)(hand_of(mano, np.zeros(48), side))
        np.testing.assert_allclose(pose, 0, atol=1e-6)


def test_each_joint_has_its_place_in_manos_order(mano):
    rigid = replace(mano, pose_basis=np.zeros_like(mano.pose_basis))
    poser = ManoPoser(rigid)
    for joint in range(16):
        pose = np.zeros((16, 3))
        pose[joint] = (0.1, -0.2, 0.3)
        found = poser(hand_of(rigid, pose.ravel(), Side.RIGHT)).reshape(16, 3)
        assert np.linalg.norm(found, axis=1).argmax() == joint
        np.testing.assert_allclose(found, pose, atol=np.radians(0.5))


def test_other_meshes_are_refused_in_one_line(mano):
    poser = ManoPoser(mano)
    with pytest.raises(DataError, match="own template"):
        poser(make_hand())
    broken = hand_of(mano, np.zeros(48), Side.RIGHT)
    broken.vertices[5] = np.nan
    with pytest.raises(DataError, match="not finite"):
        poser(broken)
