"""Benchmarks that train run a step of themselves: what they call changes under them."""

from __future__ import annotations

import json

import numpy as np
import torch
from script_file import ROOT, load_script

from hand_perception.models.mesh_prior import MeshPrior, PriorConfig
from hand_perception.template import load_template
from hand_perception.training import checkpoint


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
