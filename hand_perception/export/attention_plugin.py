"""Deformable attention by TensorRT's own plugin, written into a graph that does it by Gather.

The exported graphs look features up with Gather and MatMul (models/layers.py), which every runtime
computes rightly. TensorRT ships a kernel for it, MultiscaleDeformableAttnPlugin_TRT: its values are
[B, S, heads, d], maps one after the other without our border of zeros, its locations in 0..1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PLUGIN = "MultiscaleDeformableAttnPlugin_TRT"
LOCATIONS = 3  # of its inputs
# TensorRT finds plugins by their name; ONNX wants operators of others in a domain of theirs.
DOMAIN = "tensorrt.plugins"


@dataclass(frozen=True)
class _LookUp:
    """One deformable attention. product: the MatMul that mixes what was gathered. maps: names of
    [B, C, H, W], finest first; sizes: their (H, W). locations: name of [B, N, heads, levels,
    points, 2]. weights: name of [B, N, heads, levels * points]."""

    product: onnx.NodeProto
    maps: list[str]
    sizes: list[tuple[int, int]]
    channels: int
    heads: int
    points: int
    locations: str
    weights: str


def with_plugin(model: onnx.ModelProto, version: str) -> onnx.ModelProto:
    """A copy whose look-ups with learned weights are the plugin's; a graph without any as it is.

    version: "1", or "2" from TensorRT 10.11 on.
    """
    by_output = {found.product.output[0]: found for found in _Finder(model).look_ups()}
    out = onnx.ModelProto()
    out.CopyFrom(model)
    if not by_output:
        return out
    graph, nodes = out.graph, []
    for node in model.graph.node:
        look_up = by_output.get(node.output[0])
        if look_up is None:
            nodes.append(node)
            continue
        constants, own = _nodes_of(look_up, version)
        graph.initializer.extend(constants)
        nodes.extend(own)
        # What no inference knows about an operator of others.
        name = next(new.output[0] for new in own if new.op_type == PLUGIN)
        graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    out.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    _keep_what_is_used(graph, nodes)
    return out


def _nodes_of(
    look_up: _LookUp, version: str
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Constants and nodes that stand for the product."""
    prefix, heads, levels = look_up.product.name, look_up.heads, len(look_up.maps)
    width, cells = look_up.channels // heads, [h * w for h, w in look_up.sizes]
    starts = np.cumsum([0, *cells[:-1]])
    constants: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, values: object, kind: type = np.int64) -> str:
        constants.append(numpy_helper.from_array(np.array(values, kind), f"{prefix}/{name}"))
        return f"{prefix}/{name}"

    def node(kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], f"{name}/node", **attributes))
        return name

    def reshaped(source: str, shape: list[int], name: str) -> str:
        return node("Reshape", [source, constant(f"{name}_shape", shape)], f"{prefix}/{name}")

    flat = [
        reshaped(source, [0, look_up.channels, count], f"map{k}")
        for k, (source, count) in enumerate(zip(look_up.maps, cells, strict=True))
    ]
    tokens = node("Concat", flat, f"{prefix}/maps", axis=2)
    tokens = node("Transpose", [tokens], f"{prefix}/tokens", perm=[0, 2, 1])
    values = reshaped(tokens, [0, sum(cells), heads, width], "values")
    weights = reshaped(look_up.weights, [0, 0, heads, levels, look_up.points], "weights")
    sizes, first = constant("sizes", look_up.sizes, np.int32), constant("starts", starts, np.int32)
    inputs = [values, sizes, first, look_up.locations, weights]
    found = node(
        PLUGIN,
        inputs,
        f"{prefix}/plugin",
        domain=DOMAIN,
        plugin_version=version,
        plugin_namespace="",
    )
    target = constant("out_shape", [-1, 1, width])
    nodes.append(
        helper.make_node("Reshape", [found, target], [look_up.product.output[0]], f"{prefix}/out")
    )
    return constants, nodes


class _Finder:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._producers = {name: node for node in self._graph.node for name in node.output}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        values = (*inferred.input, *inferred.output, *inferred.value_info)
        self._shapes = {
            v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]  # 0: it varies
            for v in values
            if v.type.tensor_type.HasField("shape")
        }

    def look_ups(self) -> list[_LookUp]:
        found = (self._look_up(node) for node in self._graph.node if node.op_type == "MatMul")
        return [look_up for look_up in found if look_up is not None]

    def _look_up(self, product: onnx.NodeProto) -> _LookUp | None:
        """The attention that ends in a product, if it is one."""
        gathered = self._behind(product.input[1], "Reshape", "Gather")
        mixed = self._behind(product.input[0], "Reshape", "Concat")
        if gathered is None or mixed is None:
            return None
        joined = self._behind(gathered.input[0], "Reshape", "Transpose", "Concat")
        softmax = self._upstream(product.input[0], lambda name: self._made_by(name, "Softmax"))
        locations = self._upstream(gathered.input[1], self._is_locations)
        if joined is None or softmax is None or locations is None:
            return None
        if self._upstream(locations, lambda name: name == softmax) is not None:
            return None  # it told where to look, not how much each look counts
        padded = [self._behind(name, "Reshape", "Pad") for name in joined.input]
        maps = [node.input[0] for node in padded if node is not None]
        shapes = [self._shapes.get(name, []) for name in maps]
        if len(maps) != len(joined.input) or not all(len(s) == 4 and all(s[1:]) for s in shapes):
            return None
        *_, heads, looks = self._shapes[mixed.input[0]]
        sizes = [(h, w) for _, _, h, w in shapes]
        points = looks // len(maps)
        return _LookUp(product, maps, sizes, shapes[0][1], heads, points, locations, softmax)

    def _behind(self, name: str, *kinds: str) -> onnx.NodeProto | None:
        """The last of a chain of nodes of those kinds that ends in a tensor."""
        node = None
        for kind in kinds:
            node = self._producers.get(name)
            if node is None or node.op_type != kind:
                return None
            name = node.input[0]
        return node

    def _upstream(self, name: str, wanted: Callable[[str], bool]) -> str | None:
        """The nearest tensor before another that is wanted."""
        waiting, seen = deque([name]), set()
        while waiting:
            name = waiting.popleft()
            if wanted(name):
                return name
            if name in self._producers and name not in seen:
                seen.add(name)
                waiting.extend(self._producers[name].input)
        return None

    def _made_by(self, name: str, kind: str) -> bool:
        return name in self._producers and self._producers[name].op_type == kind

    def _is_locations(self, name: str) -> bool:
        shape = self._shapes.get(name, [])
        return len(shape) == 6 and shape[-1] in (0, 2)


def _keep_what_is_used(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Of those nodes and the graph's initializers, what leads to its outputs."""
    needed, kept = {output.name for output in graph.output}, []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)
