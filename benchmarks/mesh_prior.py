"""What the implicit prior does for hands that are labelled in 2D only.

    hand-perception train-prior --output prior.safetensors
    python benchmarks/mesh_prior.py --prior prior.safetensors [--weights 0 0.5 2]

A small decoder learns hands by heart, each in an image of its own random colours. Half of them have
meshes for labels, the others 2D joints alone (HandOS's weak supervision). Prints for each weight of
the prior the PA-MPVPE of both halves, in millimetres, as a Markdown table.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from hand_perception.data.sample import HandLabels, Sample
from hand_perception.evaluation.metrics import procrustes_errors
from hand_perception.geometry import project
from hand_perception.hands import Camera
from hand_perception.models.handos.config import HandOSConfig
from hand_perception.models.handos.decoder import UNIT
from hand_perception.models.handos.model import HandOS, normalise
from hand_perception.template import load_template
from hand_perception.training.batches import Batch, BatchRecipe, collate
from hand_perception.training.decoder_objective import Instances, LossWeights, decoder_losses
from hand_perception.training.losses import MeshTerms
from hand_perception.training.mesh_prior import SampledHands, load_prior

SIDE = 64
CAMERA = Camera(120.0, 120.0, 31.5, 31.5, SIDE, SIDE)
NETWORK = {
    "name": "small",
    "image_size": SIDE,
    "detector": {
        "widths": [8, 8, 16, 16, 16],
        "blocks": [1, 1, 1, 1],
        "dim": 16,
        "heads": 2,
        "queries": 12,
        "layers": 2,
    },
    "decoder": {
        "dim": 48,
        "side_widths": [8, 16, 16],
        "layers_2d": 1,
        "layers_interactive": 2,
        "grid_size": 8,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", type=Path, required=True)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 2.0, 10.0])
    parser.add_argument("--hands", type=int, default=16)
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args()
    torch.set_num_threads(1)
    template = load_template()
    prior = load_prior(args.prior, template)
    batch = hands_by_heart(args.hands)
    print("| weight of the prior | with meshes, mm | 2D only, mm | seconds |")
    print("|---|---|---|---|", flush=True)
    for weight in args.weights:
        started = time.monotonic()
        errors = learn(batch, LossWeights(prior=weight), prior if weight else None, args.steps)
        strong, weak = errors[::2].mean(), errors[1::2].mean()
        seconds = time.monotonic() - started
        print(f"| {weight:g} | {strong:.1f} | {weak:.1f} | {seconds:.0f} |", flush=True)


def hands_by_heart(count: int) -> Batch:
    """Right and left hands from all sides; every other one without its mesh."""
    template = load_template()
    numbers = np.random.default_rng(0)
    samples = []
    for k, mesh in enumerate(SampledHands(template, seed=5).draw(count).numpy() * UNIT):
        turn = np.linalg.qr(numbers.normal(size=(3, 3)))[0]  # mirrored half of the time
        mesh = (mesh - template.regressor[9] @ mesh) @ turn.astype(np.float32)
        joints3d = template.regressor @ mesh
        place = np.array([0.0, 0.0, 0.6], np.float32)
        known = np.full(1, float(k % 2 == 0), np.float32)
        labels = HandLabels(
            keypoints2d=project(joints3d + place, CAMERA)[None].astype(np.float32),
            weight2d=np.ones(1, np.float32),
            joints3d=joints3d[None],
            vertices=mesh[None],
            weight3d=known,
            translation=place[None],
            metric=known > 0,
            side=np.sign(np.linalg.det(turn)).astype(np.float32)[None],
        )
        image = numbers.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        samples.append(Sample(image, CAMERA, labels, np.zeros((0, 4), np.float32)))
    batch = collate(samples, SIDE, BatchRecipe(count, (SIDE,), "hand", 1, (1.0,)))
    batch.weight_mesh = batch.weight3d.clone()
    return batch


def learn(batch: Batch, weights: LossWeights, prior, steps: int) -> np.ndarray:
    """-> PA-MPVPE of each hand, mm."""
    torch.manual_seed(0)
    template = load_template()
    network = HandOS(HandOSConfig.from_dict(NETWORK), template)
    network.freeze_detector()
    network.eval()
    mesh = MeshTerms(torch.from_numpy(template.faces).long())
    regressor = torch.from_numpy(template.regressor)
    images = normalise(batch.images)
    with torch.no_grad():
        found = network.detector(images)
    queries = torch.cat([found.q0, found.q6], -1)[:, :1]
    slot = torch.zeros(len(images), 1, dtype=torch.int64)
    chosen = Instances(queries, batch.boxes, slot, slot == 0)
    maps = network.decoder.read(images, found)
    optimiser = torch.optim.AdamW(network.decoder.parameters(), 3e-3, betas=(0.9, 0.98))
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        out = network.decoder(*maps, queries, batch.boxes)
        # These hands are labelled where their bones meet.
        losses = decoder_losses(
            out, chosen, batch, mesh, regressor, regressor, weights, prior=prior
        )
        optimiser.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(network.decoder.parameters(), 2.0)
        optimiser.step()
        rates.step()
    with torch.no_grad():
        out = network.decoder(*maps, queries, batch.boxes)
    predicted = (out.vertices[-1][:, 0] * UNIT).numpy()
    return 1e3 * procrustes_errors(predicted, batch.vertices[:, 0].numpy()).mean(-1)


if __name__ == "__main__":
    main()
