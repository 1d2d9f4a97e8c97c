"""Sizes of a HandOS network; the YAML files in config/models hold one each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from hand_perception.errors import ModelError
from hand_perception.settings import build


@dataclass(frozen=True)
class DetectorConfig:
    """The detector under HandOS (section 3.1: any DETR-like one; this is our own)."""

    widths: tuple[int, ...] = (24, 32, 64, 128, 192)  # stem, then strides 4, 8, 16, 32
    blocks: tuple[int, ...] = (1, 1, 2, 2)  # residual blocks at strides 4, 8, 16, 32
    dim: int = 96
    heads: int = 4
    points: int = 4
    queries: int = 60
    layers: int = 3


@dataclass(frozen=True)
class DecoderConfig:
    """The interactive 2D-3D decoder (section 3.3)."""

    dim: int = 96
    heads: int = 4
    points: int = 4
    points_interactive: int = 2
    value_strides: tuple[int, ...] = (8, 16)
    side_widths: tuple[int, ...] = (32, 64, 96)  # side tuning at stride 4 and the value strides
    layers_2d: int = 2
    layers_interactive: int = 4
    vertex_queries: int = 98  # 778 in the paper; fewer are upsampled by a learned matrix
    ffn_ratio: int = 2
    # How joint reference boxes start: "grid" reads an image grid inside the box first,
    # "literal" is eq. 7 as printed.
    expansion: str = "grid"
    grid_size: int = 14
    # Lift regressed 3D joints to vertices with L besides the queries.
    lift_coordinates: bool = True


@dataclass(frozen=True)
class HandOSConfig:
    name: str = "handos_s"
    image_size: int = 320
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    @classmethod
    def from_dict(cls, values: dict) -> HandOSConfig:
        """Raises ModelError for unknown keys."""
        values = dict(values)
        nested = {"detector": DetectorConfig, "decoder": DecoderConfig}
        for key, kind in nested.items():
            values[key] = build(kind, values.get(key, {}), ModelError)
        return build(cls, values, ModelError)

    def to_dict(self) -> dict:
        return asdict(self)
