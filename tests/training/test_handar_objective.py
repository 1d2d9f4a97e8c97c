from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from one_hand import one_hand

from hand_perception.errors import DataError, ModelError
from hand_perception.models.handar.config import HandARConfig
from hand_perception.models.handos.backbone import Backbone
from hand_perception.models.handos.config import DetectorConfig
from hand_perception.training.config import StageConfig, TrainingConfig
from hand_perception.training.handar_objective import PAINTED, HandARObjective
from hand_perception.training.networks import load_objective

SIZES = HandARConfig(width=16, graph_width=16)


class OneHand:
    """Always the same labelled image."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return one_hand()


def objective(config=SIZES, **losses) -> HandARObjective:
    made = HandARObjective(config, losses)
    made.to(torch.device("cpu"))
    return made


def batch_of(made: HandARObjective, stage: StageConfig, count: int = 4):
    batches = made.batches(stage, [OneHand()], (1.0,), count, seed=3)
    return next(b for b in map(batches.__getitem__, range(9)) if b.present.all())


def stage(name: str) -> StageConfig:
    return StageConfig(name, steps=1, batch_size=4, sources={"photographs": 1.0})


def fit(made: HandARObjective, kind: str, steps: int) -> tuple[dict, dict]:
    """The losses before and after some steps on one batch."""
    torch.set_num_threads(1)
    recipe = stage(kind)
    batch, parts = batch_of(made, recipe, 2), made.prepare(recipe)
    optimiser = torch.optim.Adam([p for part in parts for p in part.parameters()], 2e-3)
    history = []
    for _ in range(steps):
        losses = made.losses(recipe, batch)
        history.append({name: float(value.detach()) for name, value in losses.items()})
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
    return history[0], history[-1]


def test_labels_lie_where_the_crop_shows_them():
    made = objective()
    batch = batch_of(made, stage("mesh"))
    truth = made.truth(batch)
    joints = made.landmarks @ truth.vertices
    # A joint is a mean of vertices some 10 mm around it; the crop's camera is fitted, its image a
    # shifted and turned cut: a hundredth of the crop.
    assert (joints[..., :2] - batch.joints2d).abs().max() < 0.01
    assert torch.equal(truth.joints[..., :2], batch.joints2d)
    # An open hand fills about a fifth of its crop, palm and fingers each a share.
    shares = truth.picture.mean((2, 3))
    assert ((0.05 < shares.sum(1)) & (shares.sum(1) < 0.5)).all()
    assert (shares.amax(0) > 1e-3).all()
    at_joints = truth.picture.sum(1).clamp(max=1)
    inner = [k for k in range(1, 21) if k % 4]  # a tip lies on the surface, so on the outline
    size = at_joints.shape[-1]
    spots = (batch.joints2d[PAINTED][:, inner] * size).long().clamp(0, size - 1)
    painted = torch.stack([p[s[:, 1], s[:, 0]] for p, s in zip(at_joints, spots, strict=True)])
    assert painted.min() > 0.9


def test_a_few_steps_lower_every_loss_of_a_batch():
    before, after = fit(objective(), "mesh", 20)
    assert before.keys() == {
        *("joints", "segmentation", "rough", "final", "space", "edge", "normal", "render"),
        *("side", "presence"),
    }
    for name in before.keys() - {"normal", "edge"}:
        assert after[name] < before[name], name
    assert sum(after.values()) < sum(before.values()) * 3 / 4


def test_the_joint_stage_learns_alone():
    made = objective()
    frozen = {
        k: v.clone()
        for k, v in made.learner.network.state_dict().items()
        if k.startswith(("mesh_stage", "refine_stage", "judge", "camera"))
    }
    before, after = fit(made, "joints", 8)
    assert before.keys() == {"joints", "segmentation"}
    assert sum(after.values()) < sum(before.values())
    state = made.learner.network.state_dict()
    assert all(torch.equal(state[k], v) for k, v in frozen.items())


def test_the_true_mesh_has_no_render_loss_and_a_moved_one_is_pulled_back():
    made = objective()
    batch = batch_of(made, stage("mesh"))
    truth = made.truth(batch)
    assert float(made._render_loss(truth.vertices, truth, batch.weight_mesh)) == 0
    moved = (truth.vertices + torch.tensor([0.02, 0, 0])).requires_grad_()
    loss = made._render_loss(moved, truth, batch.weight_mesh)
    loss.backward()
    assert loss > 0 and (moved.grad[PAINTED, :, 0].sum(1) > 0).all()


def test_crops_without_mesh_or_hand_keep_the_losses_finite():
    made = objective()
    recipe = stage("mesh")
    batch = batch_of(made, recipe)
    nothing = torch.zeros(4)
    empty = replace(
        batch,
        present=nothing,
        weight2d=nothing,
        weight3d=nothing,
        weight_mesh=nothing,
        side=nothing,
        known=torch.zeros_like(batch.known),
    )
    made.prepare(recipe)
    losses = made.losses(recipe, empty)
    sum(losses.values()).backward()
    gradients = [p.grad for p in made.learner.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)
    for name in ("joints", "rough", "final", "space", "edge", "normal", "render"):
        assert float(losses[name].detach()) == 0, name


@pytest.mark.parametrize("part", ("joint_stage", "refine_stage", "segmentation"))
def test_ablations_lack_their_terms(part):
    made = objective(replace(SIZES, without=(part,)), render=0.0)
    recipe = stage("mesh")
    made.prepare(recipe)
    names = made.losses(recipe, batch_of(made, recipe, 2)).keys()
    lost = {"joint_stage": "joints", "refine_stage": "final", "segmentation": "segmentation"}
    assert lost[part] not in names and "render" not in names
    assert made.stages == (("mesh",) if part == "joint_stage" else ("joints", "mesh"))


@pytest.mark.parametrize("place", ["detector", "encoder"])
def test_it_starts_from_the_backbone_of_a_handos_or_of_a_mobrecon(place):
    made = objective()
    torch.manual_seed(9)
    config = DetectorConfig()
    backbone = Backbone(config.widths, config.blocks).state_dict()
    made.load({f"{place}.backbone.{k}": v for k, v in backbone.items()})
    state = made.learner.network.encoder.backbone.state_dict()
    assert all(torch.equal(state[k], v) for k, v in backbone.items())
    other = objective(replace(SIZES, encoder="resnet50", width=8))
    with pytest.raises(ModelError, match="light"):
        other.load({"detector.backbone.stem.0.weight": torch.zeros(1)})


def test_it_goes_on_from_its_own_weights():
    earlier, made = objective(), objective()
    weights = earlier.learner.network.state_dict()
    for value in weights.values():
        if value.is_floating_point():
            value.add_(0.5)
    made.load(weights)
    state = made.learner.network.state_dict()
    assert all(torch.equal(state[k], v) for k, v in weights.items())


def test_the_shipped_recipe_names_it():
    config = Path(__file__).parents[2] / "config"
    recipe = TrainingConfig.load(config / "training/handar.yaml")
    made = load_objective(config / f"models/{recipe.model}.yaml", recipe)
    assert isinstance(made, HandARObjective)
    assert {s.name for s in recipe.stages} <= set(made.stages)
    with pytest.raises(DataError, match="rendr"):
        HandARObjective(SIZES, {"rendr": 1.0})
