"""Torch to ONNX, checked: the graphs must give in ONNX Runtime what torch gives."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from hand_perception.errors import ModelError
from hand_perception.export.graphs import (
    DecoderGraph,
    DetectorGraph,
    decoder_outputs,
    feature_names,
)
from hand_perception.models.detectors.export_forms import ExportForms
from hand_perception.models.handos.model import HandOS

OPSET = 18
# normalise() in models/handos/model.py as mean and std of x / 255.
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
# float32 has 24 bits. Sums of n products in another order differ by about sqrt(n) * 2^-24 of the
# magnitude; the longest chain of sums here (convolutions of 9 * 192, some 40 layers deep) gives
# sqrt(9 * 192 * 40) * 2^-24 = 1.6e-5 of activations up to about 30: 5e-4.
TOLERANCE = 5e-4


def export_model(model: HandOS, folder: Path, card: dict) -> dict[str, float]:
    """Writes detector.onnx, decoder.onnx and model.json; returns the largest differences to torch.

    card: what model.json says besides (recipe, seed, data, scores). Raises ModelError when ONNX
    Runtime does not agree with torch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    torch.manual_seed(0)
    size = model.config.image_size
    image = torch.randn(1, 3, size, size)
    detector, decoder = DetectorGraph(model), DecoderGraph(model)
    names = feature_names(model)
    with torch.no_grad():
        _boxes, _scores, instances, *maps = detector(image)
    # Boxes of an untrained detector can be degenerate: test the decoder on plausible ones.
    boxes = torch.rand(1, 3, 4) * 0.3 + 0.3
    export_graph(
        detector,
        (image,),
        folder / "detector.onnx",
        ["image"],
        ["boxes", "scores", "instances", *names],
        {},
    )
    hands = {"instances": {1: "hands"}, "boxes": {1: "hands"}}
    outputs = decoder_outputs(model)
    export_graph(
        decoder,
        (instances[:, :3], boxes, *maps),
        folder / "decoder.onnx",
        ["instances", "boxes", *names],
        outputs,
        hands | {name: {1: "hands"} for name in outputs},
    )
    differences = compare_graph(detector, folder / "detector.onnx", {"image": image})
    for count in (1, 3):
        feed = {"instances": instances[:, :count], "boxes": boxes[:, :count]}
        feed |= dict(zip(names, maps, strict=True))
        for name, value in compare_graph(decoder, folder / "decoder.onnx", feed).items():
            differences[name] = max(value, differences.get(name, 0.0))
    # The detector's order of queries may flip where scores tie, so it is judged by its maps.
    judged = {n: d for n, d in differences.items() if n in (*names, *outputs)}
    worst = max(judged, key=judged.get)
    if judged[worst] > TOLERANCE:
        raise ModelError(
            f"ONNX Runtime's {worst} differs from torch by {judged[worst]:.2g}, more than "
            f"{TOLERANCE:.2g}: the export is wrong, do not use {folder}"
        )
    if model.config.decoder.expansion == "literal":
        # Nothing but the detector says whether there is a hand: its score stands as it is.
        card = {"score_calibration": (0.0, 1.0, 0.0), **card}
    card = {
        "name": model.config.name,
        "image_size": size,
        "mean": MEAN,
        "std": STD,
        "nms_iou": model.config.nms_iou,
        "topology": "open778",
        "opset": OPSET,
        "precision": "fp32",
        "config": model.config.to_dict(),
        "difference_to_torch": differences,
        **card,
        "sha256": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("detector.onnx", "decoder.onnx")
        },
    }
    (folder / "model.json").write_text(json.dumps(card, indent=2) + "\n")
    return differences


def export_graph(
    module: nn.Module, inputs: tuple, path: Path, names: list[str], outputs: list[str], axes: dict
) -> None:
    """One module as one file; axes: of inputs and outputs whose length varies."""
    with ExportForms():
        torch.onnx.export(
            # The exporter folds batch norms into the weights of the module it is given.
            copy.deepcopy(module),
            inputs,
            str(path),
            input_names=names,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
            do_constant_folding=True,
        )


def compare_graph(module: nn.Module, path: Path, feed: dict) -> dict[str, float]:
    """The largest difference to torch of each output."""
    with torch.no_grad():
        expected = module(*feed.values())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {k: v.numpy() for k, v in feed.items()})
    outputs = [o.name for o in session.get_outputs()]
    return {
        name: float(np.abs(a.numpy() - b).max())
        for name, a, b in zip(outputs, expected, found, strict=True)
    }
