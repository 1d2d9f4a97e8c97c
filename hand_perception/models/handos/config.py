"""Sizes of a HandOS network; the YAML files in config/models hold one each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from hand_perception.errors import ModelError
from hand_perception.models.detectors.config import PretrainedDetectorConfig
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


CHOICES = {
    "expansion": ("grid", "literal"),
    "queries": ("instance", "unified"),
    "features": ("F6", "F4"),
    "side_tuning": ("backbone", "swin_t", "light"),
    "joints": ("regression", "posterior"),
    "side": ("normals", "opinion"),
    "mask": ("a", "b", "c", "d"),
    "lifting": ("distance", "skinning"),
}


@dataclass(frozen=True)
class DecoderConfig:
    """The interactive 2D-3D decoder (section 3.3).

    Raises ModelError for a choice that there is not.
    """

    dim: int = 96
    heads: int = 4
    points: int = 4
    points_interactive: int = 2
    value_strides: tuple[int, ...] = (8, 16)
    # Side tuning at stride 4, which only the grid expansion reads, and at the value strides.
    side_widths: tuple[int, ...] = (32, 64, 96)
    layers_2d: int = 2
    layers_interactive: int = 4
    vertex_queries: int = 98  # 778 in the paper; fewer are upsampled by a learned matrix
    ffn_ratio: int = 2
    # How joint reference boxes start: "grid" reads an image grid inside the box first,
    # "literal" is eq. 7 as printed.
    expansion: str = "grid"
    grid_size: int = 14
    # Each cell of the grid is told of all others, so what is seen of a hand does not depend on how
    # many pixels it has.
    whole_hand: bool = False
    # Lift regressed 3D joints to vertices with L besides the queries.
    lift_coordinates: bool = True
    # Table 6. Joint queries start from each instance's query or from one learned for all.
    queries: str = "instance"
    # F^e: the encoder's last maps, or those two thirds through it.
    features: str = "F6"
    # F^s: from the frozen backbone's maps, or from a network beside it that learns: a Swin
    # Transformer from nothing, or a light pyramid, which may start as MobRecon's. ``swin`` differs
    # from transformers' SwinConfig, whose defaults are SwinT's.
    side_tuning: str = "backbone"
    swin: dict[str, Any] = field(default_factory=dict)
    # Who attends to whom in the interactive layers: Fig. 8 (a) to (d), Table 7.
    mask: str = "c"
    # The 2D model passes through all layers, the interactive ones as 2D layers (supplement VI.2).
    all_layers_2d: bool = False
    # 2D joints as the last layer has them, or as the prior to which a finer heatmap of the grid
    # expansion is the evidence; then the network tells how far off it may be.
    joints: str = "regression"
    # A hand's side from the mesh's normals alone (section 3.5), or with the grid expansion's
    # opinion beside them.
    side: str = "normals"
    # L starts from distances to the rest keypoints or from skinning weights, as printed.
    lifting: str = "distance"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ModelError(f"decoder.{name} is {value!r}: use one of {choices}")
        needing_grid = self.joints == "posterior", self.side == "opinion", self.whole_hand
        if self.expansion != "grid" and any(needing_grid):
            raise ModelError(
                "decoder.joints: posterior, decoder.side: opinion and decoder.whole_hand need "
                "decoder.expansion: grid"
            )


@dataclass(frozen=True)
class HandOSConfig:
    """nms_iou: T^NMS, boxes that overlap more are one hand at inference (section 3.3)."""

    name: str = "handos_s"
    image_size: int = 320
    nms_iou: float = 0.6
    detector: DetectorConfig | PretrainedDetectorConfig = field(default_factory=DetectorConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    @classmethod
    def from_dict(cls, values: dict) -> HandOSConfig:
        """Raises ModelError for unknown keys."""
        values = dict(values)
        detector = values.get("detector", {})
        # A detector that names its kind is not ours.
        kind = PretrainedDetectorConfig if "kind" in detector else DetectorConfig
        values["detector"] = build(kind, detector, ModelError)
        values["decoder"] = build(DecoderConfig, values.get("decoder", {}), ModelError)
        return build(cls, values, ModelError)

    def to_dict(self) -> dict:
        return asdict(self)
