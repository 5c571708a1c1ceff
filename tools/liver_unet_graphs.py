"""Make the graphs of the liver and the lesion U-Net of pyliverlesionseg 0.3, without weights.

Run as `python tools/liver_unet_graphs.py`; it needs the package onnx. The layers are those of the
package's `create_unet_like_model` as its prediction calls it; any size that the poolings divide
fits. Axes are (n, channel, x, y, z), x to the patient's right, y to the front, z to the head.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from hepar.backbone.graph import GRAPHS

OPSET = 18
FLAT, FULL, POINT = (3, 3, 1), (3, 3, 3), (1, 1, 1)
FEATURES = ((20, 40), (40, 80), (80, 160), (160, 160))


class Builder:
    """Collects nodes and empty weights of a graph; values are named by the order of making.

    Args:
        prefix: of the weights' names.
        padding: True where convolutions keep the size.
    """

    def __init__(self, prefix: str, *, padding: bool) -> None:
        self.prefix = prefix
        self.padding = padding
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Add a node and return its value."""
        value = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [value], **attributes))
        return value

    def constant(self, values: list[float] | list[int]) -> str:
        """Add a constant vector."""
        kind = TensorProto.FLOAT if isinstance(values[0], float) else TensorProto.INT64
        return self.add("Constant", value=helper.make_tensor("", kind, [len(values)], values))

    def conv(self, value: str, before: int, after: int, kernel: tuple[int, ...]) -> str:
        """Add a convolution; the package numbers them in this same order."""
        number = len(self.weights) // 2 + 1
        names = [f"{self.prefix}.conv{number}.{part}" for part in ("weight", "bias")]
        for name, shape in zip(names, ((after, before, *kernel), (after,)), strict=True):
            empty = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
            empty.data_location = TensorProto.EXTERNAL
            empty.external_data.add(key="location", value="weights")
            self.weights.append(empty)
        around = [side // 2 if self.padding else 0 for side in kernel]
        return self.add("Conv", value, *names, kernel_shape=kernel, pads=[*around, *around])

    def active(self, value: str, channels: int) -> str:
        """Add what stands before a convolution: each channel to mean 0 and spread 1; leaky ReLU."""
        scale, bias = self.constant([1.0] * channels), self.constant([0.0] * channels)
        value = self.add("InstanceNormalization", value, scale, bias, epsilon=1e-12)
        return self.add("LeakyRelu", value, alpha=0.01)

    def crop(self, value: str, sides: tuple[int, ...]) -> str:
        """Cut as much off both ends of each axis."""
        starts = self.constant(list(sides))
        ends, axes = self.constant([-side for side in sides]), self.constant([2, 3, 4])
        return self.add("Slice", value, starts, ends, axes)

    def pool(self, value: str, kind: str, side: int, stride: int) -> str:
        """Add a pooling over cubes."""
        return self.add(kind, value, kernel_shape=[side] * 3, strides=[stride] * 3)

    def larger(self, value: str, factor: int) -> str:
        """Repeat every voxel along each axis."""
        scales = self.constant([1.0, 1.0, *[float(factor)] * 3])
        return self.add(
            "Resize", value, "", scales, mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )  # fmt: skip

    def bytes(self) -> bytes:
        """Return the ONNX file, the last node's value its answer."""
        self.nodes[-1].output[0] = "probability"
        sides = ("x", "y", "z")
        graph = helper.make_graph(
            self.nodes,
            "unet",
            [helper.make_tensor_value_info("volume", TensorProto.FLOAT, ["n", 1, *sides])],
            [
                helper.make_tensor_value_info(
                    "probability", TensorProto.FLOAT, ["n", 1, *(f"{s}_out" for s in sides)]
                )
            ],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        return model.SerializeToString(deterministic=True)


def liver_unet() -> bytes:
    """Return the liver network: poolings by 3, sizes kept, linear upsampling."""
    net = Builder("liver", padding=True)
    value, channels, skips = "volume", 1, []
    for depth, (first, second) in enumerate(FEATURES):
        if depth:
            value = net.active(net.pool(value, "MaxPool", 3, 3), channels)
        value = net.conv(value, channels, first, FULL if depth == 3 else FLAT)
        value = net.conv(net.active(value, first), first, second, FULL)
        channels = second
        skips.append(value)
    for (second, first), skip, cut in zip(FEATURES[2::-1], skips[2::-1], (1, 4, 13), strict=True):
        value = net.pool(net.larger(value, 3), "AveragePool", 3, 1)
        value = net.add("Concat", net.crop(skip, (cut,) * 3), value, axis=1)
        value = net.conv(net.active(value, first + channels), first + channels, first, FULL)
        value = net.conv(net.active(value, first), first, second, FLAT)
        channels = second
    return finish(net, value, channels)


def lesion_unet() -> bytes:
    """Return the lesion network: poolings by 2, valid convolutions with shortcuts, repetition."""
    net = Builder("lesion", padding=False)
    value, channels, skips = "volume", 1, []
    for depth, (first, second) in enumerate(FEATURES):
        if depth:
            value = net.pool(value, "MaxPool", 2, 2)
        start = value
        value = net.active(value, channels) if depth else value
        value = net.conv(value, channels, first, FLAT)
        value = net.conv(net.active(value, first), first, second, FULL)
        value, channels = shortcut(net, start, value, channels, second), second
        skips.append(value)
    cuts = ((4, 4, 2), (16, 16, 8), (40, 40, 20))
    for (second, first), skip, cut in zip(FEATURES[2::-1], skips[2::-1], cuts, strict=True):
        start = net.add("Concat", net.crop(skip, cut), net.larger(value, 2), axis=1)
        channels += first
        value = net.conv(net.active(start, channels), channels, first, FULL)
        value = net.conv(net.active(value, first), first, second, FLAT)
        value, channels = shortcut(net, start, value, channels, second), second
    return finish(net, value, channels)


def shortcut(net: Builder, start: str, value: str, before: int, after: int) -> str:
    """Add what a pair of convolutions was given to what they made of it."""
    start = net.crop(start, (2, 2, 1))
    start = start if before == after else net.conv(start, before, after, POINT)
    return net.add("Add", value, start)


def finish(net: Builder, value: str, channels: int) -> bytes:
    """Return the graph with its last layer: a probability a voxel."""
    net.add("Sigmoid", net.conv(net.active(value, channels), channels, 1, POINT))
    return net.bytes()


def main(to: Path = GRAPHS) -> None:
    """Write both graphs."""
    for name, make in (("liver_unet_3d", liver_unet), ("liver_lesion_unet", lesion_unet)):
        (to / f"{name}.onnx").write_bytes(make())


if __name__ == "__main__":
    main()
