"""A network's architecture as an ONNX file without its weights, and the names it binds them by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hepar.errors import BackboneError

__all__ = ["GRAPHS", "parameters", "read_graph"]

GRAPHS = Path(__file__).parent / "graphs"

# Field numbers of onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto.dims and .name.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_DIMS, _TENSOR_NAME = 7, 5, 1, 8
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_graph(name: str) -> bytes:
    """Return the bytes of a graph that comes with the package.

    Args:
        name: from `BackboneSpec.graph_name`.

    Raises:
        BackboneError: there is no such graph.
    """
    path = GRAPHS / f"{name}.onnx"
    if not path.is_file():
        raise BackboneError(f"graph {name!r}: expected {path}, got no file. Reinstall hepar.")
    return path.read_bytes()


def parameters(graph: bytes) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every weight array a graph needs, in the order of the network.

    Only four fields of the format are needed, so the wire is read here and no ONNX package is.

    Raises:
        BackboneError: the bytes are not an ONNX model with parameters.

    Source:
        Protocol Buffers encoding guide; onnx.proto 3.
    """
    found: dict[str, tuple[int, ...]] = {}
    try:
        for number, body in _fields(graph):
            if number != _MODEL_GRAPH or not isinstance(body, memoryview):
                continue
            for inner, tensor in _fields(body):
                if inner == _GRAPH_INITIALIZER and isinstance(tensor, memoryview):
                    name, shape = _tensor(tensor)
                    found[name] = shape
    except (IndexError, ValueError):
        found = {}
    if not found:
        raise BackboneError(
            f"graph of {len(graph)} bytes: expected an ONNX model with parameters, got none. "
            "Reinstall hepar, or re-create the bundle."
        )
    return found


def _tensor(body: memoryview) -> tuple[str, tuple[int, ...]]:
    """Return name and shape of a TensorProto; its dimensions may be packed."""
    name = ""
    shape: list[int] = []
    for number, value in _fields(body):
        if number == _TENSOR_NAME and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif number == _TENSOR_DIMS and isinstance(value, int):
            shape.append(value)
        elif number == _TENSOR_DIMS and isinstance(value, memoryview):
            at = 0
            while at < len(value):
                size, at = _varint(value, at)
                shape.append(size)
    return name, tuple(shape)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield field number and value of a message: an int, or the bytes of a nested field."""
    data = memoryview(message)
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in {_FIXED32, _FIXED64}:
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(wire)
        if at + size > len(data):
            raise ValueError(size)
        yield number, data[at : at + size]
        at += size
