import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from models.tiny import tiny_model
from models.tiny_detectors import PRETRAINED, tiny_config, tiny_pretrained

from hand_perception.errors import ModelError
from hand_perception.models.detectors.build import PRETRAINED as SHIPPED_KINDS
from hand_perception.models.detectors.build import build_detector
from hand_perception.models.detectors.config import PretrainedDetectorConfig
from hand_perception.models.detectors.export_forms import constant_linspace, gather_sample
from hand_perception.models.handos.config import HandOSConfig

transformers = pytest.importorskip("transformers", reason="needs transformers")

MODELS = Path(__file__).parents[2] / "config" / "models"


@pytest.fixture(scope="module", params=["ours", *PRETRAINED])
def model(request):
    return tiny_model() if request.param == "ours" else tiny_pretrained(request.param)


def test_every_detector_says_what_the_protocol_asks(model):
    detector = model.detector
    images = torch.randn(2, 3, 64, 64)
    found = detector(images)
    assert [m.shape for m in found.backbone] == [
        (2, width, size, size)
        for width, size in zip(detector.backbone_widths, (16, 8, 4, 2), strict=True)
    ]
    sizes = (8, 4, 2, 1)[: len(found.encoder)]
    expected = [(2, detector.encoder_dim, size, size) for size in sizes]
    assert [m.shape for m in found.encoder] == expected
    assert [m.shape for m in found.encoder_middle] == expected
    queries = found.boxes.shape[1]
    assert found.q0.shape == found.q6.shape == (2, queries, detector.query_dim)
    assert found.logits.shape == (2, queries) and torch.isfinite(found.logits).all()
    assert ((found.boxes >= 0) & (found.boxes <= 1)).all()
    # Each layer's view is its own.
    assert not torch.equal(found.q0, found.q6)
    assert not torch.equal(found.encoder[0], found.encoder_middle[0]) or len(found.encoder) == 3


def test_what_is_said_is_what_the_library_says():
    """Boxes, scores and maps are those of transformers' own forward pass."""
    model = tiny_pretrained("rt_detr_v2")
    images = torch.randn(1, 3, 64, 64)
    found = model.detector(images)
    out = model.detector.model(images * 0.25 + 0.5)
    torch.testing.assert_close(found.boxes, out.pred_boxes)
    torch.testing.assert_close(found.logits, out.logits[..., 1])
    torch.testing.assert_close(found.encoder[2], out.encoder_last_hidden_state[2])


def test_grounding_dino_is_prompted_without_its_text_branch():
    """With the text folded the network gives what it gave with it."""
    config = tiny_config("grounding_dino").detector
    torch.manual_seed(0)
    whole = transformers.GroundingDinoForObjectDetection(
        transformers.GroundingDinoConfig(**config.architecture)
    ).eval()
    torch.manual_seed(0)
    detector = build_detector(config)
    torch.manual_seed(1)
    images = torch.randn(1, 3, 64, 64)
    found = detector(images)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (images * 0.25 + 0.5 - mean[:, None, None]) / std[:, None, None]
    # [CLS] hand . [SEP] of bert-base-uncased
    with torch.no_grad():
        out = whole(pixels, torch.tensor([[101, 2192, 1012, 102]]))
    # Two ways to the same pixels differ by their last bit, 2^-23 of up to 4, and grow through some
    # ten layers.
    torch.testing.assert_close(found.boxes, out.pred_boxes, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.logits, out.logits.amax(-1), atol=1e-3, rtol=1e-3)
    assert not any("bert" in name or "text_backbone.enc" in name for name in detector.state_dict())


@pytest.mark.parametrize("kind", PRETRAINED)
def test_weights_come_from_a_folder(kind, tmp_path):
    config = tiny_config(kind).detector
    torch.manual_seed(0)
    detector = build_detector(config)
    if kind == "grounding_dino":
        whole = transformers.GroundingDinoForObjectDetection(
            transformers.GroundingDinoConfig(**config.architecture)
        )
    else:
        whole = detector.model
    whole.save_pretrained(tmp_path)
    loaded = build_detector(PretrainedDetectorConfig(kind, str(tmp_path)))
    ours = dict(loaded.model.named_parameters())
    shared = [(n, p) for n, p in whole.named_parameters() if n in ours]
    assert len(shared) > 50 and all(torch.equal(p, ours[n]) for n, p in shared)


def test_missing_weights_say_how_to_get_them():
    with pytest.raises(ModelError, match="hf download nobody/nothing"):
        build_detector(PretrainedDetectorConfig("grounding_dino", "nobody/nothing"))


def test_unknown_detectors_are_named():
    with pytest.raises(ModelError, match="use one of"):
        build_detector(PretrainedDetectorConfig("yolo"))


@pytest.mark.parametrize("path", sorted(MODELS.glob("handos*.yaml")), ids=lambda p: p.stem)
def test_shipped_models_name_a_detector_that_there_is(path):
    values = yaml.safe_load(path.read_text())
    assert values.pop("network") == "handos" and values["name"] == path.stem
    config = HandOSConfig.from_dict(values)
    kind = getattr(config.detector, "kind", "ours")
    assert kind in ("ours", *SHIPPED_KINDS)
    if kind != "ours" and not Path(config.detector.weights).exists():
        with pytest.raises(ModelError, match="no weights of"):
            build_detector(config.detector)


def test_a_configuration_survives_its_dictionary():
    config = tiny_config("d_fine")
    assert HandOSConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("kind", PRETRAINED)
def test_a_pretrained_detector_cannot_be_put_into_training(kind):
    model = tiny_pretrained(kind)
    before = copy.deepcopy(model.detector.state_dict())
    model.train()
    assert not any(part.training for part in model.detector.modules())
    found = model.detector(torch.randn(2, 3, 64, 64))
    assert not found.q6.requires_grad and not found.encoder[0].requires_grad
    for name, value in model.detector.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_gather_form_of_grid_sample():
    torch.manual_seed(0)
    features, grid = torch.randn(3, 5, 6, 4), torch.rand(3, 7, 2, 2) * 2.6 - 1.3
    expected = F.grid_sample(features, grid, align_corners=False)
    # As in test_layers: coordinates of up to 6 cells carry 6 * 2^-23, four neighbours up to 4.
    torch.testing.assert_close(gather_sample(features, grid), expected, atol=1.2e-5, rtol=0)
    with pytest.raises(NotImplementedError):
        gather_sample(features, grid, mode="nearest")


def test_constant_linspace():
    torch.testing.assert_close(constant_linspace(0.5, 4.5, 5), torch.linspace(0.5, 4.5, 5))
