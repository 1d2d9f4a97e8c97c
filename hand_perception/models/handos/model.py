"""HandOS whole: the detector and the interactive decoder beside it."""

from __future__ import annotations

from torch import Tensor, nn

from hand_perception.models.detectors.build import build_detector
from hand_perception.models.handos.config import HandOSConfig
from hand_perception.models.handos.decoder import InteractiveDecoder
from hand_perception.template import Template


class HandOS(nn.Module):
    """detector: images -> Detections. decoder: their features and chosen instances -> hands."""

    def __init__(self, config: HandOSConfig, template: Template) -> None:
        super().__init__()
        self.config = config
        self.detector = build_detector(config.detector)
        self.decoder = InteractiveDecoder(
            config.decoder,
            self.detector.backbone_widths,
            self.detector.encoder_dim,
            self.detector.query_dim,
            template,
        )

    def freeze_detector(self) -> None:
        """From here on the detector does not change: no gradients, no running statistics."""
        self.detector.requires_grad_(False)
        self.detector.eval()

    def train(self, mode: bool = True) -> HandOS:
        super().train(mode)
        if not any(p.requires_grad for p in self.detector.parameters()):
            self.detector.eval()
        return self


def normalise(images: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] RGB -> float, about -2..2. The same numbers as imaging.normalise."""
    return (images.float() / 255 - 0.5) * 4
