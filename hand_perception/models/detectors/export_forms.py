"""Operations of networks that are not ours, in forms that export to what every runtime knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hand_perception.models.layers import gather_map


class ExportForms(TorchFunctionMode):
    """While open, ``grid_sample`` is done by Gather and MatMul, as in our own layers, and
    ``linspace`` is a constant: the exporter would make it float64.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        form = {F.grid_sample: gather_sample, torch.linspace: constant_linspace}.get(func, func)
        return form(*args, **(kwargs or {}))


def gather_sample(
    features: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """F.grid_sample: features [N, C, H, W], grid [N, h, w, 2] in -1..1 -> [N, C, h, w].

    Only as deformable attention asks for it: bilinear, zero outside, corners not aligned.
    """
    if mode != "bilinear" or padding_mode != "zeros" or align_corners:
        raise NotImplementedError(f"grid_sample with {mode}, {padding_mode}, {align_corners}")
    sampled = gather_map(features, (grid.flatten(1, 2) + 1) / 2)
    return sampled.transpose(1, 2).unflatten(2, grid.shape[1:3])


def constant_linspace(
    start: float | Tensor,
    end: float | Tensor,
    steps: int | Tensor,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    values = np.linspace(float(start), float(end), int(steps))
    return torch.tensor(values.tolist(), dtype=dtype, device=device)
