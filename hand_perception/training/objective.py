"""What a network is trained for: the part of a run that differs from network to network."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hand_perception.training.batches import Source
from hand_perception.training.config import StageConfig


class Objective(Protocol):
    """learner: a module whose ``network`` is what is shipped; it may hold more for training only.

    stages: the names that a recipe's stages may have. fusible: parts that torch.compile makes much
    faster.
    """

    learner: nn.Module
    stages: tuple[str, ...]
    fusible: tuple[nn.Module, ...]

    def to(self, device: torch.device) -> None:
        """Moves the learner and all that the losses need."""
        ...

    def load(self, weights: dict[str, Tensor]) -> None:
        """Starts from the network's weights of an earlier run."""
        ...

    def prepare(self, stage: StageConfig) -> list[nn.Module]:
        """Switches to a stage; returns the modules that learn in it."""
        ...

    def batches(
        self,
        stage: StageConfig,
        sources: list[Source],
        weights: tuple[float, ...],
        batch_size: int,
        seed: int,
    ) -> Dataset:
        """``batches(...)[step]``: a batch with a method ``to(device)``, the same at each asking."""
        ...

    def losses(self, stage: StageConfig, batch) -> dict[str, Tensor]:
        """Weighted terms by name."""
        ...

    def describe(self) -> dict:
        """The network's configuration, for the checkpoint."""
        ...
