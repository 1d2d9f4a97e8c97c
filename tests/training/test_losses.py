import math

import pytest
import torch

from hand_perception.training.losses import (
    OKS_SIGMAS,
    MeshTerms,
    heatmap_loss,
    joint_l1,
    oks_loss,
    point_l1,
)

# A unit square of two triangles in the xy plane, as a tent: folded along its diagonal by hand.
FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])
SQUARE = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])


def test_joint_l1_is_in_box_sides():
    truth = torch.zeros(21, 2)
    predicted = truth + torch.tensor([0.1, 0.3])
    torch.testing.assert_close(joint_l1(predicted, truth, torch.tensor(2.0)), torch.tensor(0.1))


def test_oks_of_one_sigma_distance_is_exp_minus_half():
    truth = torch.zeros(21, 2)
    area = torch.tensor(0.04)
    distance = torch.tensor(OKS_SIGMAS) * 2 * 0.2  # 2 sigma_i sqrt(area)
    predicted = torch.stack([distance, torch.zeros(21)], -1)
    expected = 1 - math.exp(-0.5)
    assert float(oks_loss(predicted, truth, area)) == pytest.approx(expected, abs=1e-6)


def test_point_l1():
    predicted = torch.zeros(778, 3)
    predicted[:, 2] = 3.0
    assert float(point_l1(predicted, torch.zeros(778, 3))) == 1.0


def test_edge_loss_of_a_doubled_square():
    # Each triangle has edges 1, 1, sqrt 2: doubling adds their own length, (2 + sqrt 2) / 3.
    terms = MeshTerms(FACES)
    assert float(terms.edge(2 * SQUARE, SQUARE)) == pytest.approx((2 + math.sqrt(2)) / 3)
    assert float(terms.edge(SQUARE, SQUARE)) == 0


def test_normal_loss_of_a_square_against_its_own_and_a_turned_plane():
    terms = MeshTerms(FACES)
    assert float(terms.normal(SQUARE, SQUARE)) == pytest.approx(0, abs=1e-7)
    turned = SQUARE[:, [0, 2, 1]]  # the xz plane: normals along y
    # Edges of the xy square against y: (|x edge| 0 + |y edge| 1 + |diagonal| 1/sqrt 2) / 3.
    expected = (1 + 1 / math.sqrt(2)) / 3
    assert float(terms.normal(SQUARE, turned)) == pytest.approx(expected)


def test_normal_consistency_of_a_right_angle_fold_is_one():
    terms = MeshTerms(FACES)
    assert float(terms.consistency(SQUARE)) == pytest.approx(0, abs=1e-7)
    assert terms.neighbours[0].tolist() == [0] and terms.neighbours[1].tolist() == [1]
    # Vertex 3 turned about the diagonal by 90 degrees: the normals become perpendicular.
    folded = SQUARE.clone()
    folded[3] = torch.tensor([0.5, 0.5, math.sqrt(0.5)])
    assert float(terms.consistency(folded)) == pytest.approx(1, abs=1e-6)


def test_heatmap_loss_prefers_the_true_cell():
    grid = torch.tensor([[0.25, 0.5], [0.5, 0.5], [0.75, 0.5]])
    truth = torch.full((21, 2), 0.5)
    sure = torch.tensor([0.0, 20.0, 0.0]).expand(21, 3)
    wrong = torch.tensor([20.0, 0.0, 0.0]).expand(21, 3)
    side = torch.tensor(1.0)
    # Neighbours lie 5 sigma away: the goal is one at the middle up to 2 exp(-12.5) = 7.5e-6, so
    # the cross-entropy is that times 20.
    assert float(heatmap_loss(sure, grid, truth, side)) < 2e-4
    assert float(heatmap_loss(wrong, grid, truth, side)) == pytest.approx(20, rel=1e-3)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: joint_l1(x[..., :2], y[..., :2], torch.tensor(0.7, dtype=torch.float64)),
        lambda x, y: oks_loss(x[..., :2], y[..., :2], torch.tensor(0.5, dtype=torch.float64)),
        point_l1,
        MeshTerms(FACES).edge,
        MeshTerms(FACES).normal,
        lambda x, _: MeshTerms(FACES).consistency(x),
        lambda x, y: heatmap_loss(x, y[:3, :2], y[..., :2], torch.tensor(0.5, dtype=x.dtype)),
    ],
    ids=["joints", "oks", "points", "edge", "normal", "consistency", "heatmap"],
)
def test_gradients_match_finite_differences(loss):
    torch.manual_seed(0)
    x = torch.randn(21, 3, dtype=torch.float64) * 0.1 + 1
    y = torch.randn(21, 3, dtype=torch.float64) * 0.1
    x = x.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: loss(v, y), (x,))
