"""Pose pooling and pose-to-vertex lifting (section 3.2)."""

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
