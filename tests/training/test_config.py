from pathlib import Path

import pytest
import yaml

from hand_perception.errors import DataError, ModelError
from hand_perception.models.handos.config import HandOSConfig
from hand_perception.settings import build
from hand_perception.training.config import TrainingConfig
from hand_perception.training.decoder_objective import LossWeights
from hand_perception.training.networks import load_objective

CONFIG = Path(__file__).parents[2] / "config"


@pytest.mark.parametrize("path", sorted((CONFIG / "training").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_load_and_name_a_model(path):
    recipe = TrainingConfig.load(path)
    sizes = yaml.safe_load((CONFIG / "models" / f"{recipe.model}.yaml").read_text())
    if sizes.get("detector", {}).get("weights"):
        # The pretrained detector's weights are not here: its recipe is read, not built.
        sizes.pop("network")
        assert HandOSConfig.from_dict(sizes).name == recipe.model
        assert {stage.name for stage in recipe.stages} <= {"joints", "mesh"}
        build(LossWeights, recipe.losses, DataError)
        return
    objective = load_objective(CONFIG / "models" / f"{recipe.model}.yaml", recipe)
    assert objective.describe()["name"] == recipe.model
    assert {stage.name for stage in recipe.stages} <= set(objective.stages)


@pytest.mark.parametrize(
    "text, word",
    [
        ("model: a\nstages: [{name: mesh, steps: 1, learning_rate: 1}]", "learning_rate"),
        ("model: a\nstages: []\nlossses: {vertices: 1}", "lossses"),
    ],
)
def test_misspelt_recipes_are_named(tmp_path, text, word):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=word):
        TrainingConfig.load(path)


@pytest.mark.parametrize(
    "network, losses, word",
    [("handos", "vertexes", "vertexes"), ("handoss", "vertices", "handoss")],
)
def test_unknown_networks_and_losses_are_named(tmp_path, network, losses, word):
    path = tmp_path / "model.yaml"
    path.write_text(f"network: {network}\nname: a\n")
    recipe = TrainingConfig("a", (), losses={losses: 1.0})
    with pytest.raises(DataError, match=word):
        load_objective(path, recipe)


def test_choices_of_the_network_are_set_from_outside():
    recipe = TrainingConfig("handos_s", ())
    path = CONFIG / "models" / "handos_s.yaml"
    changes = ["decoder.mask=a", "decoder.queries=unified", "image_size=64"]
    described = load_objective(path, recipe, changes=changes).describe()
    assert described["decoder"]["mask"] == "a" and described["image_size"] == 64
    with pytest.raises(ModelError, match="mask is 'z'"):
        load_objective(path, recipe, changes=["decoder.mask=z"])


def test_a_missing_file_of_sizes_says_where_it_was_looked_for(tmp_path):
    recipe = TrainingConfig.load(CONFIG / "training" / "mobrecon.yaml")
    with pytest.raises(DataError, match="copy the recipe to config/training"):
        load_objective(tmp_path / "models" / "mobrecon.yaml", recipe)
    with pytest.raises(DataError, match="handos_s, mobrecon"):
        load_objective(CONFIG / "models" / "mobrecn.yaml", recipe)
