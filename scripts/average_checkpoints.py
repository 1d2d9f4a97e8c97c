"""The mean of the weights of stages' files: what several ends of one run agree on errs less.

    python scripts/average_checkpoints.py runs/a/mesh.safetensors runs/b/mesh.safetensors TARGET

The stages must have gone on from one another, or their channels mean different things. The target's
card says what the last of them was trained by.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from hand_perception.training import checkpoint


def averaged(ends: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Counters, which have no mean, are the last end's.

    Raises ValueError for ends that do not have the same numbers.
    """
    last = ends[-1]
    shapes = [{name: value.shape for name, value in end.items()} for end in ends]
    if any(shape != shapes[-1] for shape in shapes):
        raise ValueError("these are files of different networks")
    return {
        name: torch.stack([end[name].float() for end in ends]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in last.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    stages = [checkpoint.load_stage(path) for path in args.checkpoints]
    checkpoint.save(args.target, {"model": averaged([end for end, _ in stages])}, stages[-1][1])
    print(f"wrote {args.target}, the mean of {len(stages)}")


if __name__ == "__main__":
    main()
