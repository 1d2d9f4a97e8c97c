"""TensorRT's deformable-attention plugin for ONNX Runtime: by GridSample, a map at a time."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PLUGIN = "MultiscaleDeformableAttnPlugin_TRT"


def plugins_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == PLUGIN]


def check_plugins(model: onnx.ModelProto, version: str) -> None:
    """What the plugin's creator asks of a node; raises AssertionError."""
    constants = {t.name: t for t in model.graph.initializer}
    for node in plugins_of(model):
        values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert values == {"plugin_version": version.encode(), "plugin_namespace": b""}
        assert len(node.input) == 5 and len(node.output) == 1
        sizes, starts = (constants[node.input[k]] for k in (1, 2))
        assert sizes.data_type == starts.data_type == TensorProto.INT32
        assert list(sizes.dims) == [starts.dims[0], 2]


def expanded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same without plugins, in operators that ONNX Runtime has."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    del out.graph.node[:]
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != PLUGIN:
            out.graph.node.append(node)
            continue
        expansion = _Expansion(node, constants)
        out.graph.initializer.extend(expansion.constants)
        out.graph.node.extend(expansion.nodes)
    return out


class _Expansion:
    def __init__(self, plugin: onnx.NodeProto, known: dict[str, np.ndarray]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = plugin.output[0]
        values, sizes, starts, locations, weights = plugin.input
        queries = self.node("Gather", self.node("Shape", locations), self.number([1]))
        images = self.node("Gather", self.node("Shape", values), self.number([0]))
        heads = self.node("Gather", self.node("Shape", values), self.number([2]))
        width = self.node("Gather", self.node("Shape", values), self.number([3]))
        rest = self.number([-1])
        total = ""
        for level, ((h, w), start) in enumerate(zip(known[sizes], known[starts], strict=True)):
            cells = (self.number([int(start)]), self.number([int(start + h * w)]))
            own = self.node("Slice", values, *cells, self.number([1]))
            own = self.node("Transpose", own, perm=[0, 2, 3, 1])
            shape = self.node("Concat", rest, width, self.number([int(h), int(w)]), axis=0)
            own = self.node("Reshape", own, shape)
            # [images, queries, heads, points, 2] to [images * heads, queries, points, 2].
            places = self.node("Gather", locations, self.number(level), axis=3)
            places = self.node("Transpose", places, perm=[0, 2, 1, 3, 4])
            points = self.node("Gather", self.node("Shape", locations), self.number([4]))
            shape = self.node("Concat", rest, queries, points, self.number([2]), axis=0)
            places = self.node("Reshape", places, shape)
            grid = self.node("Sub", self.node("Mul", places, self.number(2.0)), self.number(1.0))
            looked = self.node("GridSample", own, grid, align_corners=0, padding_mode="zeros")
            share = self.node("Gather", weights, self.number(level), axis=3)
            share = self.node("Transpose", share, perm=[0, 2, 1, 3])
            shape = self.node("Concat", rest, self.number([1]), queries, points, axis=0)
            share = self.node("Reshape", share, shape)
            mixed = self.node("Mul", looked, share)
            mixed = self.node("ReduceSum", mixed, self.number([3]), keepdims=0)
            total = self.node("Add", total, mixed) if total else mixed
        shape = self.node("Concat", images, heads, width, queries, axis=0)
        total = self.node("Reshape", total, shape)
        last = helper.make_node("Transpose", [total], list(plugin.output), perm=[0, 3, 1, 2])
        self.nodes.append(last)

    def node(self, kind: str, *inputs: str, **attributes) -> str:
        name = f"{self._prefix}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def number(self, value) -> str:
        kind = np.float32 if isinstance(value, float) else np.int64
        name = f"{self._prefix}/constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, kind), name))
        return name
