"""``hand-perception synthesize``: writes a data set of rendered hands."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
from tqdm import tqdm

from hand_perception.errors import DataError
from hand_perception.synthesis.contact_sheet import contact_sheet
from hand_perception.synthesis.dataset import shard_paths, write_index, write_shard
from hand_perception.synthesis.recipe import BATCH, RECIPES
from hand_perception.synthesis.render import Renderer

BATCHES_PER_SHARD = 25
SHARD = BATCH * BATCHES_PER_SHARD
SHEET_IMAGES = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--count", type=int, default=1000, help="number of images")
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--backgrounds",
        type=Path,
        nargs="*",
        default=[],
        help="folders of photographs without hands; without any, procedural clutter",
    )
    parser.add_argument("--max-hands", type=int, default=None, help="at most this many an image")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="scene")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def run(args: argparse.Namespace) -> int:
    """Writes the missing shards of args.output, so an interrupted run continues.

    Raises DataError for sizes, counts or backgrounds that cannot be used.
    """
    if args.count < 1 or args.size < 32:
        raise DataError("--count must be at least 1 and --size at least 32")
    recipe = RECIPES[args.recipe]
    if args.max_hands is not None:
        if args.max_hands < 1:
            raise DataError("--max-hands must be at least 1")
        recipe = replace(recipe, hands=recipe.hands[: args.max_hands + 1])
    description = {
        "seed": args.seed,
        "size": args.size,
        "recipe": args.recipe,
        "max_hands": args.max_hands,
        "backgrounds": [str(folder) for folder in args.backgrounds],
    }
    write_index(args.output, description)
    renderer = Renderer(args.device, args.seed, args.backgrounds, recipe)
    numbers = range(-(-args.count // SHARD))
    missing = [n for n in numbers if not shard_paths(args.output, n)[1].exists()]
    with tqdm(total=args.count, unit="image", desc=str(args.output)) as progress:
        progress.update(args.count - sum(_length(n, args.count) for n in missing))
        for number in missing:
            batches = []
            for start in range(0, _length(number, args.count), BATCH):
                size = min(BATCH, _length(number, args.count) - start)
                index = number * BATCHES_PER_SHARD + start // BATCH
                batches.append(renderer.render(index, size, args.size, args.size))
                progress.update(size)
            seed = args.seed + number
            write_shard(args.output, number, batches, seed, with_maps=recipe.complement)
    sheet = contact_sheet(renderer.render(0, min(SHEET_IMAGES, args.count), args.size, args.size))
    cv2.imwrite(str(args.output / "contact_sheet.png"), sheet[..., ::-1])
    return 0


def _length(number: int, count: int) -> int:
    return min(SHARD, count - number * SHARD)
