"""A training recipe: which model, which data, which stages; config/training/*.yaml."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from hand_perception.errors import DataError
from hand_perception.settings import build

BALANCED = {"synthetic": 0.5, "photographs": 0.5}


@dataclass(frozen=True)
class StageConfig:
    """One stage; its name is one of the objective's.

    sizes: side of the square images, one drawn a batch. slots: hands an image at most.
    impostors: queries an image that are no hands, for the decoder to tell them apart.
    sources: share of each source of images by name. every_layer: whether edge, normal and
    consistency terms apply to each interactive layer (the paper) or the last one only (cheaper).
    """

    name: str
    steps: int
    batch_size: int = 16
    sizes: tuple[int, ...] = (192,)
    slots: int = 1
    impostors: int = 1
    lr: float = 2e-3
    warmup: int = 100
    weight_decay: float = 1e-3
    clip: float = 2.0
    ema: float = 0.998
    sources: dict[str, float] = field(default_factory=lambda: dict(BALANCED))
    every_layer: bool = True


@dataclass(frozen=True)
class TrainingConfig:
    model: str
    stages: tuple[StageConfig, ...]
    seed: int = 0
    losses: dict[str, float] = field(default_factory=dict)  # weights that differ from the default

    @classmethod
    def load(cls, path: str | Path) -> TrainingConfig:
        """Raises DataError for unknown keys."""
        values = yaml.safe_load(Path(path).read_text())
        stages = tuple(build(StageConfig, s, DataError) for s in values.pop("stages"))
        return build(cls, values | {"stages": stages}, DataError)

    def to_dict(self) -> dict:
        return asdict(self)
