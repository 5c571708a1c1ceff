"""Every kind of head through one contract: stored and read back, alike alone and in company."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from hepar.data import LabelSet
from hepar.errors import BundleError, RegistryError
from hepar.model import (
    HEADS,
    AttentionHead,
    DenseHead,
    LinearHead,
    Member,
    StackHead,
    SvmHead,
    VoteHead,
)
from hepar.model.head import head_from_document, head_to_document

LABELS = LabelSet(("normal", "benign", "malignant"))
RNG = np.random.default_rng(0)


def linear(d=6, k=3):
    weight = np.asfortranarray(RNG.normal(size=(k, d)))
    mean, scale = RNG.normal(size=d), RNG.uniform(0.5, 2, size=d)
    return LinearHead(LABELS, mean, scale, weight, RNG.normal(size=k), 1.0)


def svm(gamma):
    m = 9 if gamma else 3
    coefficients = RNG.normal(size=(3, m)) if gamma else np.eye(3)
    standard = (RNG.normal(size=6), RNG.uniform(0.5, 2, size=6))
    arrays = (*standard, RNG.normal(size=(m, 6)), coefficients, RNG.normal(size=3))
    return SvmHead(LABELS, *arrays, gamma, linear(3))


def dense():
    shapes = [(5, 6), (4, 5), (3, 4)]
    layers = [(RNG.normal(size=s), RNG.normal(size=s[0])) for s in shapes]
    return DenseHead(LABELS, tuple((w.astype("f4"), b.astype("f4")) for w, b in layers))


def attention(m=2):
    shapes = ((m, 6), (m, 6), m)
    return AttentionHead(linear(), *(RNG.normal(size=shape) for shape in shapes))


MEMBERS = (Member(((0, 3),), linear(3)), Member(((3, 6), (0, 3)), linear(6)))
HEADS_MADE = {
    "linear": [linear()],
    "svm": [svm(0.0), svm(0.2)],
    "dense": [dense()],
    "attention": [attention(), attention(0)],
    "vote": [VoteHead(LABELS, MEMBERS, np.array([0.5, 2.0]))],
    "stack": [StackHead(LABELS, MEMBERS, RNG.normal(size=(3, 6)), RNG.normal(size=3))],
}
CASES = [(kind, head) for kind, heads in HEADS_MADE.items() for head in heads]
HEADS_ALONE = [head for _, head in CASES]


def test_every_kind_is_tested_here():
    assert set(HEADS_MADE) == set(HEADS)


@pytest.mark.parametrize(("kind", "head"), CASES)
def test_a_head_comes_back_from_disk_and_answers_the_same(kind, head):
    document, arrays = head_to_document(head)
    assert document["kind"] == kind
    again = head_from_document(LABELS, document, load(save(arrays)))
    features = RNG.normal(size=(40, 6)).astype(np.float32)
    expected = head.probabilities(features)
    np.testing.assert_array_equal(again.probabilities(features), expected)
    assert again.n_features == head.n_features == 6
    assert expected.shape == (40, 3)
    np.testing.assert_allclose(expected.sum(axis=1), 1)
    for i in (0, 17, 39):
        np.testing.assert_array_equal(head.probabilities(features[i : i + 1])[0], expected[i])


@settings(max_examples=30)
@given(
    d=st.sampled_from([1, 2, 7, 64, 1280]),
    n=st.integers(2, 40),
    m=st.sampled_from([1, 3, 200]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_row_does_not_notice_its_neighbours_at_any_width(d, n, m, seed):
    """BLAS and pairwise sums would, in the last bits, at the widths that networks have."""
    rng = np.random.default_rng(seed)
    width = (np.zeros(d), np.ones(d))
    machine = (rng.normal(size=(m, d)), rng.normal(size=(3, m)), rng.normal(size=3))
    layers = tuple(
        (rng.normal(size=(out, into)).astype("f4"), rng.normal(size=out).astype("f4"))
        for out, into in ((m, d), (3, m))
    )
    features = rng.normal(size=(n, d)).astype(np.float32)
    some = rng.permutation(n)[: rng.integers(1, n)]
    for head in (
        LinearHead(LABELS, *width, rng.normal(size=(3, d)), rng.normal(size=3), 1.0),
        SvmHead(LABELS, *width, *machine, 1 / d, linear(3)),
        DenseHead(LABELS, layers),
    ):
        np.testing.assert_array_equal(
            head.probabilities(features[some]), head.probabilities(features)[some]
        )


@pytest.mark.parametrize("head", HEADS_ALONE)
def test_a_head_answers_alike_in_any_memory_order(head):
    """Scikit-learn's coefficients come in Fortran order, and come back from disk in C order."""
    document, arrays = head_to_document(head)
    turned = {name: np.asfortranarray(array) for name, array in arrays.items()}
    features = RNG.normal(size=(200, 6)).astype(np.float32)
    expected = head.probabilities(features)
    again = head_from_document(LABELS, document, turned).probabilities(features)
    np.testing.assert_array_equal(again, expected)
    for other in (np.asfortranarray(features), np.repeat(features, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(head.probabilities(other), expected)


@pytest.mark.parametrize(("kind", "head"), CASES)
def test_a_missing_or_misshapen_array_is_one_line(kind, head):
    document, arrays = head_to_document(head)
    for name in arrays:
        without = {k: v for k, v in arrays.items() if k != name}
        with pytest.raises(BundleError, match="expected"):
            head_from_document(LABELS, document, without)
    last = {"linear": "bias", "svm": "bias", "dense": "out.bias", "vote": "temperatures"}
    name = last.get(kind, "bias")
    with pytest.raises(BundleError, match="expected"):
        head_from_document(LABELS, document, {**arrays, name: arrays[name][:-1]})


def test_an_unknown_kind_is_answered_with_the_nearest():
    with pytest.raises(RegistryError, match="Did you mean 'stack'"):
        head_from_document(LABELS, {"kind": "stac"}, {})


@pytest.mark.parametrize("head", HEADS_ALONE)
def test_a_document_without_one_of_its_values_is_one_line(head):
    document, arrays = head_to_document(head)
    for name in document:
        without = {k: v for k, v in document.items() if k != name}
        with pytest.raises(BundleError, match=f"expected '{name}' in its document"):
            head_from_document(LABELS, without, arrays)


@pytest.mark.parametrize("columns", [[[0, 2]], [[0, 4]], [[2, -1], [0, 6]], []])
def test_columns_that_do_not_fit_a_member_are_refused(columns):
    document, arrays = head_to_document(HEADS_MADE["vote"][0])
    document["members"][0]["columns"] = columns
    with pytest.raises(BundleError, match="for the 3 features of member 0"):
        head_from_document(LABELS, document, arrays)


def test_an_ensemble_of_ensembles_comes_back_the_same():
    inner = Member(((0, 6),), HEADS_MADE["stack"][0])
    head = VoteHead(LABELS, (inner, Member(((6, 12),), svm(0.2))), np.array([1.0, 3.0]))
    document, arrays = head_to_document(head)
    assert "0/1/weight" in arrays
    features = RNG.normal(size=(9, 12))
    again = head_from_document(LABELS, document, load(save(arrays)))
    np.testing.assert_array_equal(again.probabilities(features), head.probabilities(features))
    with pytest.raises(BundleError, match="members of the ensemble, got none"):
        head_from_document(LABELS, {**document, "members": []}, arrays)


def test_a_vote_is_the_mean_of_calibrated_members():
    head = HEADS_MADE["vote"][0]
    features = RNG.normal(size=(5, 6))
    each = [m.probabilities(features) for m in MEMBERS]
    raised = [p ** (1 / t) for p, t in zip(each, (0.5, 2.0), strict=True)]
    expected = np.mean([r / r.sum(axis=1, keepdims=True) for r in raised], axis=0)
    np.testing.assert_allclose(head.probabilities(features), expected, rtol=1e-9)


def test_a_member_sees_its_own_columns_in_its_own_order():
    member = MEMBERS[1]
    features = RNG.normal(size=(4, 6))
    turned = np.concatenate([features[:, 3:], features[:, :3]], axis=1)
    np.testing.assert_array_equal(member.probabilities(features), member.head.probabilities(turned))


def centred_logs(head, features):
    logs = np.log(head.probabilities(features))
    return logs - logs.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("head", HEADS_ALONE)
def test_the_slope_is_what_a_small_step_does(head):
    features, step = np.random.default_rng(3).normal(size=(5, 6)), 1e-6
    slope = head.slope(features)
    for column in range(6):
        moved = step * np.eye(6)[column]
        there, back = centred_logs(head, features + moved), centred_logs(head, features - moved)
        found = (there - back) / (2 * step)
        np.testing.assert_allclose(slope.gradient[:, :, column], found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", HEADS_ALONE)
def test_a_slope_does_not_notice_other_rows(head):
    features = np.random.default_rng(4).normal(size=(5, 6))
    together = head.slope(features)
    for i in range(len(features)):
        alone = head.slope(features[i : i + 1])
        np.testing.assert_array_equal(alone.gradient[0], together.gradient[i])
        np.testing.assert_array_equal(alone.zero[0], together.zero[i])


def test_a_linear_head_is_its_slope_and_a_constant():
    head, features = linear(), np.random.default_rng(5).normal(size=(4, 6))
    slope = head.slope(features)
    parts = (slope.gradient * features[:, None] - slope.zero).sum(axis=2)
    rest = centred_logs(head, features) - parts
    np.testing.assert_allclose(rest, np.repeat(rest[:1], 4, axis=0))
    np.testing.assert_allclose(rest[0], head.bias - head.bias.mean())


def test_attention_comes_back_from_disk_and_is_the_same_in_any_company():
    head = attention()
    again = head_from_document(LABELS, *head_to_document(head))
    features = RNG.normal(size=(9, 6)).astype(np.float32)
    together = head.attention(features)
    for i in range(9):
        assert again.attention(features[i : i + 1])[0] == together[i]


def test_without_units_every_slice_weighs_alike():
    assert not attention(0).attention(np.ones((3, 6))).any()


def test_misshapen_attention_is_refused():
    document, arrays = head_to_document(attention())
    with pytest.raises(BundleError, match=r"expected energy \(m,\) with tanh and gate \(m, 6\)"):
        head_from_document(LABELS, document, {**arrays, "gate": arrays["gate"][:1]})
