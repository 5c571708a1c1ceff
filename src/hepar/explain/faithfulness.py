"""Whether a map shows what its network uses: take away what it marks, and see what is left."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from hepar.backbone import Network
from hepar.explain.cam import METHODS
from hepar.explain.likelihood import LIKELIHOOD, LIKELY, likelihood_maps
from hepar.explain.look import Model

__all__ = ["Checks", "check_map", "likeness"]

Floats = NDArray[np.float32]

_STEPS = 8
"""In which an image is taken away or given back."""

_SHIFT = 28
"""The side of the input over this is how far it is moved: 8 of 224 pixels."""


@dataclass(frozen=True)
class Checks:
    """What changing an image says about its map.

    Attributes:
        deletion: mean probability of the label while the image is taken away, what the map marks
            first. Low where the map is right.
        deletion_random: the same in random order.
        insertion: mean probability while the image is given back, what the map marks first.
        insertion_random: the same in random order.
        randomised: likeness of the map to that of untrained weights under the same head; near 0
            where the map depends on what was learned.
        shifted: likeness of the map to that of the image moved a little, moved back; near 1 where
            it is stable.
    """

    deletion: float
    deletion_random: float
    insertion: float
    insertion_random: float
    randomised: float
    shifted: float


@dataclass(frozen=True, eq=False)
class _Subject:
    model: Model
    label: int
    method: str

    @property
    def network(self) -> Network:
        (network,) = self.model.networks
        return network

    def map(self, image: Floats, network: Network | None = None) -> Floats:
        """Return the label's cells (h, w) for an image (3, H, W)."""
        network = network or self.network
        if self.method == LIKELIHOOD:
            k = len(self.model.head.labels)
            (found,) = likelihood_maps(network.value(LIKELY, image[None]), k, self.model.lesions)
            return np.asarray(found[self.label], np.float32)
        maps, features = network.maps_and_features(image[None])
        slope = self.model.head.slope(features)
        cells = METHODS.get(self.method)(maps[0], slope.gradient[0], slope.zero[0])
        return np.asarray(cells[self.label], np.float32)

    def likeness(self, one: Floats, other: Floats) -> float:
        """Return how alike two maps are: of likelihood, where one of them is above 0."""
        if self.method == LIKELIHOOD:
            inside = (one > 0) | (other > 0)
            one, other = one[inside], other[inside]
        return likeness(one, other)

    def probability(self, images: Floats) -> NDArray[np.float64]:
        return self.model.head.probabilities(self.network.features(images))[:, self.label]


def check_map(
    model: Model,
    untrained: Network,
    image: Floats,
    label: int,
    method: str,
    seed: int,
) -> Checks:
    """Return what the map of a label is worth for one image.

    Args:
        model: that answered, of one network.
        untrained: the same architecture with random weights.
        image: (3, H, W) network input.
        label: whose map.
        method: a name in `hepar.explain.METHODS`, or "likelihood" of a lesion finder.
        seed: of the random order, which has the map's own smoothness.

    Source:
        Petsiuk et al., BMVC 2018 (deletion, insertion); Adebayo et al., NeurIPS 2018 (randomised
        weights).
    """
    subject = _Subject(model, label, method)
    cells = subject.map(image)
    side = image.shape[1]
    noise = np.random.default_rng(seed).normal(size=cells.shape).astype(np.float32)
    ranked, random = (_ranks(_enlarged(values, side)) for values in (cells, noise))
    images = [
        _partly(image, ranks, given=given) for given in (False, True) for ranks in (ranked, random)
    ]
    means = [float(subject.probability(stack).mean()) for stack in images]
    step = max(1, side // _SHIFT)
    moved = np.zeros_like(image)
    moved[:, step:, step:] = image[:, :-step, :-step]
    back = _enlarged(subject.map(moved), side)[step:, step:]
    return Checks(
        deletion=means[0],
        deletion_random=means[1],
        insertion=means[2],
        insertion_random=means[3],
        randomised=subject.likeness(cells, subject.map(image, untrained)),
        shifted=subject.likeness(_enlarged(cells, side)[:-step, :-step], back),
    )


def likeness(one: Floats, other: Floats) -> float:
    """Return Pearson's correlation of two maps; 0 where one is constant.

    Example:
        >>> likeness(np.array([[0.0, 1.0]]), np.array([[3.0, 1.0]]))
        -1.0
    """
    if not one.size:
        return 0.0
    a, b = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return round(float(a @ b) / length, 12) if length > 0 else 0.0


def _enlarged(cells: Floats, side: int) -> Floats:
    return np.asarray(cv2.resize(cells, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)


def _ranks(values: Floats) -> NDArray[np.int64]:
    """Return the order of pixels (H * W,), the largest value first."""
    return np.argsort(-values.ravel(), kind="stable")


def _partly(image: Floats, order: NDArray[np.int64], *, given: bool) -> Floats:
    """Return images (steps, 3, H, W) of which ever more is taken away, or given back, in an order.

    What is away is 0: the mean grey of the network's training images.
    """
    ends = np.linspace(0, len(order), _STEPS + 1).round().astype(int)
    source = image.reshape(3, -1)
    current = np.zeros_like(source) if given else source.copy()
    stack = []
    for start, stop in pairwise(ends.tolist()):
        places = order[start:stop]
        current[:, places] = source[:, places] if given else 0
        stack.append(current.copy())
    return np.stack(stack).reshape(_STEPS, *image.shape)
