from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hand_perception import geometry as g
from hand_perception.hands import Camera, Side

PINHOLE = Camera(520.0, 510.0, 321.0, 236.0, 640, 480)
LENSES = {
    "none": PINHOLE,
    "plumb_bob": Camera(
        520.0, 510.0, 321.0, 236.0, 640, 480, (-0.28, 0.09, 1e-3, -5e-4, -0.01), "plumb_bob"
    ),
    "rational": Camera(
        *(612.0, 610.0, 322.0, 241.0, 640, 480),
        (7.1, -3.2, 4e-4, 1e-4, -2.5, 7.2, -1.0, -3.1),
        "rational_polynomial",
    ),
    "equidistant": Camera(
        350.0, 351.0, 318.0, 243.0, 640, 480, (-0.01, 0.04, -0.04, 0.006), "equidistant"
    ),
}
# A right hand seen from its back, fingers up, in the camera frame (x right, y down, z forward):
# the thumb is on the left of the picture.
BACK_OF_RIGHT = np.zeros((21, 3))
for finger, x in enumerate((-0.04, -0.025, 0.0, 0.02, 0.035)):
    for joint in range(4):
        BACK_OF_RIGHT[1 + 4 * finger + joint] = (x, -0.09 - 0.02 * joint, 0.0)
BACK_OF_RIGHT += (0.1, 0.05, 0.6)


def rotations(rng: np.random.Generator, *shape: int) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(*shape, 3, 3)))
    return q * np.sign(np.linalg.det(q))[..., None, None]


def hand_like(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-0.08, 0.08, (21, 3))


drawn = settings(max_examples=40, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@pytest.mark.parametrize("lens", LENSES)
def test_projection_is_opencvs(lens):
    camera = LENSES[lens]
    points = np.random.default_rng(0).uniform((-0.4, -0.3, 0.5), (0.4, 0.3, 2.0), (50, 3))
    d, zero = np.array(camera.distortion), np.zeros(3)
    if camera.distortion_model == "equidistant":
        theirs, _ = cv2.fisheye.projectPoints(points[:, None], zero, zero, camera.matrix, d)
    else:
        theirs, _ = cv2.projectPoints(points[:, None], zero, zero, camera.matrix, d)
    # Same formulas in double precision: only rounding remains.
    np.testing.assert_allclose(g.project(points, camera), theirs[:, 0], atol=1e-9)


@pytest.mark.parametrize("lens", LENSES)
def test_undistortion_inverts_the_lens(lens):
    camera = LENSES[lens]
    u, v = np.meshgrid(np.linspace(0, 639, 17), np.linspace(0, 479, 13))
    pixels = np.stack([u, v], -1)
    ideal = g.undistort_points(pixels, camera)
    rays = np.concatenate(
        [(ideal - (camera.cx, camera.cy)) / (camera.fx, camera.fy), np.ones((*u.shape, 1))], -1
    )
    np.testing.assert_allclose(g.project(0.7 * rays, camera), pixels, atol=1e-3)


def test_undistortion_stays_finite_where_the_lens_has_no_inverse():
    # r (1 - 0.28 r^2) never exceeds 0.73: most of these pixels are outside of the lens.
    lens = Camera(300.0, 300.0, 320.0, 240.0, 640, 480, (-0.28, 0, 0, 0), "plumb_bob")
    corners = np.array([[-4000.0, -4000], [640, 480], [9000, 100]])
    assert np.isfinite(g.undistort_points(corners, lens)).all()
    assert np.isfinite(g.undistort_points(corners * 10, LENSES["equidistant"])).all()


def test_points_behind_the_camera_project_to_finite_pixels():
    pixels = g.project([[0.1, 0.0, -1.0], [0.0, 0.0, 0.0]], PINHOLE)
    assert np.isfinite(pixels).all()
    assert pixels[0, 0] > PINHOLE.cx
    np.testing.assert_allclose(pixels[1], (PINHOLE.cx, PINHOLE.cy))


@given(seeds)
@drawn
def test_similarity_fit_recovers_the_motion(rng):
    a = rng.normal(size=(4, 8, 3))
    scale, rotation, t = rng.uniform(0.2, 5, 4), rotations(rng, 4), rng.normal(size=(4, 3))
    b = scale[:, None, None] * a @ np.swapaxes(rotation, -1, -2) + t[:, None]
    s, R, shift = g.similarity_fit(a, b)
    np.testing.assert_allclose(s, scale, rtol=1e-9)
    np.testing.assert_allclose(R, rotation, atol=1e-8)
    np.testing.assert_allclose(shift, t, atol=1e-8)


@given(seeds)
@drawn
def test_rigid_fit_is_proper_also_for_mirrored_points(rng):
    a = rng.normal(size=(21, 3))
    R, _ = g.rigid_fit(a, a * (-1, 1, 1))
    assert np.linalg.det(R) == pytest.approx(1.0)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)


def test_fit_ignores_points_of_no_weight():
    rng = np.random.default_rng(1)
    a, turn = rng.normal(size=(10, 3)), rotations(np.random.default_rng(2))
    b = a @ turn.T + (1, 2, 3)
    b[7:] += 5
    R, t = g.rigid_fit(a, b, weights=[1.0] * 7 + [0.0] * 3)
    np.testing.assert_allclose(R, turn, atol=1e-9)
    np.testing.assert_allclose(t, (1, 2, 3), atol=1e-9)


@pytest.mark.parametrize("lens", LENSES)
@given(rng=seeds)
@drawn
def test_translation_is_exact_without_noise(lens, rng):
    camera = LENSES[lens]
    joints, t = hand_like(rng), rng.uniform((-0.15, -0.1, 0.35), (0.15, 0.1, 2.0))
    found, residual = g.solve_translation(joints, g.project(joints + t, camera), camera)
    np.testing.assert_allclose(found, t, atol=1e-5)
    assert residual.max() < 1e-3


@given(seeds)
@drawn
def test_translation_withstands_stray_joints(rng):
    joints, t = hand_like(rng), np.array([0.05, -0.02, 0.6])
    pixels = g.project(joints + t, PINHOLE)
    stray = rng.choice(21, 3, replace=False)
    pixels[stray] += rng.choice([-1, 1], (3, 2)) * 60.0
    found, residual = g.solve_translation(joints, pixels, PINHOLE)
    # With the width at its floor of 2 px, an error of 85 px weighs (1 + (85 / 2)^2)^-2 = 3e-7: a
    # pull of 3 * 85 * 3e-7 px over 18 exact joints, far below a thousandth of a 140 px hand.
    np.testing.assert_allclose(found, t, atol=1e-3 * t[2])
    assert set(np.argsort(residual)[-3:]) == set(stray)


def test_translation_is_not_drawn_nearer_by_noise():
    rng = np.random.default_rng(5)
    depths = []
    for _ in range(200):
        joints = hand_like(rng)
        pixels = g.project(joints + (0, 0, 0.6), PINHOLE) + rng.normal(0, 8, (21, 2))
        depths.append(g.solve_translation(joints, pixels, PINHOLE)[0][2])
    # A single depth scatters by 8 px / (56 px rms radius * sqrt(42 rows)) = 2.2 %; their mean by
    # 0.16 %. Three of those; the equations solved as they stand come out 4 % near.
    assert np.mean(depths) == pytest.approx(0.6, rel=0.005)


def test_translation_weights_switch_joints_off():
    rng = np.random.default_rng(3)
    joints, t = hand_like(rng), np.array([0.0, 0.05, 0.5])
    pixels = g.project(joints + t, PINHOLE)
    pixels[:8] = 0.0
    weights = np.r_[np.zeros(8), np.ones(13)]
    found, _ = g.solve_translation(joints, pixels, PINHOLE, weights)
    np.testing.assert_allclose(found, t, atol=1e-9)


def test_joints_of_no_weight_do_not_widen_what_counts_as_stray():
    rng = np.random.default_rng(6)
    joints, t = hand_like(rng), np.array([0.0, 0.0, 0.6])
    pixels = g.project(joints + t, PINHOLE)
    pixels[:12] += 4000.0
    pixels[20] += 60.0
    weights = np.r_[np.zeros(12), np.ones(9)]
    found, _ = g.solve_translation(joints, pixels, PINHOLE, weights)
    # As for the stray joints above, one of them among eight exact ones.
    np.testing.assert_allclose(found, t, atol=1e-3 * t[2])


@pytest.mark.parametrize(
    "pixels",
    [np.full((21, 2), 300.0), np.zeros((21, 2)), np.tile([1e5, -1e5], (21, 1))],
    ids=["one spot", "corner", "far outside"],
)
def test_degenerate_joints_still_give_a_hand_in_front(pixels):
    t, residual = g.solve_translation(hand_like(np.random.default_rng(4)), pixels, PINHOLE)
    assert np.isfinite(t).all() and np.isfinite(residual).all()
    assert t[2] > 0


@given(seeds)
@drawn
def test_translation_is_in_front_for_any_input(rng):
    t, residual = g.solve_translation(
        rng.normal(0, 0.2, (21, 3)), rng.uniform(0, 640, (21, 2)), PINHOLE, rng.uniform(0, 1, 21)
    )
    assert np.isfinite(t).all() and np.isfinite(residual).all()
    assert t[2] > 0


def test_wrist_frame_axes_of_a_right_hand():
    pose = g.wrist_frame(BACK_OF_RIGHT, Side.RIGHT)
    middle = BACK_OF_RIGHT[9] - BACK_OF_RIGHT[0]
    x = middle / np.linalg.norm(middle)
    np.testing.assert_allclose(pose.translation, BACK_OF_RIGHT[0])
    np.testing.assert_allclose(pose.rotation[:, 0], x, atol=1e-12)
    # The back faces the camera: z points at the viewer; y towards the thumb, left in the image.
    np.testing.assert_allclose(pose.rotation[:, 2], (0, 0, -1), atol=1e-12)
    assert pose.rotation[0, 1] == pytest.approx(-1.0)


def test_wrist_frame_is_dorsal_for_the_mirrored_left_hand_too():
    pose = g.wrist_frame(BACK_OF_RIGHT * (-1, 1, 1), Side.LEFT)
    np.testing.assert_allclose(pose.rotation[:, 2], (0, 0, -1), atol=1e-12)


@given(seeds)
@drawn
def test_wrist_frame_turns_with_the_hand(rng):
    turn, hand = rotations(rng), hand_like(rng)
    before, after = g.wrist_frame(hand, Side.LEFT), g.wrist_frame(hand @ turn.T, Side.LEFT)
    np.testing.assert_allclose(after.rotation, turn @ before.rotation, atol=1e-6)


@pytest.mark.parametrize(
    "hand",
    [
        np.zeros((21, 3)),
        np.linspace(0, 1, 21)[:, None] * (0, 0, 1.0),
        np.linspace(0, 1, 21)[:, None] * (0, 1.0, 0),
    ],
    ids=["spot", "line along z", "line along y"],
)
@pytest.mark.parametrize("side", Side)
def test_wrist_frame_of_a_flattened_hand_is_still_a_rotation(hand, side):
    rotation = g.wrist_frame(hand, side).rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)


def from_quaternion(q: np.ndarray) -> np.ndarray:
    """v -> v + 2 w (u x v) + 2 u x (u x v), as a matrix."""
    u, w = q[:3], q[3]
    cross = np.array([[0, -u[2], u[1]], [u[2], 0, -u[0]], [-u[1], u[0], 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


@given(seeds)
@drawn
def test_quaternion_is_the_rotation(rng):
    R = rotations(rng, 2, 3)
    q = g.quaternion_xyzw(R)
    assert q.shape == (2, 3, 4) and (q[..., 3] >= 0).all()
    rebuilt = np.array([from_quaternion(x) for x in q.reshape(-1, 4)]).reshape(R.shape)
    np.testing.assert_allclose(rebuilt, R, atol=1e-9)


@pytest.mark.parametrize("axis", range(3))
def test_quaternion_of_half_turns(axis):
    diagonal = -np.ones(3)
    diagonal[axis] = 1
    expected = np.zeros(4)
    expected[axis] = 1
    np.testing.assert_allclose(np.abs(g.quaternion_xyzw(np.diag(diagonal))), expected, atol=1e-12)


def box_mesh(size: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    vertices = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * size
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    return vertices.astype(float), faces


@pytest.mark.parametrize("opened", [False, True], ids=["closed", "one side open"])
def test_volume_of_a_box_anywhere(opened):
    vertices, faces = box_mesh((0.1, 0.2, 0.3))
    faces = faces[:-2] if opened else faces
    moved = np.stack([vertices, vertices + (5.0, -3.0, 9.0), vertices * (-1, 1, 1)])
    np.testing.assert_allclose(g.signed_volume(moved, faces), (0.006, 0.006, -0.006), rtol=1e-9)


def test_box_iou():
    a = np.array([[0, 0, 10, 10], [0, 0, 0, 0]])
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    # Half over half: 50 / (100 + 100 - 50).
    np.testing.assert_allclose(g.box_iou(a, b), [[1, 1 / 3, 0], [0, 0, 0]])
    assert g.box_iou(np.zeros((0, 4)), b).shape == (0, 3)


def test_box_cover():
    a = np.array([[0, 0, 10, 10], [0, 0, 0, 0]])
    b = np.array([[2, 2, 4, 4], [5, 0, 25, 10]])
    np.testing.assert_allclose(g.box_cover(a, b), [[0.04, 0.5], [0, 0]])
    np.testing.assert_allclose(g.box_cover(b, a), [[1, 0], [0.25, 0]])


def test_nms_keeps_the_best_of_each_group():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10], [51, 0, 61, 10]])
    np.testing.assert_array_equal(g.nms(boxes, [0.6, 0.9, 0.8, 0.1], 0.5), [1, 2])
    np.testing.assert_array_equal(g.nms(boxes, [0.6, 0.9, 0.8, 0.1], 0.95), [1, 2, 0, 3])
    assert len(g.nms(np.zeros((0, 4)), [], 0.5)) == 0


# -- cameras that look elsewhere ---------------------------------------------------------------


@given(seeds)
@drawn
def test_the_turn_onto_the_axis_is_the_smallest_one(rng):
    ray = np.append(rng.uniform(-2, 2, 2), 1.0)
    turn = g.rotation_to_axis(ray)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1.0)
    np.testing.assert_allclose(turn @ ray, [0, 0, np.linalg.norm(ray)], atol=1e-12)
    # It turns about what is perpendicular to both, by the angle between them.
    axis = np.cross(ray, [0, 0, 1])
    np.testing.assert_allclose(turn @ axis, axis, atol=1e-12)
    cosine = 1 / np.linalg.norm(ray)
    assert np.trace(turn) == pytest.approx(1 + 2 * cosine)


def test_a_ray_on_the_axis_stays_there():
    np.testing.assert_array_equal(g.rotation_to_axis(np.array([0.0, 0.0, 3.0])), np.eye(3))
