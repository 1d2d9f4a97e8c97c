"""Sums over neighbouring vertices on a CPU, forwards and back: DSConv's depth-wise half (eq. 7) and
the way up from one level of MobRecon's mesh to the next.

As gathers and sums of torch they are a third of a training step: each step along a spiral reads and
writes all features once, and the backward pass scatters them one by one. Here a vertex's features
stay in the cache while its neighbours are walked.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numba import njit
from torch import Tensor

from hand_perception.models.mobrecon.decoder import (
    DepthSeparableSpiralConv,
    MeshDecoder,
    Upsampling,
)


@njit(cache=True, fastmath=True)
def _mix(x: np.ndarray, weights: np.ndarray, spirals: np.ndarray, out: np.ndarray) -> None:
    for v in range(spirals.shape[0]):
        for b in range(x.shape[1]):
            row = out[v, b]
            for s in range(spirals.shape[1]):
                seen, weight = x[spirals[v, s], b], weights[s]
                for c in range(x.shape[2]):
                    row[c] += seen[c] * weight[c]


@njit(cache=True, fastmath=True)
def _mix_back(
    gradient: np.ndarray,
    x: np.ndarray,
    weights: np.ndarray,
    spirals: np.ndarray,
    of_x: np.ndarray,
    of_weights: np.ndarray,
) -> None:
    for v in range(spirals.shape[0]):
        for b in range(x.shape[1]):
            row = gradient[v, b]
            for s in range(spirals.shape[1]):
                seen, weight = x[spirals[v, s], b], weights[s]
                to_seen, to_weight = of_x[spirals[v, s], b], of_weights[s]
                for c in range(x.shape[2]):
                    to_seen[c] += row[c] * weight[c]
                    to_weight[c] += row[c] * seen[c]


@njit(cache=True, fastmath=True)
def _blend(x: np.ndarray, corners: np.ndarray, shares: np.ndarray, out: np.ndarray) -> None:
    for v in range(corners.shape[0]):
        for k in range(corners.shape[1]):
            share = shares[v, k]
            if share != 0:
                row, seen = out[v], x[corners[v, k]]
                for i in range(x.shape[1]):
                    row[i] += seen[i] * share


@njit(cache=True, fastmath=True)
def _blend_back(
    gradient: np.ndarray, corners: np.ndarray, shares: np.ndarray, of_x: np.ndarray
) -> None:
    for v in range(corners.shape[0]):
        for k in range(corners.shape[1]):
            share = shares[v, k]
            if share != 0:
                row, to_seen = gradient[v], of_x[corners[v, k]]
                for i in range(of_x.shape[1]):
                    to_seen[i] += row[i] * share


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weights: Tensor, spirals: Tensor) -> Tensor:
        x, weights = x.contiguous(), weights.contiguous()
        ctx.save_for_backward(x, weights, spirals)
        out = torch.zeros(len(spirals), *x.shape[1:])
        _mix(x.numpy(), weights.numpy(), spirals.numpy(), out.numpy())
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weights, spirals = ctx.saved_tensors
        of_x, of_weights = torch.zeros_like(x), torch.zeros_like(weights)
        arrays = (t.numpy() for t in (x, weights, spirals, of_x, of_weights))
        _mix_back(gradient.contiguous().numpy(), *arrays)
        return of_x, of_weights, None


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, corners: Tensor, shares: Tensor) -> Tensor:
        ctx.save_for_backward(corners, shares)
        ctx.shape = x.shape
        out = torch.zeros(len(corners), *x.shape[1:])
        rows = x.contiguous().flatten(1).numpy()
        _blend(rows, corners.numpy(), shares.numpy(), out.flatten(1).numpy())
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        corners, shares = ctx.saved_tensors
        of_x = torch.zeros(ctx.shape)
        rows = gradient.contiguous().flatten(1).numpy()
        _blend_back(rows, corners.numpy(), shares.numpy(), of_x.flatten(1).numpy())
        return of_x, None, None


@torch.compiler.disable
def mix(x: Tensor, weights: Tensor, spirals: Tensor) -> Tensor:
    """Features [V, B, C] along spirals [N, S], each step and channel by its weight [S, C]: sums
    [N, B, C]. All float32, on the CPU."""
    return _Mix.apply(x, weights, spirals)


@torch.compiler.disable
def blend(x: Tensor, corners: Tensor, shares: Tensor) -> Tensor:
    """Features [V, B, C] at corners [N, K], each by its share [N, K]: sums [N, B, C]. Shares have
    no gradient. All float32, on the CPU."""
    return _Blend.apply(x, corners, shares)


def use_spiral_sums(decoder: MeshDecoder) -> None:
    """Its sums are these from now on. Such a decoder is for training in float32 on the CPU, not to
    be exported."""
    for part in decoder.modules():
        if isinstance(part, DepthSeparableSpiralConv):
            part.mixed = partial(_mixed, part)
        elif isinstance(part, Upsampling):
            part.forward = partial(_up, part)


def _mixed(convolution: DepthSeparableSpiralConv, x: Tensor) -> Tensor:
    return mix(x, convolution.depthwise, convolution.spirals)


def _up(upsampling: Upsampling, x: Tensor) -> Tensor:
    return blend(x, upsampling.corners, upsampling.weights[..., 0, 0])
