"""What a network costs: multiply-adds and parameters, as the paper's tables count them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hand_perception.models.mobrecon.blocks import SqueezeExcite
from hand_perception.models.mobrecon.decoder import DepthSeparableSpiralConv


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def multiply_adds(call: Callable[[], object], *modules: nn.Module) -> int:
    """Of ``call()`` with one crop, in which ``modules`` run. torch counts matrix products and
    convolutions; the products by element are added: eq. 7's along the spirals, and what
    squeeze-and-excitation multiplies. Sums, pooling, norms and upsampling are free, as in the
    paper."""
    by_element = 0

    def count(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal by_element
        if isinstance(module, DepthSeparableSpiralConv):
            vertices, _, channels = inputs[0].shape
            by_element += vertices * channels * module.spirals.shape[1]
        else:
            by_element += output.numel()

    counted = (DepthSeparableSpiralConv, SqueezeExcite)
    hooks = [
        part.register_forward_hook(count)
        for module in modules
        for part in module.modules()
        if isinstance(part, counted)
    ]
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        call()
    for hook in hooks:
        hook.remove()
    # A multiply-add is two of torch's operations.
    return flops.get_total_flops() // 2 + by_element


def shares(call: Callable[[], object], parts: Iterable[nn.Module]) -> int:
    """Of the multiply-adds of ``call()``, those inside of ``parts``, each of which runs once."""
    seen: list[tuple[nn.Module, tuple]] = []

    def note(module: nn.Module, inputs: tuple) -> None:
        seen.append((module, inputs))

    hooks = [part.register_forward_pre_hook(note) for part in parts]
    with torch.no_grad():
        call()
    for hook in hooks:
        hook.remove()
    return sum(multiply_adds(lambda m=m, i=i: m(*i), m) for m, i in seen)
