from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hand_perception.data.correspondence import Correspondence, nearest_on_surface
from hand_perception.data.topology import InTopology
from hand_perception.template import load_template

OURS = load_template()


def other_topology(scale=1.0):
    """Our hand with its vertices renumbered, grown and laid elsewhere: a topology of its own."""
    order = np.random.default_rng(0).permutation(len(OURS.vertices))
    inverse = np.argsort(order)
    turn = Rotation.from_rotvec([0.3, 1.0, -0.4]).as_matrix()

    def move(points):
        return (scale * points @ turn.T + (0.1, 0.2, 0.3)).astype(np.float32)

    return order, replace(
        OURS,
        name="other",
        vertices=move(OURS.vertices)[order],
        faces=inverse[OURS.faces].astype(np.int32),
        weights=OURS.weights[order],
        joints=move(OURS.joints),
        regressor=OURS.regressor[:, order],
    )


@pytest.mark.parametrize("scale", [1.0, 1.2])
def test_renumbered_vertices_are_found_again(scale):
    order, other = other_topology(scale)
    correspondence = Correspondence.between(OURS, other)
    pose = OURS.vertices + np.random.default_rng(1).normal(0, 1e-3, OURS.vertices.shape)
    # Triangles have sides of millimetres; float32 templates agree to 1e-7, so do the weights.
    np.testing.assert_allclose(correspondence(pose), pose[order], atol=2e-5)


def test_a_topology_corresponds_to_itself():
    vertices = np.random.default_rng(2).normal(size=(2, 778, 3)).astype(np.float32)
    same = Correspondence.between(OURS, OURS)
    np.testing.assert_array_equal(same(vertices), vertices)


def test_longer_fingers_are_met():
    """The middle finger's last bone a fifth longer: its tip is still the tip."""
    tip = 12
    joint = 9  # of the template's sixteen: the middle finger's last
    stretched = OURS.vertices.astype(np.float64)
    along = OURS.keypoints[tip] - OURS.joints[joint]
    reach = (stretched - OURS.joints[joint]) @ along / (along @ along)
    stretched = stretched + 0.2 * (OURS.weights[:, joint] * reach)[:, None] * along
    other = replace(OURS, name="other", vertices=stretched.astype(np.float32))
    moved = Correspondence.between(OURS, other)(OURS.vertices)
    before = OURS.regressor @ OURS.vertices
    after = OURS.regressor @ moved
    # Each vertex finds its own place on our finger, within a triangle (3 mm).
    assert np.linalg.norm(after - before, axis=1).max() < 3e-3


def test_the_nearest_point_is_on_the_plane_an_edge_or_a_corner():
    triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points = np.array([[0.2, 0.3, 5], [0.5, -1, 0], [-1, -1, 1], [1, 1, 0]])
    corners, weights = nearest_on_surface(triangle, np.array([[0, 1, 2]]), points)
    expected = [[0.2, 0.3, 0], [0.5, 0, 0], [0, 0, 0], [0.5, 0.5, 0]]
    np.testing.assert_allclose((triangle[corners] * weights[..., None]).sum(1), expected)


def test_meshes_of_another_topology_are_carried_over_or_count_nothing():
    from one_hand import one_hand

    order, other = other_topology()
    sample = one_hand()
    sample.topology = "other"
    vertices = sample.hands.vertices.copy()
    sample.hands.vertices = vertices[:, order]
    source = [sample]
    without = InTopology(source, "open778")[0]
    assert without.hands.weight_mesh[0] == 0 and without.hands.weight3d[0] == 1
    carried = InTopology(source, "open778", Correspondence.between(other, OURS))[0]
    assert carried.topology == "open778" and carried.hands.weight_mesh[0] == 1
    np.testing.assert_allclose(carried.hands.vertices, vertices, atol=2e-5)
    assert InTopology(source, "other")[0] is sample
