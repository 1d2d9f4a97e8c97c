"""int8 convolutions: what the graph holds, what it refuses, how far it is from float32."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from runtime.tiny_folder import export_tiny, export_tiny_crops

from hand_perception import cli
from hand_perception.errors import DataError, ModelError
from hand_perception.export import quantise
from hand_perception.export.engine_builder import typed_graph
from hand_perception.postprocess import choose_hands
from hand_perception.runtime.backend import GRAPHS, ModelFolder
from hand_perception.runtime.select import open_backend, reads_crops


@pytest.fixture(scope="module", params=[export_tiny, export_tiny_crops], ids=["handos", "mobrecon"])
def folder(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("tiny"))


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def quantised(folder, tmp_path_factory):
    """By symmetry."""
    paths = {symmetric: tmp_path_factory.mktemp(str(symmetric)) for symmetric in (False, True)}
    for symmetric, path in paths.items():
        quantise.quantise(folder, pictures(6), path, symmetric)
    return {symmetric: ModelFolder.open(path) for symmetric, path in paths.items()}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_every_convolution_has_int8_weights_and_no_product_does(quantised, graph, symmetric):
    model = onnx.load(quantised[symmetric].path / graph).graph
    producers = {name: node for node in model.node for name in node.output}
    values = {t.name: numpy_helper.to_array(t) for t in model.initializer}
    convolutions = [node for node in model.node if node.op_type == "Conv"]
    assert convolutions
    for node in convolutions:
        assert {producers[name].op_type for name in node.input[:2]} == {"DequantizeLinear"}
        weights = values[producers[node.input[1]].input[0]]
        assert weights.dtype == np.int8
    for node in model.node:
        if node.op_type in ("MatMul", "Gemm"):
            assert values.get(node.input[1], np.zeros(1)).dtype != np.int8
            assert node.input[1] not in producers or (
                producers[node.input[1]].op_type != "DequantizeLinear"
            )
    points = [values[n.input[2]] for n in model.node if n.op_type == "QuantizeLinear"]
    assert not symmetric or not any(np.any(point) for point in points)


def test_it_stays_near_float32(folder, quantised):
    found = quantise.agreement(folder, quantised[False].path, pictures(4))
    assert found.hands and found.joints_px_median <= quantise.INT8.joints_px


def test_decoders_are_calibrated_on_hands_and_on_nothing_else(folder):
    (image,) = pictures(1)
    backend = open_backend(folder, "onnxruntime", 1)
    detected = backend.detect(backend.prepare(image))
    expected = backend.decoder_inputs(detected, choose_hands(detected, quantise.SURE_SCORE)[:2])
    (feed,) = quantise.calibration_inputs(folder, [image])["decoder.onnx"]
    assert feed.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(feed[name], value, err_msg=name)
    # Just too unsure of the best of them, it is calibrated on none.
    lowest = quantise.SURE_SCORE if reads_crops(folder) else quantise.CANDIDATE_SCORE
    scores = detected.scores * (0.999 * lowest / detected.scores.max())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(backend), "detect", lambda *_: replace(detected, scores=scores))
        assert quantise.calibration_inputs(folder, [image])["decoder.onnx"] == []


def test_the_card_says_what_was_done(folder, quantised):
    card = quantised[True].card
    assert card["precision"] == "int8" and card["symmetric"]
    assert card["quantised_from"] == folder.card["sha256"] != card["sha256"]


def test_a_model_is_quantised_once_and_from_pictures_with_hands(folder, quantised, tmp_path):
    with pytest.raises(ModelError, match="is no float32 model"):
        quantise.quantise(quantised[True], pictures(1), tmp_path)
    with pytest.raises(DataError, match="no hand was found"):
        quantise.quantise(folder, [], tmp_path)


def test_tensorrt_gets_symmetric_int8_and_float16_around_it(quantised):
    with pytest.raises(ModelError, match="quantise --symmetric"):
        typed_graph(quantised[False], "detector", "int8")
    typed = typed_graph(quantised[True], "detector", "int8")
    onnx.checker.check_model(typed, full_check=True)
    producers = {name: node for node in typed.graph.node for name in node.output}
    for node in typed.graph.node:
        if node.op_type == "Conv":
            assert producers[node.input[0]].op_type == "DequantizeLinear"
    products = [n for n in typed.graph.node if n.op_type in ("MatMul", "Gemm")]
    assert any("/half" in name for node in products for name in node.input)


def test_the_command(folder, tmp_path, capsys):
    for k, picture in enumerate(pictures(3)):
        cv2.imwrite(str(tmp_path / f"{k}.png"), picture)
    out = tmp_path / "int8"
    assert cli.main(["quantise", str(folder.path), str(tmp_path), "--output", str(out)]) == 0
    assert "against float32" in capsys.readouterr().out
    assert ModelFolder.open(out).card["precision"] == "int8"
