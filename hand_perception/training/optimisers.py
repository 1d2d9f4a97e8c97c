"""Optimisers by their names in a recipe."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hand_perception.training.config import StageConfig

# A matrix with fewer rows or columns has no directions to even out: heads, the stem, embeddings.
LEAST_SIDE = 32
# Quintic Newton-Schulz iteration: singular values end between about 0.7 and 1.2 in five steps.
COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
# An orthogonal matrix times 0.2 sqrt(longer side) changes weights by as much as Adam's steps do, so
# that both take the same rate (Liu et al. 2025).
STEP = 0.2


def make_optimiser(stage: StageConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam as torch has it; AdamW with a second moment that forgets sooner; Muon."""
    if stage.optimizer == "adam":
        return torch.optim.Adam(parameters, stage.lr, weight_decay=stage.weight_decay)
    kind = Muon if stage.optimizer == "muon" else torch.optim.AdamW
    return kind(parameters, stage.lr, betas=(0.9, 0.98), weight_decay=stage.weight_decay)


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al. 2024) for large matrices, a convolution being one of its outputs by all
    its inputs; AdamW for all else. torch.optim.Muon takes two dimensions only.

    momentum: of the gradient, by Nesterov. Other arguments are AdamW's; both share them.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum=0.95, **options) -> None:
        super().__init__(parameters, lr, **options)
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        """Uses up the gradients of the matrices."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and is_large_matrix(parameter):
                    self._turn(parameter, group["lr"], group["weight_decay"])
                    parameter.grad = None
        super().step(closure)

    def _turn(self, parameter: Tensor, lr: float, weight_decay: float) -> None:
        state, gradient = self.state[parameter], parameter.grad
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - self.momentum)
        ahead = gradient.lerp(state["momentum"], self.momentum).reshape(len(parameter), -1)
        reach = STEP * max(ahead.shape) ** 0.5
        parameter.mul_(1 - lr * weight_decay)
        parameter.add_(orthogonal(ahead).reshape(parameter.shape), alpha=-lr * reach)


def is_large_matrix(parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and min(len(parameter), parameter[0].numel()) >= LEAST_SIDE


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T of the matrix U S V^T [m, n].

    The iteration runs on the product with itself, which is the smaller one: the long sides meet
    twice instead of twice an iteration.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.mT if tall else matrix) / (matrix.norm() + 1e-7)
    gram = x @ x.mT
    identity = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    total = identity
    for _ in range(ITERATIONS):
        step = a * identity + b * gram + c * gram @ gram
        total = step @ total
        gram = step @ gram @ step
    x = total @ x
    return x.mT if tall else x
