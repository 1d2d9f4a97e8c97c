"""The 2D representations of Table 2, and ours: from the encoder to 21 positions in the crop."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from hand_perception.hands import NUM_KEYPOINTS
from hand_perception.models.layers import laplace_scale, zeroed
from hand_perception.models.mobrecon.encoder import MAP_WIDTH, Encoded
from hand_perception.models.posterior import FineHeatmaps, posterior_shift

# A joint's usual error in sides of the crop, where learning its spread starts.
SPREAD = 0.04


@dataclass
class Pose2D:
    """joints [B, 21, 2] in 0..1 of the crop. heatmaps: logits [B, 21, H, W] where there are any.

    Of "posterior" alone: spread [B, 21], how far off each joint may be, the scale of a Laplace
    distribution; prior and prior_spread, the same before the heatmaps were asked.
    """

    joints: Tensor
    heatmaps: Tensor | None = None
    spread: Tensor | None = None
    prior: Tensor | None = None
    prior_spread: Tensor | None = None

    def float(self) -> Pose2D:
        """All of it in single precision."""
        parts = (getattr(self, field.name) for field in fields(self))
        return Pose2D(*(None if part is None else part.float() for part in parts))


def _position_mlp(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2)
    )


class MapRegression(nn.Module):
    """MapReg (section 3.2): a map a joint, flattened, and its position from the whole of it."""

    def __init__(self, map_size: int) -> None:
        super().__init__()
        self.maps = nn.Conv2d(MAP_WIDTH, NUM_KEYPOINTS, 1)
        self.position = _position_mlp(map_size**2)

    def forward(self, encoded: Encoded) -> Pose2D:
        return Pose2D(0.5 + self.position(self.maps(encoded.maps).flatten(2)))


class Heatmaps(FineHeatmaps):
    """H^p: one more step up, to a quarter of the crop's side, and the place of the highest
    response. Positions have no gradient; heatmaps are taught. skips: whether the finer map joins.
    """

    def __init__(self, fine_width: int, skips: bool) -> None:
        super().__init__(MAP_WIDTH, fine_width if skips else 0)

    def heatmaps(self, encoded: Encoded) -> Tensor:
        """Logits [B, 21, S / 4, S / 4]."""
        return self.logits(encoded.maps, encoded.fine)

    def forward(self, encoded: Encoded) -> Pose2D:
        maps = self.heatmaps(encoded)
        size = maps.shape[-1]
        best = maps.flatten(2).argmax(-1)
        place = torch.stack([best % size, torch.div(best, size, rounding_mode="floor")], -1)
        return Pose2D((place.to(maps.dtype) + 0.5) / size, maps)


class SoftArgmax(Heatmaps):
    """H^p + soft-argmax (Sun et al. 2018): the mean place under the heatmap."""

    def forward(self, encoded: Encoded) -> Pose2D:
        maps = self.heatmaps(encoded)
        size = maps.shape[-1]
        probability = maps.flatten(2).softmax(-1).reshape(maps.shape)
        centres = (torch.arange(size, device=maps.device, dtype=maps.dtype) + 0.5) / size
        x, y = (probability.sum(k) @ centres for k in (-2, -1))
        return Pose2D(torch.stack([x, y], -1), maps)


class Posterior(MapRegression):
    """Beyond the paper: MapReg's position is the prior, the heatmap the evidence, and their product
    tells the joint (models/posterior.py).

    Both positions learn how far off they may be (Kendall and Gal 2017): that is the prior's width,
    and joints that nobody can see do not blur those that can be seen.
    """

    def __init__(self, map_size: int, fine_width: int, skips: bool) -> None:
        super().__init__(map_size)
        self.evidence = Heatmaps(fine_width, skips)
        self.doubt = zeroed(nn.Linear(self.position[-1].in_features, 2))

    def forward(self, encoded: Encoded) -> Pose2D:
        hidden = self.position[:-1](self.maps(encoded.maps).flatten(2))
        heatmaps = self.evidence.heatmaps(encoded)
        # Half precision is too coarse for positions, and for sums over many cells.
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            prior = 0.5 + self.position[-1](hidden)
            prior_spread, spread = laplace_scale(self.doubt(hidden), SPREAD).unbind(-1)
            shift = posterior_shift(heatmaps.float(), prior, prior_spread)
        return Pose2D(prior + shift, heatmaps, spread, prior, prior_spread)


class Regression(nn.Module):
    """L^p with direct regression: positions from the pooled F^e alone."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.position = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(features, features),
            nn.ReLU(),
            nn.Linear(features, 2 * NUM_KEYPOINTS),
        )

    def forward(self, encoded: Encoded) -> Pose2D:
        return Pose2D(0.5 + self.position(encoded.features).reshape(-1, NUM_KEYPOINTS, 2))


def build_pose(
    kind: str, features: int, map_size: int, fine_width: int, skips: bool = True
) -> nn.Module:
    """kind: as MobReconConfig.pose has it. map_size: side of ``Encoded.maps``."""
    if kind == "mapreg":
        return MapRegression(map_size)
    if kind == "regression":
        return Regression(features)
    if kind == "posterior":
        return Posterior(map_size, fine_width, skips)
    return {"heatmap": Heatmaps, "softargmax": SoftArgmax}[kind](fine_width, skips)
