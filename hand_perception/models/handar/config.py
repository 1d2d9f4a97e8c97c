"""Sizes of a HandAR network; the YAML files in config/models hold one each."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from hand_perception.errors import ModelError
from hand_perception.settings import build

ENCODERS = ("light", "resnet50")
# The rows of Table 3 that change the network; its row without the render loss is a loss's weight.
ABLATIONS = ("joint_stage", "refine_stage", "local", "global", "offset", "segmentation")


@dataclass(frozen=True)
class HandARConfig:
    """encoder: "light", our detector's backbone, or "resnet50" (section 4.1; crop_size 256, width
    256 there). width: of the maps that joints and vertices are read from. graph_width: of the
    Graph-CNN. crop_scale: side of the crop in sides of the detector's box. without: parts left out,
    of ``ABLATIONS`` (Table 3).

    Raises ModelError for a choice that there is not.
    """

    name: str = "handar"
    crop_size: int = 128
    crop_scale: float = 1.3
    encoder: str = "light"
    width: int = 64
    graph_width: int = 64
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise ModelError(f"unknown encoder {self.encoder!r}, use one of {ENCODERS}")
        if unknown := set(self.without) - set(ABLATIONS):
            raise ModelError(f"cannot leave out {sorted(unknown)}, only of {ABLATIONS}")
        if self.crop_size % 128:
            raise ModelError(f"crop_size must be a multiple of 128, got {self.crop_size}")

    @classmethod
    def from_dict(cls, values: dict) -> HandARConfig:
        """Raises ModelError for unknown keys and choices."""
        return build(cls, values, ModelError)

    def to_dict(self) -> dict:
        return asdict(self)

    def has(self, part: str) -> bool:
        """Whether a part of ``ABLATIONS`` is in."""
        return part not in self.without
