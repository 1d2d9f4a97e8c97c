"""A training recipe: which model, which data, which stages; config/training/*.yaml."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from hand_perception.errors import DataError
from hand_perception.settings import build

_CHOICES = {"optimizer": ("adamw", "adam", "muon"), "view": ("", "image", "hand")}
BALANCED = {"synthetic": 0.5, "photographs": 0.5}


@dataclass(frozen=True)
class StageConfig:
    """One stage; its name is one of the objective's. It is ``steps`` batches long, or ``epochs``:
    so often through all samples of its sources together.

    optimizer: "adamw", "muon", or "adam" as in the paper. cosine_from: where the rate starts to
    fall, in epochs or steps as the stage is counted; right after the warm-up unless given.
    decay_at: where the rate is divided by ten instead, counted likewise (MobRecon 4.1). view:
    "image" or "hand", what of an image is seen; the objective's own choice unless given. flip: how
    often an image is mirrored, a right hand made a left one (HandOS, table 2).
    sizes: side of the square images, one drawn a batch. slots: hands an image at most.
    impostors: queries an image that are no hands, for the decoder to tell them apart.
    iou_cost: how much -log IoU weighs in SimOTA beside the score's cross-entropy (1 in eq. 5).
    true_boxes: how often an instance starts from its hand's true box, jittered, instead of the
    detector's (never in the paper).
    sources: share of each source of images by name. every_layer: whether edge, normal and
    consistency terms apply to each interactive layer (the paper) or the last one only (cheaper).
    """

    name: str
    steps: int = 0
    epochs: int = 0
    batch_size: int = 16
    sizes: tuple[int, ...] = (192,)
    slots: int = 1
    impostors: int = 1
    iou_cost: float = 3.0
    true_boxes: float = 0.4
    optimizer: str = "adamw"
    lr: float = 2e-3
    cosine_from: int = 0
    decay_at: tuple[int, ...] = ()
    warmup: int = 100
    weight_decay: float = 1e-3
    clip: float = 2.0
    ema: float = 0.998
    view: str = ""
    flip: float = 0.5
    sources: dict[str, float] = field(default_factory=lambda: dict(BALANCED))
    every_layer: bool = True


@dataclass(frozen=True)
class TrainingConfig:
    """topology: of the meshes that are learnt, "open778" or "mano" (the user's own file)."""

    model: str
    stages: tuple[StageConfig, ...]
    seed: int = 0
    topology: str = "open778"
    losses: dict[str, float] = field(default_factory=dict)  # weights that differ from the default

    @classmethod
    def load(cls, path: str | Path) -> TrainingConfig:
        """Raises DataError for unknown keys and values."""
        values = yaml.safe_load(Path(path).read_text())
        stages = tuple(build(StageConfig, s, DataError) for s in values.pop("stages"))
        for stage in stages:
            if bool(stage.steps) == bool(stage.epochs):
                raise DataError(f"{path}: stage {stage.name!r} needs either steps or epochs")
            for key, choices in _CHOICES.items():
                if getattr(stage, key) not in choices:
                    raise DataError(f"{path}: {key} is one of {choices}")
        return build(cls, values | {"stages": stages}, DataError)

    def to_dict(self) -> dict:
        return asdict(self)
