import math

import torch

from hand_perception.synthesis.space import (
    clip_boxes,
    first_above,
    project,
    project_boxes,
    quaternion_rotation,
    turn_about,
)


def test_rotations():
    quarter = torch.tensor(math.pi / 2)
    # Right-handed: a quarter turn about z takes x to y, about x takes y to z, about y takes z to x.
    for axis in range(3):
        source, target = (axis + 1) % 3, (axis + 2) % 3
        turned = turn_about(axis, quarter) @ torch.eye(3)[source]
        torch.testing.assert_close(turned, torch.eye(3)[target], atol=1e-6, rtol=0)
    half = torch.tensor([math.cos(0.3), 0.0, math.sin(0.3), 0.0])
    expected = turn_about(1, torch.tensor(0.6))
    torch.testing.assert_close(quaternion_rotation(3 * half), expected, atol=1e-6, rtol=0)


def test_projection_and_boxes():
    K = torch.tensor([[[100.0, 0, 31.5], [0, 100, 23.5], [0, 0, 1]]])
    points = torch.tensor([[[0.0, 0, 2], [0.2, -0.1, 1], [-1, 0, 1]]])
    expected = torch.tensor([[[31.5, 23.5], [51.5, 13.5], [-68.5, 23.5]]])
    torch.testing.assert_close(project(points, K), expected)
    boxes = project_boxes(points, K)
    torch.testing.assert_close(boxes, torch.tensor([[-68.5, 13.5, 51.5, 23.5]]))
    clipped = clip_boxes(boxes, 48, 40)
    torch.testing.assert_close(clipped, torch.tensor([[-0.5, 13.5, 39.5, 23.5]]))


def test_first_above_prefers_order_over_score():
    scores = torch.tensor([[0.1, 0.6, 0.9], [0.3, 0.2, 0.1], [0.7, 0.0, 0.9]])
    assert first_above(scores, 0.5).tolist() == [1, 0, 0]
    assert first_above(scores, torch.tensor([[0.8], [0.5], [0.8]])).tolist() == [2, 0, 2]
