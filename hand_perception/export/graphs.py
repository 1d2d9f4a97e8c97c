"""The two graphs of a HandOS model as plain modules with named tensors in and out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hand_perception.models.detectors.protocol import BACKBONE_STRIDES, ENCODER_STRIDES
from hand_perception.models.handos.decoder import UNIT
from hand_perception.models.handos.model import HandOS
from hand_perception.runtime.backend import DECODED, SPREADS


def feature_names(model: HandOS) -> list[str]:
    """The maps that the decoder reads, named by origin and stride."""
    shallow, deep = model.decoder.map_names
    return shallow + deep


class DetectorGraph(nn.Module):
    """image [1, 3, S, S] -> boxes [1, Q, 4], scores [1, Q], instances [1, Q, 2d], feature maps."""

    def __init__(self, model: HandOS) -> None:
        super().__init__()
        self.model = model
        self.names = feature_names(model)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.model.detector(image)
        backbone, encoder = self.model.decoder.read(image, found)
        maps = _named("backbone", BACKBONE_STRIDES, backbone)
        maps |= _named("encoder", ENCODER_STRIDES, encoder)
        instances = torch.cat([found.q0, found.q6], -1)
        return (found.boxes, found.logits.sigmoid(), instances, *(maps[n] for n in self.names))


class DecoderGraph(nn.Module):
    """instances [1, H, 2d], boxes [1, H, 4], feature maps -> ``decoder_outputs``: joints2d,
    vertices (m), camera, presence [1, H] in 0..1 (all ones where the model has no such head), and
    of models that tell: right [1, H] in 0..1; spread2d [1, H, 21] in 0..1 of the image, spread3d
    [1, H] (m)."""

    def __init__(self, model: HandOS) -> None:
        super().__init__()
        self.decoder = model.decoder
        self.names = feature_names(model)

    def forward(self, instances: Tensor, boxes: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(self.names, maps, strict=True))
        empty = maps[0].new_zeros(0)
        backbone = [named.get(f"backbone_{s}", empty) for s in BACKBONE_STRIDES]
        encoder = [named.get(f"encoder_{s}", empty) for s in ENCODER_STRIDES]
        out = self.decoder(backbone, encoder, instances, boxes)
        logits = out.presence
        presence = torch.ones_like(boxes[..., 0]) if logits is None else logits.sigmoid()
        told = [out.final2d, out.vertices[-1] * UNIT, out.camera[-1], presence]
        if out.side is not None:
            told.append(out.side.sigmoid())
        if out.answer is not None:
            told += [out.spread2d * boxes[..., 2:].amax(-1, keepdim=True), out.spread3d * UNIT]
        return tuple(told)


def decoder_outputs(model: HandOS) -> list[str]:
    """Names of what the decoder's graph gives, in its order."""
    config = model.config.decoder
    right = ["right"] if config.side == "opinion" else []
    return [*DECODED, *right, *(SPREADS if config.joints == "posterior" else ())]


def _named(origin: str, strides: tuple[int, ...], maps: list[Tensor]) -> dict[str, Tensor]:
    return {f"{origin}_{stride}": m for stride, m in zip(strides, maps, strict=False)}
