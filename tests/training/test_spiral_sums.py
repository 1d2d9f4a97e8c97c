"""Sums over neighbours, forwards and back, against torch's own gathers in double precision."""

import pytest
import torch

from hand_perception.models.mobrecon.decoder import MeshDecoder
from hand_perception.models.mobrecon.mesh_pyramid import pyramid
from hand_perception.template import load_template
from hand_perception.training.spiral_sums import blend, mix, use_spiral_sums

# Vertices, neighbours of each, hands, channels.
V, S, B, C = 11, 5, 3, 17
# float32 sums of at most V * B products of numbers of size one.
CLOSE = {"atol": 2e-5, "rtol": 1e-5}


def numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def neighbours(seed: int) -> torch.Tensor:
    """Some vertices are met twice along one spiral, some by nobody."""
    return torch.randint(V - 1, (V, S), generator=torch.Generator().manual_seed(seed))


def gradients(out: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(out, inputs, numbers(*out.shape, seed=9).to(out.dtype))


def test_a_spiral_weighs_each_step_by_channel():
    x, weights, spirals = numbers(V, B, C, seed=1), numbers(S, C, seed=2), neighbours(3)
    learnt = [t.requires_grad_() for t in (x, weights)]
    exact = [t.detach().double().requires_grad_() for t in learnt]
    plain = (exact[0][spirals] * exact[1][None, :, None]).sum(1)
    out = mix(x, weights, spirals)
    torch.testing.assert_close(out.double(), plain, **CLOSE)
    for ours, theirs in zip(gradients(out, *learnt), gradients(plain, *exact), strict=True):
        torch.testing.assert_close(ours.double(), theirs, **CLOSE)


def test_corners_are_blended_by_their_shares():
    x, corners = numbers(V, B, C, seed=4).requires_grad_(), neighbours(5)
    shares = numbers(V, S, seed=6)
    shares[0, 1] = 0
    exact = x.detach().double().requires_grad_()
    plain = (exact[corners] * shares.double()[..., None, None]).sum(1)
    out = blend(x, corners, shares)
    torch.testing.assert_close(out.double(), plain, **CLOSE)
    (ours,), (theirs,) = gradients(out, x), gradients(plain, exact)
    torch.testing.assert_close(ours.double(), theirs, **CLOSE)


@pytest.mark.parametrize("graph", ["dsconv", "spiralconv++"])
def test_a_decoder_says_and_learns_the_same(graph):
    levels = pyramid(load_template(), 4, 9)
    torch.manual_seed(0)
    decoder = MeshDecoder(16, (16, 8, 8, 4), graph, levels)
    features = numbers(2, len(levels[-1].vertices), 16, seed=7).requires_grad_()
    learnt = (features, *decoder.parameters())
    plain = decoder(features)
    before = gradients(plain, *learnt)
    use_spiral_sums(decoder)
    fast = decoder(features)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)
    # Gradients are sums over all 778 vertices of two hands, of numbers of size one.
    for ours, theirs in zip(gradients(fast, *learnt), before, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)
