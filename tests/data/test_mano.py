import numpy as np
import pytest
import torch
from mano_file import write_mano
from scipy.spatial.transform import Rotation

from hand_perception.data.mano import (
    JOINT_ORDER,
    fingers_from_components,
    load_mano,
    posed,
    save_template,
)
from hand_perception.errors import DataError
from hand_perception.hands import Side
from hand_perception.synthesis.rig import forward_kinematics, skin
from hand_perception.template import KEYPOINT_OF_JOINT, load_template

ZEROS, NOWHERE = np.zeros(10), np.zeros(3)
RNG = np.random.default_rng(7)
POSE, SHAPE = RNG.normal(0, 0.3, 48), RNG.normal(size=10)


@pytest.fixture(scope="module")
def mano(tmp_path_factory):
    return load_mano(write_mano(tmp_path_factory.mktemp("mano") / "MANO_RIGHT.pkl"))


def test_the_rest_pose_is_the_template_and_its_shapes(mano):
    vertices, joints = posed(mano, np.zeros(48), SHAPE, np.array([1.0, 2, 3]))
    expected = mano.vertices + mano.shape_basis @ SHAPE + (1, 2, 3)
    # The file's arrays are float32 of up to 0.2 m: 0.2 * 2^-24 a rounding, a few of them.
    np.testing.assert_allclose(vertices, expected, atol=1e-6)
    regressed = mano.regressor[list(KEYPOINT_OF_JOINT)] @ expected
    np.testing.assert_allclose(joints[list(KEYPOINT_OF_JOINT)], regressed, atol=1e-6)


def test_the_wrists_rotation_turns_the_hand_about_the_wrist(mano):
    turn = np.array([0.3, -0.8, 0.5])
    still, joints = posed(mano, np.zeros(48), SHAPE, NOWHERE)
    turned, _ = posed(mano, np.r_[turn, np.zeros(45)], SHAPE, NOWHERE)
    expected = (still - joints[0]) @ Rotation.from_rotvec(turn).as_matrix().T + joints[0]
    # Float32 skinning weights add up to 1 within 1e-7, of 0.2 m.
    np.testing.assert_allclose(turned, expected, atol=2e-8)


def test_posing_equals_the_renderers_rig(mano):
    """Another implementation: torch, float32, chain by chain, from already deformed vertices."""
    vertices, joints = posed(mano, POSE, SHAPE, NOWHERE)
    turns = Rotation.from_rotvec(POSE.reshape(16, 3)[list(JOINT_ORDER)]).as_matrix()
    shaped = mano.vertices + mano.shape_basis @ SHAPE
    rest = torch.tensor(mano.regressor[list(KEYPOINT_OF_JOINT)] @ shaped)
    shaped = torch.tensor(shaped + mano.pose_basis @ (turns[1:] - np.eye(3)).ravel())
    world, places = forward_kinematics(
        torch.tensor(turns)[None], rest[None], torch.eye(3, dtype=torch.float64).expand(16, 3, 3)
    )
    expected = skin(shaped, torch.tensor(mano.weights).double(), world, rest[None], places)
    np.testing.assert_allclose(vertices, expected[0], atol=1e-6)
    np.testing.assert_allclose(joints[list(KEYPOINT_OF_JOINT)], places[0], atol=1e-6)


def test_a_left_hand_is_the_mirror_image_of_a_right_one(mano):
    mirrored_pose = (POSE.reshape(16, 3) * (1, -1, -1)).ravel()
    left, left_joints = posed(mano, POSE, SHAPE, np.array([0.1, 0, 1]), Side.LEFT)
    right, right_joints = posed(mano, mirrored_pose, SHAPE, np.array([-0.1, 0, 1]))
    np.testing.assert_allclose(left, right * (-1, 1, 1), atol=1e-12)
    np.testing.assert_allclose(left_joints, right_joints * (-1, 1, 1), atol=1e-12)


def test_the_published_left_model_has_shapes_that_are_not_mirrored(mano):
    left, _ = posed(mano, np.zeros(48), SHAPE, NOWHERE, Side.LEFT, mirrored_shape=False)
    offsets = mano.shape_basis @ SHAPE
    expected = mano.vertices * (-1, 1, 1) + offsets  # x as the right hand's
    np.testing.assert_allclose(left, expected, atol=1e-6)


def test_components_are_counted_from_the_mean_pose(mano):
    one = np.eye(45)[3]
    right = fingers_from_components(mano, one, Side.RIGHT)
    np.testing.assert_allclose(right, mano.mean_pose + mano.pose_components[3], atol=1e-7)
    left = fingers_from_components(mano, one, Side.LEFT)
    np.testing.assert_allclose(left.reshape(15, 3), right.reshape(15, 3) * (1, -1, -1))


def test_a_file_without_components_says_so(mano):
    from dataclasses import replace

    with pytest.raises(DataError, match="hands_components"):
        fingers_from_components(replace(mano, pose_components=None), np.zeros(45), Side.RIGHT)


def test_the_template_is_kept_for_training_and_export(mano, tmp_path):
    save_template(mano, tmp_path / "mano.npz")
    again = load_template(tmp_path / "mano.npz")
    assert again.name == "mano"
    np.testing.assert_array_equal(again.vertices, mano.vertices)
    np.testing.assert_array_equal(again.regressor, mano.regressor)
