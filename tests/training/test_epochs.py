"""Stages counted in epochs, as the paper's: order, rate, optimizer, broken samples, TensorBoard."""

from __future__ import annotations

import json
import logging
from collections import Counter

import numpy as np
import pytest
import torch
from models.tiny import TINY
from one_hand import one_hand
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hand_perception.data.order import ENDLESS
from hand_perception.errors import DataError
from hand_perception.training import trainer as trainer_module
from hand_perception.training.batches import BatchRecipe, StepBatches, collate
from hand_perception.training.config import StageConfig, TrainingConfig
from hand_perception.training.handos_objective import HandOSObjective
from hand_perception.training.losses import joint_l1, known_mean, oks_loss, point_l1
from hand_perception.training.trainer import Trainer, schedule


class Counted:
    """A few samples, of which some cannot be read."""

    def __init__(self, length, broken=()):
        self.length, self.broken, self.asked = length, broken, Counter()

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.asked[index] += 1
        if index in self.broken:
            raise DataError(f"picture {index} is cut short")
        return one_hand()


def train(folder, source, **stage):
    stage = {"batch_size": 2, "sizes": (64,), "warmup": 1, "sources": {"hands": 1}} | stage
    config = TrainingConfig("tiny", (StageConfig(name="detector", **stage),))
    torch.set_num_threads(1)
    objective = HandOSObjective(TINY, {})
    Trainer(config, objective, {"hands": source}, folder, torch.device("cpu"), 0).run()


def test_an_epoch_is_each_sample_once(tmp_path):
    source = Counted(6)
    train(tmp_path, source, epochs=3)
    assert source.asked == Counter(dict.fromkeys(range(6), 3))


def test_a_broken_sample_is_reported_and_another_one_taken(tmp_path, caplog):
    source = Counted(6, broken=(2,))
    with caplog.at_level(logging.WARNING):
        train(tmp_path, source, epochs=2)
    assert "picture 2 is cut short" in caplog.text
    assert sum(source.asked[k] for k in range(6) if k != 2) == 12  # every image was replaced
    assert (tmp_path / "detector.safetensors").is_file()


def test_rendered_hands_have_no_epochs(tmp_path):
    with pytest.raises(DataError, match="in steps"):
        train(tmp_path, Counted(ENDLESS), epochs=1)


def test_a_set_of_broken_samples_is_an_error():
    recipe = BatchRecipe(batch_size=1, sizes=(64,), view="image", slots=1, weights=(1.0,))
    batches = StepBatches([Counted(3, broken=range(3))], recipe, seed=0)
    with pytest.raises(DataError, match="in a row"):
        batches[0]


def test_flips_can_be_turned_off():
    for flip, sides in ((0.0, {1.0}), (1.0, {-1.0}), (0.5, {1.0, -1.0})):
        recipe = BatchRecipe(4, (64,), "hand", 1, (1.0,), flip=flip)
        batches = StepBatches([Counted(4)], recipe, seed=0)
        seen = {float(s) for step in range(4) for s in batches[step].side[:, 0]}
        assert seen == sides


def test_the_rate_is_constant_until_the_cosine_begins():
    total, warmup, begin = 4000, 100, 2500
    assert schedule(50, warmup, total, begin) == pytest.approx(51 / 100)
    assert schedule(100, warmup, total, begin) == schedule(2500, warmup, total, begin) == 1
    middle = 0.02 + 0.98 / 2
    assert schedule(3250, warmup, total, begin) == pytest.approx(middle)
    assert schedule(4000, warmup, total, begin) == pytest.approx(0.02)


@pytest.mark.parametrize(
    "stage, word",
    [
        ("{name: mesh}", "either steps or epochs"),
        ("{name: mesh, steps: 3, epochs: 3}", "either steps or epochs"),
        ("{name: mesh, steps: 3, optimizer: sgd}", "optimizer"),
        ("{name: mesh, steps: 3, view: crop}", "view"),
    ],
)
def test_contradictions_in_a_recipe_are_named(tmp_path, stage, word):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: a\nstages: [{stage}]")
    with pytest.raises(DataError, match=word):
        TrainingConfig.load(path)


def test_tensorboard_shows_what_the_log_says(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer_module, "REPORT_EVERY", 2)
    train(tmp_path, Counted(4), steps=4)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    total = board.Scalars("0_detector/total")
    assert [event.step for event in total] == [row["step"] for row in rows] == [2, 4]
    # The log has four decimals, events are float32.
    np.testing.assert_allclose(
        [e.value for e in total], [r["total"] for r in rows], atol=6e-5, rtol=1e-6
    )
    assert {"0_detector/lr", "0_detector/images_per_second"} <= set(board.Tags()["scalars"])


def test_joints_that_are_not_known_do_not_count():
    truth, known = torch.zeros(21, 2), torch.ones(21, dtype=torch.bool)
    predicted = truth.clone()
    predicted[5:] = 9.0
    known[5:] = False
    side, area = torch.tensor(2.0), torch.tensor(0.04)
    assert (
        joint_l1(predicted, truth, side, known) == 0
        and oks_loss(predicted, truth, area, known) == 0
    )
    predicted[0] = 0.4
    # One of five known joints is 0.4 off in both coordinates, in boxes of side 2.
    assert joint_l1(predicted, truth, side, known) == pytest.approx(0.2 / 5)
    space = torch.zeros(21, 3)
    space[0], space[9] = 0.3, 7.0
    assert point_l1(space, torch.zeros(21, 3), known) == pytest.approx(0.3 / 5)
    assert known_mean(torch.ones(3, 21), torch.zeros(3, 21, dtype=torch.bool)).tolist() == [0, 0, 0]


def test_a_batch_says_what_is_labelled():
    sample = one_hand()
    sample.hands.known[0, 3] = False
    sample.hands.weight_mesh = np.zeros(1, np.float32)
    recipe = BatchRecipe(batch_size=1, sizes=(160,), view="image", slots=2, weights=(1.0,))
    sample.image = np.zeros((160, 160, 3), np.uint8)
    batch = collate([sample], 160, recipe)
    assert torch.nonzero(~batch.known[0, 0]).ravel().tolist() == [3]
    assert batch.weight_mesh[0, 0] == 0 and batch.weight3d[0, 0] == 1
    assert not batch.known[0, 1].any()
