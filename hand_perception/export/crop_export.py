"""A network that reads crops to ONNX behind a detector: MobRecon or HandAR."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from hand_perception.errors import ModelError
from hand_perception.export.onnx_export import (
    MEAN,
    OPSET,
    STD,
    TOLERANCE,
    compare_graph,
    export_graph,
)
from hand_perception.models.handar.model import HandAR
from hand_perception.models.handos.model import HandOS
from hand_perception.models.mobrecon.model import UNIT, MobRecon
from hand_perception.runtime.backend import SPREADS
from hand_perception.runtime.crops import CROP_OUTPUTS, IMAGES

# By the name that model.json has for them.
NETWORKS = {"mobrecon": MobRecon, "handar": HandAR}
CropNetwork = MobRecon | HandAR


class BoxGraph(nn.Module):
    """image [N, 3, S, S] -> boxes [N, Q, 4], scores [N, Q]."""

    def __init__(self, model: HandOS) -> None:
        super().__init__()
        self.detector = model.detector

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        found = self.detector(image)
        return found.boxes, found.logits.sigmoid()


class CropGraph(nn.Module):
    """crops [H, 3, s, s] -> joints2d [H, 21, 2] in 0..1 of the crop, vertices [H, 778, 3] in
    metres about the middle MCP in the crop's axes, presence and right [H] in 0..1. Of a network
    that tells how far off it may be: spread2d [H, 21] in sides of the crop, spread3d [H] metres."""

    def __init__(self, model: CropNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        out = self.model(crops)
        told = out.joints2d, out.vertices * UNIT, out.presence.sigmoid(), out.side.sigmoid()
        return told if out.spread2d is None else (*told, out.spread2d, out.spread3d * UNIT)


class TwoLooks(CropGraph):
    """As CropGraph, from each crop and its mirror image: what the two agree on errs less. The mean
    of a right hand's look and of the left hand's that its mirror image is."""

    def __init__(self, model: CropNetwork) -> None:
        super().__init__(model)
        # Gathered: runtimes differ in what they make of slices that run backwards.
        self.register_buffer("backwards", torch.arange(model.config.crop_size - 1, -1, -1))
        self.register_buffer("flipped", torch.tensor([-1.0, 1.0, 1.0]))

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        out = self.model(torch.cat([crops, crops.index_select(-1, self.backwards)]))
        joints, mirrored_joints = _halves(out.joints2d)
        # 0..1 of the crop: x becomes 1 - x.
        mirrored_joints = mirrored_joints * self.flipped[:2] + (1 - self.flipped[:2]) / 2
        vertices, mirrored_vertices = _halves(out.vertices * UNIT)
        presence, mirrored_presence = _halves(out.presence)
        side, other_side = _halves(out.side)
        told = (
            (joints + mirrored_joints) / 2,
            (vertices + mirrored_vertices * self.flipped) / 2,
            ((presence + mirrored_presence) / 2).sigmoid(),
            ((side - other_side) / 2).sigmoid(),
        )
        if out.spread2d is None:
            return told
        return *told, *(sum(_halves(spread)) / 2 for spread in (out.spread2d, out.spread3d * UNIT))


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """[2 H, ...] -> [H, ...] twice, H unknown to a graph."""
    return x.unflatten(0, (2, -1)).unbind(0)


def export_crops(
    model: CropNetwork, detector: HandOS, folder: Path, card: dict, looks: int = 1
) -> dict[str, float]:
    """Writes detector.onnx, decoder.onnx and model.json; returns the largest differences to torch.

    card: what model.json says besides. looks: 2 to read each crop's mirror image as well. Raises
    ModelError when ONNX Runtime does not agree.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    size = detector.config.image_size
    images = torch.randn(2, 3, size, size)
    crops = torch.randn(3, 3, model.config.crop_size, model.config.crop_size)
    boxes = BoxGraph(detector).eval()
    decoder = {1: CropGraph, 2: TwoLooks}[looks](model).eval()
    paths = folder / "detector.onnx", folder / "decoder.onnx"
    found = ["boxes", "scores"]
    axes = {name: {0: IMAGES} for name in ("image", *found)}
    export_graph(boxes, (images,), paths[0], ["image"], found, axes)
    with torch.no_grad():
        told = len(decoder(crops))
    outputs = [*CROP_OUTPUTS, *SPREADS][:told]
    axes = {name: {0: "hands"} for name in ("crops", *outputs)}
    export_graph(decoder, (crops,), paths[1], ["crops"], outputs, axes)
    # The detector's order of queries may flip where scores tie, so its difference is not judged.
    differences = compare_graph(decoder, paths[1], {"crops": crops})
    for name, value in compare_graph(decoder, paths[1], {"crops": crops[:1]}).items():
        differences[name] = max(value, differences[name])
    worst = max(differences, key=differences.get)
    if not differences[worst] <= TOLERANCE:
        raise ModelError(
            f"ONNX Runtime's {worst} differs from torch by {differences[worst]:.2g}, more than "
            f"{TOLERANCE:.2g}: the export is wrong, do not use {folder}"
        )
    card = {
        "name": model.config.name,
        "network": next(name for name, kind in NETWORKS.items() if isinstance(model, kind)),
        "image_size": size,
        "mean": MEAN,
        "std": STD,
        "topology": "open778",
        "opset": OPSET,
        "precision": "fp32",
        "looks": looks,
        "config": model.config.to_dict(),
        "detector": detector.config.to_dict(),
        "difference_to_torch": differences,
        **card,
        "sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths},
    }
    (folder / "model.json").write_text(json.dumps(card, indent=2) + "\n")
    return differences
