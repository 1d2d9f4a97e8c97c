"""What the objectives of networks that read crops have in common."""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils.data import Dataset

from hand_perception.errors import ModelError
from hand_perception.training.batches import Source, places_of
from hand_perception.training.config import StageConfig
from hand_perception.training.crops import CropBatches, CropRecipe

# Where a HandOS and a network of crops with the light encoder keep the backbone.
BACKBONES = ("detector.backbone.", "encoder.backbone.")


class CropObjective:
    """config: of the network, with crop_size, crop_scale and encoder; learner.network: itself."""

    learner: nn.Module
    fusible: tuple[nn.Module, ...] = ()

    def __init__(self, config) -> None:
        self.config = config

    def load(self, weights: dict[str, Tensor]) -> None:
        """The network's own weights, or those of a HandOS or another network of crops, from whose
        backbone the light encoder starts. Heads that the network has beyond its weights start as
        they were made.

        Raises ModelError where the encoder is another one.
        """
        network = self.learner.network
        prefix = next((p for p in BACKBONES if any(k.startswith(p) for k in weights)), None)
        own = weights.keys() <= network.state_dict().keys()
        if prefix is None or own:
            network.load_state_dict(weights, strict=not own)
            return
        if self.config.encoder != "light":
            raise ModelError(
                f"encoder {self.config.encoder!r} cannot start from another network's backbone: "
                "set encoder to light or start without --init"
            )
        backbone = {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}
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
        return CropBatches(sources, recipe, seed, places_of(stage, sources))

    def describe(self) -> dict:
        return self.config.to_dict()
