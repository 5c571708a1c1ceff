"""Read tensors, and nothing else, from the torch file format of before 2020."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hepar.errors import BackboneError

__all__ = ["read_torch_file"]

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


@dataclass(frozen=True)
class _StorageKind:
    """What stands for torch.FloatStorage and its like."""

    dtype: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    size: int


@dataclass(frozen=True)
class _Tensor:
    """A tensor whose numbers come later in the file."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    _requires_grad: bool,  # noqa: FBT001
    _hooks: Any,
) -> _Tensor:
    """Stand for torch._utils._rebuild_tensor_v2; a tensor that leaves its storage is refused."""
    steps = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    whole = all(size > 0 for size in shape) and all(stride >= 0 for stride in strides)
    if not whole or offset < 0 or offset + sum(steps) >= storage.size:
        raise pickle.UnpicklingError(f"a tensor of shape {shape}, strides {strides} at {offset}")
    return _Tensor(storage, offset, shape, strides)


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "FloatStorage"): _StorageKind("<f4"),
    ("torch", "HalfStorage"): _StorageKind("<f2"),
    ("torch", "LongStorage"): _StorageKind("<i8"),
}


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that knows five names; every other name in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name in the file."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the name {module}.{name}") from None

    def persistent_load(self, reference: Any) -> _Storage:
        """Return what stands for a storage: its key, type and number of elements."""
        kind, storage, key, _device, size, view = reference
        if kind != "storage" or not isinstance(storage, _StorageKind) or view is not None:
            raise pickle.UnpicklingError(f"the reference {reference!r}")
        return _Storage(str(key), storage.dtype, int(size))


def read_torch_file(path: Path) -> dict[str, NDArray[Any]]:
    """Return name -> array of a state dict saved by torch before 1.6, without torch.

    A pickle can run any code. This reader knows an ordered dictionary and float and integer
    tensors; a file that names anything else is refused before it is built.

    Args:
        path: the file, usually `.pth`.

    Raises:
        BackboneError: the file is of another format, is cut short, or holds more than tensors.

    Source:
        torch.serialization._legacy_load, of which this reads the subset that state dicts use.
    """
    try:
        with path.open("rb") as stream:
            return _read(stream)
    except (pickle.UnpicklingError, ValueError, TypeError, EOFError, LookupError) as error:
        raise BackboneError(
            f"{path}: expected a torch file (before 1.6) of tensors alone, got {error}. "
            "Convert it to safetensors."
        ) from error


def _read(stream: IO[bytes]) -> dict[str, NDArray[Any]]:
    magic, protocol, system = (_TensorUnpickler(stream).load() for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL or not system.get("little_endian"):
        raise ValueError(f"magic number {magic!r}, protocol {protocol!r}")
    state = _TensorUnpickler(stream).load()
    keys = _TensorUnpickler(stream).load()
    tensors = {str(name): tensor for name, tensor in state.items()}
    if not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise ValueError("a dictionary with more than tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    arrays: dict[str, NDArray[Any]] = {}
    for key in keys:
        storage = storages[key]
        size = int.from_bytes(stream.read(8), "little")
        if size != storage.size:
            raise ValueError(f"storage {key} of {size} elements instead of {storage.size}")
        dtype = np.dtype(storage.dtype)
        arrays[key] = np.frombuffer(stream.read(size * dtype.itemsize), dtype, count=size)
    return {name: _view(arrays[tensor.storage.key], tensor) for name, tensor in tensors.items()}


def _view(storage: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    """Return a tensor's numbers in C order; `_rebuild_tensor` has checked the bounds."""
    strides = [stride * storage.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides)
    return np.ascontiguousarray(view).reshape(tensor.shape)
