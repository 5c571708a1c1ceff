"""Samples that links join, directly or through others."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["join"]


def join(n: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Return the group of each of n samples; groups are numbered by their first sample.

    Example:
        >>> join(5, [(3, 1), (4, 3)]).tolist()
        [0, 1, 2, 1, 1]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.array(list(pairs), np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    found = connected_components(graph, directed=False)[1]
    _, first, group = np.unique(found, return_index=True, return_inverse=True)
    rank = np.empty_like(first)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.asarray(rank[group], np.int64)
