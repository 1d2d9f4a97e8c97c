"""The 3D decoder (section 3.3): spiral convolutions up a mesh pyramid.

Features of vertices are [V, B, C] here: what a gather moves is then a long row, several times
faster on a CPU, forwards and back, than B x V short ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.models.mobrecon.mesh_pyramid import Level


def gather(x: Tensor, places: Tensor) -> Tensor:
    """[V, B, C] at places [N, S] -> [N, S, B, C]."""
    return x.index_select(0, places.flatten()).reshape(*places.shape, *x.shape[1:])


class SpiralConv(nn.Module):
    """SpiralConv (Lim et al. 2018, eq. 5): an LSTM along each spiral."""

    def __init__(self, inputs: int, outputs: int, spirals: Tensor) -> None:
        super().__init__()
        self.register_buffer("spirals", spirals, persistent=False)
        self.fuse = nn.LSTM(inputs, outputs, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """[V, B, inputs] -> [V, B, outputs]."""
        sequence = gather(x, self.spirals).transpose(1, 2)
        _, (last, _) = self.fuse(sequence.flatten(0, 1))
        return last[0].reshape(*x.shape[:2], -1)


class SpiralConvPlus(nn.Module):
    """SpiralConv++ (Gong et al. 2019, eq. 6): one linear layer over the spiral's features."""

    def __init__(self, inputs: int, outputs: int, spirals: Tensor) -> None:
        super().__init__()
        self.register_buffer("spirals", spirals, persistent=False)
        self.fuse = nn.Linear(inputs * spirals.shape[1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(gather(x, self.spirals).transpose(1, 2).flatten(2))


class DepthSeparableSpiralConv(nn.Module):
    """DSConv (eq. 7 and 8): each channel along the spiral, then across the channels."""

    def __init__(self, inputs: int, outputs: int, spirals: Tensor) -> None:
        super().__init__()
        self.register_buffer("spirals", spirals, persistent=False)
        length = spirals.shape[1]
        self.depthwise = nn.Parameter(torch.randn(length, inputs) / length**0.5)
        self.pointwise = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.mixed(x))

    def mixed(self, x: Tensor) -> Tensor:
        """Each channel along the spiral. A trainer may put faster sums in its place."""
        weights = self.depthwise.to(x.dtype)
        mixed = x * weights[0]
        for place, weight in zip(self.spirals.unbind(1)[1:], weights[1:], strict=True):
            mixed = torch.addcmul(mixed, x.index_select(0, place), weight)
        return mixed


GRAPHS = {
    "dsconv": DepthSeparableSpiralConv,
    "spiralconv++": SpiralConvPlus,
    "spiralconv": SpiralConv,
}


class Upsampling(nn.Module):
    """Features of a coarse level to the next finer one, by barycentric coordinates."""

    def __init__(self, finer: Level) -> None:
        super().__init__()
        corners = torch.from_numpy(finer.corners)
        weights = torch.from_numpy(finer.weights).float()[..., None, None]
        self.register_buffer("corners", corners, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (gather(x, self.corners) * self.weights.to(x.dtype)).sum(1)


class MeshDecoder(nn.Module):
    """Features [B, 49, C^e] -> vertices [B, 778, 3]. levels: finest first."""

    def __init__(
        self, features: int, widths: tuple[int, ...], graph: str, levels: tuple[Level, ...]
    ) -> None:
        super().__init__()
        convolution = GRAPHS[graph]
        finer = levels[-2::-1]
        inputs = (features, *widths[:-1])
        self.up = nn.ModuleList(Upsampling(level) for level in finer)
        self.convolutions = nn.ModuleList(
            convolution(before, width, torch.from_numpy(level.spirals))
            for before, width, level in zip(inputs, widths, finer, strict=True)
        )
        self.head = convolution(widths[-1], 3, torch.from_numpy(levels[0].spirals))

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        for up, convolution in zip(self.up, self.convolutions, strict=True):
            x = F.relu(convolution(up(x)))
        return self.head(x).transpose(0, 1)
