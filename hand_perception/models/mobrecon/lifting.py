"""Pose pooling and lifting from 2D to 49 vertices (section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.hands import NUM_KEYPOINTS
from hand_perception.models.layers import sample_map
from hand_perception.models.mobrecon.pose2d import Pose2D


def grid_sampling(features: Tensor, pose: Pose2D) -> Tensor:
    """F^p (eq. 2): [B, C, H, W] read at the joints -> [B, 21, C]."""
    return sample_map(features, pose.joints.clamp(0, 1))


def joint_wise_pooling(features: Tensor, pose: Pose2D) -> Tensor:
    """F^p (eq. 1): [B, C, H, W] weighed by each joint's heatmap and summed -> [B, 21, C]."""
    heatmaps = F.interpolate(pose.heatmaps, size=features.shape[-2:], mode="bilinear")
    weights = heatmaps.flatten(2).softmax(-1)
    return torch.bmm(weights, features.flatten(2).transpose(1, 2))


class PoseToVertex(nn.Module):
    """PVL (eq. 3): features of 49 vertices as a learned linear mix of the joints' features."""

    def __init__(self, vertices: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.full((vertices, NUM_KEYPOINTS), 1 / NUM_KEYPOINTS))
        nn.init.trunc_normal_(self.matrix, 1 / NUM_KEYPOINTS, 0.02)

    def forward(self, joints: Tensor) -> Tensor:
        """[B, 21, C] -> [B, V, C]."""
        return self.matrix @ joints


class FullyConnected(nn.Module):
    """What CMR lifts with (Table 2, first row): F^e pooled over the whole map, and one linear layer
    to all vertices. The 2D pose has no part in it."""

    def __init__(self, features: int, vertices: int) -> None:
        super().__init__()
        self.vertices = vertices
        self.layer = nn.Linear(features, vertices * features)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, V, C]."""
        pooled = features.mean((2, 3))
        return self.layer(pooled).reshape(len(pooled), self.vertices, -1)
