"""In which order an epoch goes through its samples: shuffled, yet near each other on the disk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# So many blocks are mixed at a time: enough for a shuffle, few enough to keep open.
WINDOW = 16
# The length of sources that make a sample when it is asked for: nobody goes through them.
ENDLESS = 1 << 30


class ShuffledOrder:
    """``order[position]`` is the sample at a position of an endless run of epochs.

    blocks: how many samples lie together, block after block (the shards of a packed set; a set of
    loose files is one block). Each epoch puts the blocks into a new order and shuffles the samples
    of WINDOW of them at a time: every sample comes once an epoch, and a pass over millions of them
    reads few shards at a time. A pure function of the arguments, so that a resumed run repeats.
    """

    def __init__(self, blocks: Sequence[int], seed: int) -> None:
        self._lengths, self._seed = np.array(blocks), seed
        self._starts = np.concatenate([[0], self._lengths.cumsum()])
        self._epoch = self._window = -1

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position, int(self._starts[-1]))
        if epoch != self._epoch:
            self._begin(epoch)
        window = int(np.searchsorted(self._ends, place, "right"))
        if window != self._window:
            self._shuffle(window)
        return int(self._samples[place - int(self._ends[window]) + len(self._samples)])

    def _begin(self, epoch: int) -> None:
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(len(self._lengths))
        self._windows = [order[k : k + WINDOW] for k in range(0, len(order), WINDOW)]
        self._ends = np.cumsum([self._lengths[blocks].sum() for blocks in self._windows])
        self._epoch, self._window = epoch, -1

    def _shuffle(self, window: int) -> None:
        samples = [
            np.arange(self._starts[block], self._starts[block + 1])
            for block in self._windows[window]
        ]
        rng = np.random.default_rng((self._seed, self._epoch, window))
        self._samples, self._window = rng.permutation(np.concatenate(samples)), window


def blocks_of(source) -> Sequence[int]:
    """The blocks of a source of samples: its own, or all of it as one."""
    return getattr(source, "blocks", (len(source),))
