"""Grounding DINO under HandOS (section 3.1; Liu et al. 2024), through Hugging Face transformers."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn
from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

from hand_perception.models.detectors.calls import watch
from hand_perception.models.detectors.config import PretrainedDetectorConfig
from hand_perception.models.detectors.pretrained import PretrainedDetector, load_pretrained
from hand_perception.models.detectors.protocol import Detections

# "Hand." in the vocabulary of bert-base-uncased, which every Grounding DINO reads:
# [CLS], hand, ".", [SEP].
PROMPT = (101, 2192, 1012, 102)
# ImageNet's, of pixels in 0..1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FoldedText(nn.Module):
    """The textual backbone B^t (eq. 1) of one prompt: F^t, the same for every image."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.register_buffer("features", features)

    def forward(self, tokens: Tensor, *_masks: Tensor, **_options: bool) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self.features.expand(len(tokens), -1, -1))


class GroundingDino(PretrainedDetector):
    """Four encoder scales (strides 8 to 64); Q0 are its learned content queries."""

    def __init__(self, config: PretrainedDetectorConfig) -> None:
        model = load_pretrained(GroundingDinoForObjectDetection, GroundingDinoConfig, config)
        super().__init__(model, MEAN, STD)
        self.register_buffer("tokens", torch.tensor([PROMPT]), persistent=False)
        self._fold_text()
        self.backbone_widths = tuple(self._backbone.num_features[1:])
        self.encoder_dim = self.query_dim = model.config.d_model

    @property
    def _backbone(self) -> nn.Module:
        return self.model.model.backbone.conv_encoder.model

    def _fold_text(self) -> None:
        """Runs the textual backbone once and keeps its result in its place."""
        with torch.no_grad(), watch({"text": self.model.model.text_backbone}) as calls:
            self.model(torch.zeros(1, 3, 128, 128), self.tokens)
        self.model.model.text_backbone = FoldedText(calls["text"].output.last_hidden_state)

    def detect(self, pixels: Tensor) -> Detections:
        core = self.model.model
        layers = core.encoder.layers
        watched = {"shallow": self._backbone.swin.encoder.layers[0], "backbone": self._backbone}
        watched |= {f"scale_{k}": m for k, m in enumerate(core.input_proj_vision)}
        watched |= {"middle": layers[(2 * len(layers) + 2) // 3 - 1], "decoder": core.decoder}
        with watch(watched) as calls:
            out = self.model(pixels, self.tokens.expand(len(pixels), -1))
        sizes = [calls[f"scale_{k}"].output.shape[-2:] for k in range(len(core.input_proj_vision))]
        (middle, _text), _weights = calls["middle"].output
        return Detections(
            backbone=[calls["shallow"].output[1], *calls["backbone"].output.feature_maps],
            encoder=maps(out.encoder_last_hidden_state_vision, sizes),
            encoder_middle=maps(middle, sizes),
            q0=calls["decoder"].arguments["inputs_embeds"],
            q6=out.intermediate_hidden_states[:, -1],
            boxes=out.pred_boxes,
            # The library pads to its longest text with minus infinity.
            logits=out.logits[..., : len(PROMPT)].amax(-1),
        )


def maps(tokens: Tensor, sizes: list[torch.Size]) -> list[Tensor]:
    """Tokens [B, T, d] of all scales, one after the other -> maps [B, d, H, W]."""
    parts = tokens.split([h * w for h, w in sizes], 1)
    return [p.transpose(1, 2).unflatten(2, (h, w)) for p, (h, w) in zip(parts, sizes, strict=True)]
