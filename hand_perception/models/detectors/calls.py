"""Watching submodules of a network that is not ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass
class Call:
    """One call of a module: its named arguments and what it gave back."""

    arguments: dict[str, Any]
    output: Any


@contextmanager
def watch(modules: dict[str, nn.Module]) -> Iterator[dict[str, Call]]:
    """While open: the latest call of each module, by name."""
    calls: dict[str, Call] = {}

    def watcher(name: str):
        def keep(_module: nn.Module, _args: tuple, kwargs: dict[str, Any], output: Any) -> None:
            calls[name] = Call(kwargs, output)

        return keep

    handles = [
        module.register_forward_hook(watcher(name), with_kwargs=True)
        for name, module in modules.items()
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
