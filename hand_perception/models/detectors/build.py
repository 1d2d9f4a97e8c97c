"""From a configuration to the detector that it names."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from hand_perception.errors import ModelError
from hand_perception.models.detectors.config import PretrainedDetectorConfig
from hand_perception.models.handos.config import DetectorConfig
from hand_perception.models.handos.detector import Detector

# Kind: module and class; imported only when asked for, since transformers is an extra.
PRETRAINED = {
    "grounding_dino": ("hand_perception.models.detectors.grounding_dino", "GroundingDino"),
    "rt_detr_v2": ("hand_perception.models.detectors.rt_detr", "RealTimeDetr"),
    "d_fine": ("hand_perception.models.detectors.rt_detr", "RealTimeDetr"),
}


def build_detector(config: DetectorConfig | PretrainedDetectorConfig) -> nn.Module:
    """A HandDetector: ours, or a pretrained one, which stays frozen.

    Raises ModelError for an unknown kind, without transformers, or without the weights.
    """
    if isinstance(config, DetectorConfig):
        return Detector(config)
    if config.kind not in PRETRAINED:
        raise ModelError(f"unknown detector {config.kind!r}: use one of {sorted(PRETRAINED)}")
    module, name = PRETRAINED[config.kind]
    try:
        kind: Any = getattr(import_module(module), name)
    except ImportError as error:
        raise ModelError(
            f"the detector {config.kind} needs transformers ({error}): "
            "pip install 'hand_perception[detectors]'"
        ) from error
    return kind(config)
