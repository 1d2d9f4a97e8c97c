from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from open_hand import CAMERA, TEMPLATE
from posed_hand import about, posed_hand

from hand_perception.evaluation.metrics import procrustes_errors
from hand_perception.geometry import project
from hand_perception.hands import BONES, Hand, Side
from hand_perception.pose_fitting import FINGER_SD, SIZE_SD, posed

# Two fingers out, two in, the thumb across, seen from the side.
VICTORY = {
    "index_mcp_abduction": 0.15,
    "middle_mcp_abduction": -0.1,
    "ring_mcp_flexion": 1.2,
    "ring_pip_flexion": 1.6,
    "pinky_mcp_flexion": 1.2,
    "pinky_pip_flexion": 1.5,
    "thumb_ip_flexion": 0.5,
}
PARENTS, CHILDREN = (list(ends) for ends in zip(*BONES, strict=True))


def victory(side: Side = Side.RIGHT) -> Hand:
    return posed_hand(side, at=(0.05, 0.02, 0.5), turn=about(1, 0.5), **VICTORY)


def crumpled(hand: Hand, seed: int = 0) -> Hand:
    """As a network errs that is unsure: every point on its own, and fingers too short."""
    rng = np.random.default_rng(seed)
    middle = hand.keypoints3d[9]
    vertices = middle + 0.85 * (hand.vertices - middle) + rng.normal(0, 0.006, (778, 3))
    keypoints = middle + 0.85 * (hand.keypoints3d - middle) + rng.normal(0, 0.006, (21, 3))
    return replace(
        hand, vertices=vertices.astype(np.float32), keypoints3d=keypoints.astype(np.float32)
    )


def posed_alone(hand: Hand, template=TEMPLATE) -> Hand:
    (found,) = posed([hand], CAMERA, template)
    return found


def image_errors(hand: Hand, truth: Hand) -> np.ndarray:
    """[21], pixels."""
    marked = project(TEMPLATE.landmarks @ hand.vertices, CAMERA)
    return np.linalg.norm(marked - truth.keypoints2d, axis=1)


@pytest.mark.parametrize("side", list(Side))
def test_a_perfect_hand_hardly_changes(side):
    truth = victory(side)
    fitted = posed_alone(truth)
    # The prior pulls towards a hand at ease, by what two steps leave of some hundredths of the
    # distance: a joint flexed by 90 degrees comes out 2 short, 1.4 mm at 40 mm of finger.
    assert np.linalg.norm(fitted.vertices - truth.vertices, axis=1).mean() < 1.5e-3
    assert fitted.side is side and fitted.score == truth.score


@pytest.mark.parametrize("seed", range(4))
def test_a_crumpled_mesh_becomes_a_hand_again(seed):
    truth = victory()
    seen = crumpled(truth, seed)
    fitted = posed_alone(seen)
    before = procrustes_errors(seen.vertices, truth.vertices).mean()
    after = procrustes_errors(fitted.vertices, truth.vertices).mean()
    assert after < before / 3
    # The crumpled mesh's joints are some 10 px off; the 2D joints are exact here.
    assert image_errors(fitted, truth).mean() < image_errors(seen, truth).mean() / 3
    lengths = np.linalg.norm(fitted.keypoints3d[CHILDREN] - fitted.keypoints3d[PARENTS], axis=1)
    rest = np.linalg.norm(TEMPLATE.keypoints[CHILDREN] - TEMPLATE.keypoints[PARENTS], axis=1)
    shape = np.log(lengths / rest)
    # Fingers differ by the prior's spread at most here, the palm's bones by less.
    assert np.abs(shape - np.median(shape)).max() < 2 * FINGER_SD


def test_its_distance_is_whoever_placed_the_mesh_and_its_size_follows():
    truth = victory()
    # A mesh a quarter nearer, as large as it then must be to look the same.
    nearer = replace(truth, vertices=truth.vertices * 0.75, keypoints3d=truth.keypoints3d * 0.75)
    fitted = posed_alone(nearer)
    assert fitted.keypoints3d[:, 2].mean() == pytest.approx(
        nearer.keypoints3d[:, 2].mean(), rel=2e-3
    )
    palm = np.linalg.norm(fitted.keypoints3d[9] - fitted.keypoints3d[0])
    expected = 0.75 * np.linalg.norm(truth.keypoints3d[9] - truth.keypoints3d[0])
    assert palm == pytest.approx(expected, rel=SIZE_SD / 2)
    assert image_errors(fitted, truth).mean() < 2.0


def test_left_and_right_are_mirror_images():
    right, left = (posed_alone(crumpled(victory(side))) for side in Side)
    assert {right.side, left.side} == set(Side)
    mirrored = crumpled(victory(Side.RIGHT))
    flip = np.array([-1, 1, 1], np.float32)
    pixels = mirrored.keypoints2d.copy()
    pixels[:, 0] = 639 - pixels[:, 0]
    box = mirrored.box.copy()
    box[[0, 2]] = 639 - box[[2, 0]]
    image = replace(
        mirrored,
        side=Side.LEFT,
        vertices=mirrored.vertices * flip,
        keypoints3d=mirrored.keypoints3d * flip,
        keypoints2d=pixels,
        box=box,
    )
    a = posed_alone(mirrored)
    b = posed_alone(image)
    # float32 of metres through sums of some hundred terms.
    np.testing.assert_allclose(b.vertices, a.vertices * flip, atol=2e-6)


def test_hidden_fingers_stay_within_what_fingers_do():
    """The 2D joints of one finger are far off, as where a thing covers it."""
    truth = victory()
    seen = crumpled(truth)
    wrong = seen.keypoints2d.copy()
    wrong[5:9] += (150, 120)
    fitted = posed_alone(replace(seen, keypoints2d=wrong))
    others = np.delete(np.arange(21), np.r_[5:9])
    assert np.isfinite(fitted.vertices).all()
    assert image_errors(fitted, truth)[others].mean() < 12


def test_what_has_no_pose_stays_as_it_is():
    hand = victory()
    point = replace(hand, vertices=hand.vertices * 0 + 0.5, keypoints3d=hand.keypoints3d * 0 + 0.5)
    assert posed_alone(point) is point
    # 2D joints that no ray leads to.
    nowhere = replace(hand, keypoints2d=np.full((21, 2), np.nan, np.float32))
    assert posed_alone(nowhere) is nowhere
    # MANO's joints have no anatomical axes.
    plain = replace(
        TEMPLATE, name="mano", joint_frames=np.tile(np.eye(3, dtype=np.float32), (16, 1, 1))
    )
    assert posed_alone(hand, plain) is hand


def test_hands_of_an_image_are_posed_at_once_as_each_alone():
    hands = [crumpled(victory(side), seed) for seed, side in enumerate((*Side, Side.LEFT))]
    assert posed([], CAMERA, TEMPLATE) == []
    together = posed(hands, CAMERA, TEMPLATE)
    for found, hand in zip(together, hands, strict=True):
        alone = posed_alone(hand)
        assert found.side is alone.side and found.score == hand.score
        # float32 of metres; sums in another order before.
        np.testing.assert_allclose(found.vertices, alone.vertices, atol=1e-7)
        np.testing.assert_allclose(found.wrist.rotation, alone.wrist.rotation, atol=1e-6)
    # One that has no pose does not keep the others from theirs.
    nowhere = replace(hands[1], keypoints2d=np.full((21, 2), np.nan, np.float32))
    first, same, last = posed([hands[0], nowhere, hands[2]], CAMERA, TEMPLATE)
    assert same is nowhere
    np.testing.assert_allclose(first.vertices, together[0].vertices, atol=1e-7)
    np.testing.assert_allclose(last.vertices, together[2].vertices, atol=1e-7)
