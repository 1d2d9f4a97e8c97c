"""HandOS's stages (supplement VI.2): the detector alone, then its 2D layers, then all of them."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hand_perception.errors import DataError, ModelError
from hand_perception.models.detectors.config import PretrainedDetectorConfig
from hand_perception.models.handos.config import HandOSConfig
from hand_perception.models.handos.model import HandOS, normalise
from hand_perception.models.handos.side_tuning import LightSide
from hand_perception.models.precision import mixed_precision
from hand_perception.settings import build
from hand_perception.template import Template, load_template
from hand_perception.training.batches import (
    Batch,
    BatchRecipe,
    Source,
    StepBatches,
    places_of,
)
from hand_perception.training.config import StageConfig
from hand_perception.training.decoder_objective import (
    LossWeights,
    choose_impostors,
    choose_instances,
    decoder_losses,
    presence_loss,
)
from hand_perception.training.detector_objective import PosePretext, detector_losses
from hand_perception.training.losses import MeshTerms
from hand_perception.training.mesh_prior import load_prior

_log = logging.getLogger(__name__)

# Where MobRecon keeps its encoder.
ENCODER = "encoder."


class Learner(nn.Module):
    """The network with what only training needs."""

    def __init__(self, config: HandOSConfig, template: Template) -> None:
        super().__init__()
        self.network = HandOS(config, template)
        self.pretext = PosePretext(self.network.detector.query_dim)


class HandOSObjective:
    """``detector``: the detector alone. ``joints``: it is frozen from here on, the 2D layers
    learn. ``mesh``: everything beside the detector learns. A pretrained detector is always frozen,
    there is no stage ``detector`` then. losses: of LossWeights, by name. seed: of the first
    weights. template: whose mesh is learnt. prior: a file of `hand-perception train-prior`.

    Raises DataError for an unknown term or a prior without its weight.
    """

    stages = ("detector", "joints", "mesh")
    fusible = ()

    def __init__(
        self,
        config: HandOSConfig,
        losses: dict[str, float],
        seed: int = 0,
        template: Template | None = None,
        prior: Path | None = None,
    ) -> None:
        self.config, self.template = config, template or load_template()
        if isinstance(config.detector, PretrainedDetectorConfig):
            self.stages = ("joints", "mesh")
        torch.manual_seed(seed)
        self.weights = build(LossWeights, losses, DataError)
        if bool(self.weights.prior) != (prior is not None):
            raise DataError("losses.prior and --prior go together: give both or neither")
        self.prior = None if prior is None else load_prior(prior, self.template)
        self.learner = Learner(config, self.template)

    def to(self, device: torch.device) -> None:
        template = self.template
        self.learner.to(device, memory_format=torch.channels_last)
        self.mesh = MeshTerms(torch.from_numpy(template.faces).long().to(device))
        self.regressor = torch.from_numpy(template.regressor).to(device)
        self.landmarks = torch.from_numpy(template.landmarks).to(device)
        if self.prior is not None:
            self.prior.to(device)

    def load(self, weights: dict[str, Tensor]) -> None:
        """A HandOS's weights; parts of the decoder that this one has beyond them, or in other
        sizes, start as they were made, and it is said which. Of MobRecon with the light encoder:
        its pyramid, for the one beside the detector.

        Raises ModelError for weights of which this network has no use.
        """
        network = self.learner.network
        if any(name.startswith("detector.") for name in weights):
            own = network.state_dict()
            fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
            anew = sorted({name.rsplit(".", 1)[0] for name in own.keys() - fitting.keys()})
            if any(name.startswith("detector.") for name in anew):
                raise ModelError(
                    "--init: another detector than this model's: give one of its sizes"
                )
            network.load_state_dict(fitting, strict=False)
            if anew:
                _log.warning("--init: these start as they were made: %s", ", ".join(anew))
            return
        pyramid = {k[len(ENCODER) :]: v for k, v in weights.items() if k.startswith(ENCODER)}
        beside = network.decoder.scratch
        if not isinstance(beside, LightSide) or not beside.state_dict().keys() <= pyramid.keys():
            raise ModelError(
                "--init: weights of another network: give a HandOS's or, with "
                "decoder.side_tuning=light, those of MobRecon with the light encoder"
            )
        beside.load_state_dict({k: pyramid[k] for k in beside.state_dict()})

    def prepare(self, stage: StageConfig) -> list[nn.Module]:
        network = self.learner.network
        self.learner.requires_grad_(True)
        if stage.name == "detector":
            self.learner.train()
            return [network.detector, self.learner.pretext]
        network.freeze_detector()
        self.learner.train()
        return [network.decoder]

    def batches(
        self,
        stage: StageConfig,
        sources: list[Source],
        weights: tuple[float, ...],
        batch_size: int,
        seed: int,
    ) -> Dataset:
        recipe = BatchRecipe(
            batch_size=batch_size,
            sizes=stage.sizes,
            view=stage.view or ("image" if stage.name == "detector" else "hand"),
            slots=max(stage.slots, 4),
            weights=weights,
            flip=stage.flip,
            epochs=stage.epochs > 0,
        )
        return StepBatches(sources, recipe, seed, places_of(stage, sources))

    def losses(self, stage: StageConfig, batch: Batch) -> dict[str, Tensor]:
        network = self.learner.network
        images = normalise(batch.images).contiguous(memory_format=torch.channels_last)
        learns = stage.name == "detector"
        with torch.set_grad_enabled(learns), mixed_precision(images.device.type):
            found = network.detector(images)
        if learns:
            return detector_losses(found, batch, self.learner.pretext)
        chosen = choose_instances(found, batch, stage.slots, stage.iou_cost, stage.true_boxes)
        impostors = choose_impostors(found, batch, stage.impostors)
        out = network.decoder(
            *network.decoder.read(images, found),
            torch.cat([chosen.queries, impostors.queries], 1),
            torch.cat([chosen.boxes, impostors.boxes], 1),
            with_mesh=stage.name == "mesh",
            judged=stage.impostors,
        )
        losses = decoder_losses(
            out,
            chosen,
            batch,
            self.mesh,
            self.regressor,
            self.landmarks,
            self.weights,
            every_layer=stage.every_layer,
            prior=self.prior,
        )
        if out.presence is not None:
            presence = presence_loss(out.presence, chosen.valid, impostors.valid)
            losses["presence"] = presence * self.weights.presence
        return losses

    def describe(self) -> dict:
        return self.config.to_dict()
