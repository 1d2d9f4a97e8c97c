"""``hand-perception train``: a recipe, data, and a folder for checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from hand_perception.data.photographs import Photographs
from hand_perception.errors import DataError
from hand_perception.template import load_template
from hand_perception.training.config import TrainingConfig
from hand_perception.training.networks import load_objective
from hand_perception.training.trainer import Trainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="a file like config/training/handos_s.yaml")
    parser.add_argument("--output", type=Path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--synthetic", type=Path, help="data set of `hand-perception synthesize`")
    parser.add_argument("--render", type=int, metavar="SIZE", help="render instead, on the fly")
    parser.add_argument("--backgrounds", type=Path, nargs="*", help="photographs for --render")
    parser.add_argument("--photographs", type=Path, help="folder with labels.jsonl")
    parser.add_argument("--impostors", type=Path, help="file of `hand-perception propose`")
    parser.add_argument("--init", type=Path, help="start from a stage's file of an earlier run")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads of the network")
    parser.add_argument("--workers", type=int, default=1, help="processes that load data")


def run(args: argparse.Namespace) -> int:
    if args.threads:
        torch.set_num_threads(args.threads)
    config = TrainingConfig.load(args.recipe)
    model = args.recipe.parent.parent / "models" / f"{config.model}.yaml"
    objective = load_objective(model, config)
    sources = {}
    if args.synthetic:
        from hand_perception.data.synthetic import SyntheticSamples

        sources["synthetic"] = SyntheticSamples(args.synthetic)
    elif args.render:
        from hand_perception.data.synthetic import RenderedSamples

        sources["synthetic"] = RenderedSamples(config.seed, args.render, args.backgrounds)
    if args.photographs:
        cache = args.output / "photograph_meshes.npz"
        photographs = Photographs.load(
            args.photographs, "train", load_template(), cache, args.impostors
        )
        sources |= {"photographs": photographs, "negatives": photographs.negatives()}
    if not sources:
        raise DataError("nothing to train on: give --synthetic, --photographs or both")
    device = torch.device(args.device)
    Trainer(config, objective, sources, args.output, device, args.workers, args.init).run()
    return 0
