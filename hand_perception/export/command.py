"""``hand-perception export``: a checkpoint of `train` to a model folder."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from hand_perception.errors import ModelError
from hand_perception.export.crop_export import CropNetwork, export_crops
from hand_perception.export.onnx_export import export_model
from hand_perception.models.handar.config import HandARConfig
from hand_perception.models.handar.model import HandAR
from hand_perception.models.handos.config import HandOSConfig
from hand_perception.models.handos.model import HandOS
from hand_perception.models.mobrecon.config import MobReconConfig
from hand_perception.models.mobrecon.model import MobRecon
from hand_perception.skeleton import has_joint_axes
from hand_perception.template import Template, load_template
from hand_perception.training import checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="mesh.safetensors of `hand-perception train`")
    parser.add_argument("--output", type=Path, required=True, help="model folder to write")
    parser.add_argument("--image-size", type=int, help="side of the network's image in pixels")
    parser.add_argument("--detector", type=Path, help="HandOS checkpoint, for a network of crops")
    parser.add_argument(
        "--looks",
        type=int,
        choices=(1, 2),
        default=1,
        help="of a network of crops: 2 reads each crop's mirror image as well, which errs less and "
        "takes twice its time (%(default)s)",
    )
    parser.add_argument("--data", help="one line on the training data, for the model's card")
    parser.add_argument("--scores", type=Path, help="JSON of `hand-perception evaluate`")


def run(args: argparse.Namespace) -> int:
    groups, meta = checkpoint.load(args.checkpoint)
    template = learnt_template(meta, args.checkpoint)
    card = {"recipe": meta["recipe"], "seed": meta["recipe"]["seed"], "data": args.data}
    card["topology"] = template.name
    card["fit_pose"] = has_joint_axes(template)
    if args.scores:
        card["scores"] = json.loads(args.scores.read_text())
    if any(name.startswith("detector.") for name in groups["model"]):
        if args.looks > 1:
            raise ModelError(
                f"{args.checkpoint} holds a HandOS, which reads no crops: leave --looks out"
            )
        model = _load_handos(groups["model"], meta["config"], args.image_size, template)
        differences = export_model(model, args.output, card)
    else:
        if args.detector is None:
            raise ModelError(
                f"{args.checkpoint} holds a network for crops: name a HandOS checkpoint whose "
                "detector finds them with --detector"
            )
        model = _load_crop_network(groups["model"], meta["config"], template)
        found, behind = checkpoint.load(args.detector)
        detector = _load_handos(found["model"], behind["config"], args.image_size, load_template())
        differences = export_crops(model, detector, args.output, card, args.looks)
    if template.name == "mano":
        # The model runs where MANO's own file is not.
        shutil.copyfile(args.checkpoint.parent / "mano.npz", args.output / "mano.npz")
    for name, value in differences.items():
        print(f"{name}: largest difference to torch {value:.2g}")
    print(f"wrote {args.output}")
    return 0


def learnt_template(meta: dict, checkpoint_path: Path) -> Template:
    """Of the mesh that a checkpoint was trained for, as it says itself; MANO's is the file that
    training left.

    Raises DataError when it is not there.
    """
    topology = meta.get("recipe", {}).get("topology", "open778")
    if topology != "mano":
        return load_template(topology)
    return load_template(checkpoint_path.parent / "mano.npz")


def _load_handos(weights: dict, config: dict, image_size: int | None, template: Template) -> HandOS:
    values = config | ({"image_size": image_size} if image_size else {})
    model = HandOS(HandOSConfig.from_dict(values), template)
    model.load_state_dict(weights)
    return model


def _load_crop_network(weights: dict, config: dict, template: Template) -> CropNetwork:
    if any(name.startswith("mesh_stage.") for name in weights):
        model = HandAR(HandARConfig.from_dict(config), template)
    else:
        model = MobRecon(MobReconConfig.from_dict(config), template)
    model.load_state_dict(weights)
    return model
