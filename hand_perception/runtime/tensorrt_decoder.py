"""The half of every TensorRT backend that is run for the hands found, and not without any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from hand_perception.runtime.tensorrt_device import Device, Memory, Replayed
from hand_perception.runtime.tensorrt_library import Context, Engine


class Feed(Protocol):
    """What the decoder reads, and how it comes there.

    axis: along which hands lie, in the inputs that follow their number and in all outputs.
    inputs: memory of every input, of the most hands. per_hand: those that follow their number.
    """

    axis: int
    inputs: dict[str, Memory]
    per_hand: tuple[str, ...]

    def load(self, hands: Sequence[Any]) -> None:
        """Into pinned memory; before the first load, what is there is fit to be read."""
        ...

    def enqueue(self, count: int) -> None:
        """Puts into the stream what fills the inputs for that many hands."""
        ...


class Decoder:
    """A context and a graph for each number of hands, over one set of buffers.

    outputs: their names, float32.
    """

    def __init__(
        self, device: Device, engine: Engine, feed: Feed, outputs: tuple[str, ...]
    ) -> None:
        self._device, self._feed = device, feed
        self.most_hands = most_hands(engine, feed.per_hand[0], feed.axis)
        self._scratch = device.memory(engine.scratch_bytes)
        counts = range(1, self.most_hands + 1)
        self._contexts = {hands: self._context(engine, hands) for hands in counts}
        widest = self._contexts[self.most_hands]
        self._host = {n: device.pinned(widest.shape(n), np.float32) for n in outputs}
        self._memory = {n: device.memory(a.nbytes) for n, a in self._host.items()}
        self._runs = {hands: Replayed(device, self._work(hands)) for hands in counts}
        for hands in counts:
            for name, memory in self._memory.items():
                self._contexts[hands].set_address(name, memory.address)
            for _ in range(2):  # as it is, then recorded: no frame waits for that
                self._runs[hands]()
        device.synchronize()

    def __call__(self, hands: Sequence[Any]) -> dict[str, np.ndarray]:
        """hands: what the feed loads, H of them. Outputs by name: views of pinned memory, or
        copies where there are more hands than the engine takes at once."""
        most = self.most_hands
        if len(hands) <= most:
            return self._decode(hands)
        groups = [hands[k : k + most] for k in range(0, len(hands), most)]
        # Copies, as the next group is written over the last.
        done = [{n: v.copy() for n, v in self._decode(group).items()} for group in groups]
        return {n: np.concatenate([part[n] for part in done], self._feed.axis) for n in self._host}

    def _decode(self, hands: Sequence[Any]) -> dict[str, np.ndarray]:
        self._feed.load(hands)
        self._runs[len(hands)]()
        self._device.synchronize()
        return {name: self._rows(name, len(hands)) for name in self._host}

    def _rows(self, name: str, hands: int) -> np.ndarray:
        """The host array of an output for that many hands: the first of the whole, contiguous."""
        whole = self._host[name]
        shape = _with(whole.shape, self._feed.axis, hands)
        return whole.reshape(-1)[: int(np.prod(shape))].reshape(shape)

    def _context(self, engine: Engine, hands: int) -> Context:
        context = engine.context(self._scratch.address, self._scratch.nbytes)
        for name, memory in self._feed.inputs.items():
            if name in self._feed.per_hand:
                context.set_shape(name, _with(engine.tensors[name].shape, self._feed.axis, hands))
            context.set_address(name, memory.address)
        return context

    def _work(self, hands: int) -> Callable[[], None]:
        def work() -> None:
            self._feed.enqueue(hands)
            self._contexts[hands].enqueue(self._device.stream)
            for name, memory in self._memory.items():
                self._device.download(self._rows(name, hands), memory.address)

        return work


def most_hands(engine: Engine, name: str, axis: int) -> int:
    """How many hands the engine takes at once."""
    return engine.tensors[name].largest[axis]


def _with(shape: tuple[int, ...], axis: int, hands: int) -> tuple[int, ...]:
    return (*shape[:axis], hands, *shape[axis + 1 :])
