"""Run by torchrun, once a process: gradients before and after averaging, then a short training.

Arguments: the folder for what each rank saw.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from models.tiny import TINY
from one_hand import one_hand
from torch import nn

from hand_perception.data.sample import Similarity, warp
from hand_perception.errors import DataError
from hand_perception.training.config import StageConfig, TrainingConfig
from hand_perception.training.distributed import Team
from hand_perception.training.handos_objective import HandOSObjective
from hand_perception.training.trainer import Trainer


class Hands:
    """Eight views of a hand: ranks see different ones."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return warp(one_hand(), Similarity(1.0, 0.1 * index, (2.0 * index, 0.0)), 160)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    team = Team(torch.device("cpu"))
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    unused = nn.Parameter(torch.zeros(2))
    parameters = [*layers.parameters(), unused]
    generator = torch.Generator().manual_seed(team.rank)
    loss = layers(torch.randn(5, 3, generator=generator)).square().mean()
    if team.rank == 0:
        loss = loss + unused.sum()  # no image of the other process uses it
    loss.backward()
    own = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
    statistics = layers[1].running_mean.clone()
    team.average_gradients(parameters)
    team.average_buffers(layers)
    seen = {
        "own": own,
        "averaged": [p.grad for p in parameters],
        "own_statistics": statistics,
        "statistics": layers[1].running_mean,
    }
    stages = tuple(
        StageConfig(name=name, epochs=1, batch_size=4, sizes=(64,), warmup=1, sources={"hands": 1})
        for name in ("detector", "mesh")
    )
    config = TrainingConfig("tiny", stages)
    objective = HandOSObjective(TINY, {})
    trainer = Trainer(config, objective, {"hands": Hands()}, folder, torch.device("cpu"), 0)
    trainer.run()
    uneven = TrainingConfig("tiny", (StageConfig(name="mesh", steps=1, batch_size=3),))
    try:
        Trainer(uneven, objective, {"hands": Hands()}, folder, torch.device("cpu"), 0)
    except DataError as error:
        seen["uneven"] = str(error)
    # The last stage ends with its average; the optimised weights were set to it on every rank.
    seen["trained"] = trainer.learner.state_dict()
    torch.save(seen, folder / f"rank{team.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
