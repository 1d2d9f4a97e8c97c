from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from models.tiny import TINY
from torch import nn

from hand_perception.errors import ModelError
from hand_perception.export.profile import LiveBytes, _count, add_arguments, profile, run
from hand_perception.models.handos.config import HandOSConfig

MODELS = Path(__file__).parents[2] / "config" / "models"


def test_operations_of_a_convolution_and_a_product():
    layer = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Flatten(2))
    flops, peak, _ = _count(layer, torch.zeros(1, 3, 10, 10))
    assert flops == 2 * 3 * 9 * 8 * 100  # a multiply-add is two
    assert peak == 4 * 8 * 100  # the map; flattening makes no new one


def test_bytes_that_live_at_once():
    with LiveBytes() as live:
        a = torch.zeros(1000)
        b = a + 1
        del a
        c = (b + 1).view(10, 100)
        b += c.sum()
        del b
    assert live.peak == 3 * 4000 - 4000 + 4  # two vectors and a sum
    assert live.now == 4000


@pytest.mark.parametrize("name", ["handos", "handos_s"])
def test_cost_grows_by_the_same_for_each_hand(name):
    config = (
        TINY
        if name == "handos_s"
        else HandOSConfig.from_dict(
            TINY.to_dict() | {"detector": asdict(TINY.detector) | {"dim": 32}}
        )
    )
    result = profile(config)
    assert result.flops.fixed > 0 and result.flops.per_hand > 0
    assert result.activations.fixed > 0
    assert set(result.parameters) == {"detector", "decoder"}


def test_detector_operations_grow_with_the_image_and_hands_do_not():
    small = profile(TINY)
    large = profile(HandOSConfig.from_dict(TINY.to_dict() | {"image_size": 128}))
    assert large.flops.per_hand == pytest.approx(small.flops.per_hand)
    # Four times the pixels; attention at stride 32 grows faster, query selection hardly.
    assert 2 < large.flops.fixed / small.flops.fixed < 5


def test_the_command_prints_the_papers_form(capsys):
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args([str(MODELS / "handos_s.yaml"), "--set", "image_size=64"])) == 0
    out = capsys.readouterr().out
    assert " H) GFLOPs" in out and "301 + 108 H" in out and "64 x 64" in out
    with pytest.raises(ModelError, match="no HandOS"):
        run(parser.parse_args([str(MODELS / "mobrecon.yaml")]))
