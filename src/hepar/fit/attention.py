"""Fitting attention over a patient's slices: from patients' labels alone, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepar.config import HeadConfig
from hepar.data import LabelSet
from hepar.fit.heads import (
    check_labels,
    choose_penalty,
    fit_linear_head,
    inner_folds,
    sample_weights,
)
from hepar.model import AttentionHead, LinearHead, softmax

__all__ = ["Bags", "fit_attention_head", "loss_and_gradient"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_SEEDS = 3
_UNITS = 4
"""Of a network of attention; those of all seeds stand side by side in the end."""

_COMPONENTS = 16
"""Principal components that attention looks at: of few patients, more is learned by heart."""

_DECAYS = (10.0, 1.0, 0.1)
"""Candidate L2 strengths of the attention; beside them stands no attention at all."""

_STEPS = 150


@dataclass(frozen=True, eq=False)
class Bags:
    """Slices by patient, ready to be learned from.

    Attributes:
        rows: (n, r) what scores a slice: standardised features in a basis of their span.
        seen: (n, q) what attention looks at: the first principal components, of unit variance.
        owner: (n,) the patient of each slice, 0 to b - 1.
        codes: (b,) label codes of patients.
        weights: (b,) of patients, of mean 1: labels count alike.
    """

    rows: Floats
    seen: Floats
    owner: Integers
    codes: Integers
    weights: Floats


Network = tuple[Floats, Floats, Floats, Floats, Floats]
"""weight (k, r), bias (k,), tanh (m, q), gate (m, q), energy (m,)."""


def loss_and_gradient(
    network: Network, bags: Bags, penalty: float, decay: float
) -> tuple[float, Network]:
    """Return the penalised loss of gated attention, and its derivatives by each array.

    Args:
        network: the arrays.
        bags: b patients.
        penalty: L2 strength of `weight`.
        decay: L2 strength of `tanh`, `gate` and `energy`.
    """
    weight, bias, tanh, gate, energy = network
    high = np.tanh(bags.seen @ tanh.T)
    open_ = 1 / (1 + np.exp(-bags.seen @ gate.T))
    gated = high * open_
    share = _share(gated @ energy, bags.owner)
    scores = bags.rows @ weight.T
    n_bags = len(bags.codes)
    pooled = _sums(share[:, None] * scores, bags.owner, n_bags) + bias
    said = softmax(pooled)
    chosen = said[np.arange(n_bags), bags.codes]
    loss = -float(bags.weights @ np.log(np.maximum(chosen, 1e-300)))
    loss += penalty / 2 * float((weight**2).sum())
    loss += decay / 2 * float((tanh**2).sum() + (gate**2).sum() + (energy**2).sum())

    wrong = said
    wrong[np.arange(n_bags), bags.codes] -= 1
    wrong *= bags.weights[:, None]
    to_score = share[:, None] * wrong[bags.owner]
    pull = (scores * wrong[bags.owner]).sum(axis=1)
    mean = _sums((share * pull)[:, None], bags.owner, n_bags)[bags.owner, 0]
    to_energy = share * (pull - mean)
    to_gated = to_energy[:, None] * energy
    return loss, (
        to_score.T @ bags.rows + penalty * weight,
        wrong.sum(axis=0),
        (to_gated * open_ * (1 - high**2)).T @ bags.seen + decay * tanh,
        (to_gated * high * open_ * (1 - open_)).T @ bags.seen + decay * gate,
        gated.T @ to_energy + decay * energy,
    )


def _share(energy: Floats, owner: Integers) -> Floats:
    """Return the softmax (n,) of each patient's own slices."""
    highest = np.full(owner.max() + 1, -np.inf)
    np.maximum.at(highest, owner, energy)
    raised = np.exp(energy - highest[owner])
    return np.asarray(raised / np.bincount(owner, raised)[owner], np.float64)


def _sums(values: Floats, owner: Integers, n: int) -> Floats:
    return np.stack([np.bincount(owner, column, n) for column in values.T], axis=1)


def fit_attention_head(
    features: NDArray[np.floating],
    codes: Integers,
    patients: Sequence[str],
    labels: LabelSet,
    config: HeadConfig,
) -> AttentionHead:
    """Fit gated attention on slices; a patient's label is the most severe of its slices'.

    The L2 strength of the score is chosen first, with every slice weighing alike; then that of the
    attention, none at all among the candidates. Both by the log loss of patients in inner folds.
    Three networks of different random starts are averaged.

    Args:
        features: (n, d).
        codes: (n,) label codes; nothing but the highest of each patient is used.
        patients: n patient_ids.
        labels: the label set.
        config: candidates of the first, inner folds.

    Raises:
        FitError: a label has no patient.
    """
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    own = np.zeros(len(names), np.int64)
    np.maximum.at(own, owner, codes)
    check_labels(own, labels)
    raw = features.astype(np.float64)
    means = _means(raw, owner, len(names))
    penalty = choose_penalty(means, own, names.tolist(), labels, config)
    fold = inner_folds(own, names.tolist(), config.inner_folds)
    losses = dict.fromkeys((0.0, *_DECAYS), 0.0)
    for held_out in range(fold.max() + 1):
        taught = fold != held_out
        if len(np.unique(own[taught])) < len(labels):
            continue
        learn, judge = taught[owner], ~taught[owner]
        _, place = np.unique(owner[learn], return_inverse=True)
        start = _start(raw[learn], place, own[taught], names[taught], labels, penalty)
        judged = own[~taught]
        _, place = np.unique(owner[judge], return_inverse=True)
        weights = sample_weights(judged, names[~taught].tolist(), len(labels))
        for decay in losses:
            said = answer_patients(_descended(start, decay), raw[judge], place)
            chosen = np.log(np.maximum(said[np.arange(len(judged)), judged], 1e-12))
            losses[decay] -= float(weights @ chosen)
    best = min(losses, key=lambda decay: losses[decay])  # the first, the plain mean, where all tie
    return _descended(_start(raw, owner, own, names, labels, penalty), best)


def answer_patients(head: AttentionHead, features: Floats, owner: Integers) -> Floats:
    """Return probabilities (b, k) of patients from features (n, d) of their slices.

    Args:
        head: fitted.
        features: (n, d).
        owner: (n,) the patient of each slice, 0 to b - 1.
    """
    share = _share(head.attention(features), owner)
    scores = share[:, None] * head.linear.scores(features)
    return softmax(_sums(scores, owner, int(owner.max()) + 1))


@dataclass(frozen=True, eq=False)
class _Start:
    """Where every training begins: the plain mean of slices.

    Attributes:
        plain: scores means of patients.
        basis: (r, d) orthonormal: first the principal components, then the means of patients.
        spread: (q,) of the components that attention looks at.
        bags: in that basis.
    """

    plain: LinearHead
    basis: Floats
    spread: Floats
    bags: Bags


def _start(
    raw: Floats,
    owner: Integers,
    codes: Integers,
    names: NDArray[np.str_],
    labels: LabelSet,
    penalty: float,
) -> _Start:
    """Fit the plain mean, and put slices into a basis that holds its answer."""
    means = _means(raw, owner, len(codes))
    plain = fit_linear_head(means, codes, names.tolist(), labels, penalty)
    rows = (raw - plain.mean) / plain.scale
    components = _principal(rows)
    lying = np.vstack([components, (means - plain.mean) / plain.scale])
    basis = np.linalg.qr(lying.T)[0].T
    coordinates = rows @ basis.T
    seen = coordinates[:, : len(components)]
    spread = seen.std(axis=0) + 1e-12
    weights = sample_weights(codes, names.tolist(), len(labels))
    return _Start(plain, basis, spread, Bags(coordinates, seen / spread, owner, codes, weights))


def _principal(rows: Floats) -> Floats:
    """Return the first principal components (q, d) of rows (n, d)."""
    from scipy.linalg import eigh

    n, d = rows.shape
    square = rows @ rows.T if n < d else rows.T @ rows
    most = min(_COMPONENTS, len(square))
    lengths, vectors = eigh(square, subset_by_index=[len(square) - most, len(square) - 1])
    vectors = vectors[:, lengths > 1e-9 * lengths[-1]].T[::-1]
    components = vectors @ rows if n < d else vectors
    return np.asarray(components / np.linalg.norm(components, axis=1, keepdims=True), np.float64)


def _means(values: Floats, owner: Integers, n: int) -> Floats:
    return np.asarray(_sums(values, owner, n) / np.bincount(owner)[:, None], np.float64)


def _descended(start: _Start, decay: float) -> AttentionHead:
    """Return a head with an L2 strength of the attention; 0 stands for none."""
    plain, basis = start.plain, start.basis
    nothing = np.zeros((0, plain.n_features))
    if not decay:
        return AttentionHead(plain, nothing, nothing, np.zeros(0))
    members = [_descend(start, decay, seed) for seed in range(_SEEDS)]
    weight, bias = (np.mean([member[i] for member in members], axis=0) for i in (0, 1))
    back = basis[: len(start.spread)] / start.spread[:, None]
    tanh, gate = (np.vstack([member[i] for member in members]) @ back for i in (2, 3))
    energy = np.concatenate([member[4] for member in members]) / _SEEDS
    linear = LinearHead(plain.labels, plain.mean, plain.scale, weight @ basis, bias, plain.penalty)
    return AttentionHead(linear, tanh, gate, energy)


def _descend(start: _Start, decay: float, seed: int) -> Network:
    """Return a network that began as the plain mean's score and a random attention."""
    from scipy.optimize import minimize

    plain, bags = start.plain, start.bags
    rng = np.random.default_rng(seed)
    shape = (_UNITS, bags.seen.shape[1])
    small = 1 / np.sqrt(shape[1])
    tanh, gate = rng.normal(0, small, shape), rng.normal(0, small, shape)
    first = (plain.weight @ start.basis.T, plain.bias, tanh, gate, rng.normal(0, 0.1, _UNITS))
    shapes = [array.shape for array in first]
    ends = np.cumsum([array.size for array in first])[:-1]

    def apart(flat: Floats) -> Network:
        pieces = np.split(flat, ends)
        return tuple(p.reshape(s) for p, s in zip(pieces, shapes, strict=True))  # type: ignore[return-value]

    def value(flat: Floats) -> tuple[float, Floats]:
        loss, gradient = loss_and_gradient(apart(flat), bags, plain.penalty, decay)
        return loss, np.concatenate([array.ravel() for array in gradient])

    found = minimize(
        value,
        np.concatenate([array.ravel() for array in first]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _STEPS},
    )
    return apart(found.x)
