"""One process a GPU (or CPU core), under torchrun; alone without it.

Lightning Fabric finds which process we are, on which node, which GPU is ours, and what the
processes talk through. Each takes its share of a step's images; gradients are averaged. On CPUs two
processes of one thread each train nearly twice as fast as one of two threads: the operations are
small.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn


class Team:
    """The processes of a run. rank: ours; size: how many; device: ours.

    device: the kind of all; alone, one of them may be meant ("cuda:1").
    """

    def __init__(self, device: torch.device) -> None:
        together = int(os.environ.get("WORLD_SIZE", 1))
        here = int(os.environ.get("LOCAL_WORLD_SIZE", together))
        chosen = [device.index] if device.index is not None and together == 1 else here
        self._fabric = Fabric(
            accelerator=device.type,
            devices=chosen,
            num_nodes=together // here,
            strategy="ddp" if together > 1 else "auto",
        )
        self._fabric.launch()
        self.rank, self.size = self._fabric.global_rank, self._fabric.world_size
        self.device = self._fabric.device

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return self.rank == 0

    def average_buffers(self, module: nn.Module) -> None:
        """Running statistics become those of all processes' images."""
        self._average([b for b in module.buffers() if b.dtype.is_floating_point])

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """A parameter that no image of a process used counts there as a zero gradient."""
        if self.size == 1:
            return
        parameters = list(parameters)
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        self._average([p.grad for p in parameters])

    def _average(self, tensors: list[Tensor]) -> None:
        """In place, all at once: one message of all is sooner there than one of each."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        flat = self._fabric.all_reduce(flat, reduce_op="mean")
        for t, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            t.copy_(part.reshape(t.shape))
