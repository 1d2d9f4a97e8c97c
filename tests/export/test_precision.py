"""Which tensors become float16, on a small graph where that is known and on the shipped one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hand_perception.errors import ModelError
from hand_perception.export.precision import _tensor_types, half_precision

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def graph(scale: float = 1.0) -> onnx.ModelProto:
    """Features through two products, softmax between; from them an offset that looks a row up."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(scale * rng.normal(size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Softmax", ["b"], ["s"], axis=-1),
        helper.make_node("MatMul", ["s", "w2"], ["c"]),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("LayerNormalization", ["d", "gain"], ["e"]),
        helper.make_node("MatMul", ["e", "w3"], ["offset"]),
        helper.make_node("Add", ["offset", "reference"], ["place"]),
        helper.make_node("Floor", ["place"], ["cell"]),
        helper.make_node("Clip", ["cell", "zero", "three"], ["inside"]),
        helper.make_node("Cast", ["inside"], ["index"], to=TensorProto.INT64),
        helper.make_node("Transpose", ["d"], ["rows"], perm=[1, 0]),
        helper.make_node("Gather", ["rows", "index"], ["found"], axis=0),
        helper.make_node("MatMul", ["found", "w1"], ["looked"]),
        helper.make_node("MatMul", ["mix", "place"], ["mixed"]),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [
                helper.make_tensor_value_info("x", FLOAT, [4, 4]),
                helper.make_tensor_value_info("reference", FLOAT, [4, 1]),
            ],
            [
                helper.make_tensor_value_info("looked", FLOAT, [4, 1, 4]),
                helper.make_tensor_value_info("mixed", FLOAT, [4, 1]),
                helper.make_tensor_value_info("d", FLOAT, [4, 4]),
            ],
            [
                *(weights("w1", 4, 4), weights("w2", 4, 4), weights("w3", 4, 1)),
                *(weights("gain", 4), weights("mix", 4, 4)),
                numpy_helper.from_array(np.float32(0), "zero"),
                numpy_helper.from_array(np.float32(3), "three"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    onnx.checker.check_model(model, full_check=True)
    return _tensor_types(model)


def test_products_and_what_carries_them_are_half_and_coordinates_are_not():
    types = types_of(half_precision(graph(), ["d"]))
    assert {types[n] for n in ("a", "b", "c", "d", "offset", "rows", "found")} == {HALF}
    # Softmax, layer norm, and everything from the offset to the index it becomes
    assert {types[n] for n in ("s", "e", "place", "cell", "inside")} == {FLOAT}
    # learned weights times coordinates are coordinates
    assert types["mixed"] == FLOAT


def test_outputs_keep_their_types_but_for_the_interface():
    types = types_of(half_precision(graph(), ["d"]))
    assert (types["d"], types["looked"], types["x"]) == (HALF, FLOAT, FLOAT)
    types = types_of(half_precision(graph(), ["x"]))
    assert (types["d"], types["looked"], types["x"]) == (FLOAT, FLOAT, HALF)


def test_weights_beyond_float16_are_refused():
    with pytest.raises(ModelError, match="exceed float16's range: use fp32"):
        half_precision(graph(scale=1e6))


def test_the_original_is_left_alone():
    model = graph()
    before = model.SerializeToString()
    half_precision(model)
    assert model.SerializeToString() == before
