"""A position as a prior, a heatmap as evidence: where their product lies.

Beyond the papers. What a network regresses knows hands and how they are held, but not to the pixel;
a heatmap knows the pixel, but not always which finger it is of.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.hands import NUM_KEYPOINTS
from hand_perception.models.layers import ConvNorm

HEATMAP_WIDTH = 32


class FineHeatmaps(nn.Module):
    """A heatmap a joint, one step finer than the maps it comes from. fine_width: channels of the
    finer map that joins, 0 for none."""

    def __init__(self, coarse_width: int, fine_width: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(coarse_width, HEATMAP_WIDTH, 1)
        self.fine = ConvNorm(fine_width, HEATMAP_WIDTH, 1, act=False) if fine_width else None
        self.maps = nn.Conv2d(HEATMAP_WIDTH, NUM_KEYPOINTS, 3, padding=1)

    def logits(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """[B, C, N, N] and [B, F, 2 N, 2 N] -> [B, 21, 2 N, 2 N]."""
        x = F.interpolate(self.coarse(coarse), scale_factor=2.0, mode="nearest")
        x = x if self.fine is None else x + self.fine(fine)
        return self.maps(F.relu(x))


def posterior_shift(heatmaps: Tensor, prior: Tensor, spread: Tensor) -> Tensor:
    """How far evidence, logits [B, 21, N, N], moves the mean of Laplace distributions around
    ``prior`` [B, 21, 2] with scales ``spread`` [B, 21]: [B, 21, 2].

    A shift, not a place: where the evidence tells nothing it is zero, also for joints outside.
    """
    size = heatmaps.shape[-1]
    centres = (torch.arange(size, device=heatmaps.device) + 0.5) / size
    logits = -(centres - prior[..., None]).abs() / spread[..., None, None]  # [B, 21, 2, N]
    before = (logits.softmax(-1) * centres).sum(-1)
    x, y = logits.unbind(2)
    logits = heatmaps + y[..., None] + x[..., None, :]
    cells = torch.stack(torch.meshgrid(centres, centres, indexing="xy")).flatten(1)
    # Coordinates on the left: an engine in half precision takes what is constant on the right for
    # the weights of a layer (export/precision.py).
    after = cells @ logits.flatten(2).softmax(-1)[..., None]
    return after[..., 0] - before
