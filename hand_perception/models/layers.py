"""Layers of detector and decoders. Feature maps are [B, C, H, W], tokens [B, N, d]."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and (unless ``act`` is false) ReLU; same padding."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, act: bool = True
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            *([nn.ReLU(inplace=True)] if act else []),
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016, basic block)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNorm(inputs, outputs, 3, stride), ConvNorm(outputs, outputs, 3, act=False)
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def mlp(inputs: int, hidden: int, outputs: int, last_scale: float = 1.0) -> nn.Sequential:
    """Two linear layers; ``last_scale`` < 1 starts a head near zero, so near its reference."""
    net = nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
    )
    if last_scale != 1.0:
        with torch.no_grad():
            net[2].weight.mul_(last_scale)
            net[2].bias.zero_()
    return net


def zeroed(layer: nn.Module) -> nn.Module:
    """A head, or a branch's last norm, that starts by saying nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def laplace_scale(logits: Tensor, usual: float) -> Tensor:
    """The scale of a Laplace distribution, within e^-2 to e^2 of the usual one."""
    return usual * torch.exp(2 * torch.tanh(logits / 2))


class Attention(nn.Module):
    """Multi-head attention; positions are added to queries and keys, not to values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """queries [B, N, d], keys and values [B, M, d] -> [B, N, d]."""
        batch, count, dim = queries.shape

        def split(x: Tensor) -> Tensor:
            return x.reshape(batch, -1, self.heads, dim // self.heads).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(
            split(self.query(queries)), split(self.key(keys)), split(self.value(values))
        )
        return self.out(mixed.transpose(1, 2).reshape(batch, count, dim))


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention (Deformable DETR, eq. 3) around reference boxes.

    Sampling points are ``centre + offset * (0.5 / points) * size`` of the reference box. Offsets
    start as a ring, their weights at zero.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(dim, heads * levels * points * 2)
        self.weights = nn.Linear(dim, heads * levels * points)
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        angle = torch.arange(heads) * (2 * math.pi / heads)
        ring = torch.stack([angle.cos(), angle.sin()], -1)
        ring = ring / ring.abs().amax(-1, keepdim=True)
        ring = ring[:, None, None] * torch.arange(1, points + 1)[:, None]
        with torch.no_grad():
            self.offsets.bias.copy_(ring.expand(heads, levels, points, 2).reshape(-1))

    def forward(self, queries: Tensor, boxes: Tensor, values: list[Tensor]) -> Tensor:
        """queries [B, N, d], boxes [B, N, 4] cx, cy, w, h in 0..1, values [B, d, H, W] a level."""
        batch, count, dim = queries.shape
        shape = (batch, count, self.heads, self.levels, self.points)
        offsets = self.offsets(queries).reshape(*shape, 2)
        weights = self.weights(queries).reshape(*shape[:3], -1).softmax(-1)
        reference = boxes[:, :, None, None, None]
        locations = reference[..., :2] + offsets * reference[..., 2:] * (0.5 / self.points)
        sample = _sample_by_gather if torch.onnx.is_in_onnx_export() else _sample_by_grid
        return self.out(sample(values, locations, weights).reshape(batch, count, dim))


def _sample_by_grid(values: list[Tensor], locations: Tensor, weights: Tensor) -> Tensor:
    """Reference: one grid_sample a level. -> [B, N, heads * d_head]."""
    batch, count, heads, _, points, _ = locations.shape
    sampled = []
    for level, value in enumerate(values):
        per_head = value.reshape(batch * heads, -1, *value.shape[-2:])
        grid = locations[:, :, :, level].transpose(1, 2).reshape(batch * heads, count, points, 2)
        sampled.append(F.grid_sample(per_head, grid * 2 - 1, align_corners=False))
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, count, -1)
    mixed = (torch.cat(sampled, -1) * weights).sum(-1)
    return mixed.reshape(batch, -1, count).transpose(1, 2)


def _sample_by_gather(values: list[Tensor], locations: Tensor, weights: Tensor) -> Tensor:
    """The same from one Gather and one MatMul: GridSample has been wrong in several runtimes.

    A border of zeros around each map stands for all that is outside, so that no corner needs a
    mask, and all levels go at once: small operations cost a runtime more than their sums.
    """
    batch, count, heads, levels, points, _ = locations.shape
    tokens = torch.cat([F.pad(v, (1, 1, 1, 1)).flatten(2) for v in values], 2).transpose(1, 2)
    total = tokens.shape[1]
    flat = tokens.reshape(batch * total * heads, -1)

    def each(numbers: Iterable[int]) -> Tensor:
        """A number a level -> [heads, levels * points]."""
        row = [float(number) for number in numbers for _ in range(points)]
        return torch.tensor([row] * heads, dtype=locations.dtype, device=locations.device)

    padded = [(int(v.shape[-1]) + 2, int(v.shape[-2]) + 2) for v in values]
    starts = itertools.accumulate([0, *(w * h for w, h in padded[:-1])])
    x, x_share = _neighbours(locations[..., 0].flatten(3), each(w for w, _ in padded))
    y, y_share = _neighbours(locations[..., 1].flatten(3), each(h for _, h in padded))
    width, start = each(w for w, _ in padded), each(starts)
    rows = [row * width + start for row in y]
    own = torch.arange(heads, device=flat.device)[:, None]
    image = torch.arange(batch, device=flat.device)[:, None, None, None] * total
    cells = torch.cat([row + column for row in rows for column in x], -1).long()
    index = (cells + image) * heads + own
    y_share = [share * weights for share in y_share]
    mixing = torch.cat([v * u for v in y_share for u in x_share], -1)
    gathered = flat.index_select(0, index.reshape(-1))
    gathered = gathered.reshape(batch * count * heads, -1, flat.shape[-1])
    mixing = mixing.reshape(batch * count * heads, 1, -1)
    return torch.bmm(mixing, gathered).reshape(batch, count, -1)


def _neighbours(places: Tensor, padded: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Along one axis: places in 0..1 of maps that are ``padded`` cells long with a border of one.
    The cells before and behind, held within the padded map, and how much each counts."""
    place = places * (padded - 2) + 0.5
    first = place.floor()
    behind = place - first
    last = padded - 1
    cells = [torch.minimum(cell.clamp(min=0), last) for cell in (first, first + 1)]
    return cells, [1 - behind, behind]


def sample_map(features: Tensor, grid: Tensor) -> Tensor:
    """Bilinear samples of [B, C, H, W] at grid [B, N, 2] in 0..1 -> [B, N, C]; zero outside."""
    if torch.onnx.is_in_onnx_export():
        return gather_map(features, grid)
    sampled = F.grid_sample(features, grid[:, None] * 2 - 1, align_corners=False)
    return sampled[:, :, 0].transpose(1, 2)


def gather_map(features: Tensor, grid: Tensor) -> Tensor:
    """The same as sample_map, without GridSample."""
    locations = grid[:, :, None, None, None]
    return _sample_by_gather([features], locations, torch.ones_like(locations[..., 0, 0]))


def sine_embedding(x: Tensor, frequencies: int = 6) -> Tensor:
    """x [..., k] in about -1..1 -> [..., k * (2 * frequencies + 1)]; frequencies double."""
    scale = math.pi * 2.0 ** torch.arange(frequencies, device=x.device, dtype=x.dtype)
    phase = (x[..., None] * scale).flatten(-2)
    return torch.cat([phase.sin(), phase.cos(), x], -1)


def inverse_sigmoid(x: Tensor, eps: float = 1e-4) -> Tensor:
    x = x.clamp(eps, 1 - eps)
    return torch.log(x / (1 - x))
