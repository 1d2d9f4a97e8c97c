"""One process a GPU (or CPU core), under torchrun; alone without it.

Each process takes its share of a step's images; gradients are averaged. On CPUs two processes of
one thread each train nearly twice as fast as one of two threads: the operations are small.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn


class Team:
    """The processes of a run. rank: ours; size: how many."""

    def __init__(self, device: torch.device) -> None:
        self.rank = int(os.environ.get("RANK", 0))
        self.size = int(os.environ.get("WORLD_SIZE", 1))
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return self.rank == 0

    def average_buffers(self, module: nn.Module) -> None:
        """Running statistics become those of all processes' images."""
        if self.size == 1:
            return
        buffers = [b for b in module.buffers() if b.dtype.is_floating_point]
        if not buffers:
            return
        flat = torch.cat([b.reshape(-1) for b in buffers])
        dist.all_reduce(flat)
        flat /= self.size
        for buffer, part in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(part.reshape(buffer.shape))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """A parameter that no image of a process used counts there as a zero gradient."""
        if self.size == 1:
            return
        parameters = list(parameters)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        flat /= self.size
        for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.reshape(p.shape)
