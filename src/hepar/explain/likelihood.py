"""What a lesion finder says of each pixel, as a map: its own unit, and no detour by its answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network
from hepar.model import Bundle

__all__ = ["AUTO", "LIKELIHOOD", "LIKELY", "lesion_labels", "likelihood_maps", "method_of"]

AUTO = "auto"
"""Likelihood for lesion finders, whose heads see a few pixels alone and are so steep that the
log-odds of a map say little; grad-cam for all others."""

LIKELIHOOD = "likelihood"
"""Of a lesion, 0 to 1: the scale of these maps is 1, whatever the slice."""

LIKELY = "likely"
"""Name of that output of a finder's graph."""


def method_of(asked: str, networks: Sequence[Network]) -> str:
    """Return likelihood of a lesion for lesion finders, and grad-cam for all other networks.

    Args:
        asked: name of a method; "auto" leaves it to the networks.
        networks: of a model.
    """
    if asked != AUTO:
        return asked
    finders = all(LIKELY in network.outputs for network in networks)
    return LIKELIHOOD if finders else "grad-cam"


def lesion_labels(bundle: Bundle) -> tuple[int, ...]:
    """Return of which label each kind of lesion is that a bundle's finder tells apart.

    Empty where it is no finder, or does not say.
    """
    names = bundle.parts[0].backbone.get("lesions", ())
    return tuple(bundle.labels.index(name) for name in names)


def likelihood_maps(
    likely: NDArray[np.float32], n_labels: int, lesions: Sequence[int]
) -> list[NDArray[np.float16]]:
    """Return how likely each pixel is a lesion, by label.

    Args:
        likely: (n, kinds, h, w) the finder's output `LIKELY`, smoothed over 3 mm.
        n_labels: k.
        lesions: of which label each kind of lesion is; empty where nobody knows.

    Returns:
        For each image (k, h, w) float16, 0 to 1: lesions of the label, and for a label without any,
        those of the likeliest kind.
    """
    found = []
    for own in likely.astype(np.float16):
        top = own.max(axis=0)
        known = dict(zip(lesions, own, strict=True)) if lesions else {}
        if len(own) == 1:  # all labels alike: one array stands for them all
            found.append(np.broadcast_to(top, (n_labels, *top.shape)))
        else:
            found.append(np.stack([known.get(label, top) for label in range(n_labels)]))
    return found
