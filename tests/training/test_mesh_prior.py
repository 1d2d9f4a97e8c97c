import argparse
from dataclasses import replace

import numpy as np
import pytest
import torch

from hand_perception.errors import ModelError
from hand_perception.models.mesh_prior import MeshPrior, PriorConfig
from hand_perception.template import load_template
from hand_perception.training import checkpoint
from hand_perception.training.mesh_prior import (
    SampledHands,
    add_arguments,
    load_prior,
    run,
    train,
)

TEMPLATE = load_template()


@pytest.fixture(scope="module")
def prior():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    prior = MeshPrior(PriorConfig(hidden=96, code=16), TEMPLATE)
    train(prior, TEMPLATE, steps=160, batch=32, lr=3e-3)
    return prior.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def unseen():
    return SampledHands(TEMPLATE, seed=9).draw(32)


def test_it_does_not_matter_where_a_hand_is_how_it_is_turned_or_which_one_it_is(prior, unseen):
    base = prior.distance(unseen)
    turn = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]).float()
    turn = turn * torch.linalg.det(turn)
    # Coordinates of up to 5 are turned and differenced: 2^-24 * 5 * some 10 sums, grown by three
    # layers of weights of order one.
    torch.testing.assert_close(prior.distance(unseen @ turn + 3), base, atol=1e-4, rtol=0)
    left = unseen * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(prior.distance(left), base, atol=1e-4, rtol=0)


def test_unseen_hands_are_nearer_than_what_is_no_hand(prior, unseen):
    canonical = prior.canonical(unseen)
    again = prior.decode(prior.encode(canonical)[0])
    # It has learnt more than the mean hand.
    mean = prior.mean.view(1, -1, 3)
    assert (again - canonical).abs().mean() < 0.5 * (mean - canonical).abs().mean()
    torch.manual_seed(0)
    rough = unseen + 0.05 * torch.randn_like(unseen)
    flat = canonical * torch.tensor([1.0, 1.0, 0.2])
    for wrong in (rough, flat, unseen * 1.6):
        assert (prior.distance(wrong) > prior.distance(unseen)).float().mean() > 0.9


def test_the_distance_pulls_towards_hands(prior, unseen):
    torch.manual_seed(0)
    mesh = (unseen + 0.05 * torch.randn_like(unseen)).requires_grad_()
    before = (mesh.detach() - unseen).square().mean()
    optimiser = torch.optim.Adam([mesh], 3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        prior.distance(mesh).sum().backward()
        optimiser.step()
    assert (mesh.detach() - unseen).square().mean() < before


def test_a_prior_is_written_and_read(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    path = tmp_path / "prior.safetensors"
    assert run(parser.parse_args(["--output", str(path), "--steps", "2"])) == 0
    assert "come back within" in capsys.readouterr().out
    prior = load_prior(path, TEMPLATE)
    assert prior.config == PriorConfig() and not any(p.requires_grad for p in prior.parameters())
    checkpoint.save(path, {"model": {"w": torch.ones(1)}}, {})
    with pytest.raises(ModelError, match="no mesh prior"):
        load_prior(path, TEMPLATE)
    with pytest.raises(ModelError, match="not of open778"):
        MeshPrior(PriorConfig(topology="mano"), TEMPLATE)


def test_hands_of_a_topology_without_joint_axes_are_carried_over():
    """As MANO's: here our own mesh with its vertices renumbered, which tells the truth."""
    order = np.random.default_rng(0).permutation(len(TEMPLATE.vertices))
    other = replace(
        TEMPLATE,
        name="other",
        vertices=TEMPLATE.vertices[order],
        faces=np.argsort(order)[TEMPLATE.faces].astype(np.int32),
        weights=TEMPLATE.weights[order],
        regressor=TEMPLATE.regressor[:, order],
        joint_frames=np.tile(np.eye(3, dtype=np.float32), (16, 1, 1)),
    )
    ours, theirs = (SampledHands(t, seed=3).draw(4) for t in (TEMPLATE, other))
    # The correspondence is exact to 2e-5 m (test_correspondence.py), UNITs are tenths of a metre.
    assert (theirs - ours[:, order]).abs().max() < 2e-4
