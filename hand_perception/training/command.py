"""``hand-perception train``: a recipe, data, and a folder for checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from hand_perception.data.command import named_path
from hand_perception.data.correspondence import Correspondence
from hand_perception.data.datasets import DATASETS, open_dataset
from hand_perception.data.mano import ManoTemplate, load_mano, save_template
from hand_perception.data.photograph_labels import add_without_hands
from hand_perception.data.photographs import Photographs
from hand_perception.data.topology import InTopology
from hand_perception.errors import DataError
from hand_perception.template import Template, load_template
from hand_perception.training import checkpoint
from hand_perception.training.batches import Source
from hand_perception.training.config import TrainingConfig
from hand_perception.training.networks import load_objective
from hand_perception.training.trainer import Trainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="a file like config/training/handos_s.yaml")
    parser.add_argument("--output", type=Path, required=True, help="folder of checkpoints and log")
    parser.add_argument(
        "--synthetic", type=Path, nargs="+", help="data sets of `hand-perception synthesize`"
    )
    parser.add_argument("--render", type=int, metavar="SIZE", help="render instead, on the fly")
    parser.add_argument("--backgrounds", type=Path, nargs="*", help="photographs for --render")
    parser.add_argument("--photographs", type=Path, help="folder with labels.jsonl")
    add_without_hands(parser, "more pictures that show no hand, beside those of --photographs")
    parser.add_argument("--impostors", type=Path, help="file of `hand-perception propose`")
    parser.add_argument(
        "--data",
        nargs="+",
        type=named_path,
        default=[],
        metavar="NAME=PATH",
        help=f"public data sets or their shards, by the recipe's names: {', '.join(DATASETS)}",
    )
    parser.add_argument("--mano", type=Path, help="your MANO_RIGHT.pkl, for the sets that need it")
    parser.add_argument(
        "--init",
        type=Path,
        nargs="+",
        default=[],
        help="start from a stage's file of an earlier run; from several, each with what it has",
    )
    parser.add_argument(
        "--detector", type=Path, help="start from the detector alone of such a file"
    )
    parser.add_argument("--prior", type=Path, help="file of train-prior, for losses.prior")
    parser.add_argument("--model", help="another of config/models than the recipe's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the model's sizes and choices, for example decoder.mask=b",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads of the network")
    parser.add_argument(
        "--compile", action="store_true", help="fuse what gains from it: needs a C++ compiler"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that load data")


def run(args: argparse.Namespace) -> int:
    if args.without_hands and not args.photographs:
        raise DataError("--without-hands adds to what --photographs has: give both")
    if args.threads:
        torch.set_num_threads(args.threads)
    config = TrainingConfig.load(args.recipe)
    model = args.recipe.parent.parent / "models" / f"{args.model or config.model}.yaml"
    mano = load_mano(args.mano) if args.mano else None
    template = learnt_template(config.topology, mano, args.output)
    objective = load_objective(model, config, template, args.set, args.prior)
    for path in args.init:
        objective.load(checkpoint.load_model(path))
    if args.detector:
        checkpoint.load_part(args.detector, "detector", objective.learner.network)
    if args.compile:
        for part in objective.fusible:
            part.compile()
    sources = {name: open_dataset(name, path, "train", mano) for name, path in args.data}
    if args.synthetic:
        from hand_perception.data.synthetic import SyntheticSamples

        sources["synthetic"] = SyntheticSamples(*args.synthetic)
    elif args.render:
        from hand_perception.data.synthetic import RenderedSamples

        sources["synthetic"] = RenderedSamples(config.seed, args.render, args.backgrounds)
    if args.photographs:
        cache = args.output / "photograph_meshes.npz"
        photographs = Photographs.load(
            args.photographs, "train", load_template(), cache, args.impostors
        )
        sources |= {
            "photographs": photographs.balanced(),
            "negatives": photographs.negatives(args.without_hands),
        }
    if not sources:
        raise DataError("nothing to train on: give --data, --synthetic, --photographs or all")
    sources = in_topology(sources, template, mano)
    device = torch.device(args.device)
    Trainer(config, objective, sources, args.output, device, args.workers).run()
    return 0


def learnt_template(topology: str, mano: ManoTemplate | None, output: Path) -> Template:
    """Of the mesh that a recipe learns; MANO's is kept as ``mano.npz`` with the checkpoints.

    Raises DataError when it is MANO's and --mano is not given.
    """
    if topology != "mano":
        return load_template(topology)
    if mano is None:
        raise DataError(
            "this recipe learns MANO's mesh: give your MANO_RIGHT.pkl, from mano.is.tue.mpg.de, "
            "with --mano"
        )
    save_template(mano, output / "mano.npz")
    return mano


def in_topology(
    sources: dict[str, Source], template: Template, mano: ManoTemplate | None
) -> dict[str, Source]:
    """Sources with meshes of the template's topology; MANO's file leads from one to the other."""
    correspondence = None
    if mano is not None:
        ours = load_template()
        ends = (ours, mano) if template.name == "mano" else (mano, ours)
        correspondence = Correspondence.between(*ends)
    return {n: InTopology(source, template.name, correspondence) for n, source in sources.items()}
