from pathlib import Path

import pytest

from hand_perception.errors import DataError
from hand_perception.models.handos.config import HandOSConfig
from hand_perception.training.config import TrainingConfig

CONFIG = Path(__file__).parents[2] / "config"


@pytest.mark.parametrize("path", sorted((CONFIG / "training").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_load_and_name_a_model(path):
    recipe = TrainingConfig.load(path)
    assert recipe.stages[0].name == "detector" and recipe.stages[-1].name == "mesh"
    assert HandOSConfig.load(CONFIG / "models" / f"{recipe.model}.yaml").name == recipe.model


@pytest.mark.parametrize(
    "text, word",
    [
        ("model: a\nstages: [{name: mesh, steps: 1, learning_rate: 1}]", "learning_rate"),
        ("model: a\nstages: [{name: meshes, steps: 1}]", "meshes"),
        ("model: a\nstages: []\nlosses: {vertexes: 1}", "vertexes"),
    ],
)
def test_misspelt_recipes_are_named(tmp_path, text, word):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=word):
        TrainingConfig.load(path)
