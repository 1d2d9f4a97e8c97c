"""Sizes of a MobRecon network; the YAML files in config/models hold one each."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from hand_perception.errors import ModelError
from hand_perception.settings import build


@dataclass(frozen=True)
class MobReconConfig:
    """encoder: "dense", "ghost", "resnet18" or "resnet50" (section 3.1, Table 1). pose: "mapreg",
    "heatmap", "softargmax" or "regression" (Table 2). graph: "dsconv", "spiralconv++" or
    "spiralconv" (Table 4). features: C^e. widths: D of the 3D decoder, coarse to fine (4.1).
    spiral: S, vertices a spiral. crop_scale: side of the crop in sides of the detector's box.
    """

    name: str = "mobrecon"
    crop_size: int = 128
    crop_scale: float = 1.3
    encoder: str = "dense"
    pose: str = "mapreg"
    graph: str = "dsconv"
    features: int = 256
    widths: tuple[int, ...] = (256, 128, 64, 32)
    spiral: int = 9

    @classmethod
    def from_dict(cls, values: dict) -> MobReconConfig:
        """Raises ModelError for unknown keys."""
        return build(cls, values, ModelError)

    def to_dict(self) -> dict:
        return asdict(self)
