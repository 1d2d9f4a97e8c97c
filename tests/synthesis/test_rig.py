import math

import pytest
import torch

from hand_perception.synthesis.limb import Limb
from hand_perception.synthesis.rig import forward_kinematics, local_rotations, skin
from hand_perception.synthesis.shape import ShapeSampler
from hand_perception.template import KEYPOINT_OF_JOINT


@pytest.fixture(scope="module")
def limb():
    return Limb()


def angles(flexion=0.0, abduction=0.0, twist=0.0):
    return [torch.full((1, 16), float(a)) for a in (flexion, abduction, twist)]


def test_local_rotation_is_the_product_of_its_three_turns():
    f, a, t = 0.3, -0.7, 1.1
    z = torch.zeros(())

    def turn(flexion=z, abduction=z, twist=z):
        return local_rotations(*(torch.as_tensor(x) for x in (flexion, abduction, twist)))

    expected = turn(abduction=a) @ turn(flexion=f) @ turn(twist=t)
    torch.testing.assert_close(turn(f, a, t), expected)
    # Flexion by a quarter turn sends a bone (-z) into the palm (-y).
    bone = turn(flexion=math.pi / 2) @ torch.tensor([0.0, 0.0, -1.0])
    torch.testing.assert_close(bone, torch.tensor([0.0, -1.0, 0.0]), atol=1e-6, rtol=0)


def test_rest_pose_is_the_template(limb):
    joints = limb.joints[None]
    turns, posed = forward_kinematics(local_rotations(*angles()), joints, limb.frames)
    torch.testing.assert_close(posed, joints, atol=1e-6, rtol=0)
    dense = skin(limb.vertices, limb.weights, turns, joints, posed)
    torch.testing.assert_close(dense[0], limb.vertices, atol=1e-6, rtol=0)
    vertices = limb.template_vertices(dense)[0].numpy()
    assert abs(vertices - limb.template.vertices).max() < 1e-6


def test_forward_kinematics_keeps_bones_and_follows_the_chain(limb):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(3, 4, 16, generator=generator)
    joints = limb.joints.expand(4, 16, 3)
    turns, posed = forward_kinematics(local_rotations(*drawn), joints, limb.frames)
    for child, parent in enumerate(limb.template.parents):
        if parent >= 0:
            length = (posed[:, child] - posed[:, parent]).norm(dim=-1)
            rest = (limb.joints[child] - limb.joints[parent]).norm()
            torch.testing.assert_close(length, rest.expand(4), atol=1e-6, rtol=0)
            bone = turns[:, parent] @ (limb.joints[child] - limb.joints[parent])
            torch.testing.assert_close(posed[:, child], posed[:, parent] + bone)


def test_a_bent_finger_moves_only_itself(limb):
    flexion = torch.zeros(1, 16)
    flexion[0, 5] = 1.0  # index PIP
    zero = torch.zeros(1, 16)
    joints = limb.joints[None]
    turns, posed = forward_kinematics(local_rotations(flexion, zero, zero), joints, limb.frames)
    moved = (posed - joints).norm(dim=-1)[0] > 1e-6
    assert moved.nonzero()[:, 0].tolist() == [6]
    dense = skin(limb.vertices, limb.weights, turns, joints, posed)[0]
    shift = (dense - limb.vertices).norm(dim=-1)
    assert shift[limb.weights[:, 5:7].sum(1) == 0].max() < 1e-6
    assert shift.max() > 0.02


def test_shapes_stay_human_and_their_joints_under_the_skin(limb):
    sampler = ShapeSampler(limb.vertices, limb.weights, limb.joints, limb.frames)
    shapes, joints = sampler.sample(64, torch.Generator().manual_seed(1))
    span = (joints[:, 9] - joints[:, 0]).norm(dim=-1)
    rest = (limb.joints[9] - limb.joints[0]).norm()
    assert (span / rest - 1).std() > 0.03
    assert (span / rest).min() > 0.65 and (span / rest).max() < 1.45
    # The regressor was fitted over such shapes to under a millimetre on average.
    found = limb.regressor @ limb.template_vertices(shapes)
    error = (found[:, list(KEYPOINT_OF_JOINT)] - joints).norm(dim=-1)
    assert error.mean() < 1e-3


def test_unscaled_shape_is_the_template(limb):
    sampler = ShapeSampler(limb.vertices, limb.weights, limb.joints, limb.frames)
    vertices, joints = sampler.scaled(torch.ones(1, 16, 3))
    torch.testing.assert_close(vertices[0], limb.vertices, atol=1e-6, rtol=0)
    torch.testing.assert_close(joints[0], limb.joints, atol=1e-6, rtol=0)
    vertices, joints = sampler.scaled(torch.full((1, 16, 3), 2.0))
    wrist = limb.joints[0]
    torch.testing.assert_close(vertices[0], wrist + 2 * (limb.vertices - wrist), atol=2e-6, rtol=0)


def test_arm_continues_the_skin_and_is_long(limb):
    one = torch.ones(1)
    away = torch.tensor([[0.0, 1.0, 0.0]])
    girth = torch.ones(1, len(limb.distances))
    arm = limb.arm(limb.vertices[None], one, away, away, girth)
    line = limb.centre_line(arm)[0]
    rim = limb.vertices[limb.loop].mean(0)
    steps = torch.diff(torch.cat([rim[None], line]), dim=0).norm(dim=-1)
    expected = torch.diff(limb.distances, prepend=torch.zeros(1))
    assert (steps <= expected + 1e-6).all() and steps.sum() > 0.97 * limb.distances[-1]
    assert (line[:, 1] > rim[1]).all()
    ring = arm[0].view(len(limb.distances), -1, 3)[0]
    gap = (ring - limb.vertices[limb.loop]).norm(dim=-1)
    assert gap.max() < 2.5 * float(limb.distances[0])


def test_left_arm_mirrors_the_right(limb):
    girth = torch.ones(1, len(limb.distances))
    mirror = torch.tensor([1.0, 1.0, -1.0])
    forearm = torch.nn.functional.normalize(torch.tensor([[0.3, 1.0, 0.2]]), dim=-1)
    upper = torch.nn.functional.normalize(torch.tensor([[0.2, 0.3, 0.9]]), dim=-1)
    right = limb.arm(limb.vertices[None], torch.ones(1), forearm, upper, girth)
    left = limb.arm(
        limb.vertices[None] * mirror, -torch.ones(1), forearm * mirror, upper * mirror, girth
    )
    torch.testing.assert_close(left, right * mirror, atol=1e-5, rtol=0)
