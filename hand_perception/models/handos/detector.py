"""Our DETR-like hand detector (section 3.1), in the line of RT-DETR and D-FINE.

A light backbone, a hybrid encoder (attention at stride 32, convolutional fusion), query selection
from the encoder's tokens, and decoder layers that refine boxes. HandOS only asks of a detector
what `Detections` holds, so another DETR can take its place (models/detectors).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hand_perception.models.detectors.protocol import Detections
from hand_perception.models.handos.backbone import Backbone
from hand_perception.models.handos.config import DetectorConfig
from hand_perception.models.layers import (
    Attention,
    ConvNorm,
    DeformableAttention,
    inverse_sigmoid,
    mlp,
    sine_embedding,
)

# The encoder's maps are those of the backbone without the finest: strides 8, 16, 32.
ENCODER_SCALES = 3
# A token's first box is this many cells of its map wide.
ANCHOR_CELLS = 5.0


@dataclass
class SupervisedDetections(Detections):
    """With what training the detector itself needs: dense_logits [B, T], dense_boxes [B, T, 4],
    tokens [B, T, d] of every encoder token, layer_boxes and layer_logits a layer.
    """

    tokens: Tensor
    dense_logits: Tensor
    dense_boxes: Tensor
    layer_boxes: list[Tensor]
    layer_logits: list[Tensor]


class HybridEncoder(nn.Module):
    """E (eq. 2): global attention at stride 32, then fusion down and up the pyramid."""

    def __init__(self, widths: tuple[int, ...], dim: int, heads: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(ConvNorm(w, dim, 1, act=False) for w in widths)
        self.norm_attention, self.norm_ffn = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.ffn = mlp(dim, 2 * dim, dim)
        self.position = nn.Linear(26, dim)
        steps = len(widths) - 1
        self.top_down = nn.ModuleList(ConvNorm(dim, dim, 3) for _ in range(steps))
        self.shrink = nn.ModuleList(ConvNorm(dim, dim, 3, stride=2) for _ in range(steps))
        self.bottom_up = nn.ModuleList(ConvNorm(dim, dim, 3) for _ in range(steps))

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps after the way down the pyramid, and after the way up."""
        maps = [project(m) for project, m in zip(self.project, maps, strict=True)]
        maps[-1] = self._attend(maps[-1])
        for k, fuse in enumerate(self.top_down):
            lower = len(maps) - 2 - k
            up = F.interpolate(maps[lower + 1], size=maps[lower].shape[-2:], mode="nearest")
            maps[lower] = fuse(maps[lower] + up)
        middle = list(maps)
        for k, (shrink, fuse) in enumerate(zip(self.shrink, self.bottom_up, strict=True)):
            maps[k + 1] = fuse(maps[k + 1] + shrink(maps[k]))
        return middle, maps

    def _attend(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)
        centres = cell_centres(height, width, x)
        position = self.position(sine_embedding(centres * 2 - 1)).to(tokens.dtype)
        normed = self.norm_attention(tokens)
        placed = normed + position
        tokens = tokens + self.attention(placed, placed, normed)
        tokens = tokens + self.ffn(self.norm_ffn(tokens))
        return tokens.transpose(1, 2).reshape(x.shape)


class DetectorLayer(nn.Module):
    """D (eq. 3): self-attention, deformable attention, feed-forward; pre-norm."""

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.self_attention = Attention(dim, heads)
        self.cross_attention = DeformableAttention(dim, heads, levels, points)
        self.ffn = mlp(dim, 2 * dim, dim)

    def forward(self, q: Tensor, position: Tensor, boxes: Tensor, values: list[Tensor]) -> Tensor:
        normed = self.norms[0](q)
        placed = normed + position
        q = q + self.self_attention(placed, placed, normed)
        q = q + self.cross_attention(self.norms[1](q) + position, boxes, values)
        return q + self.ffn(self.norms[2](q))


class Detector(nn.Module):
    """Images [B, 3, H, W] (normalised, sides multiples of 32) -> Detections."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        dim, levels = config.dim, ENCODER_SCALES
        self.config = config
        self.backbone_widths = config.widths[1:]
        self.encoder_dim = self.query_dim = dim
        self.backbone = Backbone(config.widths, config.blocks)
        self.encoder = HybridEncoder(config.widths[-levels:], dim, config.heads)
        self.token = nn.Linear(dim, dim)
        self.token_norm = nn.LayerNorm(dim)
        self.dense_score = nn.Linear(dim, 1)
        self.dense_box = mlp(dim, dim, 4, last_scale=0.1)
        self.position = mlp(4, dim, dim)
        self.layers = nn.ModuleList(
            DetectorLayer(dim, config.heads, levels, config.points) for _ in range(config.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(config.layers))
        self.scores = nn.ModuleList(nn.Linear(dim, 1) for _ in range(config.layers))
        self.box_steps = nn.ModuleList(mlp(dim, dim, 4, last_scale=0.1) for _ in self.layers)
        # Scores start at 0.01, so that the many empty tokens do not drown the few hands.
        for head in (self.dense_score, *self.scores):
            nn.init.constant_(head.bias, -4.6)

    def forward(self, images: Tensor) -> SupervisedDetections:
        backbone = self.backbone(images)
        middle, encoder = self.encoder(backbone[-ENCODER_SCALES:])
        backbone, encoder = [m.float() for m in backbone], [m.float() for m in encoder]
        with torch.autocast(images.device.type, enabled=False):
            return self._decode(backbone, middle, encoder)

    def _decode(
        self, backbone: list[Tensor], middle: list[Tensor], encoder: list[Tensor]
    ) -> SupervisedDetections:
        tokens = torch.cat([m.flatten(2).transpose(1, 2) for m in encoder], 1)
        tokens = self.token_norm(self.token(tokens))
        dense_logits = self.dense_score(tokens)[..., 0]
        anchors = torch.cat([_anchors(m) for m in encoder])
        dense_boxes = (self.dense_box(tokens) + inverse_sigmoid(anchors)).sigmoid()

        count = min(self.config.queries, tokens.shape[1])
        best = dense_logits.topk(count, dim=1).indices[..., None]
        q0 = tokens.gather(1, best.expand(-1, -1, tokens.shape[-1]))
        boxes = dense_boxes.gather(1, best.expand(-1, -1, 4)).detach()
        q, layer_boxes, layer_logits = q0, [], []
        for layer, norm, score, step in zip(
            self.layers, self.norms, self.scores, self.box_steps, strict=True
        ):
            q = layer(q, self.position(boxes), boxes, encoder)
            normed = norm(q)
            refined = (step(normed) + inverse_sigmoid(boxes)).sigmoid()
            layer_boxes.append(refined)
            layer_logits.append(score(normed)[..., 0])
            boxes = refined.detach()
        return SupervisedDetections(
            backbone=backbone,
            encoder=encoder,
            encoder_middle=middle,
            q0=q0,
            q6=normed,
            boxes=layer_boxes[-1],
            logits=layer_logits[-1],
            tokens=tokens,
            dense_logits=dense_logits,
            dense_boxes=dense_boxes,
            layer_boxes=layer_boxes,
            layer_logits=layer_logits,
        )


def cell_centres(height: int, width: int, like: Tensor) -> Tensor:
    """Centres of a map's cells in 0..1, [H * W, 2] as x, y; float32 on the device of ``like``."""
    y = (torch.arange(height, device=like.device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=like.device, dtype=torch.float32) + 0.5) / width
    grid = torch.stack([x[None].expand(height, -1), y[:, None].expand(-1, width)], -1)
    return grid.reshape(-1, 2)


def _anchors(features: Tensor) -> Tensor:
    """One box a cell, [H * W, 4], in 0..1."""
    height, width = features.shape[-2:]
    centres = cell_centres(height, width, features)
    size = centres.new_tensor([ANCHOR_CELLS / width, ANCHOR_CELLS / height]).clamp(max=0.9)
    return torch.cat([centres, size.expand(len(centres), 2)], -1)
