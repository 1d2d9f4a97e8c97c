"""Measures where photographs are labelled with joints, beside where the template's bones meet.

    python scripts/measure_landmarks.py PHOTOGRAPHS [--hands 1200]

Fits the template to the labels (data/mesh_fitting.py) with one more unknown that all hands share:
an offset in the palm's axes for each joint that the palm carries. The middle MCP stays, as meshes
are told about it. Prints millimetres in the template's axes; build_template.py has what was found.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hand_perception.data import mesh_fitting
from hand_perception.data.photograph_labels import read_photographs
from hand_perception.data.photographs import fit_labelled
from hand_perception.hands import KEYPOINT_NAMES, MIDDLE_MCP
from hand_perception.template import load_template

FREE = [k for k in mesh_fitting.PALM if k != MIDDLE_MCP]


class SharedOffsets(mesh_fitting._PosableHand):
    """Hands whose joints are labelled beside the template's, all by the same offsets."""

    last: SharedOffsets

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        # In decimetres, to move as fast as the other unknowns.
        self.offsets = torch.nn.Parameter(torch.zeros(len(FREE), 3))
        SharedOffsets.last = self

    def marks(self) -> torch.Tensor:
        self.rest_marks = torch.zeros(21, 3).index_put((torch.tensor(FREE),), self.offsets / 10)
        return super().marks()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path, help="folder with labels.jsonl")
    parser.add_argument("--hands", type=int, default=1200)
    args = parser.parse_args()
    photographs = read_photographs(args.photographs, "train")
    hands = [h for p in photographs for h in p.hands if h.world is not None and h.side is not None]
    order = np.random.default_rng(0).permutation(len(hands))[: args.hands]
    hands = [hands[k] for k in order]
    template = replace(load_template(), landmarks=None)
    plain = fit_labelled(template, hands)
    mesh_fitting._PosableHand = SharedOffsets
    shared = fit_labelled(template, hands)
    for name, fit in (("without", plain), ("with", shared)):
        print(f"{name} offsets: {100 * np.median(fit.residual):.2f} % of the box (median hand)")
    for keypoint, offset in zip(FREE, SharedOffsets.last.offsets.detach().numpy(), strict=True):
        print(f"{KEYPOINT_NAMES[keypoint]:12}", *(f"{100 * v:6.1f}" for v in offset), "mm")


if __name__ == "__main__":
    main()
