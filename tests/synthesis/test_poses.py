import pytest
import torch

from hand_perception.errors import DataError
from hand_perception.synthesis.limb import Limb
from hand_perception.synthesis.poses import GESTURES, TOLERANCE, PoseSampler
from hand_perception.synthesis.recipe import RECIPES
from hand_perception.synthesis.rig import forward_kinematics


@pytest.fixture(scope="module")
def limb():
    return Limb()


@pytest.fixture(scope="module")
def sampler(limb):
    return PoseSampler(limb.vertices, limb.weights, limb.joints, limb.frames)


def keypoints(limb, rotations):
    joints = limb.joints.expand(len(rotations), 16, 3)
    turns, posed = forward_kinematics(rotations, joints, limb.frames)
    shapes = limb.vertices.expand(len(rotations), -1, 3)
    return limb.regressor @ limb.template_vertices(limb.pose(shapes, joints, turns, posed))


def test_poses_are_rotations_and_repeat(sampler):
    poses = sampler.sample(50, torch.Generator().manual_seed(3))
    again = sampler.sample(50, torch.Generator().manual_seed(3))
    assert torch.equal(poses, again)
    identity = torch.eye(3).expand(50, 16, 3, 3)
    torch.testing.assert_close(poses @ poses.transpose(-1, -2), identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(poses[:, 0], identity[:, 0])  # the wrist has no local turn


def test_self_penetration_is_rejected(sampler):
    generator = torch.Generator().manual_seed(0)
    raw = sampler.penetration(sampler.draw(1000, generator))
    assert (raw >= TOLERANCE).float().mean() > 0.05
    kept = sampler.penetration(sampler.sample(1000, generator))
    assert (kept >= TOLERANCE).float().mean() < 0.005


def test_penetration_measures_overlap(sampler):
    rest = torch.eye(3).expand(1, 16, 3, 3)
    assert sampler.penetration(rest) == 0
    # Turning the index 40 degrees towards the pinky runs it through the other fingers.
    crossed = rest.clone()
    turn = torch.tensor(-0.7)
    crossed[0, 4] = torch.tensor(
        [[turn.cos(), 0, turn.sin()], [0, 1, 0], [-turn.sin(), 0, turn.cos()]]
    )
    assert sampler.penetration(crossed) > TOLERANCE


@pytest.mark.parametrize("name", GESTURES)
def test_gestures_show_what_they_say(limb, sampler, name):
    curls = GESTURES[name][0]
    points = keypoints(limb, sampler.gesture(name, 20, torch.Generator().manual_seed(1)))
    wrist = points[:, 0]
    for finger, curl in enumerate(curls):
        knuckle, tip = points[:, 5 + 4 * finger], points[:, 8 + 4 * finger]
        reach = (tip - wrist).norm(dim=-1) / (knuckle - wrist).norm(dim=-1)
        # A straight finger nearly doubles the distance to the wrist, a fist's tip comes back.
        if curl == 0:
            assert reach.min() > 1.5
        if curl == 1:
            assert reach.max() < 1.1


def test_a_recipe_s_gestures_are_the_only_ones(limb, sampler):
    names = RECIPES["thumb-hidden"].gestures
    assert set(names) <= GESTURES.keys()
    points = keypoints(limb, sampler.sample(60, torch.Generator().manual_seed(5), ("flat", "fist")))
    knuckle, tip, wrist = points[:, 9], points[:, 12], points[:, 0]
    reach = (tip - wrist).norm(dim=-1) / (knuckle - wrist).norm(dim=-1)
    # As in the test above: straight or closed, both of them, and nothing between.
    flat, fist = reach > 1.5, reach < 1.1
    assert (flat | fist).all() and flat.sum() > 15 and fist.sum() > 15


def test_ok_closes_the_ring(limb, sampler):
    points = keypoints(limb, sampler.gesture("ok", 50, torch.Generator().manual_seed(2)))
    gap = (points[:, 4] - points[:, 8]).norm(dim=-1)
    assert gap.median() < 0.03  # two finger widths
    flat = keypoints(limb, sampler.gesture("open", 50, torch.Generator().manual_seed(2)))
    assert (flat[:, 4] - flat[:, 8]).norm(dim=-1).min() > 0.06


def test_a_template_without_joint_axes_is_refused(limb):
    """MANO's: bent about the image's axes its fingers would go sideways."""
    axes = torch.eye(3).expand(16, 3, 3)
    with pytest.raises(DataError, match="use 'open778'"):
        PoseSampler(limb.vertices, limb.weights, limb.joints, axes)
