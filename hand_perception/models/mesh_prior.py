"""An implicit prior of hand meshes (HandOS, supplement XVI): a variational autoencoder.

It says how far a mesh is from those that a hand can take, without knowing where it is, how it is
turned or which hand it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.errors import ModelError
from hand_perception.template import Template

# Wrist, and the knuckles of index, middle and pinky: the palm, which bends little.
WRIST, INDEX, MIDDLE, PINKY = 0, 5, 9, 17
# A code far from the origin stands for no hand that was seen: what its square weighs in a distance.
CODE_WEIGHT = 0.01


@dataclass(frozen=True)
class PriorConfig:
    topology: str = "open778"
    hidden: int = 256
    code: int = 32


class MeshPrior(nn.Module):
    """Meshes [..., V, 3] in models.handos.decoder.UNIT."""

    def __init__(self, config: PriorConfig, template: Template) -> None:
        super().__init__()
        if template.name != config.topology:
            raise ModelError(
                f"the prior is of {config.topology} meshes, not of {template.name}: train another"
            )
        count = template.vertices.size
        self.config = config
        self.register_buffer("regressor", torch.from_numpy(template.regressor))
        self.register_buffer("mean", torch.zeros(count))
        self.encoder = nn.Sequential(
            nn.Linear(count, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, 2 * config.code),
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.code, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, count),
        )

    def canonical(self, vertices: Tensor) -> Tensor:
        """About the middle knuckle, wrist to it along y, index ahead of pinky along x."""
        joints = self.regressor @ vertices
        y = F.normalize(joints[..., MIDDLE, :] - joints[..., WRIST, :], dim=-1, eps=1e-6)
        across = joints[..., INDEX, :] - joints[..., PINKY, :]
        z = F.normalize(torch.linalg.cross(across, y), dim=-1, eps=1e-6)
        axes = torch.stack([torch.linalg.cross(y, z), y, z], -1)
        return (vertices - joints[..., MIDDLE, None, :]) @ axes

    def encode(self, canonical: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the code, [..., code] each."""
        return self.encoder(canonical.flatten(-2) - self.mean).chunk(2, -1)

    def decode(self, code: Tensor) -> Tensor:
        """[..., code] -> canonical meshes [..., V, 3] of right hands."""
        return (self.decoder(code) + self.mean).unflatten(-1, (-1, 3))

    def elbo_loss(self, vertices: Tensor, spread: float = 0.03) -> Tensor:
        """The negative evidence bound of right hands, a mean; spread: of a vertex about its mesh.

        Neighbouring vertices move together, so a mesh counts as 63 numbers, not as 3 V.
        """
        canonical = self.canonical(vertices)
        mean, log_variance = self.encode(canonical)
        code = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        squared = (self.decode(code) - canonical).square().mean((-1, -2))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
        return (63 * squared / (2 * spread**2) + divergence).mean()

    def distance(self, vertices: Tensor) -> Tensor:
        """How far from a hand, [...]: the mean L1 to the mesh's own reconstruction, and its code.

        A left hand is a right one mirrored; the nearer of the two counts.
        """
        canonical = self.canonical(vertices)
        mirror = canonical.new_tensor([1.0, 1.0, -1.0])
        both = torch.stack([canonical, canonical * mirror])
        code, _ = self.encode(both)
        off = (self.decode(code) - both).abs().mean((-1, -2))
        return (off + CODE_WEIGHT * code.square().mean(-1)).amin(0)

    def describe(self) -> dict:
        return asdict(self.config)
