"""Where training slices lie in feature space, and how far from there a new one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.errors import BundleError
from hepar.model.head import row_products

__all__ = ["Cloud", "cloud_from_arrays", "unit_rows"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cloud:
    """Where the training slices of one kind of pixels lie in feature space; holds no slice itself.

    A row's distance is Mahalanobis's, of the row at length 1: along the main directions by their
    own variance, and by one shared variance across all others.

    Attributes:
        mean: (d,) of the rows at length 1.
        directions: (k, d), orthonormal.
        variances: (k,) along the directions, shrunk towards their mean, above 0.
        rest: variance along every other direction, above 0.
        limit: the distance above which a slice is refused, above 0.

    Source:
        Lee et al., NeurIPS 2018 (Mahalanobis distance of features); Ledoit and Wolf, J. Multivar.
        Anal. 88 (2004) (shrinkage). Why so: docs/explanation/gate.md.
    """

    mean: Floats
    directions: Floats
    variances: Floats
    rest: float
    limit: float

    def distances(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return distances (n,) from features (n, d), a row alone or in any company alike."""
        centred = unit_rows(features) - self.mean
        along = row_products(centred, self.directions)
        across = np.einsum("nd,nd->n", centred, centred) - np.einsum("nk,nk->n", along, along)
        squares = np.einsum("nk,k->n", along**2, 1 / self.variances)
        return np.asarray(np.sqrt(squares + np.maximum(across, 0) / self.rest))


def unit_rows(features: NDArray[np.floating[Any]]) -> Floats:
    """Return rows (n, d) at length 1; a row of zeros stays one."""
    rows = np.ascontiguousarray(features, np.float64)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return np.asarray(rows / np.where(lengths > 0, lengths, 1)[:, None])


def cloud_from_arrays(
    kind: str, document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> Cloud:
    """Return the cloud of one kind of pixels from what `hepar.model.gate_to_document` gave.

    Raises:
        BundleError: shapes do not agree, or a value is not finite or not above 0.
        KeyError: an array is missing.
    """
    names = ("mean", "directions", "variances")
    mean, directions, variances = (np.asarray(arrays[f"{kind}/{n}"], np.float64) for n in names)
    rest, limit = float(document["rest"]), float(document["limit"])
    if directions.shape != (len(variances), len(mean)):
        raise BundleError(
            f"gate: expected directions ({len(variances)}, {len(mean)}) of {kind!r}, got "
            f"{directions.shape}. Fit it again."
        )
    positive = min(rest, limit, *variances.tolist()) > 0
    if not positive or not all(np.isfinite(a).all() for a in (mean, directions, variances)):
        raise BundleError(
            f"gate: expected finite arrays, and variances and a limit above 0, of {kind!r}, got "
            "others. Fit it again."
        )
    return Cloud(mean, directions, variances, rest, limit)
