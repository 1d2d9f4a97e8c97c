import json

import numpy as np
import pytest
import torch
from models.tiny import TINY
from one_hand import one_hand

from hand_perception.errors import DataError, ModelError, TrainingError
from hand_perception.training import checkpoint
from hand_perception.training.config import StageConfig, TrainingConfig
from hand_perception.training.handos_objective import HandOSObjective
from hand_perception.training.trainer import Trainer, schedule


class OneHand:
    """Always the same labelled image, so that a few steps lower the loss."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return one_hand()


def stages(*names, steps=4, optimizer="adamw"):
    return tuple(
        StageConfig(n, steps, batch_size=2, sizes=(64,), warmup=1, optimizer=optimizer)
        for n in names
    )


def train(folder, config, source=None):
    sources = {"synthetic": source or OneHand(), "photographs": source or OneHand()}
    torch.set_num_threads(1)
    trainer = Trainer(
        config, HandOSObjective(TINY, {}), sources, folder, torch.device("cpu"), workers=0
    )
    trainer.run()
    return trainer.network_weights()


def test_all_stages_run_and_only_their_part_of_the_network_moves(tmp_path):
    train(tmp_path, TrainingConfig("tiny", stages("detector", "joints", "mesh")))
    after = {
        n: checkpoint.load(tmp_path / f"{n}.safetensors")[0]["model"]
        for n in ("detector", "joints", "mesh")
    }
    frozen = [k for k in after["mesh"] if k.startswith("detector.")]
    assert frozen and all(torch.equal(after["detector"][k], after["mesh"][k]) for k in frozen)
    lifting = "decoder.lifting.matrix"
    assert not torch.equal(after["joints"][lifting], after["mesh"][lifting])


class MachineDownError(Exception):
    pass


class CutTrainer(Trainer):
    """Stops in the middle of its second stage, as a machine that goes down."""

    updates = 0

    def _update_average(self, decay, step):
        super()._update_average(decay, step)
        self.updates += 1
        if self.updates == 9:
            raise MachineDownError


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_cut_in_two_equals_one_run(optimizer, tmp_path, monkeypatch):
    config = TrainingConfig("tiny", stages("detector", "mesh", steps=6, optimizer=optimizer))
    # A line each step of the whole run, each third one of the one that is cut.
    monkeypatch.setattr("hand_perception.training.trainer.REPORT_EVERY", 1)
    whole = train(tmp_path / "whole", config)
    monkeypatch.setattr("hand_perception.training.trainer.REPORT_EVERY", 3)
    sources = {"synthetic": OneHand(), "photographs": OneHand()}
    cut = CutTrainer(
        config, HandOSObjective(TINY, {}), sources, tmp_path / "cut", torch.device("cpu"), workers=0
    )
    # Saved after each step, as the timer would now and then.
    monkeypatch.setattr("hand_perception.training.trainer.SAVE_EVERY_SECONDS", -1.0)
    with pytest.raises(MachineDownError):
        cut.run()
    resumed = train(tmp_path / "cut", config)
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    each, third = (reported(tmp_path / name / "log.jsonl") for name in ("whole", "cut"))
    assert third["mesh", 3] == each["mesh", 3]  # of the one step since the run went on
    assert third["mesh", 6] == pytest.approx(
        np.mean([each["mesh", k] for k in (4, 5, 6)]), abs=1e-4
    )


def reported(log):
    """Total losses by stage and step, the last one where there are two."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return {(row["stage"], row["step"]): row["total"] for row in rows}


def test_a_new_run_starts_from_an_earlier_ones_weights(tmp_path):
    train(tmp_path / "first", TrainingConfig("tiny", stages("detector")))
    first = tmp_path / "first" / "detector.safetensors"
    config = TrainingConfig("tiny", stages("mesh", steps=0))
    sources = {"synthetic": OneHand(), "photographs": OneHand()}
    weights = checkpoint.load_model(first)
    objective = HandOSObjective(TINY, {})
    objective.load(weights)
    second = Trainer(config, objective, sources, tmp_path / "b", torch.device("cpu"), 0)
    for name, value in second.network_weights().items():
        assert torch.equal(value, weights[name]), name
    with pytest.raises(ModelError, match="no stage's file"):
        checkpoint.load_model(tmp_path / "first" / "last.safetensors")


def test_the_log_is_one_json_line_a_report(tmp_path):
    train(tmp_path, TrainingConfig("tiny", stages("detector", steps=50)))
    row = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert row["stage"] == "detector" and row["step"] == 50 and np.isfinite(row["total"])


def test_missing_data_is_named(tmp_path):
    trainer = Trainer(
        TrainingConfig("tiny", stages("detector")),
        HandOSObjective(TINY, {}),
        {"photographs": OneHand()},
        tmp_path,
        torch.device("cpu"),
        workers=0,
    )
    with pytest.raises(DataError, match="synthetic"):
        trainer.run()


class NoHand(OneHand):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        sample.hands = sample.hands.take(np.zeros(1, bool))
        return sample


def test_images_without_hands_leave_the_decoder_finite(tmp_path):
    config = TrainingConfig("tiny", stages("mesh", steps=3))
    weights = train(tmp_path, config, NoHand())
    start = train(tmp_path / "start", TrainingConfig("tiny", stages("mesh", steps=0)))
    assert all(torch.isfinite(value).all() for value in weights.values())
    # They teach presence, so steps were not skipped.
    name = "decoder.expansion.presence.0.weight"
    assert not torch.equal(weights[name], start[name])


def test_a_run_without_finite_gradients_stops(tmp_path):
    class Broken(OneHand):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            sample.hands.vertices[:] = np.nan
            return sample

    with pytest.raises(TrainingError, match="in a row"):
        train(tmp_path, TrainingConfig("tiny", stages("mesh", steps=25)), Broken())


def test_a_cut_checkpoint_is_refused_with_its_name(tmp_path):
    path = tmp_path / "last.safetensors"
    checkpoint.save(path, {"model": {"w": torch.ones(100)}}, {})
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ModelError, match=r"last\.safetensors"):
        checkpoint.load(path)


def test_schedule_warms_up_and_decays():
    assert schedule(0, 10, 100) == pytest.approx(0.1)
    assert schedule(10, 10, 100) == pytest.approx(1.0)
    assert schedule(100, 10, 100) == pytest.approx(0.02)


def test_a_rate_that_falls_in_steps_is_a_tenth_from_each_on():
    rates = [schedule(step, 0, 80, decay_at=(20, 40, 60)) for step in (0, 19, 20, 39, 40, 79)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.001])
    assert schedule(0, 2, 80, decay_at=(20,)) == 0.5
