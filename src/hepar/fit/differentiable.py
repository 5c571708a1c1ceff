"""The tail of a graph in torch: the same operations, on arrays that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from numpy.typing import NDArray
from torch import Tensor

from hepar.fit.cut import Cut, Node

__all__ = ["Tail"]


class Tail:
    """What is trained of a network, from the boundary to the pooled features.

    Args:
        cut: which operations.
        arrays: initializer name -> array; those of the tail are copied.
        freeze_norm: BatchNorm keeps its running statistics, in training too.
        device: where to compute.
        output: the value of the graph that is asked for.
    """

    def __init__(
        self,
        cut: Cut,
        arrays: Mapping[str, NDArray[Any]],
        *,
        freeze_norm: bool = False,
        device: str = "cpu",
        output: str = "features",
    ) -> None:
        self.cut = cut
        self.output = output
        self.freeze_norm = freeze_norm
        self.device = device
        self.values: dict[str, Tensor] = {}
        for name in cut.trained:
            value = torch.from_numpy(np.array(arrays[name], np.float32)).to(device)
            if value.ndim == 4:
                value = value.contiguous(memory_format=torch.channels_last)
            self.values[name] = value.requires_grad_(name not in cut.buffers)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Name -> what the optimiser changes."""
        return {k: v for k, v in self.values.items() if k not in self.cut.buffers}

    def __call__(self, boundary: Tensor, *, training: bool) -> Tensor:
        """Return the output, pooled features (n, d) say, from values at the boundary (n, ...)."""
        if boundary.ndim == 4:
            boundary = boundary.contiguous(memory_format=torch.channels_last)
        known: dict[str, Any] = {**self.values, self.cut.boundary: boundary}
        learn = training and not self.freeze_norm
        for node in self.cut.tail:
            inputs = [known[name] for name in node.inputs if name]
            known[node.outputs[0]] = (
                _norm(node, inputs, learn=learn)
                if node.kind == "BatchNormalization"
                else _OPERATIONS[node.kind](node, inputs)
            )
        value: Tensor = known[self.output]
        return value

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the trained arrays by name, contiguous."""
        return {
            name: np.ascontiguousarray(value.detach().cpu().numpy())
            for name, value in self.values.items()
        }


Operation = Callable[[Node, list[Any]], Any]


def _same(node: Node, image: Tensor) -> Tensor:
    """Pad so that the output is the input over the stride, the odd pixel at the end."""
    extra = []
    for side, kernel, stride in zip(
        image.shape[:1:-1],
        node.attributes["kernel_shape"][::-1],
        node.attributes["strides"][::-1],
        strict=True,
    ):
        total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
        extra += [total // 2, total - total // 2]
    return F.pad(image, extra)


def _padding(node: Node) -> list[int]:
    axes = len(node.attributes["kernel_shape"])
    pads: list[int] = node.attributes.get("pads", [0] * 2 * axes)
    if pads[:axes] != pads[axes:]:
        raise NotImplementedError(f"{node.kind} with uneven padding {pads}")
    return pads[:axes]


def _conv(node: Node, inputs: list[Any]) -> Tensor:
    image, weight, *bias = inputs
    options = node.attributes
    same = options.get("auto_pad") == b"SAME_UPPER"
    convolve = F.conv3d if weight.ndim == 5 else F.conv2d
    return convolve(
        _same(node, image) if same else image,
        weight,
        bias[0] if bias else None,
        options["strides"],
        0 if same else _padding(node),
        options["dilations"],
        options["group"],
    )


def _norm(node: Node, inputs: list[Any], *, learn: bool) -> Tensor:
    image, weight, bias, mean, var = inputs
    momentum = 1 - float(node.attributes["momentum"])
    return F.batch_norm(image, mean, var, weight, bias, learn, momentum, node.attributes["epsilon"])


def _max_pool(node: Node, inputs: list[Any]) -> Tensor:
    options = node.attributes
    pool = F.max_pool3d if inputs[0].ndim == 5 else F.max_pool2d
    return pool(inputs[0], options["kernel_shape"], options["strides"], _padding(node))


def _mean_pool(node: Node, inputs: list[Any]) -> Tensor:
    options = node.attributes
    pool = F.avg_pool3d if inputs[0].ndim == 5 else F.avg_pool2d
    return pool(
        inputs[0],
        options["kernel_shape"],
        options["strides"],
        _padding(node),
        count_include_pad=bool(options["count_include_pad"]),
    )


def _enlarge(node: Node, inputs: list[Any]) -> Tensor:
    if node.attributes["mode"] != b"nearest":
        raise NotImplementedError(f"{node.kind} with mode {node.attributes['mode']}")
    *_, scales = inputs
    return F.interpolate(inputs[0], scale_factor=[float(s) for s in scales[2:]], mode="nearest")


_OPERATIONS: dict[str, Operation] = {
    "Constant": lambda node, _: node.attributes["value"],
    "Conv": _conv,
    "MaxPool": _max_pool,
    "AveragePool": _mean_pool,
    "Relu": lambda _, x: F.relu(x[0]),
    "Sigmoid": lambda _, x: torch.sigmoid(x[0]),
    "Clip": lambda _, x: torch.clamp(x[0], float(x[1]), float(x[2])),
    "Add": lambda _, x: x[0] + x[1],
    "Mul": lambda _, x: x[0] * x[1],
    "Concat": lambda node, x: torch.cat(x, node.attributes["axis"]),
    "ReduceMean": lambda node, x: x[0].mean(
        [int(axis) for axis in x[1]], keepdim=bool(node.attributes["keepdims"])
    ),
    "GlobalAveragePool": lambda _, x: x[0].mean(tuple(range(2, x[0].ndim)), keepdim=True),
    "Resize": _enlarge,
    "Flatten": lambda node, x: x[0].flatten(node.attributes["axis"]),
}
"""With BatchNormalization, every ONNX operator that the catalog's networks are made of."""
