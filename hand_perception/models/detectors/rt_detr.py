"""RT-DETR v2 (Lv et al. 2024) and D-FINE (Peng et al. 2024) under HandOS, through transformers.

Both are a convolutional backbone, a hybrid encoder (attention at stride 32, then fusion down and up
the pyramid) and a deformable decoder. Their published weights know COCO's classes, where a hand is
not one: give weights that were fine-tuned to find hands.
"""

from __future__ import annotations

from torch import Tensor
from transformers import (
    DFineConfig,
    DFineForObjectDetection,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)

from hand_perception.models.detectors.calls import watch
from hand_perception.models.detectors.config import PretrainedDetectorConfig
from hand_perception.models.detectors.pretrained import PretrainedDetector, load_pretrained
from hand_perception.models.detectors.protocol import Detections

MODELS = {
    "rt_detr_v2": (RTDetrV2ForObjectDetection, RTDetrV2Config),
    "d_fine": (DFineForObjectDetection, DFineConfig),
}


class RealTimeDetr(PretrainedDetector):
    """Three encoder scales (strides 8 to 32); pixels go in as 0..1."""

    def __init__(self, config: PretrainedDetectorConfig) -> None:
        model = load_pretrained(*MODELS[config.kind], config)
        super().__init__(model, (0.0,) * 3, (1.0,) * 3)
        self.classes = list(config.classes)
        self.backbone_widths = tuple(model.model.backbone.model.num_features[1:])
        self.encoder_dim, self.query_dim = model.config.encoder_hidden_dim, model.config.d_model

    def detect(self, pixels: Tensor) -> Detections:
        core = self.model.model
        encoder = core.encoder
        watched = {f"stage_{k}": m for k, m in enumerate(core.backbone.model.encoder.stages)}
        # Two thirds through the encoder: after the way down, before the way up. The lateral
        # convolutions give what the coarser maps become there, the last fusion the finest.
        watched |= {f"lateral_{k}": m for k, m in enumerate(encoder.lateral_convs)}
        watched |= {"finest": encoder.fpn_blocks[-1], "decoder": core.decoder}
        with watch(watched) as calls:
            out = self.model(pixels)
        coarse = [calls[f"lateral_{k}"].output for k in range(len(encoder.lateral_convs))]
        return Detections(
            backbone=[calls[f"stage_{k}"].output for k in range(4)],
            encoder=list(out.encoder_last_hidden_state),
            encoder_middle=[calls["finest"].output, *reversed(coarse)],
            q0=calls["decoder"].arguments["inputs_embeds"],
            q6=out.last_hidden_state,
            # D-FINE's edges may leave the image or cross: a decoder divides by sizes.
            boxes=out.pred_boxes.clamp(1e-4, 1),
            logits=out.logits[..., self.classes].amax(-1),
        )
