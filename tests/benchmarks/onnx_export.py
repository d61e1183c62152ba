"""A network as an ONNX file, for the runtimes that `make bench` compares with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.engines.network import Layer, LayerKind, Network


def export_onnx(network: Network, path: Path) -> None:
    """Write a network whose series are (n, channels, samples), as ONNX has them.

    The ECG goes in as (n, samples, channels), as Keras takes it; every output is (n, width).
    """
    nodes: list[Any] = []
    weights: list[Any] = []
    inputs: list[Any] = []
    for layer in network.layers:
        if layer.kind is LayerKind.INPUT:
            shape = ["n", *layer.shape]
            inputs.append(helper.make_tensor_value_info(layer.name, TensorProto.FLOAT, shape))
            if layer.is_series:
                turned = f"{layer.name}/turned"
                nodes.append(helper.make_node("Transpose", [layer.name], [turned], perm=[0, 2, 1]))
            continue
        given = [_name(network[name]) for name in layer.inputs]
        nodes += _nodes(layer, given, weights)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *network[name].shape]) for name in network.outputs
    ]
    graph = helper.make_graph(nodes, "network", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _name(layer: Layer) -> str:
    is_turned = layer.kind is LayerKind.INPUT and layer.is_series
    return f"{layer.name}/turned" if is_turned else layer.name


def _nodes(layer: Layer, given: list[str], weights: list[Any]) -> list[Any]:
    out = layer.name
    match layer.kind:
        case LayerKind.CONVOLUTION:
            kernel, bias = layer.weights
            n_taps = kernel.shape[0]
            pads = [(n_taps - 1) // 2, n_taps // 2]
            _add(weights, f"{out}/w", np.ascontiguousarray(kernel.transpose(2, 1, 0)))
            _add(weights, f"{out}/b", bias)
            return [helper.make_node("Conv", [*given, f"{out}/w", f"{out}/b"], [out], pads=pads)]
        case LayerKind.DENSE:
            kernel, bias = layer.weights
            _add(weights, f"{out}/w", kernel)
            _add(weights, f"{out}/b", bias)
            return [helper.make_node("Gemm", [*given, f"{out}/w", f"{out}/b"], [out])]
        case LayerKind.RELU:
            return [helper.make_node("Relu", given, [out])]
        case LayerKind.POOL:
            options = {"kernel_shape": [2], "strides": [2]}
            return [helper.make_node("MaxPool", given, [out], **options)]
        case LayerKind.CONCATENATE:
            return [helper.make_node("Concat", given, [out], axis=1)]
        case LayerKind.FLATTEN:
            turned = f"{out}/turned"
            return [
                helper.make_node("Transpose", given, [turned], perm=[0, 2, 1]),
                helper.make_node("Flatten", [turned], [out], axis=1),
            ]
        case LayerKind.SOFTMAX:
            return [helper.make_node("Softmax", given, [out], axis=1)]
    raise AssertionError(layer.kind)


def _add(weights: list[Any], name: str, array: Any) -> None:
    weights.append(numpy_helper.from_array(np.asarray(array, dtype=np.float32), name))
