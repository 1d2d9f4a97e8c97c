"""Which pretrained detector stands under HandOS, and where its weights are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PretrainedDetectorConfig:
    """A detector of Hugging Face transformers.

    kind: a key of models.detectors.build.PRETRAINED. weights: a folder written by
    ``save_pretrained`` or a name in the user's Hugging Face cache; "" leaves the architecture with
    random weights, for tests and for counting. architecture: what differs from the library's
    default configuration, without weights only. classes: which of the detector's classes are hands
    (not for Grounding DINO, whose prompt says it).
    """

    kind: str
    weights: str = ""
    architecture: dict[str, Any] = field(default_factory=dict)
    classes: tuple[int, ...] = (0,)
