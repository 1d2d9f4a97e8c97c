from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from open_hand import TEMPLATE, make_hand

from hand_perception.errors import DataError
from hand_perception.geometry import wrist_frame
from hand_perception.hands import Side
from hand_perception.retargeting import (
    OPENXR_JOINTS,
    VIEW_FROM_OPTICAL,
    dex_retargeting_joints,
    geort_joints,
    openxr_joints,
)

SIDES = list(Side)
METACARPALS = [k for k, name in enumerate(OPENXR_JOINTS) if k > 1 and "metacarpal" in name]


def any_rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.linalg.det(q)


def hand_with(keypoints: np.ndarray, side: Side = Side.RIGHT, seed: int = 0):
    """A hand with these keypoints, anyhow turned and moved."""
    moved = keypoints @ any_rotation(seed).T + (0.1, -0.2, 0.7)
    return replace(make_hand(side), keypoints3d=moved)


def some_points(seed: int) -> np.ndarray:
    points = np.random.default_rng(seed).normal(0, 0.05, (21, 3))
    points[0] = 0
    points[9] = (0, 0, 0.1)
    return points


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", SIDES)
def test_dex_retargeting_recovers_points_given_in_its_axes(side, seed):
    points = some_points(seed)
    # The index MCP is in the y-z plane, on the thumb's side: +y on a right hand.
    points[5] = (0, 0.03 if side is Side.RIGHT else -0.03, 0.09)
    found = dex_retargeting_joints(hand_with(points, side, seed))
    np.testing.assert_allclose(found, points, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", SIDES)
def test_geort_recovers_points_given_in_its_axes(side, seed):
    points = some_points(seed)
    points[5], points[13] = (0.004, 0.03, 0.09), (0.004, -0.02, 0.07)
    found = geort_joints(hand_with(points, side, seed))
    np.testing.assert_allclose(found, points, atol=1e-12)


@pytest.mark.parametrize("convert", [dex_retargeting_joints, geort_joints])
@pytest.mark.parametrize("side", SIDES)
def test_axes_follow_the_anatomy(convert, side):
    hand = make_hand(side)
    back = wrist_frame(hand.keypoints3d, side).rotation[:, 2]
    palm_side = hand.keypoints3d.copy()
    palm_side[8] -= 0.05 * back  # the index fingertip moved out of the palm
    moved = convert(replace(hand, keypoints3d=palm_side))[8] - convert(hand)[8]
    fingers = convert(hand)
    right = side is Side.RIGHT
    out_of_palm = 1 if right or convert is dex_retargeting_joints else -1
    assert moved[0] * out_of_palm > 0.04
    to_thumb = 1 if right or convert is geort_joints else -1
    assert (fingers[4, 1] - fingers[20, 1]) * to_thumb > 0.05
    assert fingers[12, 2] > 0.15  # a hand's length along z
    # A turn and a shift: no distance changes.
    distances = np.linalg.norm(fingers[:, None] - fingers, axis=-1)
    seen = hand.keypoints3d.astype(float)
    np.testing.assert_allclose(distances, np.linalg.norm(seen[:, None] - seen, axis=-1), atol=1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_dex_retargeting_agrees_with_its_own_constants(side):
    constants = pytest.importorskip(
        "dex_retargeting.constants",
        reason="needs dex-retargeting: pip install --no-deps dex-retargeting",
    )
    operator2mano = constants.OPERATOR2MANO[constants.HandType[side.value]]
    for seed in range(5):
        hand = hand_with(some_points(seed), side, seed)
        points = hand.keypoints3d - hand.keypoints3d[0]
        # MANO's wrist frame as that project's hand detector makes it: x from the middle MCP to the
        # wrist, y the normal of the least-squares plane of points 0, 5 and 9, z towards the index.
        plane = points[[0, 5, 9]]
        normal = np.linalg.svd(plane - plane.mean(0))[2][2]
        x = -points[9] / np.linalg.norm(points[9])
        z = np.cross(x, normal)
        if z @ (points[5] - points[9]) < 0:
            normal, z = -normal, -z
        expected = points @ np.stack([x, normal, z], axis=1) @ operator2mano
        np.testing.assert_allclose(dex_retargeting_joints(hand), expected, atol=1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_dex_retargeting_finds_the_angles_of_a_finger(side, tmp_path):
    config = pytest.importorskip(
        "dex_retargeting.retargeting_config",
        reason="needs dex-retargeting: pip install 'hand_perception[retargeting]'",
    )
    lengths, angles = (0.045, 0.027, 0.022), np.array([0.5, 0.8, 0.4])
    across = 0.03 if side is Side.RIGHT else -0.03
    # A robot of one finger in the operator's axes, which bends about y, out of the palm.
    links = [f'<link name="{name}"/>' for name in ("palm", "b0", "b1", "b2", "tip")]
    for k, (parent, child, at) in enumerate(
        (
            ("palm", "b0", (0, across, 0.09)),
            ("b0", "b1", (0, 0, lengths[0])),
            ("b1", "b2", (0, 0, lengths[1])),
            ("b2", "tip", (0, 0, lengths[2])),
        )
    ):
        kind = "revolute" if k < 3 else "fixed"
        links.append(
            f'<joint name="j{k}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
            f'<origin xyz="{at[0]} {at[1]} {at[2]}"/><axis xyz="0 1 0"/>'
            '<limit lower="-0.3" upper="1.8" effort="1" velocity="1"/></joint>'
        )
    urdf = tmp_path / "finger.urdf"
    urdf.write_text(f'<robot name="finger">{"".join(links)}</robot>')
    # The same finger on a human hand, anyhow turned.
    points = some_points(1)
    points[5] = (0, across, 0.09)
    for k, (length, angle) in enumerate(zip(lengths, np.cumsum(angles), strict=True)):
        points[6 + k] = points[5 + k] + length * np.array([np.sin(angle), 0, np.cos(angle)])
    joints = dex_retargeting_joints(hand_with(points, side, seed=2))

    indices = np.array([[0, 0, 0], [6, 7, 8]])
    retargeting = config.RetargetingConfig(
        type="vector",
        urdf_path=str(urdf),
        target_link_human_indices=indices,
        target_origin_link_names=["palm"] * 3,
        target_task_link_names=["b1", "b2", "tip"],
        normal_delta=0.0,
        low_pass_alpha=1.0,
    ).build()
    retargeting.optimizer.opt.set_ftol_abs(1e-14)  # by default it stops within 8 degrees
    names = retargeting.joint_names
    for _ in range(20):  # each call ends where progress is slow
        found = retargeting.retarget(joints[indices[1]] - joints[indices[0]])
    order = [names.index(f"j{k}") for k in range(3)]
    # Single precision of 0.2 m (1.5e-8 m) over the last bone's 22 mm, of three joints.
    np.testing.assert_allclose(found[order], angles, atol=3e-6)


@pytest.mark.parametrize("convert", [dex_retargeting_joints, geort_joints])
def test_hands_without_a_frame_are_refused(convert):
    line = np.linspace(0, 0.1, 21)[:, None] * np.ones(3)
    for keypoints in (np.zeros((21, 3)), line, np.full((21, 3), np.nan)):
        with pytest.raises(DataError, match="fix no frame"):
            convert(replace(make_hand(), keypoints3d=keypoints))


def test_openxr_joints_are_the_headers_without_the_palm():
    assert len(OPENXR_JOINTS) == 25
    # XR_HAND_JOINT_*_EXT less one: the palm is OpenXR's joint 0.
    for name, index in {"wrist": 1, "thumb_tip": 5, "index_metacarpal": 6, "index_tip": 10}.items():
        assert OPENXR_JOINTS[index - 1] == name
    assert OPENXR_JOINTS[21 - 1] == "little_metacarpal" and OPENXR_JOINTS[-1] == "little_tip"


@pytest.mark.parametrize("side", SIDES)
def test_openxr_poses(side):
    hand = make_hand(side)
    found = openxr_joints(hand, TEMPLATE)
    assert np.flatnonzero(~found.is_valid).tolist() == METACARPALS == [5, 10, 15, 20]
    np.testing.assert_array_equal(found.positions[METACARPALS], 0)
    np.testing.assert_array_equal(found.orientations[METACARPALS], [[0, 0, 0, 1]] * 4)
    # x right, y up, z backward.
    np.testing.assert_allclose(
        found.positions[found.is_valid], hand.keypoints3d * (1.0, -1.0, -1.0), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.norm(found.orientations, axis=1), 1, atol=1e-12)
    forward, up = (turned(found.orientations, axis) for axis in ((0, 0, -1), (0, 1, 0)))
    back = VIEW_FROM_OPTICAL @ wrist_frame(hand.keypoints3d, side).rotation[:, 2]
    for finger in ("index", "middle", "ring", "little"):
        for bone, following in (
            ("proximal", "intermediate"),
            ("intermediate", "distal"),
            ("distal", "tip"),
        ):
            k = OPENXR_JOINTS.index(f"{finger}_{bone}")
            step = found.positions[OPENXR_JOINTS.index(f"{finger}_{following}")]
            step = step - found.positions[k]
            # The template's axes leave its bones by up to 3 degrees.
            assert forward[k] @ step / np.linalg.norm(step) > np.cos(np.radians(3.5))
            assert up[k] @ back > 0.9
    assert up[0] @ back > 0.9
    tip, distal = OPENXR_JOINTS.index("ring_tip"), OPENXR_JOINTS.index("ring_distal")
    np.testing.assert_array_equal(found.orientations[tip], found.orientations[distal])


def turned(quaternions: np.ndarray, vector) -> np.ndarray:
    """A vector turned by each of the quaternions (x, y, z, w)."""
    v = np.asarray(vector, float)
    axis, w = quaternions[:, :3], quaternions[:, 3:]
    twice = 2 * np.cross(axis, v)
    return v + w * twice + np.cross(axis, twice)
