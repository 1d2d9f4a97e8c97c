"""What HandOS asks of a detector (section 3.1): any DETR-like one that can say this will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

BACKBONE_STRIDES = (4, 8, 16, 32)
ENCODER_STRIDES = (8, 16, 32, 64)


@dataclass
class Detections:
    """One image batch, Q queries. Boxes are cx, cy, w, h in 0..1 of the image.

    backbone: F^v, maps at BACKBONE_STRIDES. encoder: F^e_6, maps [B, encoder_dim, H, W] at the
    first of ENCODER_STRIDES, as many as the detector has. encoder_middle: F^e_4, the same maps
    two thirds through the encoder. q0, q6: [B, Q, query_dim], queries before and after the decoder
    layers. boxes: [B, Q, 4]. logits: [B, Q], of being a hand.
    """

    backbone: list[Tensor]
    encoder: list[Tensor]
    encoder_middle: list[Tensor]
    q0: Tensor
    q6: Tensor
    boxes: Tensor
    logits: Tensor


class HandDetector(Protocol):
    """An nn.Module; backbone_widths: channels at BACKBONE_STRIDES."""

    backbone_widths: tuple[int, ...]
    encoder_dim: int
    query_dim: int

    def __call__(self, images: Tensor) -> Detections:
        """images [B, 3, H, W] as models.handos.model.normalise makes them."""
        ...
