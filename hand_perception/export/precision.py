"""float16 written into an ONNX graph, so that a strongly typed engine computes what is written.

What is large and forgiving becomes float16: convolutions, matrix products and what merely carries
their results. Everything else stays float32: LayerNormalization, Softmax, TopK, sines, and the
coordinates, that is whatever leads to a look-up's index or to an output from the last linear layer
on. Nothing depends on names of layers, so that another network can pass through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from hand_perception.errors import ModelError
from hand_perception.export.attention_plugin import LOCATIONS, PLUGIN

_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Their output is a choice, a sum or a rearrangement of their inputs.
_CARRIERS = {
    *("Add", "Mul", "Relu", "LeakyRelu", "PRelu", "Clip", "HardSwish", "HardSigmoid", "Sigmoid"),
    *("Concat", "Split", "Slice", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"),
    *("Expand", "Gather", "GatherElements", "Identity", "Resize", "Pad"),
    *("MaxPool", "AveragePool", "GlobalAveragePool"),
}
# Inputs that are data; of other operators all float inputs are.
_DATA_INPUTS = {"Resize": (0,), "Pad": (0, 2)}
_INTEGERS = {TensorProto.INT32, TensorProto.INT64}
LARGEST = float(np.finfo(np.float16).max)


def folded(path: Path, known: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """The graph with its constants folded, by ONNX Runtime; only ONNX's own operators.

    known: lengths of axes by name, which no longer vary then.
    """
    options = onnxruntime.SessionOptions()
    for axis, length in (known or {}).items():
        options.add_free_dimension_override_by_name(axis, length)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with TemporaryDirectory() as scratch:
        options.optimized_model_filepath = str(Path(scratch) / "folded.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath)
    if foreign := {node.domain for node in model.graph.node} - {"", "ai.onnx"}:
        raise ModelError(f"{path.name} uses operators of {sorted(foreign)}: export it again")
    kept = [entry for entry in model.opset_import if entry.domain == ""]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


def half_precision(model: onnx.ModelProto, half_interface: Iterable[str] = ()) -> onnx.ModelProto:
    """A copy in mixed precision. half_interface: inputs and outputs that become float16 as well,
    the feature maps that one engine hands to the next; all others stay as they are.

    Raises ModelError on weights that float16 cannot hold.
    """
    return _Halving(model, set(half_interface)).run()


class _Halving:
    def __init__(self, model: onnx.ModelProto, half_interface: set[str]) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._graph = self._model.graph
        self._interface = half_interface
        self._types = _tensor_types(self._model)
        self._constants = {t.name: t for t in self._graph.initializer}
        for node in self._graph.node:
            if node.op_type == "Constant":
                value = next((a.t for a in node.attribute if a.name == "value"), None)
                if value is not None:
                    self._constants[node.output[0]] = value
        self._producers = {name: node for node in self._graph.node for name in node.output}
        self._half = {i.name for i in self._graph.input if i.name in half_interface}
        self._nodes: list[onnx.NodeProto] = []
        self._cast: dict[tuple[str, int], str] = {}

    def run(self) -> onnx.ModelProto:
        coordinates = self._coordinates()
        for node in self._graph.node:
            half = id(node) not in coordinates and self._becomes_half(node)
            self._rewire(node, half)
            self._nodes.append(node)
            if half:
                self._half.update(node.output)
        self._finish()
        return self._model

    def _coordinates(self) -> set[int]:
        """Nodes between the last linear layer and an index, an order or a float32 output."""
        waiting = [o.name for o in self._graph.output if o.name not in self._interface]
        waiting = [name for name in waiting if name != "instances"]
        for node in self._graph.node:
            if node.op_type in ("Floor", "Ceil", "Round", "TopK", "ArgMax"):
                waiting.extend(node.input[:1])
            if node.op_type == PLUGIN:
                waiting.append(node.input[LOCATIONS])
            if node.op_type == "Cast" and self._types.get(node.output[0]) in _INTEGERS:
                waiting.extend(node.input)
        seen: set[int] = set()
        while waiting:
            name = waiting.pop()
            node = self._producers.get(name)
            if node is None or id(node) in seen or self._types.get(name) != TensorProto.FLOAT:
                continue
            if self._is_linear_layer(node) or node.op_type == "LayerNormalization":
                continue
            seen.add(id(node))
            waiting.extend(node.input)
        return seen

    def _is_linear_layer(self, node: onnx.NodeProto) -> bool:
        """A product with learned weights on the right: of features. Learned weights on the left
        mix rows, so the product of coordinates is still one."""
        return node.op_type in _PRODUCTS and node.input[1] in self._constants

    def _becomes_half(self, node: onnx.NodeProto) -> bool:
        data = [name for name in self._data(node) if name not in self._constants]
        if not data or self._types.get(node.output[0]) != TensorProto.FLOAT:
            return False
        # A dequantised input gives the product its type.
        if any(self._made_by(name, "DequantizeLinear") for name in self._data(node)):
            return False
        if node.op_type in _PRODUCTS:
            return True
        return node.op_type in _CARRIERS and all(name in self._half for name in data)

    def _made_by(self, name: str, operator: str) -> bool:
        return name in self._producers and self._producers[name].op_type == operator

    def _data(self, node: onnx.NodeProto) -> list[str]:
        """Names of the float inputs that have the precision of the output."""
        wanted = _DATA_INPUTS.get(node.op_type, range(len(node.input)))
        names = [node.input[k] for k in wanted if k < len(node.input)]
        return [n for n in names if n and self._types.get(n) == TensorProto.FLOAT]

    def _rewire(self, node: onnx.NodeProto, half: bool) -> None:
        data = self._data(node)
        for k, name in enumerate(node.input):
            if half and name in data and name not in self._half:
                node.input[k] = self._converted(name, TensorProto.FLOAT16)
            elif not half and name in self._half:
                if node.op_type == "Cast" or self._types.get(name) != TensorProto.FLOAT:
                    continue  # a Cast reads either
                node.input[k] = self._converted(name, TensorProto.FLOAT)

    def _converted(self, name: str, kind: int) -> str:
        if (name, kind) in self._cast:
            return self._cast[name, kind]
        to = f"{name}/{'half' if kind == TensorProto.FLOAT16 else 'float'}"
        if name in self._constants:
            values = numpy_helper.to_array(self._constants[name])
            if np.abs(values).max(initial=0) > LARGEST:
                raise ModelError(f"weights {name} exceed float16's range: use fp32")
            self._graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), to))
        else:
            self._nodes.append(helper.make_node("Cast", [name], [to], to, to=kind))
        self._cast[name, kind] = to
        return to

    def _finish(self) -> None:
        """Outputs in their declared types, unused initializers away."""
        for output in self._graph.output:
            name, wanted = output.name, output.name in self._interface
            if wanted != (name in self._half):
                self._retype_output(name, TensorProto.FLOAT16 if wanted else TensorProto.FLOAT)
            if wanted:
                output.type.tensor_type.elem_type = TensorProto.FLOAT16
        for value in self._graph.input:
            if value.name in self._interface:
                value.type.tensor_type.elem_type = TensorProto.FLOAT16
        del self._graph.value_info[:]
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        kept = [t for t in self._graph.initializer if t.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _retype_output(self, name: str, kind: int) -> None:
        inner = f"{name}/untyped"
        for node in self._nodes:
            for k, other in enumerate(node.output):
                if other == name:
                    node.output[k] = inner
            for k, other in enumerate(node.input):
                if other == name:
                    node.input[k] = inner
        self._nodes.append(helper.make_node("Cast", [inner], [name], f"{name}/type", to=kind))


def _tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in inferred.initializer}
