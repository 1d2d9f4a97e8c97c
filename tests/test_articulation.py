from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from open_hand import TEMPLATE, make_hand

from hand_perception.articulation import (
    ANGLE_NAMES,
    JOINT_NAMES,
    Articulation,
    articulate,
    axis_angle,
    joint_axes,
    pose_template,
)
from hand_perception.articulation_messages import joint_state
from hand_perception.errors import DataError
from hand_perception.geometry import wrist_frame
from hand_perception.hands import BONES, Pose, Side
from hand_perception.skeleton import LIMITS
from hand_perception.template import KEYPOINT_OF_JOINT

SIDES = list(Side)
MIRROR = np.array([-1.0, 1.0, 1.0])
# A keypoint is some skin around a joint, part of which turns with the joint: its centre is up to
# LEVER of the bone's length away (0.6 mm on the little finger's 20.5 mm), at either end of the
# bone. So each pass keeps that part of an error; the first one starts from up to a right angle.
LEVER, PASSES = 0.03, 2
ANGLE_TOLERANCE = np.pi / 2 * (2 * LEVER) ** PASSES  # 0.32 degrees
OFFSET_M, SHORTEST_M = 1e-3, 20e-3
HAND_M = 0.2


def about(axis: int, angle: float) -> np.ndarray:
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[first, first] = rotation[second, second] = np.cos(angle)
    rotation[second, first], rotation[first, second] = np.sin(angle), -np.sin(angle)
    return rotation


def any_rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.linalg.det(q)


def posed(angles: dict[str, float], side: Side = Side.RIGHT, scales=None, seed=0) -> Articulation:
    """The articulation with the named angles; the others are zero."""
    values = np.array([angles.get(name, 0.0) for name in ANGLE_NAMES])
    to_thumb = 1 if side is Side.RIGHT else -1
    rotations = [any_rotation(seed)]
    for finger, (f1, a, f2, f3) in enumerate(values.reshape(5, 4)):
        turn = to_thumb * a if finger < 3 else -to_thumb * a
        rotations += [about(1, turn) @ about(0, -f1), about(0, -f2), about(0, -f3)]
    frame = TEMPLATE.joint_frames[0].astype(float)
    if side is Side.LEFT:
        frame = frame * MIRROR * MIRROR[:, None]
    wrist = Pose(frame @ rotations[0] @ frame.T, np.array([0.1, -0.05, 0.6]))
    return Articulation(
        side, np.array(rotations), wrist, values, np.ones(20) if scales is None else scales
    )


def hand_of(articulation: Articulation):
    vertices, keypoints = pose_template(articulation, TEMPLATE)
    frame = wrist_frame(keypoints, articulation.side)
    return replace(
        make_hand(articulation.side), keypoints3d=keypoints, vertices=vertices, wrist=frame
    )


def turn_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles of the rotations a^T b, radians."""
    return np.linalg.norm(axis_angle(np.swapaxes(a, -1, -2) @ b), axis=-1)


# -- closed form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_the_open_hand_is_at_rest(side):
    hand = make_hand(side)
    found = articulate(hand, TEMPLATE)
    # Single precision at half a metre (3e-8 m) over the shortest bone.
    assert np.abs(found.angles).max() < 1e-5
    assert np.abs(found.bone_scales - 1).max() < 1e-5
    assert turn_between(found.rotations[1:], np.eye(3)).max() < 1e-5
    vertices, keypoints = pose_template(found, TEMPLATE)
    np.testing.assert_allclose(vertices, hand.vertices, atol=1e-6)
    np.testing.assert_allclose(keypoints, hand.keypoints3d, atol=1e-6)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ANGLE_NAMES)
def test_each_joint_alone(side, name):
    for angle in LIMITS[ANGLE_NAMES.index(name)] * 0.9:
        given = posed({name: angle}, side)
        found = articulate(hand_of(given), TEMPLATE)
        assert found.names == JOINT_NAMES[side]
        assert found.names[ANGLE_NAMES.index(name)] == f"{side.value}_{name}"
        # By its cosine: where a finger points out of the palm, abduction has no direction.
        np.testing.assert_allclose(found.angles, given.angles, atol=ANGLE_TOLERANCE)
        assert turn_between(found.rotations, given.rotations).max() < 2 * ANGLE_TOLERANCE


@pytest.mark.parametrize("side", SIDES)
def test_joints_at_the_ends_of_both_ranges(side):
    """An opposed thumb spreads although it is flexed; a knuckle bends past the right angle, where
    the bone points back."""
    opposed = {"thumb_cmc_flexion": np.radians(48), "thumb_cmc_abduction": np.radians(38)}
    fist = {"ring_mcp_flexion": np.radians(94), "ring_mcp_abduction": np.radians(4)}
    found = articulate(hand_of(posed(opposed | fist, side)), TEMPLATE)
    angles = dict(zip(ANGLE_NAMES, found.angles, strict=True))
    for name in (*opposed, "ring_mcp_flexion"):
        assert abs(angles[name] - (opposed | fist)[name]) < ANGLE_TOLERANCE, name
    assert abs(angles["ring_mcp_abduction"]) < np.radians(30 * 0.15) + 1e-9


@pytest.mark.parametrize("side", SIDES)
def test_flexion_is_towards_the_palm_and_abduction_away_from_the_middle_finger(side):
    _, rest = pose_template(posed({}, side), TEMPLATE)
    frame = wrist_frame(rest, side).rotation
    towards_thumb = frame[:, 1] * (1 if side is Side.RIGHT else -1)
    for k, finger in enumerate(("index", "middle", "ring", "pinky"), 1):
        for joint in ("mcp", "pip", "dip"):
            _, bent = pose_template(posed({f"{finger}_{joint}_flexion": 0.5}, side), TEMPLATE)
            assert (bent - rest)[4 * k + 4] @ frame[:, 2] < -0.005  # z is the back of the hand
        _, spread = pose_template(posed({f"{finger}_mcp_abduction": 0.3}, side), TEMPLATE)
        shift = (spread - rest)[4 * k + 4] @ towards_thumb
        assert shift > 0.01 if finger in ("index", "middle") else shift < -0.01
    _, spread = pose_template(posed({"thumb_cmc_abduction": 0.3}, side), TEMPLATE)
    assert np.linalg.norm(spread[4] - spread[8]) > np.linalg.norm(rest[4] - rest[8])


@pytest.mark.parametrize("side", SIDES)
def test_bones_keep_the_lengths_they_are_seen_with(side):
    scales = np.random.default_rng(3).uniform(0.8, 1.25, (5, 4))
    scales[:, 0] = 1.1  # the palm as a whole: its own proportions are the template's
    given = posed({"index_pip_flexion": 0.7}, side, scales.ravel())
    hand = hand_of(given)
    found = articulate(hand, TEMPLATE)
    # The regressor mixes skin of both bones at a joint: a millimetre of 20 at most.
    np.testing.assert_allclose(found.bone_scales, given.bone_scales, atol=OFFSET_M / SHORTEST_M)
    _, keypoints = pose_template(found, TEMPLATE)
    parents, children = np.array(BONES).T
    lengths, seen = (
        np.linalg.norm(k[children] - k[parents], axis=1) for k in (keypoints, hand.keypoints3d)
    )
    np.testing.assert_allclose(lengths, seen, atol=0.1 * OFFSET_M)


def test_one_scale_for_all_bones_scales_the_mesh():
    angles = {"middle_mcp_flexion": 0.8, "thumb_cmc_abduction": 0.2}
    small, _ = pose_template(posed(angles), TEMPLATE)
    large, _ = pose_template(posed(angles, scales=np.full(20, 1.3)), TEMPLATE)
    origin = posed(angles).wrist.translation
    np.testing.assert_allclose(large - origin, 1.3 * (small - origin), atol=1e-6)


def test_a_moved_hand_moves_the_wrist_alone():
    hand = hand_of(posed({"ring_pip_flexion": 1.0, "thumb_mcp_flexion": 0.5}))
    before = articulate(hand, TEMPLATE)
    turn, shift = any_rotation(5), np.array([0.2, 0.1, 0.3])
    moved = replace(
        hand, keypoints3d=hand.keypoints3d @ turn.T + shift, vertices=hand.vertices @ turn.T + shift
    )
    after = articulate(moved, TEMPLATE)
    np.testing.assert_allclose(after.angles, before.angles, atol=1e-5)
    np.testing.assert_allclose(after.wrist.rotation, turn @ before.wrist.rotation, atol=1e-5)
    np.testing.assert_allclose(
        after.wrist.translation, turn @ before.wrist.translation + shift, atol=1e-6
    )


def test_a_mirrored_hand_has_the_same_angles():
    right = hand_of(posed({"index_mcp_abduction": 0.2, "pinky_mcp_flexion": 0.9}))
    left = replace(
        right,
        side=Side.LEFT,
        keypoints3d=right.keypoints3d * MIRROR,
        vertices=right.vertices * MIRROR,
    )
    of_right, of_left = articulate(right, TEMPLATE), articulate(left, TEMPLATE)
    np.testing.assert_allclose(of_left.angles, of_right.angles, atol=1e-12)
    np.testing.assert_allclose(
        of_left.rotations, of_right.rotations * MIRROR * MIRROR[:, None], atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(of_left.rotations), 1, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(of_left.wrist.rotation), 1, atol=1e-9)
    for a, b in zip(
        pose_template(of_left, TEMPLATE), pose_template(of_right, TEMPLATE), strict=True
    ):
        np.testing.assert_allclose(a, b * MIRROR, atol=1e-7)


@pytest.mark.parametrize("side", SIDES)
def test_joint_axes_point_along_the_bones_and_out_of_the_back(side):
    articulation = posed({"index_pip_flexion": 1.2, "middle_mcp_flexion": 0.4}, side)
    axes = joint_axes(articulation, TEMPLATE)
    np.testing.assert_allclose(np.linalg.det(axes), 1, atol=1e-6)
    _, keypoints = pose_template(articulation, TEMPLATE)
    for joint in range(1, 16):
        start = KEYPOINT_OF_JOINT[joint]
        bone = keypoints[start + 1] - keypoints[start]
        # The template's axes are within 11 degrees (the thumb's tip) of its bones.
        assert -axes[joint, :, 2] @ bone / np.linalg.norm(bone) > np.cos(np.radians(12))
    back = wrist_frame(keypoints, side).rotation[:, 2]
    assert axes[4, :, 1] @ back > 0.8 and axes[5, :, 1] @ back < 0.6  # bent by 69 degrees


def test_axis_angle_in_closed_form():
    for axis in range(3):
        for angle in (0.0, 1e-7, 0.3, 3.1, np.pi):
            vector = axis_angle(about(axis, angle))
            assert abs(np.linalg.norm(vector) - angle) < 1e-7
            assert abs(abs(vector[axis]) - angle) < 1e-7
    assert axis_angle(about(2, 0.3))[2] > 0
    articulation = posed({"index_pip_flexion": 0.5})
    np.testing.assert_allclose(articulation.axis_angles[5], (-0.5, 0, 0), atol=1e-9)


# -- against the torch rig -------------------------------------------------------------------------


def sampled_rotations(count: int) -> np.ndarray:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    poses = pytest.importorskip("hand_perception.synthesis.poses")
    arrays = (TEMPLATE.vertices, TEMPLATE.weights, TEMPLATE.joints, TEMPLATE.joint_frames)
    sampler = poses.PoseSampler(*map(torch.from_numpy, arrays))
    return sampler.sample(count, torch.Generator().manual_seed(0)).numpy().astype(float)


@pytest.mark.parametrize("side", SIDES)
def test_forward_is_the_torch_rig(side):
    local = sampled_rotations(3)
    torch = pytest.importorskip("torch")
    rig = pytest.importorskip("hand_perception.synthesis.rig")
    mirror = MIRROR if side is Side.LEFT else np.ones(3)
    vertices, joints = TEMPLATE.vertices * mirror, TEMPLATE.joints * mirror
    frames = TEMPLATE.joint_frames * mirror * mirror[:, None]
    for seed, rotations in enumerate(local):
        rotations = rotations * mirror * mirror[:, None]
        rotations[0] = any_rotation(seed)
        at = np.array([0.3, 0.2, 0.9])
        given = Articulation(
            side,
            rotations,
            Pose(frames[0] @ rotations[0] @ frames[0].T, at),
            np.zeros(20),
            np.ones(20),
        )
        found, keypoints = pose_template(given, TEMPLATE)
        turns, places = rig.forward_kinematics(
            *(torch.from_numpy(x)[None] for x in (rotations, joints)), torch.from_numpy(frames)
        )
        expected = rig.skin(
            torch.from_numpy(vertices),
            torch.from_numpy(TEMPLATE.weights.astype(float)),
            turns,
            torch.from_numpy(joints)[None],
            places,
        )[0].numpy()
        # Single precision of positions around a metre.
        np.testing.assert_allclose(found, expected - joints[0] + at, atol=3e-7)
        np.testing.assert_allclose(keypoints, TEMPLATE.regressor @ found, atol=3e-7)


@pytest.mark.parametrize("side", SIDES)
def test_sampled_poses_survive_the_round_trip(side):
    mirror = MIRROR if side is Side.LEFT else np.ones(3)
    for rotations in sampled_rotations(12):
        given = posed({}, side)
        rotations = np.concatenate([given.rotations[:1], rotations[1:] * mirror * mirror[:, None]])
        hand = hand_of(replace(given, rotations=rotations))
        found = articulate(hand, TEMPLATE)
        # In a sampled pose all of the up to three joints of a chain are off.
        assert turn_between(found.rotations[0], rotations[0]) < ANGLE_TOLERANCE
        given_axes = joint_axes(replace(given, rotations=rotations), TEMPLATE)
        turned = np.swapaxes(given_axes, -1, -2) @ joint_axes(found, TEMPLATE)
        bones = np.arccos(np.clip(turned[:, 2, 2], -1, 1))
        assert bones.max() < 3 * ANGLE_TOLERANCE
        vertices, keypoints = pose_template(found, TEMPLATE)
        error = np.linalg.norm(vertices - hand.vertices, axis=1)
        assert error.mean() < ANGLE_TOLERANCE * HAND_M / 2
        assert np.linalg.norm(keypoints - hand.keypoints3d, axis=1).max() < OFFSET_M


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise_m", [0.003, 0.02])
def test_limits_hold_under_noise(noise_m):
    generator = np.random.default_rng(0)
    for side in SIDES:
        for _ in range(20):
            hand = hand_of(posed({"index_mcp_flexion": 1.5, "thumb_cmc_flexion": 0.7}, side))
            hand.keypoints3d = hand.keypoints3d + generator.normal(0, noise_m, (21, 3))
            found = articulate(hand, TEMPLATE)
            assert (found.angles >= LIMITS[:, 0] - 1e-9).all()
            assert (found.angles <= LIMITS[:, 1] + 1e-9).all()
            np.testing.assert_allclose(np.linalg.det(found.rotations), 1, atol=1e-9)
            # The rotations are those of the limited angles: hinges turn about x alone.
            pip = axis_angle(found.rotations[5])
            np.testing.assert_allclose(pip, (-found.angles[6], 0, 0), atol=1e-9)


def test_unusable_hands_are_refused():
    hand = make_hand()
    for keypoints, vertices, message in (
        (np.full((21, 3), np.nan), hand.vertices, "not finite"),
        (hand.keypoints3d, np.where(hand.vertices > 0.01, np.inf, 0), "not finite"),
        (np.ones((21, 3)), hand.vertices, "one spot"),
        (hand.keypoints3d, np.ones((778, 3)), "no extent"),
        (hand.keypoints3d[:20], hand.vertices, "all 21"),
    ):
        with pytest.raises(DataError, match=message):
            articulate(replace(hand, keypoints3d=keypoints, vertices=vertices), TEMPLATE)


def test_a_bone_without_length_counts_as_straight():
    hand = make_hand()
    hand.keypoints3d[8] = hand.keypoints3d[7]
    found = articulate(hand, TEMPLATE)
    assert np.isfinite(found.angles).all() and np.isfinite(found.rotations).all()
    assert abs(found.angles[ANGLE_NAMES.index("index_dip_flexion")]) < 1e-9


def test_another_template_is_refused():
    with pytest.raises(DataError, match=r"load_template\(hand.topology\)"):
        articulate(make_hand(topology="mano"), TEMPLATE)
    frames = np.broadcast_to(np.eye(3, dtype=np.float32), (16, 3, 3))
    with pytest.raises(DataError, match="no anatomical joint axes"):
        articulate(make_hand(), replace(TEMPLATE, joint_frames=frames))


# -- message ---------------------------------------------------------------------------------------


def test_joint_state_names_one_hand_of_each_side():
    types = pytest.importorskip("hand_perception.cdr", reason="needs the dds extra")
    from hand_perception import messages

    store = types.type_store()
    make = types.message_types(store)
    header = messages.header(make, 5_000_000_007, "optical")
    right, left = posed({"index_mcp_flexion": 0.4}), posed({"ring_pip_flexion": 0.6}, Side.LEFT)
    sent = joint_state(make, header, [right, left, posed({"index_mcp_flexion": 1.0})])
    data = types.serialize(store, sent)
    received = store.deserialize_cdr(data, sent.__msgtype__)
    assert received.header == header
    assert tuple(received.name) == JOINT_NAMES[Side.RIGHT] + JOINT_NAMES[Side.LEFT]
    np.testing.assert_array_equal(received.position, np.concatenate([right.angles, left.angles]))
    assert len(received.velocity) == len(received.effort) == 0
    nothing = joint_state(make, header, [])
    assert list(nothing.name) == [] and len(nothing.position) == 0
