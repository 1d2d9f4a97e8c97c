"""Samples of one mesh topology: a network learns the vertices of one template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hand_perception.data.correspondence import Correspondence
from hand_perception.data.order import blocks_of
from hand_perception.data.sample import Sample


class InTopology:
    """A source whose meshes are all of ``topology``.

    Others are carried over by ``correspondence``, which leads there; without one their meshes count
    nothing, and their joints teach as before.
    """

    def __init__(self, source, topology: str, correspondence: Correspondence | None = None) -> None:
        self.source, self.topology, self.correspondence = source, topology, correspondence

    @property
    def blocks(self) -> Sequence[int]:
        return blocks_of(self.source)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        sample = self.source[index]
        if sample.topology == self.topology:
            return sample
        if self.correspondence is None:
            labels = {"weight_mesh": np.zeros_like(sample.hands.weight3d)}
        else:
            labels = {"vertices": self.correspondence(sample.hands.vertices)}
        return replace(sample, hands=replace(sample.hands, **labels), topology=self.topology)
