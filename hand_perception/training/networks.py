"""From a recipe to the objective of the network that it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from hand_perception.errors import DataError, ModelError
from hand_perception.settings import override
from hand_perception.template import Template
from hand_perception.training.config import TrainingConfig
from hand_perception.training.objective import Objective


def load_objective(
    path: Path,
    recipe: TrainingConfig,
    template: Template | None = None,
    changes: Sequence[str] = (),
    prior: Path | None = None,
) -> Objective:
    """path: of the network's sizes, config/models/*.yaml; its key ``network`` says which one.
    template: whose mesh is learnt, ours unless given. changes: of the sizes, such as
    "decoder.mask=b". prior: a file of `hand-perception train-prior`, for HandOS.

    Raises DataError for a missing file, an unknown network or loss, ModelError for unknown sizes.
    """
    if not path.is_file():
        known = ", ".join(sorted(sizes.stem for sizes in path.parent.glob("*.yaml")))
        raise DataError(
            f"{path} is missing: sizes of networks are looked for in the folder models beside the "
            f"recipe's, where there is {known or 'none: copy the recipe to config/training'}"
        )
    values = override(yaml.safe_load(path.read_text()), changes, ModelError)
    network = values.pop("network", None)
    if network == "handos":
        from hand_perception.models.handos.config import HandOSConfig
        from hand_perception.training.handos_objective import HandOSObjective

        sizes = HandOSConfig.from_dict(values)
        return HandOSObjective(sizes, recipe.losses, recipe.seed, template, prior)
    if network == "mobrecon":
        from hand_perception.models.mobrecon.config import MobReconConfig
        from hand_perception.training.mobrecon_objective import MobReconObjective

        widths = MobReconConfig.from_dict(values)
        return MobReconObjective(widths, recipe.losses, recipe.seed, template)
    if network == "handar":
        from hand_perception.models.handar.config import HandARConfig
        from hand_perception.training.handar_objective import HandARObjective

        return HandARObjective(HandARConfig.from_dict(values), recipe.losses, recipe.seed, template)
    raise DataError(f"{path}: unknown network {network!r}, use handos, mobrecon or handar")
