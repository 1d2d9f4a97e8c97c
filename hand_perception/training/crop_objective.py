"""What the objectives of networks that read crops have in common."""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils.data import Dataset

from hand_perception.errors import ModelError
from hand_perception.training.batches import Source
from hand_perception.training.config import StageConfig
from hand_perception.training.crops import CropBatches, CropRecipe

BACKBONE = "detector.backbone."


class CropObjective:
    """config: of the network, with crop_size, crop_scale and encoder; learner.network: itself."""

    learner: nn.Module
    fusible: tuple[nn.Module, ...] = ()

    def __init__(self, config) -> None:
        self.config = config

    def load(self, weights: dict[str, Tensor]) -> None:
        """The network's own weights, or a HandOS's whose backbone the light encoder starts from.

        Raises ModelError where the encoder is another one.
        """
        network = self.learner.network
        if not any(name.startswith(BACKBONE) for name in weights):
            network.load_state_dict(weights)
            return
        if self.config.encoder != "light":
            raise ModelError(
                f"encoder {self.config.encoder!r} cannot start from a HandOS backbone: set "
                "encoder to light or start without --init"
            )
        backbone = {k[len(BACKBONE) :]: v for k, v in weights.items() if k.startswith(BACKBONE)}
        network.encoder.backbone.load_state_dict(backbone)

    def batches(
        self,
        stage: StageConfig,
        sources: list[Source],
        weights: tuple[float, ...],
        batch_size: int,
        seed: int,
    ) -> Dataset:
        """As Objective.batches; views are crops, whatever the stage."""
        recipe = CropRecipe(self.config.crop_size, self.config.crop_scale, batch_size, weights)
        return CropBatches(sources, recipe, seed)

    def describe(self) -> dict:
        return self.config.to_dict()
