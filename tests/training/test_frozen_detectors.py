"""Section 3.2: not a parameter or running statistic of the detector moves in HandOS training."""

import pytest
import torch
from models.tiny import TINY
from models.tiny_detectors import PRETRAINED, spread, tiny_config
from one_hand import one_hand

from hand_perception.errors import DataError
from hand_perception.training.config import StageConfig, TrainingConfig
from hand_perception.training.handos_objective import HandOSObjective
from hand_perception.training.trainer import Trainer


class OneHand:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return one_hand()


def stage(name):
    return StageConfig(
        name, steps=2, batch_size=2, sizes=(64,), warmup=1, sources={"synthetic": 1.0}
    )


@pytest.mark.parametrize("kind", ["ours", *PRETRAINED])
def test_nothing_of_a_detector_moves(kind, tmp_path):
    if kind != "ours":
        pytest.importorskip("transformers", reason="needs transformers")
    objective = HandOSObjective(TINY if kind == "ours" else tiny_config(kind), {}, seed=0)
    detector = objective.learner.network.detector
    if kind != "ours":
        spread(detector)
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    decoder = {k: v.clone() for k, v in objective.learner.network.decoder.state_dict().items()}
    recipe = TrainingConfig("tiny", (stage("joints"), stage("mesh")))
    trainer = Trainer(
        recipe, objective, {"synthetic": OneHand()}, tmp_path, torch.device("cpu"), workers=0
    )
    trainer.run()
    trained = trainer.network_weights()
    assert before and {f"detector.{k}" for k in before} <= set(trained)
    for name, value in before.items():
        assert torch.equal(trained[f"detector.{name}"], value), name
        assert torch.equal(detector.state_dict()[name], value), name
    moved = [k for k, v in decoder.items() if not torch.equal(trained[f"decoder.{k}"], v)]
    assert len(moved) > 0.9 * len(decoder)


def test_a_pretrained_detector_has_no_stage_of_its_own(tmp_path):
    pytest.importorskip("transformers", reason="needs transformers")
    objective = HandOSObjective(tiny_config("rt_detr_v2"), {})
    recipe = TrainingConfig("tiny", (stage("detector"),))
    with pytest.raises(DataError, match="unknown stage 'detector'"):
        Trainer(recipe, objective, {"synthetic": OneHand()}, tmp_path, torch.device("cpu"))
