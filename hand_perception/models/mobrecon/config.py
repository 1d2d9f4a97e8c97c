"""Sizes of a MobRecon network; the YAML files in config/models hold one each."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from hand_perception.errors import ModelError
from hand_perception.settings import build

CHOICES = {
    "encoder": ("light", "dense", "ghost", "resnet18", "resnet50"),
    "pose": ("mapreg", "heatmap", "softargmax", "regression", "posterior"),
    "lifting": ("pvl", "fc"),
    "graph": ("dsconv", "spiralconv++", "spiralconv"),
}
# Of the encoders' smallest map.
STRIDE = 32


@dataclass(frozen=True)
class MobReconConfig:
    """encoder: "dense", "ghost", "resnet18" or "resnet50" (section 3.1, Table 1), or "light", ours.
    pose: "mapreg", "heatmap", "softargmax" or "regression" (Table 2), or "posterior", ours.
    skips: whether the way up to the maps sees the way down (Table 2, "w/o skip"). lifting:
    "pvl", or "fc" as CMR has it (Table 2). graph: "dsconv", "spiralconv++" or "spiralconv"
    (Table 4). features: C^e. widths: D of the 3D decoder, coarse to fine (4.1). spiral: S,
    vertices a spiral. crop_size: side in pixels, a multiple of 32. crop_scale: side of the crop
    in sides of the detector's box.

    Raises ModelError for a choice that there is not.
    """

    name: str = "mobrecon"
    crop_size: int = 128
    crop_scale: float = 1.3
    encoder: str = "dense"
    pose: str = "mapreg"
    skips: bool = True
    lifting: str = "pvl"
    graph: str = "dsconv"
    features: int = 256
    widths: tuple[int, ...] = (256, 128, 64, 32)
    spiral: int = 9

    def __post_init__(self) -> None:
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise ModelError(f"{key} is one of {choices}, not {getattr(self, key)!r}")
        if self.crop_size <= 0 or self.crop_size % STRIDE:
            raise ModelError(f"crop_size is a multiple of {STRIDE}, not {self.crop_size}")

    @classmethod
    def from_dict(cls, values: dict) -> MobReconConfig:
        """Raises ModelError for unknown keys and choices."""
        return build(cls, values, ModelError)

    def to_dict(self) -> dict:
        return asdict(self)
