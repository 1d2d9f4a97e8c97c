"""HandOS's choices (Tables 6, 7 and VIII) on rendered hands, small and short.

    python benchmarks/ablations.py --detector checkpoints/handos_s.safetensors [--rows mask=a ...]

Every row trains a small decoder from nothing over the same frozen detector, on the same images in
the same order, and is tested on others or, with --by-heart, on the same. Prints a Markdown table:
PCK@0.1 of 2D and of projected joints (Table 7's first columns) and PA-MPVPE in millimetres.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hand_perception.data.synthetic import RenderedSamples
from hand_perception.evaluation.metrics import normalised_errors, pck, procrustes_errors
from hand_perception.models.detectors.protocol import Detections
from hand_perception.models.handos.camera import project, translation
from hand_perception.models.handos.config import HandOSConfig
from hand_perception.models.handos.decoder import UNIT
from hand_perception.models.handos.model import HandOS, normalise
from hand_perception.settings import override
from hand_perception.template import load_template
from hand_perception.training import checkpoint
from hand_perception.training.batches import Batch, BatchRecipe, StepBatches
from hand_perception.training.decoder_objective import (
    LossWeights,
    choose_instances,
    decoder_losses,
)
from hand_perception.training.losses import MeshTerms

SMALL = {
    "dim": 48,
    "side_widths": [16, 32, 48],
    "layers_2d": 1,
    "layers_interactive": 2,
    "grid_size": 10,
    "swin": {"embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [2, 2, 4, 4]},
}
ROWS = {
    "as configured": [],
    "queries=unified": ["decoder.queries=unified"],
    "features=F4": ["decoder.features=F4"],
    "side_tuning=swin_t": ["decoder.side_tuning=swin_t"],
    "side_tuning=light": ["decoder.side_tuning=light"],
    "whole_hand=true": ["decoder.whole_hand=true"],
    "joints=posterior": ["decoder.joints=posterior"],
    "mask=a": ["decoder.mask=a"],
    "mask=b": ["decoder.mask=b"],
    "mask=d": ["decoder.mask=d"],
    "expansion=literal": ["decoder.expansion=literal"],
    "lift_coordinates=false": ["decoder.lift_coordinates=false"],
}
# Table VIII takes one loss after another away. nc: normal consistency; sp: edges and normals.
_OKS, _NC, _SP = ("oks2d", "oks_projection"), ("consistency",), ("edge", "normal")
WITHOUT = {
    "losses without OKS": _OKS,
    "losses without OKS, nc": _OKS + _NC,
    "losses without OKS, nc, sp": _OKS + _NC + _SP,
}
Seen = tuple[Batch, Tensor, Detections]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", type=Path, required=True, help="a stage's file of handos_s")
    parser.add_argument("--train", type=int, default=512, help="images")
    parser.add_argument("--test", type=int, default=192)
    parser.add_argument("--by-heart", action="store_true", help="test on the training images")
    parser.add_argument("--size", type=int, default=128, help="their side in pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rows", nargs="+", choices=[*ROWS, *WITHOUT], default=[*ROWS, *WITHOUT])
    parser.add_argument("--output", type=Path, help="the numbers as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = checkpoint.load(args.detector)[1]["config"]
    # The paper's choices and its kind of network, whatever the file's own decoder has.
    config["decoder"] = SMALL
    base = HandOS(HandOSConfig.from_dict(config), load_template())
    checkpoint.load_part(args.detector, "detector", base)
    base.freeze_detector()
    train = look(base, args.train // args.batch, args.batch, args.size, seed=1)
    count = args.test // args.batch
    test = train if args.by_heart else look(base, count, args.batch, args.size, seed=2)
    results = {}
    print(
        "| | PCK@0.1 2D | projected | PA-MPVPE, mm | seconds |\n|---|---|---|---|---|", flush=True
    )
    for row in args.rows:
        started = time.monotonic()
        torch.manual_seed(0)
        model = HandOS(
            HandOSConfig.from_dict(override(config, ROWS.get(row, []), ValueError)), load_template()
        )
        checkpoint.load_part(args.detector, "detector", model)
        weights = LossWeights(**dict.fromkeys(WITHOUT.get(row, ()), 0.0))
        learn(model, train, args.steps, weights)
        results[row] = judge(model, test)
        cells = " | ".join(f"{value:.3g}" for value in results[row].values())
        print(f"| {row} | {cells} | {time.monotonic() - started:.0f} |", flush=True)
    if args.output:
        settings = {k: str(v) for k, v in vars(args).items()}
        args.output.write_text(json.dumps({"settings": settings, "rows": results}, indent=2))


def look(model: HandOS, batches: int, batch: int, size: int, seed: int) -> list[Seen]:
    """Batches of rendered hands and what the frozen detector says of them."""
    recipe = BatchRecipe(batch, (size,), "hand", 4, (1.0,))
    source = StepBatches([RenderedSamples(seed, 2 * size)], recipe, seed)
    seen = []
    for step in range(batches):
        drawn = source[step]
        images = normalise(drawn.images)
        with torch.no_grad():
            seen.append((drawn, images, model.detector(images)))
    return seen


def learn(model: HandOS, seen: list[Seen], steps: int, weights: LossWeights) -> None:
    model.freeze_detector()
    model.train()
    template = load_template()
    mesh = MeshTerms(torch.from_numpy(template.faces).long())
    regressor, landmarks = (
        torch.from_numpy(matrix) for matrix in (template.regressor, template.landmarks)
    )
    optimiser = torch.optim.AdamW(model.decoder.parameters(), 2e-3, betas=(0.9, 0.98))
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    order = np.random.default_rng(0).integers(len(seen), size=steps)
    for step, index in enumerate(order):
        batch, images, found = seen[index]
        # The same instances and boxes in every row.
        torch.manual_seed(step)
        chosen = choose_instances(found, batch, 1)
        maps = model.decoder.read(images, found)
        out = model.decoder(*maps, chosen.queries, chosen.boxes)
        losses = decoder_losses(out, chosen, batch, mesh, regressor, landmarks, weights)
        optimiser.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.decoder.parameters(), 2.0)
        optimiser.step()
        rates.step()


@torch.no_grad()
def judge(model: HandOS, seen: list[Seen]) -> dict[str, float]:
    model.eval()
    landmarks = torch.from_numpy(load_template().landmarks)
    errors2d, projected, meshes = [], [], []
    for step, (batch, images, found) in enumerate(seen):
        torch.manual_seed(step)
        chosen = choose_instances(found, batch, 1)
        maps = model.decoder.read(images, found)
        out = model.decoder(*maps, chosen.queries, chosen.boxes)
        vertices = out.vertices[-1] * UNIT
        intrinsics = batch.intrinsics[:, None]
        t = translation(out.camera[-1], chosen.boxes, intrinsics)
        pixels = project(landmarks @ vertices + t[..., None, :], intrinsics)
        for k in chosen.valid[:, 0].nonzero()[:, 0].tolist():
            slot = int(chosen.slot[k, 0])
            true = batch.keypoints2d[k, slot].numpy()
            errors2d.append(normalised_errors(out.final2d[k, 0].numpy(), true))
            projected.append(normalised_errors(pixels[k, 0].numpy(), true))
            meshes.append(
                procrustes_errors(vertices[k, 0].numpy(), batch.vertices[k, slot].numpy()).mean()
            )
    return {
        "PCK@0.1 2D": 100 * pck(np.array(errors2d), 0.1),
        "PCK@0.1 projected": 100 * pck(np.array(projected), 0.1),
        "PA-MPVPE": 1e3 * float(np.mean(meshes)),
    }


if __name__ == "__main__":
    main()
