"""The shipped graphs can be read by TensorRT 10.3, and by nothing that has read GridSample wrongly.

Operators: docs/operators.md of the ONNX parser for TensorRT, branch 10.1-GA, rows marked Y with
FLOAT32 (BOOL for logic). Later parsers, 10.3's among them, add to that list.
"""

from __future__ import annotations

import onnx
import pytest

from hand_perception.export.onnx_export import OPSET
from hand_perception.runtime.backend import GRAPHS, MODELS

SUPPORTED = {
    *("Abs", "Add", "And", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip"),
    *("Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "CumSum"),
    *("DequantizeLinear", "Div", "Einsum", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor"),
    *("Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "Greater"),
    *("GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization"),
    *("LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "MatMul", "Max", "MaxPool"),
    *("Mean", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pad", "Pow", "PRelu", "QuantizeLinear"),
    *("Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize"),
    *("Round", "ScatterND", "Shape", "Sigmoid", "Sin", "Size", "Slice", "Softmax", "Split", "Sqrt"),
    *("Squeeze", "Sub", "Sum", "Tanh", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Where"),
    "Xor",
}
FILES = [path / graph for path in sorted(MODELS.iterdir()) if path.is_dir() for graph in GRAPHS]


@pytest.fixture(scope="module", params=FILES, ids=lambda f: f"{f.parent.name}-{f.stem}")
def model(request):
    return onnx.load(request.param)


def test_operators_are_supported_and_known_good(model):
    assert {node.op_type for node in model.graph.node} <= SUPPORTED
    assert {node.domain for node in model.graph.node} == {""}


def test_the_opset_is_18(model):
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)] and OPSET == 18


def test_inputs_are_static_but_for_the_numbers_of_hands_and_images(model):
    for value in model.graph.input:
        names = [d.dim_param for d in value.type.tensor_type.shape.dim if d.dim_param]
        assert set(names) <= {"hands", "images"}, value.name


def test_restrictions_of_the_list_are_kept(model):
    constants = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = node.attribute[0].t
    for node in model.graph.node:
        values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "TopK":
            assert values.get("sorted", 1) == 1
        if node.op_type == "Unsqueeze":
            assert node.input[1] in constants
        if node.op_type == "Resize":
            assert values["mode"] in (b"nearest", b"linear")
        if node.op_type == "LayerNormalization":
            assert len(node.output) == 1
