"""Benchmarks that train run a step of themselves: what they call changes under them."""

from __future__ import annotations

import argparse
import json
import sys

import cv2
import numpy as np
import torch
from labelled_folder import hand_label, picture_label, write_labels
from open_hand import CAMERA, make_hand
from script_file import ROOT, load_script

from hand_perception.hands import Side
from hand_perception.models.mesh_prior import MeshPrior, PriorConfig
from hand_perception.reconstructor import HandReconstructor
from hand_perception.runtime.backend import MODELS
from hand_perception.template import load_template
from hand_perception.training import checkpoint

CLIP = MODELS.parent / "demo" / "clip.mp4"


def test_ablations_train_every_row_as_the_paper_has_the_rest(tmp_path, monkeypatch, capsys):
    script = load_script("benchmarks/ablations.py")
    rows = ["as configured", "side_tuning=light", "joints=posterior", "losses without OKS"]
    detector = ROOT / "checkpoints" / "detector_s.safetensors"
    sizes = ["--train", "2", "--test", "2", "--batch", "2", "--size", "64", "--steps", "1"]
    output = tmp_path / "rows.json"
    monkeypatch.setattr(
        "sys.argv",
        ["", "--detector", str(detector), *sizes, "--rows", *rows, "--output", str(output)],
    )
    script.main()
    found, printed = json.loads(output.read_text())["rows"], capsys.readouterr().out
    assert list(found) == rows and all(f"| {row} |" in printed for row in rows)
    assert all(np.isfinite(list(numbers.values())).all() for numbers in found.values())


def test_the_priors_benchmark_learns(tmp_path, monkeypatch, capsys):
    script = load_script("benchmarks/mesh_prior.py")
    torch.manual_seed(0)
    prior = MeshPrior(PriorConfig(hidden=8, code=4), load_template())
    path = tmp_path / "prior.safetensors"
    config = {"topology": "open778", "hidden": 8, "code": 4}
    checkpoint.save(path, {"prior": prior.state_dict()}, {"config": config})
    monkeypatch.setattr(
        "sys.argv",
        ["", "--prior", str(path), "--weights", "0", "1", "--hands", "2", "--steps", "1"],
    )
    script.main()
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| 0", "| 1"] and "nan" not in "".join(rows)


def test_engines_are_measured_on_pictures_with_hands_and_without(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    script = load_script("benchmarks/engines.py")
    # The first frames warm up and are not counted.
    monkeypatch.setattr(script, "CLIP_FRAMES", 7)
    frame = script.clip_frames(CLIP)[-1]
    hands = HandReconstructor.from_pretrained("mobrecon")(frame).hands
    assert hands
    labels = [hand_label(hand.keypoints2d, hand.box, handedness=hand.side.value) for hand in hands]
    blank = np.full_like(frame, 90)
    rows = []
    for name, picture, found in (("hands", frame, labels), ("nothing", blank, [])):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture[..., ::-1])
        rows.append(picture_label(f"{name}.png", found, split="val"))
    write_labels(tmp_path, rows)
    folder, output = tmp_path / "scene", tmp_path / "rows.json"
    folder.mkdir()
    # One of the two shows hands all the same, and must be counted.
    for name, picture in (("hands", frame), ("nothing", blank)):
        cv2.imwrite(str(folder / f"{name}.png"), picture[..., ::-1])
    words = ["--data", tmp_path, "--without-hands", folder, "--models", "mobrecon"]
    monkeypatch.setattr("sys.argv", ["", *map(str, words), "--output", str(output)])
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    script.main()
    row = json.loads(output.read_text())["rows"]["mobrecon"]
    assert row["without hands"] == {"all": {"pictures": 2, "show one": 1}}
    numbers = row["photographs"]["all"]
    assert (numbers["recall"], numbers["false on negatives"]) == (1.0, 0)
    assert row["looking_ms"] > 0 and "without hands" in capsys.readouterr().out


def test_the_peers_rendered_hands_are_judged_where_its_labels_mark_joints(tmp_path, monkeypatch):
    """A stand-in for the other interpreter answers with the truth as such labels mark it."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    script = load_script("benchmarks/engines.py")
    monkeypatch.setattr(script, "CLIP_FRAMES", 1)
    hand = make_hand(Side.RIGHT, (0, 0, 0.5))
    sample = {
        "image": np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8),
        "K": CAMERA.matrix,
        "boxes": hand.box[None],
        "is_left": [False],
        "keypoints3d": hand.keypoints3d[None],
        "vertices": hand.vertices[None],
        "visible": [5000],
        "streak": 0.0,
    }
    monkeypatch.setattr(script.synthetic, "read_samples", lambda path: [sample])
    answer = {
        "side": "right",
        "score": 1.0,
        "box": hand.box.tolist(),
        "keypoints2d": hand.keypoints2d.tolist(),
        "confidences": [1.0] * 21,
        "keypoints3d_m": (load_template().landmarks @ hand.vertices).tolist(),
        "side_confidence": 1.0,
    }
    python = tmp_path / "python"
    python.write_text(
        f"""#!{sys.executable}
import json, pathlib, sys
script, root, files, frames, out = map(pathlib.Path, sys.argv[1:])
names = json.loads(files.read_text())
assert all((root / name).is_file() for name in names)
answer = {{"metric": False, "hands": [json.loads({json.dumps(answer)!r})]}}
out.write_text("\\n".join(json.dumps(answer | {{"file": name}}) for name in names))
print(json.dumps({{}}))
"""
    )
    python.chmod(0o755)
    args = argparse.Namespace(synthetic=tmp_path, mediapipe=python, limit=None, clip=CLIP)
    row = script.mediapipe_on_rendered(args)["all"]
    assert (row["hands"], row["recall"], row["side"]) == (1, 1.0, 1.0)
    # float32 coordinates below 1 m, in millimetres.
    assert row["PA-MPJPE"] < 1e-3 and np.isnan(row["PA-MPVPE"])
    bones = np.linalg.norm(answer["keypoints3d_m"] - hand.keypoints3d, axis=-1)
    assert bones.max() > 0.005


def test_hands_across_a_room_are_looked_for_with_and_without_closer_looks(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    script = load_script("benchmarks/far_hands.py")
    engines = load_script("benchmarks/engines.py")
    monkeypatch.setattr(engines, "CLIP_FRAMES", 7)
    frames = engines.clip_frames(CLIP)
    hands = HandReconstructor.from_pretrained("mobrecon_int8")(frames[-1]).hands
    labels = [hand_label(hand.keypoints2d, hand.box, handedness=hand.side.value) for hand in hands]
    cv2.imwrite(str(tmp_path / "hands.png"), frames[-1][..., ::-1])
    write_labels(tmp_path, [picture_label("hands.png", labels, split="val")])
    folder, output = tmp_path / "room", tmp_path / "rows.json"
    folder.mkdir()
    cv2.imwrite(str(folder / "grey.png"), np.full((90, 120, 3), 90, np.uint8))
    words = ["--data", tmp_path, "--without-hands", folder, "--sizes", 30, 5000]
    monkeypatch.setattr("sys.argv", ["", *map(str, words), "--output", str(output)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    script.main()
    rows = json.loads(output.read_text())["rows"]
    once, closely = (rows[f"mobrecon_int8, zoom {zoom}"] for zoom in (1, 3))
    # Where a photograph of the wanted size has no place there is nothing to find.
    assert once["recall"]["30 px"] < closely["recall"]["30 px"] == 1.0
    assert np.isnan(once["recall"]["5000 px"])
    assert closely["no photograph"] == {"pictures": 1, "show one": 0}
    assert "no photograph" in capsys.readouterr().out
