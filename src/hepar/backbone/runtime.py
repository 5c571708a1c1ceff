"""A graph and its weights, bound by name in ONNX Runtime: features without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.backbone.graph import parameters, read_graph
from hepar.backbone.weights import Weights
from hepar.errors import BackboneError

__all__ = ["Network", "open_session"]

Floats = NDArray[np.float32]

_AT_ONCE = 8
"""Images in memory inside the network: on a CPU more are no faster, and a lesion finder would take
3.5 GB for 32 where it takes 1 GB for 8."""


def open_session(
    graph: bytes, arrays: Mapping[str, NDArray[Any]], threads: int = 0, *, arena: bool = True
) -> tuple[Any, object]:
    """Return an ONNX Runtime session of a graph with its weights, and what must outlive it.

    Args:
        graph: bytes of an ONNX graph without weights.
        arrays: initializer name -> array; float16 is widened to float32.
        threads: inside the network; 0 for one per core.
        arena: keep memory for the next call; False for few calls that need much.

    Raises:
        BackboneError: arrays are missing or the graph cannot be opened.
    """
    import onnxruntime

    needed = parameters(graph)
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise BackboneError(
            f"network: expected {len(needed)} arrays, got {len(missing)} missing "
            f"(first: {missing[0]!r}). Use the weights of this graph."
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    full = [np.ascontiguousarray(arrays[name], np.float32) for name in needed]
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in full]
    options.add_external_initializers(list(needed), values)
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BackboneError(
            f"network: expected a graph that ONNX Runtime opens, got {error}."
        ) from error
    return session, (full, values)


class Network:
    """A frozen network, ready to run on the CPU.

    Args:
        graph: bytes of an ONNX graph without weights.
        arrays: initializer name -> array; float16 is widened to float32.
        threads: inside the network; 0 for one per core.

    Raises:
        BackboneError: arrays are missing or the graph cannot be opened.
    """

    def __init__(self, graph: bytes, arrays: Mapping[str, NDArray[Any]], threads: int = 0) -> None:
        self._session, self._keep = open_session(graph, arrays, threads)
        self.graph = graph
        self.arrays = {name: arrays[name] for name in parameters(graph)}

    @classmethod
    def from_weights(cls, weights: Weights, threads: int = 0) -> Network:
        """Return the network that a set of weights belongs to."""
        return cls(read_graph(weights.graph), weights.arrays, threads)

    @property
    def outputs(self) -> list[str]:
        """Names of what the graph answers."""
        return [output.name for output in self._session.get_outputs()]

    def _run(self, outputs: list[str], images: Floats) -> list[Floats]:
        asked = self._session.get_inputs()[0].shape
        fits = images.ndim == len(asked) and images.shape[1] == asked[1]
        if not fits or images.dtype != np.float32:
            raise BackboneError(
                f"network: expected images ({', '.join(map(str, asked))}) float32, got "
                f"{images.shape} {images.dtype}. End the recipe with 'channels' and 'standardise', "
                "or use the recipe of the network's level."
            )
        # Volumes one by one: ONNX Runtime sums a batch of them in another order than one alone.
        step = 1 if images.ndim == 5 else _AT_ONCE
        starts = range(0, max(len(images), 1), step)
        try:
            ran = [
                self._session.run(outputs, {"image": np.ascontiguousarray(images[i : i + step])})
                for i in starts
            ]
            return [np.concatenate(own) for own in zip(*ran, strict=True)]
        except Exception as error:
            raise BackboneError(
                f"network: expected images large enough for it, got {images.shape[2:]}: {error}"
            ) from error

    def features(self, images: Floats) -> Floats:
        """Return pooled features (n, d) of images (n, 3, h, w) float32."""
        return self._run(["features"], images)[0]

    def value(self, name: str, images: Floats) -> Floats:
        """Return one output of the graph by name, for images (n, 3, h, w) float32."""
        return self._run([name], images)[0]

    def values(self, names: Sequence[str], images: Floats) -> list[Floats]:
        """Return several outputs of the graph of one run, in the order asked for."""
        return self._run(list(names), images)

    def maps_and_features(self, images: Floats) -> tuple[Floats, Floats]:
        """Return last feature maps (n, d, rows, columns) and their means (n, d).

        Raises:
            BackboneError: the graph gives no maps.
        """
        names = self.outputs
        if "maps" not in names:
            raise BackboneError(
                f"network: expected a graph with the output 'maps', got {names}. "
                "Heat maps need it: fit the model again, or predict without them."
            )
        maps, features = self._run(["maps", "features"], images)
        return maps, features
