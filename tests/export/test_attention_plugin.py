"""TensorRT's deformable attention in place of ours: the same numbers, from the shipped graphs."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from runtime.plugin_stand_in import check_plugins, expanded, plugins_of

from hand_perception.export.attention_plugin import with_plugin
from hand_perception.export.precision import folded
from hand_perception.runtime.backend import MODELS

# Deformable attentions a graph: of the detector's three layers, of the decoder's six.
COUNTS = {"detector": 3, "decoder": 6}
# float32 in another order of sums, through three layers at most: 2^-24 * sqrt(3 * 1700) of numbers
# near one is 4e-6; features of the detector are up to about 30.
CLOSE = {"detector": 1e-4, "decoder": 1e-5}


def run(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def compared(model: onnx.ModelProto, feed: dict[str, np.ndarray], graph: str) -> dict:
    """The graph's own outputs, equal to those with the plugin."""
    replaced = with_plugin(model, "2")
    onnx.checker.check_model(replaced, full_check=True)
    check_plugins(replaced, "2")
    assert len(plugins_of(replaced)) == COUNTS[graph]
    # What looked features up is gone.
    assert len(replaced.graph.node) < 0.85 * len(model.graph.node)
    expected, found = run(model, feed), run(expanded(replaced), feed)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=CLOSE[graph], err_msg=name)
    return expected


def test_handos_finds_the_same_with_the_plugin():
    folder, rng = MODELS / "handos_s", np.random.default_rng(0)
    image = rng.standard_normal((1, 3, 256, 256)).astype(np.float32)
    found = compared(folded(folder / "detector.onnx"), {"image": image}, "detector")
    decoder = folded(folder / "decoder.onnx")
    feed = {
        value.name: found[value.name][:, :3]
        if value.name in ("instances", "boxes")
        else found[value.name]
        for value in decoder.graph.input
    }
    compared(decoder, feed, "decoder")


@pytest.mark.parametrize("known", [{"images": 1}, {}], ids=["one", "several"])
def test_a_detector_of_several_images_finds_the_same_with_the_plugin(known):
    images = np.random.default_rng(1).standard_normal((2, 3, 256, 256)).astype(np.float32)
    detector = folded(MODELS / "mobrecon" / "detector.onnx", known)
    compared(detector, {"image": images[: known.get("images", 2)]}, "detector")


def test_a_graph_without_deformable_attention_stays_as_it_is():
    decoder = folded(MODELS / "mobrecon" / "decoder.onnx")
    assert with_plugin(decoder, "2").SerializeToString() == decoder.SerializeToString()
