"""The way of somebody with the data sets: train, go on, export and evaluate, all by command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import miniatures as mini
import pytest
import torch
import yaml
from mano_file import write_mano
from models.tiny import TINY

from hand_perception import predict as predict_command
from hand_perception.data import command as pack_command
from hand_perception.data.mano import load_mano
from hand_perception.errors import DataError, ModelError
from hand_perception.evaluation import command as evaluate_command
from hand_perception.export import command as export_command
from hand_perception.hands import Camera
from hand_perception.reconstructor import HandReconstructor
from hand_perception.template import load_template
from hand_perception.training import checkpoint
from hand_perception.training import command as train_command

CONFIG = Path(__file__).parents[2] / "config"


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
    exported = (export_command, world / "run" / "mesh.safetensors", "--output", model)
    with pytest.raises(ModelError, match="reads no crops: leave --looks out"):
        run(*exported, "--looks", 2)
    assert run(*exported) == 0
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
    argv = (root / "evaluation" / "rgb", "--model", model, "--output", out / "hands.jsonl", "--all")
    assert run(predict_command, *argv, "--overlay", out / "drawn") == 0
    lines = [json.loads(line) for line in (out / "hands.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == ["00000000.jpg", "00000001.jpg"]
    assert all("hands" in line and (out / "drawn" / line["file"]).is_file() for line in lines)


def test_meshes_of_mano_teach_our_topology_through_the_users_file(world):
    assert train(world, "open778", "--mano", world / "MANO_RIGHT.pkl") == 0
    log = (world / "run").glob("*.safetensors")
    assert {path.stem for path in log} == {"detector", "mesh", "last"}
    assert not (world / "run" / "mano.npz").exists()


def test_sources_are_carried_over_or_lose_their_meshes(world):
    from hand_perception.data.datasets import open_dataset

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


# What writes the training split of each public set; DexYCB's is a split of its own.
WRITE = {
    "freihand": lambda root, mano: mini.write_freihand(root),
    "ho3d_v2": lambda root, mano: mini.write_ho3d(root, mano, ".png"),
    "ho3d_v3": lambda root, mano: mini.write_ho3d(root, mano),
    "h2o3d": lambda root, mano: mini.write_h2o3d(root, mano),
    "dexycb": lambda root, mano: mini.write_dexycb(root, mano),
    "hint": lambda root, mano: mini.write_hint(root, "TRAIN"),
    "coco_wholebody": lambda root, mano: mini.write_coco(root),
    "onehand10k": lambda root, mano: mini.write_onehand10k(root),
    "rhd": lambda root, mano: mini.write_rhd(root),
    "obman": lambda root, mano: mini.write_obman(root),
    "comphand": lambda root, mano: mini.write_comphand(root, mano),
    "interhand": lambda root, mano: mini.write_interhand(root, mano),
}


@pytest.mark.parametrize("name", WRITE)
def test_each_public_set_is_packed_and_teaches(name, tmp_path, capsys):
    """From the release by `pack` and `train`: two steps of the whole decoder, the same ones when
    they are done again.
    """
    mano = write_mano(tmp_path / "MANO_RIGHT.pkl")
    WRITE[name](tmp_path / "data", load_mano(mano))
    split = "s1_val" if name == "dexycb" else "train"
    argv = ("--output", tmp_path / "packed", "--mano", mano, "--split", split)
    assert run(pack_command, f"{name}={tmp_path / 'data'}", *argv) == 0
    stage = {"name": "mesh", "steps": 2, "batch_size": 2, "sizes": [64], "warmup": 1, "ema": 0.5}
    recipe = {"model": "tiny", "topology": "mano", "stages": [stage | {"sources": {name: 1}}]}
    config = tmp_path / "config"
    write_yaml(config / "models" / "tiny.yaml", {"network": "handos", **TINY.to_dict()})
    write_yaml(config / "training" / "recipe.yaml", recipe)
    data = f"{name}={tmp_path / 'packed' / name}"
    argv = ("--data", data, "--mano", mano, "--device", "cpu", "--workers", 0)
    recipe = config / "training" / "recipe.yaml"
    torch.set_num_threads(1)
    for folder in ("run", "again"):
        assert run(train_command, recipe, "--output", tmp_path / folder, *argv) == 0
    once, again = (
        checkpoint.load_model(tmp_path / folder / "mesh.safetensors") for folder in ("run", "again")
    )
    assert all(torch.equal(value, again[key]) for key, value in once.items())
    # A step without a finite gradient is left out, and said.
    assert "not finite" not in capsys.readouterr().out
    assert all(torch.isfinite(value).all() for value in once.values())


def write_yaml(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Plain lists: YAML knows no tuples.
    path.write_text(yaml.safe_dump(json.loads(json.dumps(content))))


def test_the_papers_recipes_run_one_after_the_other(tmp_path, capsys):
    """handos_2d and then freihand as shipped, but for what makes them large: the images, the
    epochs, and sizes and weights of the network.
    """
    pytest.importorskip("transformers", reason="needs transformers")
    from models.tiny_detectors import tiny_config

    mano = write_mano(tmp_path / "MANO_RIGHT.pkl")
    for name in ("hint", "coco_wholebody", "onehand10k", "freihand"):
        WRITE[name](tmp_path / name, load_mano(mano))
    shipped = yaml.safe_load((CONFIG / "models" / "handos_grounding_dino.yaml").read_text())
    kept = ("value_strides", "expansion", "lift_coordinates", "lifting", "all_layers_2d")
    choices = {key: shipped["decoder"][key] for key in (*kept, "vertex_queries")}
    tiny = tiny_config("grounding_dino", **choices).to_dict() | {"nms_iou": shipped["nms_iou"]}
    write_yaml(tmp_path / "config" / "models" / "tiny.yaml", {"network": "handos", **tiny})
    torch.set_num_threads(1)
    initial = ()
    for name in ("handos_2d", "freihand"):
        recipe = yaml.safe_load((CONFIG / "training" / f"{name}.yaml").read_text())
        (stage,) = recipe["stages"]
        assert (stage["epochs"], stage["batch_size"], stage["lr"]) == (40, 16, 1e-3)
        stage |= {"epochs": 1, "cosine_from": 0, "batch_size": 4, "sizes": [64], "warmup": 1}
        path = tmp_path / "config" / "training" / f"{name}.yaml"
        write_yaml(path, recipe | {"model": "tiny"})
        data = [f"{source}={tmp_path / source}" for source in stage["sources"]]
        common = ("--data", *data, "--mano", mano, "--device", "cpu", "--workers", 0)
        assert run(train_command, path, "--output", tmp_path / name / "run", *common, *initial) == 0
        initial = ("--init", tmp_path / name / "run" / "joints.safetensors")
    first = checkpoint.load_model(tmp_path / "handos_2d" / "run" / "joints.safetensors")
    last = checkpoint.load_model(tmp_path / "freihand" / "run" / "mesh.safetensors")
    moved = {key for key in last if not torch.equal(first[key], last[key])}
    assert moved and not any(key.startswith("detector.") for key in moved)
    assert "decoder.lifting.matrix" in moved
    assert "not finite" not in capsys.readouterr().out
    assert all(torch.isfinite(value).all() for value in last.values())
