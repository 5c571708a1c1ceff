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
from hepar.explain.look import OCCLUSION, Model, between
from hepar.explain.occlusion import occlude

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
        """Return the label's cells (h, w) for an image (3, H, W); in 3D for a volume."""
        own, head = network or self.network, self.model.head
        if self.method == LIKELIHOOD:
            likely = own.value(LIKELY, image[None])
            (found,) = likelihood_maps(likely, len(head.labels), self.model.lesions)
            return np.asarray(found[self.label], np.float32)
        if self.method == OCCLUSION:
            (features,) = own.features(image[None])
            hidden = occlude(own, head, image, features, 0)
            return np.asarray(hidden[self.label], np.float32)
        maps, features = own.maps_and_features(image[None])
        slope = head.slope(features)
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
        image: (3, H, W) network input; (1, D, H, W) of a volume, of whose liver alone places are
            taken: the rest is blank.
        label: whose map.
        method: a name in `hepar.explain.METHODS`, "occlusion", or "likelihood" of a lesion finder.
        seed: of the random order, which has the map's own smoothness.

    Source:
        Petsiuk et al., BMVC 2018 (deletion, insertion); Adebayo et al., NeurIPS 2018 (randomised
        weights).
    """
    subject = _Subject(model, label, method)
    cells = subject.map(image)
    shape = image.shape[1:]
    noise = np.random.default_rng(seed).normal(size=cells.shape).astype(np.float32)
    shown = np.flatnonzero(image.any(axis=0) if len(shape) == 3 else np.ones(shape, bool))
    ranked, random = (_ranks(_enlarged(values, shape), shown) for values in (cells, noise))
    images = [
        _partly(image, ranks, given=given) for given in (False, True) for ranks in (ranked, random)
    ]
    means = [float(subject.probability(stack).mean()) for stack in images]
    step = max(1, shape[-1] // _SHIFT)
    moved = np.zeros_like(image)
    moved[..., step:, step:] = image[..., :-step, :-step]
    back = _enlarged(subject.map(moved), shape)[..., step:, step:]
    return Checks(
        deletion=means[0],
        deletion_random=means[1],
        insertion=means[2],
        insertion_random=means[3],
        randomised=subject.likeness(cells, subject.map(image, untrained)),
        shifted=subject.likeness(_enlarged(cells, shape)[..., :-step, :-step], back),
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


def _enlarged(cells: Floats, shape: tuple[int, ...]) -> Floats:
    """Return cells resampled linearly to the shape of their image, plane by plane of a volume."""
    if len(shape) == 2:
        return np.asarray(
            cv2.resize(cells, shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32
        )
    return np.stack([_enlarged(between(cells, z, shape[0]), shape[1:]) for z in range(shape[0])])


def _ranks(values: Floats, shown: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return places, the one of the largest value first."""
    return np.asarray(shown[np.argsort(-values.ravel()[shown], kind="stable")], np.int64)


def _partly(image: Floats, order: NDArray[np.int64], *, given: bool) -> Floats:
    """Return images (steps, ...) of which ever more is taken away, or given back, in an order.

    What is away is 0: the mean grey of the network's training images; of a volume the commonest
    grey of its own liver.
    """
    ends = np.linspace(0, len(order), _STEPS + 1).round().astype(int)
    source = image.reshape(len(image), -1)
    current = np.zeros_like(source) if given else source.copy()
    stack = []
    for start, stop in pairwise(ends.tolist()):
        places = order[start:stop]
        current[:, places] = source[:, places] if given else 0
        stack.append(current.copy())
    return np.stack(stack).reshape(_STEPS, *image.shape)
