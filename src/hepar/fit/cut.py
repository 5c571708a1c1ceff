"""A graph cut in two at a freeze boundary: what runs once, and what is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hepar.errors import FitError

__all__ = ["Cut", "Node", "cut_graph"]


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of the tail.

    Attributes:
        kind: ONNX operator.
        inputs: names of values and arrays.
        outputs: names of values.
        attributes: of the operator.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cut:
    """A network in two.

    Attributes:
        prefix: ONNX graph from "image" to `boundary`, without weights; b"" where all is trained.
        boundary: the one value that passes from the prefix to the tail.
        tail: the operations from `boundary` to "features", in order.
        trained: names of the tail's arrays.
        buffers: those of `trained` that are running statistics of BatchNorm, not parameters.
    """

    prefix: bytes
    boundary: str
    tail: tuple[Node, ...]
    trained: tuple[str, ...]
    buffers: tuple[str, ...]


def cut_graph(graph: bytes, frozen: Sequence[str]) -> Cut:
    """Cut a graph where its frozen part ends.

    The tail is everything that depends on an array that is not frozen. Where more than one value
    crosses, operations without arrays (a pooling branch, say) move from the prefix to the tail
    until one is left.

    Args:
        graph: ONNX bytes; needs the package onnx.
        frozen: prefixes of the names of arrays that stay as they are.

    Returns:
        The two parts.

    Raises:
        FitError: no single value separates the two.
    """
    import onnx

    model = onnx.load_from_string(graph)
    nodes = list(model.graph.node)
    arrays = {tensor.name for tensor in model.graph.initializer}
    free = {name for name in arrays if not name.startswith(tuple(frozen))}
    in_tail = _downstream(nodes, free)
    constants = {node.output[0] for node in nodes if node.op_type == "Constant"}
    if free:
        in_tail = _narrowed(nodes, in_tail, arrays, constants)
    crossing = _crossing(nodes, in_tail, arrays | constants) if free else ["features"]
    tail = [node for node, inside in zip(nodes, in_tail, strict=True) if inside]
    needed = {name for node in tail for name in node.input}
    feeds = [n for n in nodes if n.op_type == "Constant" and n.output[0] in needed]
    trained = tuple(t.name for t in model.graph.initializer if t.name in needed)
    return Cut(
        prefix=b"" if crossing == ["image"] else _prefix(model, in_tail, crossing[0]),
        boundary=crossing[0],
        tail=tuple(_node(node) for node in [*feeds, *tail]),
        trained=trained,
        buffers=tuple(n for n in trained if n.endswith(("running_mean", "running_var"))),
    )


def _downstream(nodes: Sequence[Any], free: set[str]) -> list[bool]:
    """Return, for each node, whether it depends on a free array."""
    reached = set(free)
    marks = []
    for node in nodes:
        inside = any(name in reached for name in node.input)
        marks.append(inside)
        if inside:
            reached.update(node.output)
    return marks


def _crossing(nodes: Sequence[Any], in_tail: Sequence[bool], apart: set[str]) -> list[str]:
    """Return the values made outside the tail and used inside it, in the order of their making."""
    inside = {o for node, mark in zip(nodes, in_tail, strict=True) if mark for o in node.output}
    used = {i for node, mark in zip(nodes, in_tail, strict=True) if mark for i in node.input}
    order = ["image", *(o for node in nodes for o in node.output)]
    return [name for name in order if name in used and name not in inside | apart]


def _narrowed(
    nodes: Sequence[Any], in_tail: Sequence[bool], arrays: set[str], constants: set[str]
) -> list[bool]:
    marks = list(in_tail)
    maker = {o: i for i, node in enumerate(nodes) for o in node.output}
    while len(crossing := _crossing(nodes, marks, arrays | constants)) > 1:
        movable = [
            maker[name]
            for name in crossing
            if name in maker and not arrays.intersection(nodes[maker[name]].input)
        ]
        if not movable:
            raise FitError(
                f"freeze boundary: expected one value to pass it, got {len(crossing)}. "
                "Freeze up to another stage."
            )
        marks[max(movable)] = True
    return marks


def _prefix(model: Any, in_tail: Sequence[bool], boundary: str) -> bytes:
    """Return the graph of what lies before the boundary, ending in it."""
    import onnx

    part = onnx.ModelProto()
    part.CopyFrom(model)
    kept = [n for n, inside in zip(model.graph.node, in_tail, strict=True) if not inside]
    kept = _needed_for(kept, boundary)
    used = {name for node in kept for name in node.input}
    del part.graph.node[:], part.graph.output[:], part.graph.initializer[:]
    part.graph.node.extend(kept)
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in used)
    part.graph.output.append(
        onnx.helper.make_tensor_value_info(boundary, onnx.TensorProto.FLOAT, None)
    )
    return bytes(part.SerializeToString(deterministic=True))


def _needed_for(nodes: Sequence[Any], value: str) -> list[Any]:
    wanted, kept = {value}, []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _node(node: Any) -> Node:
    import onnx

    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Constant":
        attributes = {"value": onnx.numpy_helper.to_array(attributes["value"])}
    return Node(node.op_type, tuple(node.input), tuple(node.output), attributes)
