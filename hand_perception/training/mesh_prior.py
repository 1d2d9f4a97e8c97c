"""``hand-perception train-prior``: an implicit prior from sampled poses and shapes."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from hand_perception.data.correspondence import Correspondence
from hand_perception.errors import ModelError
from hand_perception.models.handos.decoder import UNIT
from hand_perception.models.mesh_prior import MeshPrior, PriorConfig
from hand_perception.settings import build
from hand_perception.synthesis.poses import PoseSampler
from hand_perception.synthesis.rig import forward_kinematics, skin
from hand_perception.synthesis.shape import ShapeSampler
from hand_perception.template import Template, load_template
from hand_perception.training import checkpoint

# Poses are refused where they penetrate themselves, which costs more than a step: a pool of so many
# batches is used so often.
POOL_BATCHES, REUSE = 8, 8


class SampledHands:
    """Meshes [B, V, 3] in UNITs of right hands of different people in different poses.

    Poses are drawn about the joint axes of ``open778``; a mesh of another topology, such as MANO's,
    which has none, is carried over from it.
    """

    def __init__(self, template: Template, seed: int) -> None:
        posed = load_template()
        rest = (posed.vertices, posed.weights, posed.joints, posed.joint_frames)
        rest = [torch.from_numpy(a) for a in rest]
        self._carried_over = Correspondence.between(posed, template)
        self._weights, self._frames = rest[1], rest[3]
        self._poses, self._shapes = PoseSampler(*rest), ShapeSampler(*rest)
        self._generator = torch.Generator().manual_seed(seed)

    def draw(self, count: int) -> Tensor:
        rotations = self._poses.sample(count, self._generator)
        vertices, joints = self._shapes.sample(count, self._generator)
        turns, posed = forward_kinematics(rotations, joints, self._frames)
        meshes = skin(vertices, self._weights, turns, joints, posed) / UNIT
        return torch.from_numpy(self._carried_over(meshes.numpy()))


def train(
    prior: MeshPrior,
    template: Template,
    steps: int,
    batch: int = 64,
    seed: int = 0,
    lr: float = 1e-3,
) -> None:
    torch.manual_seed(seed)
    hands = SampledHands(template, seed)
    prior.mean.copy_(prior.canonical(hands.draw(4 * batch)).flatten(1).mean(0))
    optimiser = torch.optim.AdamW(prior.parameters(), lr, weight_decay=1e-4)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)
    for step in tqdm(range(steps), "prior"):
        if step % (POOL_BATCHES * REUSE) == 0:
            pool = hands.draw(batch * POOL_BATCHES)
        chosen = torch.randint(len(pool), (batch,))
        loss = prior.elbo_loss(pool[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()


def load_prior(path: Path, template: Template) -> MeshPrior:
    """A frozen prior. Raises ModelError when the file is none or of another topology."""
    groups, meta = checkpoint.load(path)
    if "prior" not in groups:
        raise ModelError(f"{path} is no mesh prior: write one with `hand-perception train-prior`")
    prior = MeshPrior(build(PriorConfig, meta["config"], ModelError), template)
    prior.load_state_dict(groups["prior"])
    return prior.eval().requires_grad_(False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, help="file to write, .safetensors")
    parser.add_argument(
        "--template",
        default="open778",
        help="a topology by name, or the mano.npz of a training run",
    )
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    template = load_template(args.template)
    torch.manual_seed(args.seed)
    prior = MeshPrior(PriorConfig(topology=template.name), template)
    train(prior, template, args.steps, seed=args.seed)
    checkpoint.save(args.output, {"prior": prior.state_dict()}, {"config": prior.describe()})
    test = SampledHands(template, args.seed + 1).draw(256)
    with torch.no_grad():
        canonical = prior.canonical(test)
        off = (prior.decode(prior.encode(canonical)[0]) - canonical).norm(dim=-1).mean()
    print(f"wrote {args.output}: unseen hands come back within {1e3 * UNIT * float(off):.1f} mm")
    return 0
