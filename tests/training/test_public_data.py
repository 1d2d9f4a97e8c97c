"""The way of somebody with the data sets: train, go on, export and evaluate, all by command."""

from __future__ import annotations

import argparse
import json

import miniatures as mini
import pytest
import torch
import yaml
from mano_file import write_mano
from models.tiny import TINY

from hand_perception.data import command as pack_command
from hand_perception.errors import DataError
from hand_perception.evaluation import command as evaluate_command
from hand_perception.export import command as export_command
from hand_perception.hands import Camera
from hand_perception.reconstructor import HandReconstructor
from hand_perception.template import load_template
from hand_perception.training import checkpoint
from hand_perception.training import command as train_command


def run(module, *arguments):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.run(parser.parse_args([str(a) for a in arguments]))


@pytest.fixture
def world(tmp_path):
    """Two data sets, one of them packed, a MANO file and recipes of a tiny network."""
    mini.write_freihand(tmp_path / "freihand")
    mini.write_freihand(tmp_path / "freihand", "evaluation")
    mini.write_hint(tmp_path / "hint", "TRAIN")
    write_mano(tmp_path / "MANO_RIGHT.pkl")
    run(pack_command, f"freihand={tmp_path / 'freihand'}", "--output", tmp_path / "packed")
    (tmp_path / "config" / "models").mkdir(parents=True)
    (tmp_path / "config" / "training").mkdir()
    sizes = {"network": "handos", **TINY.to_dict()}
    # Plain lists: YAML knows no tuples.
    (tmp_path / "config" / "models" / "tiny.yaml").write_text(
        yaml.safe_dump(json.loads(json.dumps(sizes)))
    )
    for topology in ("mano", "open778"):
        stage = {"epochs": 1, "batch_size": 4, "sizes": [64], "warmup": 1, "optimizer": "adam"}
        stage["sources"] = {"freihand": 3, "hint": 1}
        stages = [{"name": "detector", **stage}, {"name": "mesh", **stage, "slots": 1}]
        recipe = {"model": "tiny", "topology": topology, "stages": stages}
        path = tmp_path / "config" / "training" / f"{topology}.yaml"
        path.write_text(yaml.safe_dump(recipe))
    torch.set_num_threads(1)
    return tmp_path


def train(world, topology, *arguments):
    recipe = world / "config" / "training" / f"{topology}.yaml"
    data = (f"freihand={world / 'packed' / 'freihand'}", f"hint={world / 'hint'}")
    common = ("--output", world / "run", "--data", *data, "--device", "cpu", "--workers", 0)
    return run(train_command, recipe, *common, *arguments)


def test_manos_mesh_from_training_to_the_table(world, capsys):
    assert train(world, "mano", "--mano", world / "MANO_RIGHT.pkl") == 0
    _, meta = checkpoint.load(world / "run" / "mesh.safetensors")
    assert meta["recipe"]["topology"] == "mano"
    # 8 + 3 samples in fours: three steps a stage. Again: everything is done already.
    assert train(world, "mano", "--mano", world / "MANO_RIGHT.pkl") == 0
    model = world / "model"
    assert run(export_command, world / "run" / "mesh.safetensors", "--output", model) == 0
    reconstructor = HandReconstructor.from_pretrained(model, threads=1)
    assert reconstructor.topology.name == "mano"
    image = mini.cv2.imread(str(world / "freihand" / "evaluation" / "rgb" / "00000000.jpg"))
    reconstructor(image, Camera.assumed(224, 224))
    capsys.readouterr()
    root, out = world / "freihand", world / "out"
    argv = ("--dataset", "freihand", "--root", root, "--model", model, "--protocol", "gt-box")
    assert run(evaluate_command, *argv, "--output", out) == 0
    numbers = json.loads((out / "freihand_gt-box.json").read_text())
    # An untrained hand, but measured vertex by vertex without MANO's file.
    assert numbers["hands"] == 2 and numbers["PV"] > 0 and (out / "pred.zip").is_file()


def test_meshes_of_mano_teach_our_topology_through_the_users_file(world):
    assert train(world, "open778", "--mano", world / "MANO_RIGHT.pkl") == 0
    log = (world / "run").glob("*.safetensors")
    assert {path.stem for path in log} == {"detector", "mesh", "last"}
    assert not (world / "run" / "mano.npz").exists()


def test_sources_are_carried_over_or_lose_their_meshes(world):
    from hand_perception.data.datasets import open_dataset
    from hand_perception.data.mano import load_mano

    mano = load_mano(world / "MANO_RIGHT.pkl")
    sources = {"freihand": open_dataset("freihand", world / "packed" / "freihand")}
    carried = train_command.in_topology(sources, load_template(), mano)["freihand"]
    assert carried.blocks == (8,) and carried[0].topology == "open778"
    assert carried[0].hands.weight_mesh[0] == 1
    alone = train_command.in_topology(sources, load_template(), None)["freihand"]
    assert alone[0].hands.weight_mesh[0] == 0 and alone[0].hands.weight3d[0] == 1


def test_a_recipe_of_manos_mesh_needs_its_file(world):
    with pytest.raises(DataError, match="--mano"):
        train(world, "mano")


def test_a_source_that_is_not_given_is_named(world):
    recipe = world / "config" / "training" / "open778.yaml"
    hint = f"hint={world / 'hint'}"
    argv = (recipe, "--output", world / "run", "--data", hint, "--device", "cpu", "--workers", 0)
    with pytest.raises(DataError, match="freihand"):
        run(train_command, *argv)
