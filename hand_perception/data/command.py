"""``hand-perception pack``: public data sets as shards."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hand_perception.data.datasets import DATASETS, open_dataset
from hand_perception.data.mano import load_mano
from hand_perception.data.shards import write_shards
from hand_perception.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        nargs="+",
        type=named_path,
        metavar="NAME=PATH",
        help=f"data sets and where they lie; names: {', '.join(DATASETS)}",
    )
    parser.add_argument("--output", type=Path, required=True, help="a folder NAME of shards in it")
    parser.add_argument("--split", default="train", help="which part of them (%(default)s)")
    parser.add_argument("--mano", type=Path, help="your MANO_RIGHT.pkl, for sets of parameters")
    parser.add_argument(
        "--shard-size", type=int, default=2000, help="samples in a shard (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order (%(default)s)")


def named_path(text: str) -> tuple[str, Path]:
    """NAME=PATH. Raises argparse's error for anything else."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, Path(path)


def run(args: argparse.Namespace) -> int:
    """Raises DataError when a set is missing or nothing of it can be read."""
    if args.shard_size < 1:
        raise DataError("--shard-size must be at least 1")
    mano = load_mano(args.mano) if args.mano else None
    for name, path in args.data:
        source = open_dataset(name, path, args.split, mano)
        # Videos would fill a shard with one scene: the order is drawn once, here.
        order = np.random.default_rng(args.seed).permutation(len(source)).tolist()
        packed = write_shards(
            source.__getitem__, tqdm(order, name), args.output / name, args.shard_size
        )
        print(f"{name}: {packed.written} samples, {len(packed.skipped)} left out")
        if not packed.written:
            raise DataError(f"{name}: no sample of {path} can be read")
    return 0
