"""Rounds the matrices of a stage's file to half precision.

    python scripts/halve_checkpoint.py runs/handos_s/mesh.safetensors checkpoints/NAME.safetensors

Vectors keep single precision, statistics of norms among them. `train --init` and `export` read the
file as any other; graphs that ship beside it are exported from it, so that both hold the same
numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from hand_perception.training import checkpoint


def halved(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Raises ValueError for numbers that half precision does not reach."""
    matrices = {name: value.half() for name, value in weights.items() if value.ndim > 1}
    beyond = [name for name, value in matrices.items() if not torch.isfinite(value).all()]
    if beyond:
        raise ValueError(f"too large for half precision: {', '.join(beyond)}")
    return weights | matrices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    weights, meta = checkpoint.load_stage(args.checkpoint)
    checkpoint.save(args.target, {"model": halved(weights)}, meta)
    print(f"wrote {args.target}, {args.target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
